"""One engine for all claims: rules and measurements of their cells give verdicts. Pure functions.

A rule holds if the 95% interval of every one of its numbers lies inside its region, fails if that of one lies
wholly outside, and is undecided otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.experiments.common.cells import readings
from sim.experiments.common.claim import PREDICTED, Cell, Claim, Reading, Rule
from sim.experiments.common.paired import correlation, difference
from sim.lab.figure import Source
from sim.lab.intervals import Interval

HOLDS, IN_PART, FAILS, UNDECIDED = "holds", "holds in part", "does not hold", "undecided"


def ratio(first: Interval, second: Interval, correlation: float = 0.0) -> Interval:
    """a / b of shares: ``difference`` of their logarithms."""
    logs = [tuple(math.log(max(end, 1e-12)) for end in interval) for interval in (first, second)]
    value, low, high = map(math.exp, difference(*logs, correlation))
    return value, low, high


@dataclass(frozen=True)
class Line:
    """One number of a rule, with its null and its region; ``verdict`` is None with too few answers."""

    cells: tuple[Cell, ...]
    readings: tuple[Reading, ...]
    interval: Interval
    null: float
    region: tuple[float, float]
    verdict: str | None

    @property
    def room(self) -> float:
        """How far inside its region the interval lies; negative outside."""
        return min(self.interval[1] - self.region[0], self.region[1] - self.interval[2])

    def __str__(self) -> str:
        return str(self.readings[0] if len(self.readings) == 1 else Reading(*self.interval))


@dataclass(frozen=True)
class Part:
    """A rule and its lines. In a sentence it stands for the deciding line, the one with the least room."""

    rule: Rule
    lines: tuple[Line, ...]

    @property
    def judged(self) -> list[Line]:
        """Lines with enough answers."""
        return [line for line in self.lines if line.verdict]

    @property
    def verdict(self) -> str:
        """Fails where one line does, holds where all do."""
        verdicts = {line.verdict for line in self.judged}
        return FAILS if FAILS in verdicts else HOLDS if verdicts == {HOLDS} else UNDECIDED

    @property
    def deciding(self) -> Line:
        """The line with the least room."""
        return min(self.judged or self.lines, key=lambda line: line.room)

    @property
    def of(self) -> Reading:
        """The cell of the deciding line."""
        return self.deciding.readings[0]

    @property
    def to(self) -> Reading:
        """The second cell of the deciding line's comparison."""
        return self.deciding.readings[1]

    @property
    def count(self) -> int:
        """How many lines are judged."""
        return len(self.judged)

    @property
    def silent(self) -> int:
        """How many lines have too few answers."""
        return len(self.lines) - len(self.judged)

    def __str__(self) -> str:
        return str(self.deciding) if self.judged else "no number (too few answers)"


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim, that of its parts, and its sentences with the numbers in place."""

    verdict: str
    parts: tuple[Part, ...]
    evidence: str
    limits: str


def judge(claim: Claim, source: Source) -> Judgement:
    """Judge a claim by the runs of a source.

    Raises:
        ValueError: a run, a cell or a null that it names is not there.
    """
    extra = claim.collect(source) if claim.collect else {}
    return decide(claim, readings(source, claim.cells - extra.keys()) | extra)


def decide(claim: Claim, measured: Mapping[Cell, Reading]) -> Judgement:
    """Judge a claim by the measurements of its cells."""
    parts = tuple(
        Part(rule, tuple(line(rule, cells, measured) for cells in rule.comparisons)) for rule in claim.rules
    )
    values = {part.rule.name: part for part in parts} | {n: measured[c] for n, c in claim.numbers.items()}
    sentences = (text.format_map(values) for text in (claim.evidence, claim.limits))
    return Judgement(whole([part.verdict for part in parts]), parts, *sentences)


def whole(verdicts: Sequence[str]) -> str:
    """The verdict on a claim from those of its parts."""
    if set(verdicts) == {HOLDS}:
        return HOLDS
    return IN_PART if HOLDS in verdicts else FAILS if FAILS in verdicts else UNDECIDED


def line(rule: Rule, cells: tuple[Cell, ...], measured: Mapping[Cell, Reading]) -> Line:
    """Judge a comparison: one cell, or two."""
    values = tuple(measured[cell] for cell in cells)
    guess = cells[0] if rule.null == PREDICTED else rule.null
    null = measured[guess].predicted if isinstance(guess, Cell) else float(guess)
    enough = all(value.trials is None or value.trials >= rule.answers for value in values)
    if enough and not math.isfinite(null):
        raise ValueError(f"{cells[0]} has no null: nothing is predicted of it")
    interval, region = number(rule, values), rule.region(null)
    return Line(cells, values, interval, null, region, verdict(interval, region) if enough else None)


def number(rule: Rule, values: Sequence[Reading]) -> Interval:
    """The number of a rule, with its interval."""
    first, *rest = ((value.measured, value.low, value.high) for value in values)
    if not rest:
        return first
    pair = correlation(values[0].by_seed, values[1].by_seed)
    if rule.ratio:
        return ratio(first, rest[0], pair)
    return difference(first, tuple(rule.times * end for end in rest[0]), pair)


def verdict(interval: Interval, region: tuple[float, float]) -> str:
    """Holds with the whole interval inside the open region, fails with the whole interval outside it."""
    (_, low, high), (lower, upper) = interval, region
    if lower < low and high < upper:
        return HOLDS
    return FAILS if high <= lower or low >= upper else UNDECIDED
