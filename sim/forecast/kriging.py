"""Gaps of merges that were not run, from those that were: the best linear prediction under a covariance.

A gap of a prompt is a function of the adapters' strengths. Its covariance is one of
``theory.interactions``: of the first order, of pairs, of all orders, or of all orders that saturate. The
strength of an adapter counts by a gain. Prompts have two gains: of their own adapter, the one that alone
makes the answer right, and of every other. These, and the share of noise, maximise the likelihood of the runs
at hand, over all prompts of a kind; a gap's own variance is profiled out. Arrays in, arrays out: nothing
here knows what was run.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from theory import interactions

Covariance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _all_orders(left: np.ndarray, right: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return np.exp((left * gains) @ right.T)


COVARIANCES: Mapping[str, Covariance] = {
    "first order": functools.partial(interactions.covariance, depth=1),
    "pairs": functools.partial(interactions.covariance, depth=2),
    "all orders": _all_orders,
    "saturating": interactions.saturating_covariance,
}
"""By name. "all orders" is the deep linear network's of many layers."""

START, STEP, LIMIT = (2.0, 0.0, -5.0), (1.5, 1.5, 1.5), 8.0
"""Logarithms of the own gain, the others' gain and the share of noise: where the search begins, its first
steps, and the largest size of each."""

NOBODY = -1
"""The owner of a prompt that no adapter alone makes right, or that the base has right."""


@dataclass(frozen=True)
class Kriging:
    """A fit to M gaps in n runs. owner: of each gap's prompt. parameters: of prompts with an owner, and
    of those without."""

    covariance: str
    weights: Float[np.ndarray, "n K"]
    gap: Float[np.ndarray, "n M"]
    owner: Int[np.ndarray, " M"]
    parameters: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def centre(self) -> float:
        """What every gap is compared with: the mean of all."""
        return float(self.gap.mean())

    def classes(self) -> list[tuple[int, np.ndarray, tuple[float, ...]]]:
        """(owner, its gaps, their parameters), owner by owner."""
        owners = np.unique(self.owner)
        return [(int(o), np.flatnonzero(self.owner == o), self.parameters[int(o == NOBODY)]) for o in owners]


def owners(weights: Float[np.ndarray, "n K"], lead: Float[np.ndarray, "n P"]) -> Int[np.ndarray, " P"]:
    """The adapter that each prompt belongs to: it alone makes it right, with the largest lead of those that
    do, and the base has it wrong. ``NOBODY`` where there is none. Reads the base and single adapters."""
    base = lead[~weights.any(axis=1)].max(axis=0, initial=-np.inf)
    best = np.full((weights.shape[1], lead.shape[1]), -np.inf)
    for one, leads in zip(weights, lead, strict=True):
        (used,) = np.nonzero(one)
        if len(used) == 1:
            best[used[0]] = np.maximum(best[used[0]], leads)
    return np.where((best.max(axis=0) > 0) & (base <= 0), best.argmax(axis=0), NOBODY)


def fit(
    covariance: str,
    weights: Float[np.ndarray, "n K"],
    gap: Float[np.ndarray, "n M"],
    owner: Int[np.ndarray, " M"],
    start: tuple[tuple[float, ...], tuple[float, ...]] = (START, START),
) -> Kriging:
    """The fit of highest likelihood; ``start`` may be the parameters of an earlier one."""
    gap = np.asarray(gap, float)
    parameters = []
    for kind, first in zip((owner != NOBODY, owner == NOBODY), start, strict=True):
        some = [(int(o), np.flatnonzero(owner == o)) for o in np.unique(owner[kind])]
        parameters.append(_fit_kind(covariance, weights, gap, some, first) if some else tuple(first))
    return Kriging(covariance, np.asarray(weights, float), gap, owner, tuple(parameters))


