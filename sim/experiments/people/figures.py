"""The main figure with both models beside each other, the dose of worked solutions, and stopping."""

import pandas as pd

from sim.experiments.common import (
    DIRECT,
    NAMES,
    WAYS_OF_REUSE,
    across_levels,
    chance,
    name_rows,
    named,
    reader,
    shown,
    sizes,
)
from sim.experiments.common import predicted as forecasts
from sim.lab import style
from sim.lab.figure import Source, figure, points_across

METHODS = (*WAYS_OF_REUSE, *named(("expert", "sum")))
"""Rows of the figure, from the top."""

GUESS = 1 / 16

MODELS = {"familiarity": "miniature", "people": "language model"}
"""Experiments, a row of panels each."""

TEMPLATES = {"familiarity": ("both", "none"), "people": ("shared", "none")}
"""Settings with a template and without."""

TITLES = ("step by step,\n{template}", "step by step,\nno template", "asked at once,\ntaught answers only")
SHARED = {"familiarity": "shared template", "people": "worked solutions"}


def _both(source: Source) -> pd.DataFrame:
    """Accuracies of both models, a row a panel, setting and method."""
    tables = []
    for experiment in MODELS:
        rows = reader(experiment, ("cot_answer", DIRECT), METHODS)(source)
        with_template, without = TEMPLATES[experiment]
        cot, both = rows["metric"] == "cot_answer", rows["template"] == with_template
        places = {0: cot & both, 1: cot & (rows["template"] == without), 2: ~cot & both}
        tables += [rows[chosen].assign(panel=panel) for panel, chosen in places.items()]
    return pd.concat(tables, ignore_index=True)


@figure(
    "A pretrained language model reuses two adapters as the miniature does, step by step and only with a "
    "template; there the average beats the sum, and made-up names show no cost to merges.",
    "Upper row: the two-hop world of the miniature (2 layers of width 64, rank 4). Lower row: SmolLM2-135M, "
    "dequantised from a 4-bit file, rank 8; homes of 16 people and emblems of their cities. Rows: ways of "
    "reusing the two adapters. Points: accuracy, one marker for whose names the base knows; bars: 95% "
    "intervals. Dashed: the most that one hop allows. The base knows names that are "
    "not unseen; on the language model unseen ones are made up.",
    _both,
    tuple(MODELS),
    panels=(
        "Miniature: traces of other entities stand in pretraining and in both data sets.",
        "Miniature: traces nowhere.",
        "Miniature: direct answers with the shared template, where the model says a taught answer at all.",
        "Language model: each data set holds worked solutions with a step of its own and one of another "
        "relation.",
        "Language model: facts alone.",
        "Language model: direct answers of the models of (d), where they say a taught answer at all, which "
        "is seldom.",
    ),
)
def people_and_miniature(rows: pd.DataFrame):
    """Two-hop accuracy by method, one series a familiarity; a row of panels a model."""
    picture, panels = style.figure(style.PAGE, 6.6, ncols=3, nrows=2, sharey="row")
    methods = shown(rows, METHODS)
    for row, (experiment, model) in zip(panels, MODELS.items(), strict=True):
        for place, axes in enumerate(row):
            chosen = rows[(rows["experiment"] == experiment) & (rows["panel"] == place)]
            across_levels(axes, chosen, methods, "entities", NAMES, 0.18)
            axes.set_title(f"{model},\n{TITLES[place].format(template=SHARED[experiment])}", loc="left")
            axes.set_xlabel("two-hop accuracy")
            if (experiment, place) == ("familiarity", 2):
                axes.set_xlim(0, 0.4)
            else:
                style.unit(axes, "x")
            if experiment == "familiarity":
                chance(axes, across=True)
            else:
                style.reference(axes, GUESS, "guess", True)
        name_rows(row, methods)
    style.key(picture, list(panels.flat), "names of the taught facts")
    return picture


CURVES = named(("single", "joint"), *(("parts", name) for name in ("average", "lambda=0.75", "sum")))
"""Methods of the figures of dose and stopping."""

SHOWN = {"cot_answer": "two hops, step by step", "untouched": "facts that nobody taught"}
"""Their panels: metric -> title."""

MODEL = (
    "SmolLM2-135M, dequantised from a 4-bit file, rank 8; homes of 16 well-known people and emblems of their "
    "cities. Points: shares with 95% intervals; thin lines guide the eye; dashed: a guess."
)


def _curves(rows: pd.DataFrame, column: str, xlabel: str):
    """A panel for the two-hop questions and one for what the base knows, a curve a method."""
    picture, panels = style.figure(style.PAGE, 2.6, ncols=2, sharex=True)
    for axes, (metric, title) in zip(panels, SHOWN.items(), strict=True):
        sizes(axes, rows[rows["metric"] == metric], column, CURVES)
        axes.set(xlabel=xlabel, title=title)
    style.reference(panels[0], GUESS, "guess")
    panels[0].set_ylabel("accuracy")
    style.key(picture, list(panels))
    return picture


