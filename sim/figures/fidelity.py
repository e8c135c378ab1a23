"""The figure of all results: what the closed forms predict against what their twins measure."""

import re

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
            "setting": row.setting,
            "predicted": row.predicted,
            "measured": row.measured,
            "low": row.low,
            "high": row.high,
            "seeds": row.seeds,
            "slack": row.slack,
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
    found = []
    for name, rows in table.groupby("result", sort=False):
        first, error = rows.iloc[0], r_squared(rows["predicted"], rows["measured"])
        found.append((name, first["section"], first["tag"], len(rows), int(rows["inside"].sum()), error))
    return pd.DataFrame(found, columns=["result", "section", "tag", "rows", "inside", "r2"])


@figure(
    "The closed forms meet their empirical twins: exact results to rounding, laws within their intervals.",
    "Every result at several settings, seeds in the table (8 times as many in the paper profile). Left: "
    "predicted against measured, a marker a section, values of a result above 1 divided by its largest. "
    "Right: 1 - R² over the rows of each result (10⁻⁸ stands for less) and how many predictions lie in the "
    "95% interval: for exact results, within the stated tolerance; for asymptotic results and models, which "
    "include small sizes, in the interval widened by their stated finite-size error.",
    "all sections",
    _collect,
)
def fidelity(table: pd.DataFrame):
    """Predicted against measured for all results, with R^2 and the share inside for each."""
    picture, (left, right) = style.figure(style.PAGE, 5.0, ncols=2, width_ratios=(1.25, 1))
    table = table.assign(number=[_place(str(section))[0] for section in table["section"]])
    largest = table.groupby("result")["predicted"].transform(lambda values: max(1.0, values.abs().max()))
    left.plot([-0.02, 1.02], [-0.02, 1.02], color="black", linewidth=0.8, zorder=0)
    for series, (number, rows) in enumerate(table.groupby("number")):
        size = largest[rows.index]
        values = [rows[name] / size for name in ("predicted", "measured", "low", "high")]
        style.points(left, *values, series, str(number), hollow=series >= len(style.MARKERS))
    left.set(xlabel="predicted", ylabel="measured", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    left.legend(title="section", ncols=2, loc="upper left")
    found = summary(table)
    places = np.arange(len(found))[::-1]
    for series, tag in enumerate(TAGS):
        chosen = (found["tag"] == tag).to_numpy()
        error = np.maximum(1 - found["r2"][chosen], 1e-8)
        right.plot(error, places[chosen], style.MARKERS[series], color=style.COLOURS[series], label=tag)
    for place, rows in zip(places, found.itertuples(), strict=True):
        right.text(3.0, place, f"{rows.inside}/{rows.rows}", va="center", ha="left", fontsize=5.5)
    right.axvline(0.01, color="black", linestyle=":", linewidth=0.8)
    right.set_yticks(places, [f"{row.result} ({row.section})" for row in found.itertuples()], fontsize=5.5)
    right.set(xscale="log", xlabel="1 - R²", xlim=(3e-9, 2.0), ylim=(-0.7, len(found) - 0.3))
    right.set_xticks([1e-8, 1e-6, 1e-4, 1e-2, 1])
    right.minorticks_off()
    right.grid(axis="y", color="0.9", linewidth=0.5)
    right.legend(loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=4, handletextpad=0.1, columnspacing=0.8)
    return picture