def _fit_kind(covariance, weights, gap, classes, start) -> tuple[float, ...]:
    """The three parameters of the classes (owner, gaps) of one kind."""
    from scipy.optimize import minimize  # takes long to import, and changes the filters of warnings

    centred = [(owner, gap[:, some] - gap.mean()) for owner, some in classes]

    def cost(parameters: np.ndarray) -> float:
        if np.abs(parameters).max() > LIMIT:
            return np.inf
        total = 0.0
        for owner, values in centred:
            try:
                root = np.linalg.cholesky(_inner(covariance, weights, owner, parameters))
            except np.linalg.LinAlgError:
                return np.inf
            size = np.mean(np.square(np.linalg.solve(root, values)))
            total += values.shape[1] * np.log(root.diagonal()).sum()
            total += 0.5 * values.size * np.log(size + 1e-12)
        return total

    corners = np.vstack([start, start + np.diag(STEP)])
    options = {"maxiter": 300, "xatol": 0.05, "fatol": 0.5, "initial_simplex": corners}
    return tuple(minimize(cost, start, method="Nelder-Mead", options=options).x.tolist())


def _gains(count: int, owner: int, parameters) -> np.ndarray:
    gains = np.full(count, np.exp(parameters[1]))
    if owner != NOBODY:
        gains[owner] = np.exp(parameters[0])
    return gains


def _cross(covariance, at, weights, owner, parameters) -> np.ndarray:
    return COVARIANCES[covariance](at, weights, _gains(weights.shape[1], owner, parameters))


def _inner(covariance, weights, owner, parameters) -> np.ndarray:
    inner = _cross(covariance, weights, weights, owner, parameters)
    noise = np.exp(parameters[2]) + 1e-9
    return inner + noise * np.mean(inner.diagonal()) * np.eye(len(inner))


@dataclass(frozen=True)
class Gaps:
    """Predicted gaps of m merges: mean and standard deviation."""

    mean: Float[np.ndarray, "m M"]
    deviation: Float[np.ndarray, "m M"]


def predict(model: Kriging, at: Float[np.ndarray, "m K"]) -> Gaps:
    """Gaps of merges at any strengths."""
    at = np.asarray(at, float)
    mean, deviation = np.empty((2, len(at), model.gap.shape[1]))
    for owner, some, parameters in model.classes():
        inner = _inner(model.covariance, model.weights, owner, parameters)
        cross = _cross(model.covariance, at, model.weights, owner, parameters)
        gains = _gains(at.shape[1], owner, parameters)
        prior = np.array([COVARIANCES[model.covariance](one[None], one[None], gains)[0, 0] for one in at])
        weights, error = interactions.kriging(inner, cross, prior)
        values = model.gap[:, some] - model.centre
        mean[:, some] = model.centre + weights @ values
        noise = np.exp(parameters[2]) * np.mean(prior)
        deviation[:, some] = np.sqrt((error + noise)[:, None] * _sizes(inner, values)[None, :])
    return Gaps(mean, deviation * stretch(model))


def leave_one_out(model: Kriging) -> Gaps:
    """Of each run what the others say, the parameters as they are, (n, P)."""
    raw = _leave_one_out(model)
    return Gaps(raw.mean, raw.deviation * stretch(model))


def stretch(model: Kriging) -> float:
    """How much wider than it says the prediction errs: root mean square of the left-out errors over their
    standard deviations."""
    raw = _leave_one_out(model)
    return float(np.sqrt(np.mean(np.square((model.gap - raw.mean) / raw.deviation))))


def _leave_one_out(model: Kriging) -> Gaps:
    mean, deviation = np.empty((2, *model.gap.shape))
    for owner, some, parameters in model.classes():
        inner = _inner(model.covariance, model.weights, owner, parameters)
        inverse = np.linalg.inv(inner)
        values = model.gap[:, some] - model.centre
        precision = inverse.diagonal()[:, None]
        mean[:, some] = model.gap[:, some] - (inverse @ values) / precision
        deviation[:, some] = np.sqrt(_sizes(inner, values)[None, :] / precision)
    return Gaps(mean, deviation)


def _sizes(inner: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The variance of each gap: halfway between its own estimate and that of its class."""
    own = np.mean(values * np.linalg.solve(inner, values), axis=0)
    return 0.5 * own + 0.5 * own.mean() + 1e-12
