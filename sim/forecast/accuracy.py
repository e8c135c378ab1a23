"""Accuracies of merges that were not run: the predictor that left-out runs prefer, and how far it errs there.

A group's accuracy is the mean over its prompts of the probability that all gaps are positive, taken as
independent. The covariance (``kriging.COVARIANCES``) is chosen by the mean error of that accuracy when each
run is left out in turn. The interval is conformal: the errors of the left-out runs over their predicted
standard deviations, of all groups together, have a quantile q, and an accuracy is predicted within q standard
deviations (Papadopoulos et al. 2008; Barber et al., Ann. Stat. 49, 2021, for leaving out). Errors count where
there was something to decide: a prediction or an outcome off 0 and 1. It speaks of the prompts at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr

from sim.forecast import kriging
from sim.forecast.kriging import Gaps, Kriging
from sim.forecast.outcomes import Outcomes

LEVEL = 0.9
"""Coverage of the intervals."""

GRAIN = 0.35
"""What is added to the standard deviation of a group's accuracy, in prompts: shares come in steps."""


EDGE = 0.02
"""An accuracy nearer to 0 or 1 leaves nothing to decide."""

FEWEST = 10
"""Errors that the interval is learnt from, at least, before all count; merges, before it may be narrow."""

WIDE = 2.0
"""Standard deviations of the interval, at least, with fewer merges than that."""


class Cells(NamedTuple):
    """Accuracy of m merges in G groups: prediction, standard deviation of the sum of independent prompts, and
    the conformal interval; (m, G) each."""

    mean: Float[np.ndarray, "m G"]
    deviation: Float[np.ndarray, "m G"]
    low: Float[np.ndarray, "m G"]
    high: Float[np.ndarray, "m G"]


@dataclass(frozen=True)
class Forecast:
    """Fits of every covariance to the runs at hand.

    groups: names. of: (P,) the group of each prompt. row: (M,) the prompt of each gap, in order.
    errors: of each covariance, the mean absolute error of the accuracies of left-out merges. best: the
    covariance of least error. width: q, of the best.
    """

    groups: tuple[str, ...]
    of: np.ndarray
    row: np.ndarray
    models: Mapping[str, Kriging]
    errors: Mapping[str, float]
    best: str
    width: float

    @property
    def weights(self) -> Float[np.ndarray, "n K"]:
        """The runs at hand."""
        return self.models[self.best].weights


def shares(values: Float[np.ndarray, "m P"], of: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Means over the prompts of each group, (m, G)."""
    return np.stack([np.asarray(values, float)[:, of == group].mean(axis=1) for group in groups], axis=1)


def _cells(gaps: Gaps, row: np.ndarray, of: np.ndarray, groups: Sequence[str], width: float) -> Cells:
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    chance = np.exp(np.add.reduceat(log_ndtr(gaps.mean / gaps.deviation), starts, axis=1))
    counts = np.array([np.sum(of == group) for group in groups])
    mean = shares(chance, of, groups)
    deviation = np.sqrt(shares(chance * (1 - chance), of, groups) / counts) + GRAIN / counts
    half = width * deviation
    return Cells(mean, deviation, np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0))


def forecast(
    weights: Float[np.ndarray, "n K"],
    outcomes: Outcomes,
    of: Sequence[str],
    before: "Forecast | None" = None,
    covariances: Sequence[str] = tuple(kriging.COVARIANCES),
) -> Forecast:
    """Fit, choose, and learn the interval from n runs; the base and single adapters must be among them.

    before: a forecast from fewer of these runs: its parameters are taken as they are.
    Raises: ValueError where no merge of two or more adapters was run: nothing tells how far predictions err.
    """
    weights, of = np.asarray(weights, float), np.asarray(of)
    groups = tuple(dict.fromkeys(of.tolist()))
    merges = np.count_nonzero(weights, axis=1) > 1
    if not merges.any():
        raise ValueError("no merge was run: run some, or nothing tells how far predictions err")
    row = np.repeat(outcomes.row, outcomes.gap.shape[2])
    gap = outcomes.gap.reshape(len(weights), -1)
    owner = kriging.owners(weights, outcomes.lead)[row]
    if before is None:
        models = {name: kriging.fit(name, weights, gap, owner) for name in covariances}
    else:
        models = {
            name: Kriging(name, weights, gap, owner, model.parameters)
            for name, model in before.models.items()
        }
    truth, errors, scores = shares(outcomes.lead > 0, of, groups), {}, {}
    for name, model in models.items():
        cells = _cells(kriging.leave_one_out(model), row, of, groups, 0.0)
        error, score = (
            np.abs(cells.mean - truth)[merges],
            (np.abs(cells.mean - truth) / cells.deviation)[merges],
        )
        open_cells = (np.minimum(cells.mean, truth) < 1 - EDGE) & (np.maximum(cells.mean, truth) > EDGE)
        some = score[open_cells[merges]]
        errors[name], scores[name] = float(error.mean()), some if len(some) >= FEWEST else score.ravel()
    best = min(errors, key=errors.get)
    width = quantile(scores[best], LEVEL)
    return Forecast(
        groups, of, row, models, errors, best, width if merges.sum() >= FEWEST else max(width, WIDE)
    )


def quantile(scores: Float[np.ndarray, " M"], level: float) -> float:
    """The conformal quantile: the ceil((M + 1) level)-th smallest score; the largest if M is too small."""
    place = int(np.ceil((len(scores) + 1) * level))
    return float(np.sort(scores)[min(place, len(scores)) - 1])


def accuracies(model: Forecast, at: Float[np.ndarray, "m K"]) -> Cells:
    """Of merges that were not run, by the best covariance."""
    gaps = kriging.predict(model.models[model.best], at)
    return _cells(gaps, model.row, model.of, model.groups, model.width)


def undecided(model: Forecast, at: Float[np.ndarray, "m K"]) -> np.ndarray:
    """(m, G) where another covariance that errs little more says what the interval excludes.

    Others count if their error on left-out merges is at most twice the best one's.
    """
    cells = accuracies(model, at)
    outside = np.zeros(cells.mean.shape, bool)
    for name, error in model.errors.items():
        if name != model.best and error <= 2 * model.errors[model.best]:
            gaps = kriging.predict(model.models[name], at)
            other = _cells(gaps, model.row, model.of, model.groups, 0.0).mean
            outside |= (other < cells.low) | (other > cells.high)
    return outside
