"""Numbers and outcomes in the sentences of the notebooks: read from the tables of runs, never typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from sim.lab import figure, intervals
from sim.lab.figure import Source

if TYPE_CHECKING:
    from IPython.display import Markdown

NO_PART = ("base", "joint", "bridge", "expert")
"""Single models that are no part of a library: the base, and adapters of other data."""

Cell = Mapping[str, float]
"""A measurement: measured, low, high, and whatever says which one it is."""


@dataclass(frozen=True)
class Readings:
    """Measurements of a run, cell by cell: the rows of its ``summary.csv``."""

    rows: pd.DataFrame

    @classmethod
    def of(cls, experiment: str) -> "Readings":
        """The run of an experiment that comes with the toolkit."""
        return cls(Source(figure.committed() / "experiments").summary(experiment))

    def cell(self, label: str, method: str, metric: str = "cot_answer", library: str = "") -> Cell:
        """One measurement; of the merged parts, or else of a single model, if no library is given.

        Raises:
            ValueError: the run has no such cell.
        """
        rows = self._cells(label, method, [metric], library)
        if rows.empty:
            raise ValueError(f"the run has no {metric} of {library} {method} at {label}")
        return rows.iloc[0]

    def number(self, label: str, method: str, metric: str = "cot_answer", library: str = "") -> str:
        """ "0.784 [0.732, 0.829]": a measurement with its interval."""
        return number(self.cell(label, method, metric, library))

    def best(self, label: str, metric: str = "cot_answer") -> Cell:
        """The measurement with the largest mean of all data-free merges and routers."""
        rows = data_free(self.rows)
        rows = rows[rows["label"].eq(label) & rows["metric"].eq(metric)]
        return rows.loc[rows["measured"].idxmax()]

    def weakest(self, label: str, method: str, factors: Sequence[str]) -> str:
        """The factor of a chain with the smallest mean, of those that the run measured: "cot_hop1 0.231
        [0.170, 0.304]"."""
        rows = self._cells(label, method, factors)
        cell = rows.loc[rows["measured"].idxmin()]
        return f"`{cell['metric']}` {number(cell)}"

    def compare(self, label: str, method: str, other: str, metric: str = "cot_answer") -> str:
        """ "sum 0.784 [0.732, 0.829], above average 0.037 [0.020, 0.068]"."""
        one, two = (self.cell(label, name, metric) for name in (method, other))
        return f"{method} {number(one)}, {against(one, two)} {other} {number(two)}"

    def _cells(self, label: str, method: str, metrics: Sequence[str], library: str = "") -> pd.DataFrame:
        """Cells of one model, the merged parts before a single one."""
        rows = self.rows[self.rows["label"].eq(label) & self.rows["method"].eq(method)]
        libraries = (library,) if library else ("parts", "single")
        rows = rows[rows["metric"].isin(metrics) & rows["library"].isin(libraries)]
        return rows[rows["library"].eq(rows["library"].min())]


def data_free(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of merges and routers that see no data and are given no router."""
    return rows[~rows["library"].isin(("", "single")) & rows["method"].ne("oracle")]


def number(cell: Cell) -> str:
    """ "0.784 [0.732, 0.829]": measured, low and high."""
    return f"{cell['measured']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def against(cell: Cell, other: Cell | float) -> str:
    """Comparison of a measurement with another one or with a number: "above", "below", or "not
    distinguishable from" where the intervals meet."""
    low, high = (other, other) if isinstance(other, float) else (other["low"], other["high"])
    return "above" if cell["low"] > high else "below" if cell["high"] < low else "not distinguishable from"


def pooled(guesses: pd.DataFrame) -> Cell:
    """Share of right answers in rows of a ``guesses.csv``, pooled seed by seed; ``asked`` is their number."""
    by_seed = guesses.groupby("seed")[["right", "asked"]].sum()
    mean, low, high = intervals.proportion(by_seed["right"], by_seed["asked"])
    return {"measured": mean, "low": low, "high": high, "asked": by_seed["asked"].sum()}


def at_once(guesses: pd.DataFrame, metric: str = "direct_given_among_answers") -> str:
    """A sentence on the answers at once of data-free merges and routers, from rows of a ``guesses.csv``.

    The rate of all and a guess's; how many methods lie above a guess, and how many of them above the better
    of the single parts as well, each of which lacks what the other was taught.
    """
    guesses = guesses[guesses["metric"].eq(metric) & guesses["asked"].gt(0)]
    merges, guess = data_free(guesses), float(guesses["predicted"].iloc[0])
    parts = guesses[guesses["library"].eq("single") & ~guesses["method"].isin(NO_PART)]
    halves = [pooled(rows) for _, rows in parts.groupby("method")]
    methods = [pooled(rows) for _, rows in merges.groupby(["library", "method"])]
    above = [cell for cell in methods if against(cell, guess) == "above"]
    joined = [cell for cell in above if all(against(cell, half) == "above" for half in halves)]
    every = pooled(merges)
    return (
        f"Asked at once, merges and routers that answer with one of the taught answers are right in "
        f"{number(every)} of {every['asked']} cases: {against(every, guess)} a guess, {guess:.4f}. By "
        f"themselves {len(above)} of {len(methods)} ways of reuse are above a guess, and {len(joined)} above "
        f"the better of the adapters alone, which lack one half each: {', '.join(map(number, halves))}."
    )


def text(*sentences: str) -> "Markdown":
    """Sentences as a paragraph of the notebook."""
    from IPython.display import Markdown

    return Markdown(" ".join(sentences))
