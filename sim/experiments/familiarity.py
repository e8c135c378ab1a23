"""Library and method against familiarity and template: the main experiment, three figures of its table."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sim.experiments.common import DEFAULT, NAMES, SETTING, SMALL, chance, guide, selected
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
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
    ("single", "joint", "joint\n(ceiling)"),
    ("parts", "oracle", "oracle\nrouter"),
    ("parts", "sum", "sum"),
    ("parts", "lambda=0.75", "λ = ¾"),
    ("parts", "average", "average"),
    ("parts", "svd", "SVD"),
    ("parts", "ties", "TIES"),
    ("parts", "arrow", "Arrow"),
    ("bridge", "sum", "+ bridge,\nsum"),
    ("expert", "sum", "+ expert,\nsum"),
)
"""(library, method, label) in the order of the main figure."""


def _libraries(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    return selected(source.summary("familiarity"), ("cot_answer", "direct"), pairs)


@figure(
    "Direct two-hop answers stay at chance for every library and method; by chain of thought reuse works for "
    "real entities with a shared template, and not for unseen ones.",
    SETTING + " Left: traces of other entities in pretraining and in both data sets; right: in neither. "
    "Filled: chain of thought, hollow: direct, dashed: chance among the edited answers.",
    "experiment familiarity",
    _libraries,
    ("familiarity",),
)
def library_and_familiarity(rows: pd.DataFrame):
    """The main figure: two-hop accuracy by method, one series a familiarity."""
    picture, panels = style.figure(style.PAGE, 2.7, ncols=2, sharey=True)
    present = set(zip(rows["library"], rows["method"], strict=True))
    methods = [method for method in METHODS if method[:2] in present]
    for axes, template in zip(panels, ("both", "none"), strict=True):
        chance(axes)
        for series, entities in enumerate(NAMES):
            cell = rows[(rows["entities"] == entities) & (rows["template"] == template)]
            for metric, hollow in (("cot_answer", False), ("direct", True)):
                found = cell[cell["metric"] == metric].set_index(["library", "method"])
                found = found.reindex([method[:2] for method in methods])
                x = np.arange(len(methods)) + (series - 1.5) * 0.18
                label = None if hollow or cell.empty else NAMES[entities]
                style.points(axes, x, found["measured"], found["low"], found["high"], series, label, hollow)
        axes.set_xticks(range(len(methods)), [label for _, _, label in methods], rotation=90, fontsize=6)
        axes.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("two-hop accuracy")
    panels[1].legend(loc="upper right", title="entities of the edited facts")
    panels[0].text(0.99, 0.98, "shared template", transform=panels[0].transAxes, ha="right", va="top")
    panels[1].text(0.01, 0.98, "no template", transform=panels[1].transAxes, ha="left", va="top")
    return picture


def _forecasts(source: Source) -> pd.DataFrame:
    rows = source.summary("familiarity")
    made = rows["method"].str.startswith("lambda=") & ~rows["metric"].str.startswith("agreement_")
    return rows[made & ~rows["predictor"].isin(("", "chance"))].reset_index(drop=True)


PREDICTORS = ("disentangled", "tangent", "coverage", "product")


@figure(
    "Single adapters predict their merge: adding what each does alone at its own coefficient is good to a "
    "few hundredths up to λ = 1/2 and overrates the edits beyond; the coverage law, blind to damage, fails.",
    SETTING
    + " All 16 settings of the main experiment. Left: predicted against measured accuracy of the merged "
    "model, one point a setting, probe and λ. Right: mean absolute error a seed against λ.",
    "experiment familiarity",
    _forecasts,
    ("familiarity",),
)
def prediction_and_outcome(rows: pd.DataFrame):
    """Calibration of the disentangled predictor, and the error of every predictor against lambda."""
    picture, (left, right) = style.figure(style.PAGE, 2.5, ncols=2)
    said = rows[rows["predictor"] == "disentangled"]
    left.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    for series, (low, high, label) in enumerate(
        ((0.0, 0.5, "λ ≤ ½"), (0.5, 1.0, "½ < λ ≤ 1"), (1.0, 2.0, "λ > 1"))
    ):
        part = said[(said["lam"] > low) & (said["lam"] <= high)]
        marker, colour = style.MARKERS[series], style.COLOURS[series]
        left.plot(
            part["predicted"], part["measured"], marker, color=colour, markersize=2.5, alpha=0.6, label=label
        )
    left.set(xlabel="predicted by single adapters (disentangled)", ylabel="measured accuracy of the merge")
    left.legend(loc="upper left")
    for series, predictor in enumerate(PREDICTORS):
        part = rows[rows["predictor"] == predictor]
        found = part.groupby("lam").agg(measured=("error", "mean"), spread=("error", "sem")).reset_index()
        half = 1.96 * found["spread"]
        found = found.assign(low=found["measured"] - half, high=found["measured"] + half)
        guide(right, found["lam"] + (series - 1.5) * 0.01, found, series, predictor)
    right.axhline(0.05, color="black", linestyle=":", linewidth=0.8)
    right.set(xlabel="common coefficient λ", ylabel="mean absolute error")
    right.legend(loc="upper left")
    return picture


def _trade(source: Source) -> pd.DataFrame:
    rows = _forecasts(source)
    chosen = rows["metric"].isin(("hop1", "hop2", "untouched")) & (rows["predictor"] == "disentangled")
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
        for series, (name, metrics) in enumerate(
            (("edited", ("hop1", "hop2")), ("untouched", ("untouched",)))
        ):
            columns = ["predicted", "measured", "low", "high"]
            found = cell[cell["metric"].isin(metrics)].groupby("lam")[columns].mean()
            axes.plot(found.index, found["predicted"], color=style.COLOURS[series])
            style.points(axes, found.index, found["measured"], found["low"], found["high"], series, name)
        axes.set(xlabel="λ", ylim=(-0.03, 1.03))
        label = f"template {TEMPLATE_LABELS[template]}"
        axes.text(0.97, 0.02, label, transform=axes.transAxes, ha="right", fontsize=6)
    panels[0][0].set_ylabel("facts recalled")
    panels[0][-1].legend(loc="center right")
    return picture
