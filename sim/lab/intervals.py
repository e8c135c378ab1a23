"""95% intervals over seeds (every measured figure carries one).

Counts of right answers belong in ``proportion``, real values in ``mean``. Queries of one seed share a base
and an adapter: seeds are the sample, not queries. To pool several questions add their counts seed by seed;
an average of ends of intervals is no interval.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

Z = float(special.ndtri(0.975))

Interval = tuple[float, float, float]
"""(mean, low, high)."""

MOST_REGULAR = 0.15
"""Least dispersion believed of large counts: that seeds agree may be luck, most of all when there are two."""


def proportion(right: ArrayLike, asked: ArrayLike) -> Interval:
    """(mean, low, high) of a success rate from one (right, asked) pair a seed: ``proportions`` of one row."""
    mean, low, high = proportions(np.atleast_1d(right), np.atleast_1d(asked))
    return float(mean), float(low), float(high)


def proportions(right: ArrayLike, asked: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(means, lows, highs) of success rates, with seeds along the last axis of both arrays.

    Wilson's score interval at q standard errors in place of 1.96, N being all trials and D the dispersion:
    the variance of the mean between seeds over that of N independent trials (Kish 1965; Cochran 1977, 6.13),

        q = max(t sqrt(D), 1.96 sqrt(d)),    t the Student quantile at f >= 1 degrees of freedom,
        1/f = 1/(K - 1) + 2 (1 - 2p)^2 / (p (1 - p) n),    n = N / max(D, d)

    K is the effective number of seeds, (sum asked)^2 / sum asked^2. The second term of 1/f is Satterthwaite's
    for the skewness of p: how much seeds differ in a rare outcome is told by the few of them that have it; p
    there is the mean of n trials with two successes and two failures more (Agresti and Coull 1998). D may be
    below 1, for balanced designs are more regular than coin tosses, but is not believed below
    d = min(1, ``MOST_REGULAR`` + 1 / (N p (1 - p))), as few counts agree by chance.

    If all answers are right, or none is, nothing shows D; the root of the trials a seed stands for it,
    halfway between independent answers (1) and equal ones, with f = K - 1. One seed has no D: plain Wilson.

    Coverage (tests/lab/test_intervals.py): at least 93% for 2 to 64 seeds of 4 to 256 trials, p from .03 to
    .97, correlation within a seed up to .3 and dispersion down to .35; at most 97% from 5 seeds and 16
    independent successes and failures (p n) on. With less the counts are too coarse, and it covers more.

    Raises:
        ValueError: nothing was asked.
    """
    right, asked = np.broadcast_arrays(np.asarray(right, float), np.asarray(asked, float))
    total = asked.sum(-1)
    if np.any(total <= 0):
        raise ValueError("an interval needs at least one trial")
    mean = np.clip(right.sum(-1) / total, 0.0, 1.0)
    weight = np.square(asked).sum(-1) / total  # trials in the seed of a trial, on average
    single = weight >= total
    spread = np.where(single, 1.0, 1 - weight / total)
    binomial = mean * (1 - mean)
    unanimous = binomial * total < 1e-9  # shares that were multiplied back into counts carry rounding errors
    between = np.square(right - asked * mean[..., None]).sum(-1) / (total * spread)
    dispersion = np.where(unanimous, np.sqrt(weight), between / np.where(unanimous, 1.0, binomial))
    freedom = np.maximum(total / weight - 1, 1.0)
    q = np.where(single, Z, _errors(mean, total, dispersion, freedom, unanimous))
    n = total / q**2
    centre = (mean + 1 / (2 * n)) / (1 + 1 / n)
    half = np.sqrt(binomial / n + 1 / (4 * n**2)) / (1 + 1 / n)
    # Rounding must not push a bound past the mean or out of [0, 1].
    return mean, np.clip(centre - half, 0.0, mean), np.clip(centre + half, mean, 1.0)


def _errors(mean, total, dispersion, freedom, unanimous) -> np.ndarray:
    """How many standard errors of independent trials an interval reaches: q of ``proportions``."""
    p = _inside(mean, total)
    least = np.minimum(1.0, MOST_REGULAR + 1 / (total * p * (1 - p)))
    n = total / np.maximum(dispersion, least)
    p = _inside(mean, n)
    skewness = np.where(unanimous, 0.0, (1 - 2 * p) ** 2 / (p * (1 - p) * n))
    t = special.stdtrit(np.maximum(1 / (1 / freedom + 2 * skewness), 1.0), 0.975)
    return np.maximum(t * np.sqrt(dispersion), Z * np.sqrt(least))


def _inside(mean, n) -> np.ndarray:
    """A mean of n trials, with two successes and two failures more."""
    return (mean * n + 2) / (n + 4)


def mean(values: ArrayLike) -> Interval:
    """(mean, low, high) of real values, one a seed: Student's t. One seed has an infinite interval.

    Exact for normal values. It fails for shares of few trials and shares near 0 or 1, whose seeds often agree
    to the last digit: 40 to 85% for the shares of two seeds. ``proportion`` is for them.
    """
    values = np.asarray(values, float)
    centre = float(values.mean())
    if len(values) < 2:
        return centre, -np.inf, np.inf
    half = float(special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    return centre, centre - half, centre + half
