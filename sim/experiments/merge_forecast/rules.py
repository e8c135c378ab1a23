"""What the test bed must show, as rules with their bounds, fixed before any run."""

from collections.abc import Iterator

import pandas as pd

FIXED = "2026-11-30"

ERROR = 0.05
"""Mean absolute error of the forecast over undecided cells, at most."""

COVERAGE = (0.87, 0.93)
"""Share of cells of merges that were not run whose accuracy lies in its 90% interval."""

REGRET = 0.02
"""What the merge that a search returns scores below the best of all, at most."""

SHARE = 0.15
"""Share of all merges that a search runs, at most."""

RIVALS = ("first order", "tangent", "metrics")
"""Predictors that the forecast must err less than, on the same cells."""


def verdicts(summary: pd.DataFrame, search: pd.DataFrame) -> pd.DataFrame:
    """One row a rule and library size and design: value, bounds low and high, whether it holds.

    summary, search: as ``scoring.summary`` by size and design and ``scoring.searches`` give them. A share of
    runs may exceed its bound by one run.
    """
    table = pd.DataFrame([*_of_forecasts(summary), *_of_searches(search)])
    inside = table["value"].between(table["low"] - 1e-12, table["high"] + 1e-12)
    return table.assign(holds=inside)


def _row(of: pd.Series, rule: str, value: float, low: float, high: float) -> dict[str, object]:
    return {
        "rule": rule, "adapters": of["adapters"], "design": of["design"], "value": value, "low": low,
        "high": high,
    }  # fmt: skip


def _of_forecasts(summary: pd.DataFrame) -> Iterator[dict[str, object]]:
    for _, row in summary.iterrows():
        yield _row(row, "error", row["forecast"], 0.0, ERROR)
        yield _row(row, "coverage", row["coverage"], *COVERAGE)
        for name in RIVALS:
            if name in row:
                yield _row(row, f"error less that of {name}", row["forecast"] - row[name], -1.0, 0.0)


def _of_searches(search: pd.DataFrame) -> Iterator[dict[str, object]]:
    for (adapters, design, objective), part in search.groupby(["adapters", "design", "objective"]):
        of = pd.Series({"adapters": adapters, "design": design})
        yield _row(of, f"regret of the search for the best {objective}", part["regret"].max(), 0.0, REGRET)
        most = SHARE + 1 / part["merges"].min()
        yield _row(of, f"share of merges run for the best {objective}", part["share"].max(), 0.0, most)
