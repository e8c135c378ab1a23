"""Library and method against familiarity and template: the main experiment, three figures of its table."""

from collections.abc import Iterator

import pandas as pd

from sim.experiments.common import (
    DEFAULT,
    NAMES,
    SETTING,
    SMALL,
    across,
    chance,
    guide,
    name_rows,
    selected,
    shown,
)
from sim.experiments.common.predicted import PREDICTORS, prediction_errors, undecided
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure, line, point, points
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part, plain
from sim.worlds.two_hop import ENTITIES, TEMPLATES, Setting


@experiment(
    quick={"config": SMALL, "entities": ("real", "fake"), "templates": ("none", "both")},
    paper={"config": DEFAULT, "entities": tuple(ENTITIES), "templates": tuple(TEMPLATES)},
)
def familiarity(config: ReuseConfig, entities: tuple[str, ...], templates: tuple[str, ...]) -> Iterator[Part]:
    """Library and method against who the facts are about and where the template occurs (main figure)."""
    yield plain(config, {f"{e}/{t}": Setting(e, t) for e in entities for t in templates})


METHODS = (
    ("single", "joint", "joint (ceiling)"),
    ("parts", "oracle", "oracle router"),
    ("parts", "sum", "sum"),
    ("parts", "lambda=0.75", "λ = ¾"),
    ("parts", "average", "average"),
    ("parts", "svd", "SVD"),
    ("parts", "ties", "TIES"),
    ("parts", "arrow", "Arrow"),
    ("bridge", "sum", "+ bridge, sum"),
    ("expert", "sum", "+ expert, sum"),
)
"""(library, method, label) in the order of the main figure, from the top."""

DIRECT = "direct_given_among_answers"
"""Accuracy of direct answers where the model gives an answer of some edited query: a guess has 1/edits."""

PANELS = (
    ("both", "cot_answer", "(a) step by step,\nshared template"),
    ("none", "cot_answer", "(b) step by step,\nno template"),
    ("both", DIRECT, "(c) direct, answers in\nthe edited set"),
)
"""(template, metric, title)."""


