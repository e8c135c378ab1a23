"""Checks: a closed form, its twin and the settings at which the two are compared."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sim.lab import intervals
from sim.lab.registry import Registry
from sim.lab.seeds import Effort

Tag = Literal["exact", "law", "asymptotic", "model"]


@dataclass(frozen=True)
class Row:
    """One comparison. (measured, low, high) is a 95% interval, or for an exact result a stated tolerance.

    slack: how far a result that is sharp only in a limit, or a model, is stated to be off at this size.
    """

    setting: str
    predicted: float
    measured: float
    low: float
    high: float
    seeds: int
    slack: float = 0.0

    @property
    def inside(self) -> bool:
        """Whether the prediction lies in the interval widened by the slack (1e-12 for those of no width)."""
        slack = self.slack + 1e-12
        return bool(self.low - slack <= self.predicted <= self.high + slack)


@dataclass(frozen=True)
class Check:
    """A result of theory/README.md with the rows that test it.

    rows: effort -> comparisons. ``tag`` is the tag of the theory page. A row of an asymptotic result or of a
    model states its ``slack``; exact results and laws have none.
    """

    result: str
    section: str
    tag: Tag
    rows: Callable[[Effort], Iterable[Row]]


CHECKS: Registry[Check] = Registry("check")


def check(result: str, section: str, tag: Tag):
    """Register a generator of rows under the name of its result."""

    def register(rows: Callable[[Effort], Iterable[Row]]) -> Callable[[Effort], Iterable[Row]]:
        CHECKS.add(result, Check(result, section, tag, rows))
        return rows

    return register


def exact(setting: str, predicted: float, measured: float, tolerance: float, seeds: int = 1) -> Row:
    """A row of an exact result: measured within ``tolerance`` (absolute, named in the setting)."""
    predicted, measured = float(predicted), float(measured)
    text = f"{setting}; tolerance {tolerance:.0e}"
    return Row(text, predicted, measured, measured - tolerance, measured + tolerance, seeds)


def rate(setting: str, predicted: float, shares, trials: int, slack: float = 0.0) -> Row:
    """A row whose measurement is a success rate: one share of ``trials`` trials a seed, pooled over seeds."""
    shares = np.asarray(shares, np.float64)
    interval = intervals.proportion(shares * trials, np.full(shares.shape, trials))
    return Row(setting, float(predicted), *interval, shares.size, slack)


def average(setting: str, predicted: float, values, slack: float = 0.0) -> Row:
    """A row whose measurement is a mean of real values, one a seed (Student)."""
    values = np.asarray(values, np.float64)
    return Row(setting, float(predicted), *intervals.mean(values), values.size, slack)


def limit(setting: str, predicted: float, measured: float, slack: float) -> Row:
    """A row without sampling error: measured within ``slack`` of a law that is sharp only in a limit."""
    measured = float(measured)
    return Row(setting, float(predicted), measured, measured, measured, 1, slack)
