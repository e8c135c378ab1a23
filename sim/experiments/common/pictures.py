"""Pictures that several worlds share: ways of reuse beside settings, and single adapters' forecasts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.experiments.common import Methods, across_levels, name_rows, named, of_method, shown
from sim.experiments.common.predicted import errors_across, prediction_errors, undecided
from sim.lab import style
from sim.lab.figure import Source, points_across
from sim.merge.looks import look_of

REUSE = named(("single", "joint"), ("parts", "sum"), ("parts", "average"))
"""Ceiling and merges: the series of panels whose rows are settings or questions."""

MODEL = ["library", "method"]

ERRORS = (
    "Mean absolute error of forecasts from single adapters over all settings, questions and merges, best "
    "first: filled where the outcome is neither at floor nor ceiling (0.05 to 0.95), hollow over all."
)
"""What the panel of errors shows."""

FORECASTS = (
    "Forecasts (section 12): disentangled adds up what each adapter changes alone at its coefficient, "
    "tangent what it changes at full strength, times the coefficient; product of steps multiplies the "
    "former's step accuracies; the coverage law sets the swing of an edit against the base's margin; no "
    "change: the merge answers as the base does."
)
"""What the predictors are; with ``ERRORS``."""


def draw_library(
    panels,
    rows: pd.DataFrame,
    methods: Methods,
    contents: Sequence[tuple[str, str, str]],
    column: str,
    names: Mapping[str, str],
    spacing: float,
) -> None:
    """A row a method that the rows have, a panel each (template, metric, title) of ``contents``, a series for
    each value of a column (``names``: value -> name)."""
    methods = shown(rows, methods)
    for axes, (template, metric, title) in zip(panels, contents, strict=True):
        chosen = rows[(rows["template"] == template) & (rows["metric"] == metric)]
        across_levels(axes, chosen, methods, column, names, spacing)
        axes.set_title(title, loc="left")
    name_rows(panels, methods)


def draw_reuse(
    rows: pd.DataFrame,
    methods: Methods,
    ways: Mapping[str, tuple[str, str]],
    settings: Mapping[str, str],
    metric: str,
    null: tuple[float, str],
    unit: str,
) -> Figure:
    """(a) A row a method, a series a way; (b) a row a setting, a series one of ``REUSE``. Best first,
    by the first of the ways and by the sum.

    Args:
        ways: name -> (setting, metric).
        settings: setting -> its name; ``metric`` is what is drawn of them.
        null: value and name of a dashed line.
        unit: what the axes count.
    """
    picture, (left, right) = style.figure(style.PAGE, 4.2, ncols=2)
    by_way = {
        name: rows[(rows["label"] == label) & (rows["metric"] == of)].set_index(MODEL)
        for name, (label, of) in ways.items()
    }
    spelled = {(library, method): name for library, method, name in methods}
    across(left, by_way, style.levels(len(ways)), spelled)
    of_metric = rows[rows["metric"] == metric]
    by_method = {name: of_method(of_metric, *model).set_index("label") for *model, name in REUSE}
    across(right, by_method, [look_of(method) for _, method, _ in REUSE], settings, by=1)
    for axes, title in ((left, "ways of reuse"), (right, "settings")):
        style.reference(axes, *null, across=True)
        style.unit(axes, "x")
        axes.set(xlabel=unit, title=title)
    style.key(picture, [left], "(a)", "left", 0.5)
    style.key(picture, [right], "(b)", "right", 0.5)
    return picture


def across(
    axes,
    series: Mapping[str, pd.DataFrame],
    looks: Sequence[style.Look],
    names: Mapping[object, str],
    by: int = 0,
    forecasts: bool = False,
) -> list:
    """Series side by side in named rows, the highest first by the series at place ``by``.

    Args:
        series: name -> measurements; the index of each table says the row.
        names: row -> its name. Rows that no series has are left out.
        forecasts: whether strokes mark the predictions.

    Returns the rows from the top.
    """
    tables = list(series.values())
    present = [row for row in names if any(row in table.index for table in tables)]
    order = tables[by]["measured"].reindex(present).sort_values(ascending=False, kind="stable").index
    shifts = 0.6 * ((np.arange(len(series)) + 0.5) / len(series) - 0.5)
    for (name, table), look, shift in zip(series.items(), looks, shifts, strict=True):
        drawn = points_across(axes, table, order, shift, look, name)
        if forecasts:
            stroke = {"color": look.colour, "markersize": 8, "markeredgewidth": 1.2}
            axes.plot(drawn["predicted"], drawn["y"], "|", **stroke)
    style.rows([axes], [names[row] for row in order])
    return list(order)


def questions(summary: pd.DataFrame, label: str, names: Mapping[str, str], methods: Methods) -> pd.DataFrame:
    """Measurements of one setting's questions (``names``: metric -> name) with the disentangled forecast, one
    row a method and question."""
    chosen = (summary["label"] == label) & summary["metric"].isin(names)
    rows = summary[chosen].assign(
        predicted=summary["predicted"].where(summary["predictor"] == "disentangled")
    )
    pairs = pd.MultiIndex.from_frame(rows[MODEL]).isin([method[:2] for method in methods])
    rows = rows[pairs].sort_values("predicted", kind="stable").drop_duplicates([*MODEL, "metric"])
    columns = [*MODEL, "metric", "predicted", "measured", "low", "high", "seeds"]
    return rows[columns].assign(panel="question")


def forecasts(
    source: Source, experiment: str, label: str, names: Mapping[str, str], methods: Methods
) -> pd.DataFrame:
    """Panel "question": ``questions``. Panel "error": ``all_errors``."""
    posed = questions(source.summary(experiment), label, names, methods)
    return pd.concat([posed, all_errors(source, experiment)], ignore_index=True)


def all_errors(source: Source, experiment: str) -> pd.DataFrame:
    """Panel "error": ``prediction_errors`` of all merges of the parts."""
    predictions = source.summary(experiment, "predictions")
    of_parts = predictions[predictions["library"] == "parts"]
    return prediction_errors(undecided(of_parts, by="method")).assign(panel="error")


def draw_forecasts(rows: pd.DataFrame, names: Mapping[str, str], methods: Methods, looks) -> Figure:
    """(a) A row a question, the sum's best first: each method, and forecasts of merges as strokes; (b) the
    errors of all predictors."""
    picture, (left, right) = style.figure(style.PAGE, 3.6, ncols=2, width_ratios=(1.25, 1))
    posed = rows[rows["panel"] == "question"]
    by_method = {name: of_method(posed, *model).set_index("metric") for *model, name in methods}
    across(left, by_method, looks, names, list(by_method).index("sum"), forecasts=True)
    left.plot([], [], "|", color="0.3", markersize=8, markeredgewidth=1.2, label="forecast")
    style.unit(left, "x")
    left.set(xlabel="questions answered", title="questions")
    errors_across(right, rows[rows["panel"] == "error"])
    style.key(picture, [left], "(a)", "left", 0.6)
    style.key(picture, [right], "(b)", "right", 0.4)
    return picture