def _libraries(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    return selected(source.summary("familiarity"), ("cot_answer", "direct", DIRECT), pairs)


@figure(
    "Asked at once, no library and no method beats a guess; step by step reuse works for real entities with "
    "a shared template, and not for unseen ones.",
    SETTING
    + " (a) Traces of other entities in pretraining and in both data sets; (b) in neither; (c) direct "
    "answers with the shared template, where the model answers with one of the 16 edited answers; dashed: a "
    "guess among those, 1/16.",
    "experiment familiarity",
    _libraries,
    ("familiarity",),
)
def library_and_familiarity(rows: pd.DataFrame):
    """The main figure: two-hop accuracy by method, one series a familiarity."""
    picture, panels = style.figure(style.PAGE, 3.4, ncols=3, sharey=True)
    methods = shown(rows, METHODS)
    for axes, (template, metric, title) in zip(panels, PANELS, strict=True):
        chosen = rows[(rows["template"] == template) & (rows["metric"] == metric)]
        for series, (entities, name) in enumerate(NAMES.items()):
            found = chosen[chosen["entities"] == entities]
            across(axes, found, methods, (series - 1.5) * 0.18, series, name)
        axes.set_title(title, loc="left")
        axes.set_xlim((-0.03, 1.03) if metric != DIRECT else (-0.01, 0.31))
    chance(panels[2], across=True)
    name_rows(panels, methods)
    for axes in panels:
        axes.set_xlabel("two-hop accuracy")
    panels[1].legend(loc="upper right", title="entities of the edited facts")
    return picture


RANGES = ((0.0, 0.5, "λ ≤ ½"), (0.5, 1.0, "½ < λ ≤ 1"), (1.0, 2.0, "λ > 1"))


def _forecasts(source: Source) -> pd.DataFrame:
    """Panel "cell": mean prediction and outcome of every cell and predictor. Panel "error":
    ``prediction_errors`` at every lambda."""
    rows = outcomes(source)
    found = []
    for predictor in (name for name in PREDICTORS if name in rows):
        known = rows.dropna(subset=predictor)
        for (label, lam, metric), part in known.groupby(["label", "lam", "metric"]):
            where = {"label": label, "lam": lam, "metric": metric, "predictor": predictor}
            found.append(point(part[predictor].mean(), part["measured"], panel="cell", **where))
    errors = [prediction_errors(at).assign(panel="error", lam=lam) for lam, at in rows.groupby("lam")]
    return pd.concat([pd.DataFrame(found), *errors], ignore_index=True)


def outcomes(source: Source) -> pd.DataFrame:
    """What was predicted of the linear merges and what they did, seed by seed; ``undecided``: whether the
    cell's mean outcome lies between floor and ceiling."""
    rows = source.summary("familiarity", "predictions")
    rows = rows[rows["method"].str.startswith("lambda=")]
    return undecided(rows)


@figure(
    "Single adapters predict their merge where it is decided by the edits alone; where the outcome is open "
    "they overrate edits beyond λ = 1/2, and the coverage law, blind to damage, fails.",
    SETTING
    + " All 16 settings of the main experiment. Left: predicted against measured accuracy of the merged "
    "model, one point a setting, probe and λ. Right: mean absolute error on cells that are neither at floor "
    "nor ceiling (0.05 to 0.95), with 95% bootstrap intervals over seeds; base: the merge answers as the "
    "base does.",
    "experiment familiarity",
    _forecasts,
    ("familiarity",),
)
def prediction_and_outcome(rows: pd.DataFrame):
    """Calibration of the disentangled predictor, and the error of every predictor against lambda."""
    picture, (left, right) = style.figure(style.PAGE, 2.5, ncols=2)
    said = rows[(rows["panel"] == "cell") & (rows["predictor"] == "disentangled")]
    left.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    for series, (low, high, label) in enumerate(RANGES):
        part = said[(said["lam"] > low) & (said["lam"] <= high)]
        marker, colour = style.MARKERS[series], style.COLOURS[series]
        left.plot(
            part["predicted"], part["measured"], marker, color=colour, markersize=2.5, alpha=0.6, label=label
        )
    left.set(xlabel="predicted by single adapters (disentangled)", ylabel="measured accuracy of the merge")
    left.legend(loc="upper left")
    errors = rows[(rows["panel"] == "error") & (rows["scope"] == "undecided")]
    for series, predictor in enumerate(PREDICTORS):
        found = errors[errors["predictor"] == predictor].sort_values("lam")
        guide(right, found["lam"] + (series - 2) * 0.01, found, series, predictor)
    right.set(xlabel="common coefficient λ", ylabel="mean absolute error", ylim=(0, None))
    right.legend(loc="upper left")
    return picture


RECALLED = {"hop1": "hop 1, edited", "hop2": "hop 2, edited", "untouched": "untouched"}


def _trade(source: Source) -> pd.DataFrame:
    rows = source.summary("familiarity")
    rows = rows[rows["method"].str.startswith("lambda=")]
    chosen = rows["metric"].isin(RECALLED) & (rows["predictor"] == "disentangled")
    told = (rows["entities"] == "real") & rows["template"].isin(("pretraining", "both"))
    return rows[chosen & told].reset_index(drop=True)


@figure(
    "A sum keeps the edits and damages what nobody edited, an average does the reverse; the best coefficient "
    "lies between, and single adapters predict it.",
    SETTING + " Real entities. Lines: disentangled prediction; points: the merged model.",
    "experiment familiarity",
    _trade,
    ("familiarity",),
)
def retention_and_damage(rows: pd.DataFrame):
    """Recall of edited and untouched facts against lambda, predicted and measured, by template."""
    TEMPLATE_LABELS = {"pretraining": "in pretraining", "both": "in both"}
    templates = [name for name in TEMPLATE_LABELS if name in set(rows["template"])]
    picture, panels = style.figure(style.COLUMN, 2.2, ncols=len(templates), sharey=True, squeeze=False)
    for axes, template in zip(panels[0], templates, strict=True):
        cell = rows[rows["template"] == template]
        for series, (metric, name) in enumerate(RECALLED.items()):
            found = cell[cell["metric"] == metric]
            line(axes, found, "lam", series)
            points(axes, found, "lam", series, name, shift=(series - 1) * 0.012)
        axes.set(xlabel="λ", ylim=(-0.03, 1.03))
        label = f"template {TEMPLATE_LABELS[template]}"
        axes.text(0.97, 0.02, label, transform=axes.transAxes, ha="right", fontsize=6)
    panels[0][0].set_ylabel("facts recalled")
    panels[0][-1].legend(loc="lower right", bbox_to_anchor=(1.08, 0.08), fontsize=6, handletextpad=0.1)
    return picture