@figure(
    "On a language model four worked solutions in each data set make reuse work; the more there are, the "
    "less the sum keeps, which the average does not mind.",
    MODEL,
    reader("people_dose", SHOWN, CURVES, dose=r"(\d+)$"),
    ("people_dose",),
    panels=(
        "Two-hop questions step by step, against the worked solutions in each adapter's data.",
        "Capitals that the base knows and nobody teaches.",
    ),
)
def people_dose(rows: pd.DataFrame):
    """Accuracy against the number of worked solutions in each data set."""
    return _curves(rows, "dose", "worked solutions in each data set")


@figure(
    "On a language model training 16 times as long as the facts need breaks the sum and not the average.",
    MODEL,
    reader("people_stopping", SHOWN, CURVES, times=r"(\d+)$"),
    ("people_stopping",),
    panels=(
        "Two-hop questions step by step, against the length of training.",
        "Capitals that the base knows and nobody teaches.",
    ),
)
def people_stopping(rows: pd.DataFrame):
    """Accuracy against the length of training, in steps after which an adapter knows its data."""
    return _curves(rows, "times", "times the steps to know its facts")


STEPS = {
    "hop1": "hop 1, asked",
    "hop2": "hop 2, asked",
    "cot_hop1": "hop 1, in a trace",
    "cot_hop2": "hop 2, in a trace",
}
"""Where a step is written, by the end of its metrics."""

EFFECTS = {
    "margin": "margin of the base",
    "swing": "swing of its own adapter",
    "disturbance": "the same by the other one",
}
"""What is read off single models, by the beginning of its metrics."""

READ_OFF = "real/shared"
"""The setting whose margins are drawn; the table holds those of all."""


def _predictions(source: Source) -> pd.DataFrame:
    """``calibration`` of the merges. Panel "effect": margins, swings and disturbances in nats, and kappa."""
    rows = source.summary("people")
    metrics = {f"{effect}_{step}": (effect, step) for effect in EFFECTS for step in STEPS}
    metrics |= {f"kappa_{hop}": ("kappa", f"cot_{hop}") for hop in ("hop1", "hop2")}
    rows = rows[rows["metric"].isin(metrics)]
    names = [metrics[metric] for metric in rows["metric"]]
    effects = rows[["label", "measured", "low", "high", "seeds"]].assign(
        panel="effect", effect=[effect for effect, _ in names], step=[step for _, step in names]
    )
    cells = forecasts.calibration(forecasts.linear(source, "people"))
    return pd.concat([cells, effects], ignore_index=True)


@figure(
    "Single adapters of a language model and the merge that they make: what they predict of it, and how far "
    "each moves the answers of the other.",
    "SmolLM2-135M, dequantised from a 4-bit file, rank 8; homes of 16 people and emblems of their cities, "
    "all settings of the experiment. No prediction runs the merge. Disentangled: sum of the effects on the "
    "logits of each adapter by itself at λ; tangent: the same from λ = 1, times λ; coverage: the own adapter "
    "alone, λ times its swing above the margin of the base. (b) averages over settings, questions and seeds "
    "whose outcome is neither at floor nor ceiling (0.05 to 0.95); bars: 95% bootstrap intervals over "
    "seeds; thin lines guide the eye.",
    _predictions,
    ("people",),
    panels=(
        "Accuracy of the merge against its predictions, a point a setting, kind of question and λ; solid: "
        "measured as predicted.",
        "Mean absolute error of every predictor against λ.",
        "Real names, worked solutions: how far the base prefers its own answer, and what each adapter by "
        "itself adds to the lead of the right one, at the token where the base resists most; κ: the swing "
        "in a trace over the swing where it was taught. Bars: 95% intervals.",
    ),
    tables=("summary", "predictions"),
)
def people_predictions(rows: pd.DataFrame):
    """Calibration of the predictors, their errors against lambda, and margins and swings."""
    picture, (left, middle, right) = style.figure(style.PAGE, 3.0, ncols=3)
    cells = rows[rows["panel"] == "cell"]
    style.diagonal(left)
    for predictor, series in forecasts.LOOKS.items():
        part = cells[cells["predictor"] == predictor]
        if len(part) and predictor != "base":
            style.cloud(left, part["predicted"], part["measured"], series, predictor)
    left.set(xlabel="predicted by single adapters", ylabel="measured accuracy of the merge")
    left.set_title("every setting, question and λ", loc="left")
    forecasts.error_curves(middle, rows, {"base": "as the base answers"})
    effects = rows[(rows["panel"] == "effect") & (rows["label"] == READ_OFF)].set_index(["effect", "step"])
    for place, ((effect, name), series) in enumerate(zip(EFFECTS.items(), style.levels(3), strict=True)):
        points_across(right, effects.loc[effect], list(STEPS), (place - 1) * 0.2, series, name)
    kappa = effects["measured"].loc["kappa"] if "kappa" in effects.index.levels[0] else {}
    names = [f"{name}\nκ = {kappa[step]:.2f}" if step in kappa else name for step, name in STEPS.items()]
    style.rows([right], names)
    right.axvline(0, color="black", linewidth=0.8, zorder=0)
    right.set(xlabel="nats", title="what single adapters do")
    style.key(picture, [left, middle], "(a, b)", "left", 0.6)
    style.key(picture, [right], "(c)", "right", 0.4)
    return picture
