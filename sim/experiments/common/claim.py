"""Claims as data: cells of runs, the bounds that they must keep, and the date of the rule.

A claim stands in the file of the experiment that it reads. ``sim.figures.claims`` judges all of them alike.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sim.lab.figure import Source
from sim.lab.registry import Registry

NOTHING = 0.05
"""Shares of questions that differ by less count as equal. It is a tenth or less of what the sum reaches step
by step where it works, and about the smallest effect that 20 seeds of 16 questions can show."""

SHARE = 0.7
"""Share of the joint adapter's accuracy. A method below it loses more than reuse is worth."""

QUARTER = 0.25
"""Share of the effect of full composition. A model below it does not compose."""

LEVEL = 0.025
"""One-sided error of a rule with one bound: rules read the ends of 95% intervals."""

FEWEST = 20
"""Fewest answers for which a share is judged."""

METHODS = ("sum", "average", "arrow")
"""Methods that represent data-free reuse, fixed beforehand: first the sum, then the average and a router."""

POOLED = "all settings"
"""Label of cells that pool the answers of all settings of a run."""

PREDICTED = "predicted"
"""The null in the column ``predicted`` of a run's tables: the score without composing."""


@dataclass(frozen=True)
class Cell:
    """Address of one measurement of a run: model, by default the sum of the parts, metric, and the setting
    ``label``.

    library: of the model; by default "single" for the joint adapter and the base, "parts" for all others.
    """

    experiment: str
    label: str
    method: str = "sum"
    metric: str = "cot_answer"
    library: str = ""

    def __post_init__(self):
        own = "single" if self.method in ("joint", "base") else "parts"
        object.__setattr__(self, "library", self.library or own)

    def __str__(self) -> str:
        return f"{self.experiment} {self.label}: {self.library}/{self.method}, {self.metric}"


@dataclass(frozen=True)
class Reading:
    """The measurement of a cell: a mean with its 95% interval.

    predicted: its null. trials: number of answers behind a share, None for a real number.
    by_seed:   the values seed by seed, if the run recorded them.
    """

    measured: float = math.nan
    low: float = math.nan
    high: float = math.nan
    predicted: float = math.nan
    seeds: int = 0
    trials: int | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)

    @property
    def count(self) -> str:
        """ "251 of 320"; empty for a real number."""
        return f"{self.measured * self.trials:.0f} of {self.trials}" if self.trials else ""

    def __str__(self) -> str:
        """ "0.784 [0.732, 0.829] (251 of 320)"."""
        if self.trials == 0:
            return "no answer"
        interval = f" [{self.low:.3f}, {self.high:.3f}]" if math.isfinite(self.low) else ""
        return f"{self.measured:.3f}{interval}" + (f" ({self.count})" if self.count else "")


@dataclass(frozen=True)
class Rule:
    """One part of a claim: a number of every cell of ``of`` must lie above null + ``above``, below null +
    ``below``, or no further than ``within`` from the null. Two-sided is ``within``, one-sided the others.

    of, to:  cells and those of their comparison, one for each; one cell stands for all. The number is of -
             times * to, or of / to for a ``ratio``.
    null:    a number; ``PREDICTED``; or a cell whose predicted value it is.
    answers: a share of fewer answers is not judged.
    history: what was seen before the rule was written. It stays for good.
    """

    name: str
    says: str
    of: tuple[Cell, ...] | Cell
    to: tuple[Cell, ...] | Cell = ()
    above: float | None = None
    below: float | None = None
    within: float | None = None
    ratio: bool = False
    times: float = 1.0
    null: float | str | Cell = 0.0
    answers: int = FEWEST
    history: str = ""

    def __post_init__(self):
        of, to = ((cells,) if isinstance(cells, Cell) else cells for cells in (self.of, self.to))
        object.__setattr__(self, "of", of * len(to) if len(of) == 1 < len(to) else of)
        object.__setattr__(self, "to", to)

    @property
    def comparisons(self) -> list[tuple[Cell, ...]]:
        """(cell,) or (cell, what it is compared with), one for each cell."""
        second = self.to * len(self.of) if len(self.to) == 1 else self.to
        return list(zip(self.of, second, strict=True)) if second else [(cell,) for cell in self.of]

    def region(self, null: float) -> tuple[float, float]:
        """The open interval in which the number must lie."""
        if self.within is not None:
            return null - self.within, null + self.within
        lower = -math.inf if self.above is None else null + self.above
        return lower, math.inf if self.below is None else null + self.below


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and the rules that decide it.

    experiments: the runs it reads; nothing else can change it.
    fixed:       the date of its rules.
    evidence:    two sentences. ``{name}`` is the deciding number of the rule of that name (``{name.of}`` and
                 ``{name.to}`` its cells), or the cell of that name in ``numbers``.
    limits:      what it does not say, in the same form.
    collect:     source -> readings of cells that stand in no summary.
    tables:      of its runs; it is judged where all of them are.
    """

    number: str
    statement: str
    figure: str
    experiments: tuple[str, ...]
    fixed: str
    rules: tuple[Rule, ...]
    evidence: str
    limits: str = ""
    numbers: Mapping[str, Cell] = field(default_factory=dict)
    collect: Callable[[Source], Mapping[Cell, Reading]] | None = None
    tables: tuple[str, ...] = ("summary",)

    @property
    def cells(self) -> set[Cell]:
        """Every cell that it reads."""
        compared = {cell for rule in self.rules for cells in rule.comparisons for cell in cells}
        nulls = {rule.null for rule in self.rules if isinstance(rule.null, Cell)}
        return compared | nulls | set(self.numbers.values())


CLAIMS: Registry[Claim] = Registry("claim")


PAIRED: dict[str, tuple[str, ...]] = {}
"""Experiment -> metrics of all models that a page compares seed by seed."""


def claim(number: str, statement: str, figure: str, *experiments: str, history: str = "", **rest) -> None:
    """Register a claim under its number. ``history``: of every rule that has none of its own."""
    rest["rules"] = tuple(replace(rule, history=rule.history or history) for rule in rest["rules"])
    CLAIMS.add(number, Claim(number, statement, figure, experiments, **rest))


def claims_of(figure: str, *experiments: str, **common) -> Callable[..., None]:
    """``claim`` for claims with a figure, experiments and fields in common: what it returns takes number,
    statement, further experiments and fields."""

    def register(number: str, statement: str, *more: str, **rest) -> None:
        claim(number, statement, figure, *experiments, *more, **common, **rest)

    return register
