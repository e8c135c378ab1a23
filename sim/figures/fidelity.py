"""The figure of all results: predictions of closed forms against measurements of their twins."""

import re
from dataclasses import asdict

import numpy as np
import pandas as pd

from sim.lab import style
from sim.lab.check import CHECKS
from sim.lab.figure import Source, figure

TAGS = ("exact", "law", "asymptotic", "model")


def _place(section: str) -> tuple[int, str]:
    """Number and letter of a section such as "10b"."""
    number, letter = re.fullmatch(r"(\d+)(\w?)", section).groups()
    return int(number), letter


def _collect(source: Source) -> pd.DataFrame:
    rows = [
        {
            "result": check.result,
            "section": check.section,
            "tag": check.tag,
            **asdict(row),
            "inside": row.inside,
        }
        for check in sorted(CHECKS.values(), key=lambda check: _place(check.section))
        for row in check.rows(source.effort)
    ]
    return pd.DataFrame(rows)


def r_squared(predicted, measured) -> float:
    """1 - sum (measured - predicted)^2 / sum (measured - mean)^2; 1 where nothing varies and nothing errs.

    NaN where nothing varies and something errs.
    """
    predicted, measured = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    wrong = float(np.sum(np.square(measured - predicted)))
    spread = float(np.sum(np.square(measured - measured.mean())))
    if spread <= 1e-16 * measured.size:
        return 1.0 if wrong <= 1e-16 * measured.size else float("nan")
    return 1 - wrong / spread


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row a result, in order: section, tag, number of rows, rows inside their interval, R^2."""
    results = []
    for name, rows in table.groupby("result", sort=False):
        first, error = rows.iloc[0], r_squared(rows["predicted"], rows["measured"])
        results.append((name, first["section"], first["tag"], len(rows), int(rows["inside"].sum()), error))
    return pd.DataFrame(results, columns=["result", "section", "tag", "rows", "inside", "r2"])


def off(table: pd.DataFrame) -> pd.Series:
    """Distance of a prediction from its measurement, in units of the interval's arm on that side.

    The arm is widened by the stated slack, so that at most 1 is within; 0 where both are the same number.
    """
    gap = table["predicted"] - table["measured"]
    above, below = table["high"] - table["measured"], table["measured"] - table["low"]
    arm = np.where(gap > 0, above, below) + table["slack"]
    return (gap / np.where(gap == 0, 1.0, np.maximum(arm, 1e-12))).rename("off")


FAR = 1.8
"""Limit of the axis; predictions that are farther off are drawn there."""


@figure(
    "The closed forms meet their empirical twins: exact results to rounding, the others within their "
    "intervals but for a few.",
    "A point is a result of the theory at one setting. Markers: what kind "
    "of result it is, exact, law, asymptotic (sharp only in a limit) or model.",
    _collect,
    section="all sections",
    panels=(
        "Predicted against measured, values of a result above 1 divided by its largest; solid: measured as "
        "predicted; bars: 95% intervals, of exact results the stated tolerance.",
        "Predicted minus measured in units of the bar, which for asymptotic results and models is widened by "
        "their stated finite-size error; between the dashed lines a prediction is inside; what is farther "
        f"off than {FAR} stands there.",
    ),
)
def fidelity(table: pd.DataFrame):
    """Predicted against measured for all results, and their distances, section by section."""
    picture, (left, right) = style.figure(style.PAGE, 3.6, ncols=2)
    largest = table.groupby("result")["predicted"].transform(lambda values: max(1.0, values.abs().max()))
    style.diagonal(left)
    looks = dict(zip(TAGS, (style.look(place) for place in (4, 1, 5, 2)), strict=True))
    numbers = pd.Series([_place(str(section))[0] for section in table["section"]], index=table.index)
    sections = sorted(set(numbers))
    rng, distance = np.random.default_rng(0), off(table).clip(-FAR, FAR)
    for tag, look in looks.items():
        rows = table[table["tag"] == tag]
        values = [rows[name] / largest[rows.index] for name in ("predicted", "measured", "low", "high")]
        style.points(left, *values, look, tag)
        place = [sections.index(number) for number in numbers[rows.index]]
        style.cloud(right, distance[rows.index], place + rng.uniform(-0.3, 0.3, len(rows)), look)
    left.set(xlabel="predicted", ylabel="measured")
    left.set_title("all results", loc="left")
    style.rows([right], [f"section {number}" for number in sections])
    style.reference(right, 1.0, "± 1 bar", across=True)
    style.reference(right, -1.0, "", across=True)
    right.set(xlabel="predicted − measured, in bars", xlim=(-2, 2))
    right.set_title("by section of the theory", loc="left")
    style.key(picture, [left])
    return picture
