"""Rows of a figure's table: what a law says, what was measured, and how both are drawn."""

import pandas as pd

from sim import intervals, style


def law(predicted: float, **setting) -> dict:
    """One node of a theory line, with no measurement."""
    return {**setting, "predicted": float(predicted)}


def point(predicted: float, values, **setting) -> dict:
    """A prediction beside the mean of one value a draw, with its 95% interval (Student's t)."""
    measured, low, high = intervals.mean(values)
    found = {"measured": measured, "low": low, "high": high, "draws": len(values)}
    return {**setting, "predicted": float(predicted), **found}


def gap(predicted: float, values, **setting) -> dict:
    """The same for the difference measured - predicted, whose own law is 0."""
    row = point(0.0, [value - predicted for value in values], **setting)
    return {**row, "law": float(predicted)}


def line(axes, rows: pd.DataFrame, x: str, series: int, **options) -> None:
    """Predictions of ``rows`` as a line in the colour of a series."""
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows["predicted"], color=style.COLOURS[series], **options)


def points(axes, rows: pd.DataFrame, x: str, series: int, label: str | None = None, hollow=False, shift=0.0):
    """Measurements of ``rows`` with their bars; ``shift`` sets series apart that share places."""
    rows = rows.dropna(subset="measured").sort_values(x)
    style.points(axes, rows[x] + shift, rows["measured"], rows["low"], rows["high"], series, label, hollow)
