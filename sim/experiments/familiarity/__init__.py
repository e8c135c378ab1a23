"""Library and method against familiarity and template: the main experiment, three figures of its table."""

from collections.abc import Iterator

import pandas as pd

from sim.experiments.common import (
    DEFAULT,
    DIRECT,
    NAMES,
    SETTING,
    SMALL,
    WAYS_OF_REUSE,
    chance,
    named,
    reader,
)
from sim.experiments.common.pictures import FORECASTS, draw_library
from sim.experiments.common.predicted import RANGES, calibration, error_curves, linear
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure, line, points
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
from sim.worlds.two_hop import ENTITIES, TEMPLATES, Setting


@experiment(
    quick={"config": SMALL, "entities": ("real", "fake"), "templates": ("none", "both")},
    paper={"config": DEFAULT, "entities": tuple(ENTITIES), "templates": tuple(TEMPLATES)},
)
def familiarity(config: ReuseConfig, entities: tuple[str, ...], templates: tuple[str, ...]) -> Iterator[Part]:
    """Library and method against the familiarity of the entities and the template (main figure)."""
    yield Part.of(config, {f"{e}/{t}": Setting(e, t) for e in entities for t in templates})


METHODS = (*WAYS_OF_REUSE, *named(("expert", "sum")))
"""Rows of the main figure, from the top."""

PANELS = (
    ("both", "cot_answer", "step by step,\nshared template"),
    ("none", "cot_answer", "step by step,\nno template"),
    ("both", DIRECT, "asked at once,\nedited answers only"),
)
"""(template, metric, title)."""


@figure(
    "Asked at once, no library and no method shows more than one hop allows; step by step reuse works for "
    "real entities with a shared template, and not for unseen ones.",
    SETTING + " Rows: ways of reusing the two adapters; a λ is the common coefficient of their sum. Points: "
    "accuracy, one marker for who the edited facts are about; bars: 95% intervals. Dashed: the most that "
    "one hop allows.",
    reader("familiarity", ("cot_answer", "direct", DIRECT), METHODS),
    ("familiarity",),
    panels=(
        "Chain of thought; traces of other entities stand in pretraining and in both data sets.",
        "The same with traces nowhere.",
        "Direct answers with the shared template, where the model says one of the edited answers at all.",
    ),
)
def library_and_familiarity(rows: pd.DataFrame):
    """The main figure: two-hop accuracy by method, one series a familiarity."""
    picture, panels = style.figure(style.PAGE, 3.7, ncols=3, sharey=True)
    draw_library(panels, rows, METHODS, PANELS, "entities", NAMES, 0.18)
    for axes in panels:
        axes.set_xlabel("two-hop accuracy")
        chance(axes, across=True)
    for axes in panels[:2]:
        style.unit(axes, "x")
    panels[2].set_xlim(0, 0.25)
    style.key(picture, panels, "entities of the edited facts")
    return picture


KINDS = {
    "edited facts": ("hop1", "hop2"),
    "chains": ("cot_exact",),
    "untouched": ("untouched", "untouched_cot"),
}
"""Panels of the cloud: title -> metrics. Answers at once, at floor everywhere, have none."""


@figure(
    "Single adapters foretell their merge where λ is small; beyond they overrate what was edited and "
    "underrate what was not, and the coverage law, blind to damage, fails.",
    SETTING
    + " All settings of the main experiment. Bars: 95% bootstrap intervals over seeds; thin lines guide the "
    "eye. " + FORECASTS,
    lambda source: calibration(linear(source, "familiarity")),
    ("familiarity",),
    panels=(
        "Recall of the two taught hops after the merge against the disentangled forecast, a point a setting, "
        "hop and λ.",
        "Two-hop questions about edited facts, answered step by step.",
        "What nobody edited: single facts, and their two-hop questions step by step.",
        "Mean absolute error of every forecast against λ, where the outcome is neither at floor nor ceiling "
        "(0.05 to 0.95).",
    ),
)
def prediction_and_outcome(rows: pd.DataFrame):
    """The disentangled forecast against the outcome, a panel a kind of question; every error against
    lambda."""
    picture, panels = style.figure(style.PAGE, 2.9, ncols=4, width_ratios=(1, 1, 1, 1.25))
    cells = rows[(rows["panel"] == "cell") & (rows["predictor"] == "disentangled")]
    for axes, (title, metrics) in zip(panels, KINDS.items(), strict=False):
        style.diagonal(axes)
        for series, (low, high, label) in zip(style.levels(len(RANGES)), RANGES, strict=True):
            chosen = cells["metric"].isin(metrics) & (cells["lam"] > low) & (cells["lam"] <= high)
            style.cloud(axes, cells["predicted"][chosen], cells["measured"][chosen], series, label)
        axes.set(xlabel="forecast", title=title)
    panels[0].set_ylabel("measured accuracy of the merge")
    style.key(picture, panels[:3], "(a, b, c)", "left", 0.5)
    error_curves(panels[3], rows)
    panels[3].set_xticks((0.25, 0.75, 1.25))
    panels[3].set_title("errors", loc="left")
    style.key(picture, panels[3:], "(d)", "right", 0.5)
    return picture


RECALLED = {"hop1": "hop 1, edited", "hop2": "hop 2, edited", "untouched": "untouched"}


def _trade(source: Source) -> pd.DataFrame:
    rows = source.summary("familiarity")
    rows = rows[rows["method"].str.startswith("lambda=")]
    chosen = rows["metric"].isin(RECALLED) & (rows["predictor"] == "disentangled")
    settings = (rows["entities"] == "real") & rows["template"].isin(("pretraining", "both"))
    return rows[chosen & settings].reset_index(drop=True)


TEMPLATES_SHOWN = {"pretraining": "template in pretraining", "both": "template in both"}


@figure(
    "A sum keeps the edits and damages what nobody edited, an average does the reverse; the best coefficient "
    "lies between, and in these two settings single adapters predict it.",
    SETTING
    + " Real entities; λ is the common coefficient of the two adapters, ½ their average, 1 their sum. Lines: "
    "disentangled prediction from single adapters; points: the merged model, with 95% intervals.",
    _trade,
    ("familiarity",),
    panels=(
        "Pretraining alone shows the template.",
        "Pretraining and both data sets show it.",
    ),
)
def retention_and_damage(rows: pd.DataFrame):
    """Recall of edited and untouched facts against lambda, predicted and measured, by template."""
    templates = [name for name in TEMPLATES_SHOWN if name in set(rows["template"])]
    picture, panels = style.figure(style.COLUMN, 2.5, ncols=len(templates), sharey=True, squeeze=False)
    looks = style.levels(len(RECALLED))
    for axes, template in zip(panels[0], templates, strict=True):
        cell = rows[rows["template"] == template]
        for series, (metric, name) in enumerate(RECALLED.items()):
            curve = cell[cell["metric"] == metric]
            line(axes, curve, "lam", looks[series])
            points(axes, curve, "lam", looks[series], name, shift=(series - 1) * 0.012)
        axes.set(xlabel="λ", xticks=[0.25, 0.5, 0.75, 1, 1.25])
        axes.set_xticklabels(["¼", "½", "¾", "1", ""])
        axes.set_title(TEMPLATES_SHOWN[template].replace("template ", "template\n"), loc="left")
        style.unit(axes)
    panels[0][0].set_ylabel("facts recalled")
    style.key(picture, panels[0])
    return picture


from sim.experiments.familiarity import claims, forecasts  # noqa: E402, F401 (they read what stands above)
