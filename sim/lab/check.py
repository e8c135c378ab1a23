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
    """One comparison. (measured, low, high) is a 95% interval, or for an exact result a stated tolerance."""

    setting: str
    predicted: float
    measured: float
    low: float
    high: float
    seeds: int

    @property
    def inside(self) -> bool:
        """Whether the prediction lies in the interval (to 1e-12, for intervals of no width)."""
        return bool(self.low - 1e-12 <= self.predicted <= self.high + 1e-12)


@dataclass(frozen=True)
class Check:
    """A result of theory/README.md with the rows that test it.

    rows: effort -> comparisons. ``tag`` is the tag of the theory page.
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


def rate(setting: str, predicted: float, shares, trials: int) -> Row:
    """A row whose measurement is a success rate: one share of ``trials`` binary trials a seed (Wilson)."""
    shares = np.asarray(shares, np.float64)
    found = intervals.proportion(shares * trials, np.full(shares.shape, trials))
    return Row(setting, float(predicted), *found, shares.size)


def average(setting: str, predicted: float, values) -> Row:
    """A row whose measurement is a mean of real values, one a seed (Student)."""
    values = np.asarray(values, np.float64)
    return Row(setting, float(predicted), *intervals.mean(values), values.size)
