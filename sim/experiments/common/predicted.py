"""Errors of predictions from single adapters, against the measured merges; shared by experiments."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from sim.experiments.common import guide
from sim.experiments.common.cells import of_seeds
from sim.experiments.common.claim import Cell, Reading
from sim.lab import intervals, style
from sim.lab.figure import Source, build_row, point, points_across

PREDICTORS = ("disentangled", "tangent", "coverage", "product", "base")
"""The last is the baseline of the others: merging changes nothing."""

NAMES = {
    "base": "no change (base)",
    "coverage": "coverage law",
    "product": "product of steps",
    "second_order": "second order",
}
"""Names of the predictors that are not their own."""

LOOKS = {predictor: style.look(place) for place, predictor in enumerate(PREDICTORS)}
"""The look of each predictor."""

FLOOR, CEILING = 0.05, 0.95
"""A cell is undecided where the merge's accuracy, over all seeds, lies between these."""

OPEN = "open outcomes"
"""Label, in claims, of the undecided cells of all settings."""

RANGES = ((0.0, 0.5, "λ ≤ ½"), (0.5, 1.0, "½ < λ ≤ 1"), (1.0, 2.0, "λ > 1"))
"""(above, up to, name) of ranges of common coefficients."""

HALF, WHOLE = (name for _, _, name in RANGES[:2])
"""Names of the ranges that claims read."""

SLIGHT = 0.01
"""Mean absolute errors that differ by less count as equal."""


def undecided(rows: pd.DataFrame, by: str = "lam") -> pd.DataFrame:
    """Predictions and outcomes, seed by seed, with a column ``undecided``: whether the mean outcome of a cell
    (label, metric, and the column ``by``: the coefficient or the method) lies between floor and ceiling."""
    mean = rows.groupby(["label", by, "metric"])["measured"].transform("mean")
    return rows.assign(undecided=(mean > FLOOR) & (mean < CEILING))


def linear(source: Source, experiment: str) -> pd.DataFrame:
    """``undecided`` of the linear merges of a run, one coefficient for all parts."""
    rows = source.summary(experiment, "predictions")
    return undecided(rows[rows["method"].str.startswith("lambda=")])


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Of ``linear``. Panel "cell": mean prediction and outcome of every cell and predictor. Panel "error":
    ``prediction_errors`` at every lambda."""
    cells = []
    for predictor in (name for name in PREDICTORS if name in rows):
        forecast_rows = rows.dropna(subset=predictor)
        for (label, lam, metric), part in forecast_rows.groupby(["label", "lam", "metric"]):
            where = {"label": label, "lam": lam, "metric": metric, "predictor": predictor}
            cells.append(point(part[predictor].mean(), part["measured"], panel="cell", **where))
    by_lam = [prediction_errors(at).assign(panel="error", lam=lam) for lam, at in rows.groupby("lam")]
    return pd.concat([pd.DataFrame(cells), *by_lam], ignore_index=True)


def error_curves(axes, rows: pd.DataFrame, names: Mapping[str, str] = NAMES) -> None:
    """The errors of ``calibration`` over undecided cells against lambda, a curve a predictor.

    names: of the predictors that are not called by their own.
    """
    rows = rows[(rows["panel"] == "error") & (rows["scope"] == "undecided")]
    for predictor, series in LOOKS.items():
        curve = rows[rows["predictor"] == predictor].sort_values("lam")
        if len(curve):
            guide(axes, curve["lam"], curve, series, names.get(predictor, predictor))
    axes.set(xlabel="common coefficient λ", ylabel="mean absolute error", ylim=(0, None))
    axes.set_title("open outcomes alone", loc="left")


def errors(rows: pd.DataFrame, predictors: Sequence[str]) -> dict[str, Reading]:
    """Mean absolute error over the undecided ``outcomes``, seed by seed, of every predictor that has a value
    for them."""
    rows = rows[rows["undecided"]]
    each = {name: (rows[name] - rows["measured"]).abs().groupby(rows["seed"]).mean() for name in predictors}
    return {name: of_seeds(values) for name, values in each.items() if values.notna().any()}


def error_cells(run: str, predictor: str, *ranges: str, label: str = OPEN) -> tuple[Cell, ...]:
    """The cells that claims read of a predictor's errors on merges of the parts, one a range."""
    return tuple(Cell(run, label, predictor, f"error, {name}", "parts") for name in ranges)


def errors_by_range(
    rows: pd.DataFrame,
    predictors: Sequence[str],
    run: str,
    label: str = OPEN,
    ranges: Sequence[tuple[float, float, str]] = RANGES[:2],
) -> dict[Cell, Reading]:
    """``errors`` in each range of coefficients, by ``error_cells``."""
    measured = {}
    for low, high, name in ranges:
        each = errors(rows[(rows["lam"] > low) & (rows["lam"] <= high)], predictors)
        measured |= {error_cells(run, one, name, label=label)[0]: value for one, value in each.items()}
    return measured


def prediction_errors(rows: pd.DataFrame, predictors: Sequence[str] = PREDICTORS) -> pd.DataFrame:
    """Mean absolute error of the predictors over all ``outcomes`` given and over the undecided ones, with a
    95% interval by bootstrap over seeds."""
    errors = []
    for predictor in (name for name in predictors if name in rows):
        predicted = rows.dropna(subset=predictor)
        for scope, part in (("all", predicted), ("undecided", predicted[predicted["undecided"]])):
            error = (part[predictor] - part["measured"]).abs().groupby(part["seed"]).mean()
            if len(error):
                where = {"scope": scope, "predictor": predictor}
                errors.append(build_row(math.nan, intervals.bootstrap(error), len(error), **where))
    return pd.DataFrame(errors)


def errors_across(axes, errors: pd.DataFrame) -> None:
    """A row a predictor, the best first: mean absolute error, filled over the undecided outcomes, by which
    the rows are sorted, hollow over all."""
    scopes = {scope: part.set_index("predictor") for scope, part in errors.groupby("scope")}
    sorting = scopes.get("undecided", scopes["all"])["measured"].sort_values(kind="stable")
    names = list(dict.fromkeys([*sorting.index, *scopes["all"].index]))
    for scope, label, shift in (("undecided", "open outcomes", -0.12), ("all", "all", 0.12)):
        if scope in scopes:
            look, hollow = style.levels(1)[0], scope == "all"
            points_across(axes, scopes[scope], names, shift, look, label, hollow)
    style.rows([axes], [NAMES.get(name, name) for name in names])
    axes.set(xlabel="mean absolute error", xlim=(0, None), title="forecasts")
