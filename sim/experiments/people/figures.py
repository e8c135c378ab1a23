"""The main figure with both models beside each other."""

import pandas as pd

from sim.experiments.common import NAMES, across, chance, name_rows, named, selected, shown
from sim.lab import style
from sim.lab.figure import Source, figure

METHODS = named(
    ("single", "joint"),
    *(("parts", name) for name in ("oracle", "sum", "lambda=0.75", "average", "svd", "ties", "arrow")),
    ("bridge", "sum"),
    ("expert", "sum"),
)
"""Rows of the figure, from the top."""

DIRECT = "direct_given_among_answers"
GUESS = 1 / 16

MODELS = {"familiarity": "miniature", "people": "language model"}
"""Experiments, a row of panels each."""

TEMPLATES = {"familiarity": ("both", "none"), "people": ("shared", "none")}
"""Settings with a template and without."""

TITLES = ("step by step,\n{template}", "step by step,\nno template", "asked at once,\ntaught answers only")
SHARED = {"familiarity": "shared template", "people": "worked solutions"}


def _both(source: Source) -> pd.DataFrame:
    """Accuracies of both models, a row a panel, setting and method."""
    pairs, tables = tuple((library, method) for library, method, _ in METHODS), []
    for experiment in MODELS:
        rows = selected(source.summary(experiment), ("cot_answer", DIRECT), pairs)
        with_template, without = TEMPLATES[experiment]
        cot, both = rows["metric"] == "cot_answer", rows["template"] == with_template
        places = {0: cot & both, 1: cot & (rows["template"] == without), 2: ~cot & both}
        tables += [rows[chosen].assign(panel=panel) for panel, chosen in places.items()]
    return pd.concat(tables, ignore_index=True)


@figure(
    "Reuse in the miniature and in a pretrained language model: step by step with and without a template, "
    "and at once.",
    "Upper row: the two-hop world of the miniature (2 layers of width 64, rank 4). Lower row: SmolLM2-135M, "
    "dequantised from a 4-bit file, rank 8; homes of 16 people and emblems of their cities. Rows: ways of "
    "reusing the two adapters. Points: accuracy, one marker for whose names the base knows; bars: 95% "
    "intervals. Dashed: the most that one hop allows.",
    "experiments familiarity and people",
    _both,
    tuple(MODELS),
    panels=(
        "Miniature: traces of other entities stand in pretraining and in both data sets.",
        "Miniature: traces nowhere.",
        "Miniature: direct answers with the shared template, where the model says a taught answer at all.",
        "Language model: each data set holds worked solutions with a step of its own and one of another "
        "relation.",
        "Language model: facts alone.",
        "Language model: direct answers of the models of (d), where they say a taught answer at all.",
    ),
)
def people_and_miniature(rows: pd.DataFrame):
    """Two-hop accuracy by method, one series a familiarity; a row of panels a model."""
    picture, panels = style.figure(style.PAGE, 6.6, ncols=3, nrows=2, sharey="row")
    methods, looks = shown(rows, METHODS), style.levels(len(NAMES))
    for row, (experiment, model) in zip(panels, MODELS.items(), strict=True):
        for place, axes in enumerate(row):
            chosen = rows[(rows["experiment"] == experiment) & (rows["panel"] == place)]
            for series, (entities, name) in enumerate(NAMES.items()):
                accuracies = chosen[chosen["entities"] == entities]
                across(axes, accuracies, methods, (series - 1.5) * 0.18, looks[series], name)
            axes.set_title(f"{model},\n{TITLES[place].format(template=SHARED[experiment])}", loc="left")
            axes.set_xlabel("two-hop accuracy")
            if place == 2:
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
