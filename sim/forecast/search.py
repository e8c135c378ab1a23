"""The best merge by successive verification: predict all, run the most promising, learn from it, go on.

It stops when no merge that was not run is likely to beat the best one that was, or when the budget is spent.
What it returns was measured. Expected improvement: Jones, Schonlau and Welch, J. Glob. Optim. 13, 1998.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from sim.forecast.accuracy import LEVEL, Forecast, accuracies, forecast, shares
from sim.forecast.outcomes import Outcomes, joined

Run = Callable[[Float[np.ndarray, "m K"]], Outcomes]
"""The outcomes of merges at these strengths, in order."""

MEAN, WORST = "mean", "worst"

REFIT = 1.2
"""Parameters are fitted anew when the runs have grown by this factor; between, they stay."""

DRAWS = 400
"""Draws of the accuracies of a merge, for the distribution of its score."""

TOLERANCE = 0.01
"""A merge that is better by less than this is not looked for."""


@dataclass(frozen=True)
class Objective:
    """What the best merge is best at.

    aim: the mean over groups, the worst group, or the name of a group. protect: groups that may lose at most
    so much of the base's accuracy; they count in no mean.
    """

    aim: str = MEAN
    protect: Mapping[str, float] = field(default_factory=dict)

    def score(self, cells: Float[np.ndarray, "... G"], groups: Sequence[str], base: np.ndarray) -> np.ndarray:
        """The score of accuracies; what a protected group loses too much is taken off, and 1 more.

        base: (G,) of the base.
        """
        counted = [at for at, group in enumerate(groups) if group not in self.protect]
        if self.aim in groups:
            value = cells[..., groups.index(self.aim)]
        else:
            value = (np.mean if self.aim == MEAN else np.min)(cells[..., counted], axis=-1)
        for group, share in self.protect.items():
            at = groups.index(group)
            loss = base[at] - share - 1e-9 - cells[..., at]
            value = value - np.where(loss > 0, 1 + loss, 0.0)
        return value


def require_objective(objective: Objective, groups: Sequence[str]) -> None:
    """Raise ValueError, with the groups there are, unless the objective's groups are among them."""
    names = [name for name in (objective.aim, *objective.protect) if name not in (MEAN, WORST)]
    for name in names:
        if name not in groups:
            raise ValueError(f"no group {name!r} in the prompts; there are {', '.join(groups)}")
    if not set(groups) - set(objective.protect):
        raise ValueError("every group is protected: one must be left to aim at")


@dataclass(frozen=True)
class State:
    """What a search knows: places of the candidates that were run, in order; their outcomes; its forecast."""

    places: tuple[int, ...]
    outcomes: Outcomes
    model: Forecast | None
    best: int
    open: int
    """Candidates that were not run and may yet beat the best."""


def search(
    run: Run,
    candidates: Float[np.ndarray, "C K"],
    first: Sequence[int],
    of: Sequence[str],
    objective: Objective,
    budget: int,
    batch: int = 1,
) -> Iterator[State]:
    """A state after the first runs, and after every batch of runs; the last one has ``open`` 0, or the budget
    spent.

    candidates: strengths; place 0 is the base. first: places to run first (``design.spread``), the base among
    them. of: (P,) groups. Deterministic.
    """
    candidates, of = np.asarray(candidates, float), np.asarray(of)
    groups = tuple(dict.fromkeys(of.tolist()))
    require_objective(objective, groups)
    places = list(dict.fromkeys(first))[:budget]
    outcomes = run(candidates[places])
    model, fitted = None, 0
    base = _base(candidates[places], outcomes, of, groups)
    while True:
        scores = objective.score(shares(outcomes.lead > 0, of, groups), groups, base)
        top = float(scores.max())
        rest = np.setdiff1d(np.arange(len(candidates)), places)
        gain, hopeful = np.zeros(len(rest)), np.zeros(len(rest), bool)
        if len(rest):
            anew = model is None or len(places) >= REFIT * fitted
            model = forecast(candidates[places], outcomes, of, None if anew else model)
            fitted = len(places) if anew else fitted
            gain, hopeful = promise(model, candidates[rest], objective, base, top)
        best = places[_best(scores, candidates[places])]
        yield State(tuple(places), outcomes, model, best, int(hopeful.sum()))
        count = min(batch, budget - len(places), int(hopeful.sum()))
        if count < 1:
            return
        order = np.lexsort((-gain, ~hopeful))
        chosen = rest[order[:count]].tolist()
        outcomes = joined([outcomes, run(candidates[chosen])])
        places += chosen


def promise(
    model: Forecast, at: Float[np.ndarray, "m K"], objective: Objective, base: np.ndarray, top: float
) -> tuple[np.ndarray, np.ndarray]:
    """(expected improvement of the score, whether the score may be better by ``TOLERANCE``), (m,) each.

    Accuracies are drawn as normal, with the conformal interval as their central ``LEVEL``; a score may be
    better if the upper end of its own interval is.
    """
    cells = accuracies(model, at)
    noise = np.random.default_rng(0).normal(size=(DRAWS, 1, len(model.groups)))
    spread = model.width * cells.deviation / 1.6449  # the interval is +-1.6449 standard deviations
    scores = np.empty((DRAWS, len(at)))
    for some in np.array_split(np.arange(len(at)), max(1, len(at) // 500)):
        drawn = np.clip(cells.mean[some] + noise * spread[some], 0.0, 1.0)
        scores[:, some] = objective.score(drawn, model.groups, base)
    upper = np.quantile(scores, (1 + LEVEL) / 2, axis=0)
    return np.maximum(scores - top, 0.0).mean(axis=0), upper > top + TOLERANCE


def _base(weights: np.ndarray, outcomes: Outcomes, of: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Accuracies of the base, (G,)."""
    return shares(outcomes.lead[~weights.any(axis=1)][:1] > 0, of, groups)[0]


def _best(scores: np.ndarray, weights: np.ndarray) -> int:
    """Of equal scores the merge of fewest adapters, then of least strength."""
    return int(np.lexsort((weights.sum(1), np.count_nonzero(weights, axis=1), -np.round(scores, 9)))[0])
