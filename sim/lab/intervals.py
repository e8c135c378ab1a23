"""95% intervals over seeds (every measured figure carries one), and over whatever else is redrawn.

Counts of right answers belong in ``proportions``, real values in ``mean``, means of many values in
``bootstrap``. Queries of one seed share a base and an adapter: seeds are the sample, not queries. To pool
several questions add their counts seed by seed; an average of ends of intervals is no interval.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

Z = float(special.ndtri(0.975))

Interval = tuple[float, float, float]
"""(mean, low, high)."""

MOST_REGULAR = 0.15
"""Least dispersion believed of large counts: that seeds agree may be luck, most of all when there are two."""

MOST_ALIKE = 0.5
"""Largest correlation of two answers of a seed that is believed where the counts do not show a larger one."""

RESAMPLES = 2000


class Correlation(NamedTuple):
    """How alike the answers of a seed are, row by row, as ``correlation`` pools it over rows of a kind.

    rho: correlation of two answers of one seed. Below 0 where seeds agree better than tossed coins.
    freedom: degrees of freedom with which a row's dispersion 1 + (m - 1) rho is known; 0 where nothing shows.
    """

    rho: np.ndarray
    freedom: np.ndarray


def proportion(right: ArrayLike, questions: ArrayLike) -> Interval:
    """(mean, low, high) of a success rate, one (right, questions) pair a seed: ``proportions`` of one row."""
    mean, low, high = proportions(np.atleast_1d(right), np.atleast_1d(questions))
    return float(mean), float(low), float(high)


def proportions(
    right: ArrayLike, questions: ArrayLike, correlation: Correlation | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(means, lows, highs) of success rates, with seeds along the last axis of both arrays.

    Wilson's score interval at q standard errors in place of 1.96, for N trials in K seeds of m (Kish 1965;
    Cochran 1977, 6.13),

        q = t(F) sqrt(D),    D = (F0 D0 + f Ds) / (F0 + f),    F = F0 + f,    D0 = 1 + (m - 1) rho

    t is the Student quantile and D the dispersion: the variance of the mean between seeds over that of N
    independent trials. Ds is what the row shows of it, at f degrees of freedom, and D0 what the rows of its
    kind show, at F0: the moderated t of Smyth (2004) for counts. N / D is the effective number of trials.
    m and K are effective numbers, sum c^2 / sum c and (sum c)^2 / sum c^2 over seeds of c questions.

        1/f = 1/(K - 1) + 2 (1 - 2p)^2 / (p (1 - p) n),    n = N / D

    The second term of 1/f is Satterthwaite's for the skewness of p: how much seeds differ in a rare outcome
    is told by the few of them that have it; p there is the mean of n trials with two successes and two
    failures more (Agresti and Coull 1998). f is 0 if all answers are right, or none is.

    q is at most 1.96 sqrt(max(D, (m + 1) / 2)): that a seed has but one answer is not believed before it is
    seen (rho is at most ``MOST_ALIKE``). A row by itself, without ``correlation``, has F0 = 0 and f >= 1, and
    these beliefs in place of a pool:

    - D may be below 1, for balanced designs are more regular than coin tosses, but q is not believed below
      1.96 sqrt(d), d = min(1, ``MOST_REGULAR`` + 1 / (N p (1 - p))), as few counts agree by chance.
    - If all answers are right, or none is, D is the root of m, halfway between independent answers (1) and
      equal ones (m), and f = K - 1.
    - One seed has D = 1: plain Wilson, over the questions of that seed alone.

    Assumed: seeds are independent, and rows of a kind have about one rho (beta-binomial counts, say).

    Coverage (tests/lab/test_intervals.py). Pooled over ten settings of one rho: 93 to 97%, for p from .02 to
    .8, 3 to 20 seeds of 16 trials and rho from 0 to .3; with fewer settings t is large, and it covers more. A
    row by itself: at least 93% for 2 to 64 seeds of 4 to 256 trials, p from .03 to .97, rho up to .3 and
    dispersion down to .35; at most 97% from 5 seeds and 16 independent successes and failures (p n) on.

    Raises:
        ValueError: nothing was asked.
    """
    counts = _counts(right, questions)
    dispersion, freedom, least = _by_itself(counts)
    if correlation is not None:
        pool = correlation.freedom > 0
        both = _moderated(counts, correlation)
        dispersion, freedom = np.where(pool, both[0], dispersion), np.where(pool, both[1], freedom)
        least = np.where(pool, MOST_REGULAR, least)
    most = np.maximum(dispersion, 1 + (counts.trials - 1) * MOST_ALIKE)
    q = special.stdtrit(np.maximum(freedom, 1.0), 0.975) * np.sqrt(dispersion)
    q = np.clip(q, Z * np.sqrt(least), Z * np.sqrt(most))
    mean, n = counts.mean, counts.total / q**2
    centre = (mean + 1 / (2 * n)) / (1 + 1 / n)
    half = np.sqrt(mean * (1 - mean) / n + 1 / (4 * n**2)) / (1 + 1 / n)
    # Rounding must not push a bound past the mean or out of [0, 1].
    return mean, np.clip(centre - half, 0.0, mean), np.clip(centre + half, mean, 1.0)


def correlation(
    right: ArrayLike, questions: ArrayLike, *kinds: ArrayLike, setting: ArrayLike | None = None
) -> Correlation:
    """The correlation of answers of one seed, pooled over the rows of a kind, for ``proportions``.

    With S the sum of squares between seeds over K - 1 and m, and V = p (1 - p) + S / N, which estimate
    p (1 - p) (1 + (m - 1) rho) and p (1 - p) without bias (analysis of variance; Ridout et al. 1999),

        rho = sum (K - 1) (S - V) / sum (K - 1) (m - 1) V,    1/F0 = 1/h + 1/G

    over the rows of a kind. They are taken to have the same rho, up to this: their dispersion varies about
    D0 with squared coefficient of variation 2 / h, estimated by moments from that of S / (V D0), less the
    2 / (K - 1) that chance alone gives. G is K - 1 times the number of settings, as rows of one setting are
    one sample of seeds; an effective number, (sum n)^2 / sum n^2, where n is V N / D0, the mean of a setting.

    Kinds may be wider and wider: rows of one metric, then of one experiment. Each has its rho and F0, and
    they are weighed by F0, which is small where the rows of a kind differ.

    Args:
        right, questions: (rows, seeds).
        kinds: (rows,) each, which rows are alike; all of them if none is given.
        setting: (rows,), which rows share their models; each has its own if None.
    """
    counts = _counts(right, questions)
    rows = counts.total.size
    setting = np.arange(rows) if setting is None else _numbers(setting)
    levels = [_pooled(counts, _numbers(kind), setting) for kind in kinds or [np.zeros(rows)]]
    freedom = sum(level.freedom for level in levels)
    return Correlation(_ratio(sum(level.rho * level.freedom for level in levels), freedom), freedom)


def _pooled(counts: "_Counts", kind: np.ndarray, setting: np.ndarray) -> Correlation:
    """``correlation`` of one kind; kinds and settings are whole numbers."""
    freedom, variance = counts.freedom, counts.variance
    models = _numbers(kind * (setting.max(initial=0) + 1) + setting)

    def total(values):
        return np.bincount(kind, values)[kind]

    weight = freedom * variance
    rho = _ratio(total(weight * (counts.dispersion - 1)), total(weight * (counts.trials - 1)))
    dispersion = np.maximum(1 + (counts.trials - 1) * rho, MOST_REGULAR)
    n = np.where(freedom > 0, counts.total * variance / dispersion, 0.0)
    chance = 2 / np.maximum(freedom, 1.0)
    off = np.square(counts.dispersion / dispersion - 1)
    spread = np.maximum(_ratio(total(n * (off - chance)), total(n * (1 + chance))), 0.0)
    n = n / np.bincount(models)[models]
    seeds = _ratio(total(n * freedom) * total(n), total(n * np.bincount(models, n)[models]))
    return Correlation(rho, _ratio(1.0, spread / 2 + _ratio(1.0, seeds)))


def _numbers(names: ArrayLike) -> np.ndarray:
    """Whole numbers from 0 in place of names."""
    return np.unique(names, return_inverse=True)[1]


class _Counts(NamedTuple):
    """N, mean, m, K - 1, V, S / V and S / (p (1 - p)) of rows, in the letters of the docstrings above; and
    whether all answers are the same, when the last three are 0."""

    total: np.ndarray
    mean: np.ndarray
    trials: np.ndarray
    freedom: np.ndarray
    variance: np.ndarray
    dispersion: np.ndarray
    index: np.ndarray
    unanimous: np.ndarray


def _counts(right: ArrayLike, questions: ArrayLike) -> _Counts:
    right, questions = np.broadcast_arrays(np.asarray(right, float), np.asarray(questions, float))
    total = questions.sum(-1)
    if np.any(total <= 0):
        raise ValueError("an interval needs at least one trial")
    mean = np.clip(right.sum(-1) / total, 0.0, 1.0)
    trials = np.square(questions).sum(-1) / total  # in the seed of a trial, on average
    single = trials >= total
    spread = np.where(single, 1.0, 1 - trials / total)
    between = np.square(right - questions * mean[..., None]).sum(-1) / (total * spread)
    binomial = mean * (1 - mean)
    unanimous = binomial * total < 1e-9  # shares multiplied back into counts carry rounding errors
    binomial, between = np.where(unanimous, 0.0, binomial), np.where(unanimous, 0.0, between)
    variance = binomial + between / total
    freedom = np.where(single, 0.0, total / trials - 1)
    dispersion, index = _ratio(between, variance), _ratio(between, binomial)
    return _Counts(total, mean, trials, freedom, variance, dispersion, index, unanimous)


def _by_itself(counts: _Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dispersion, degrees of freedom, least dispersion believed) of rows without a pool."""
    own = np.where(counts.unanimous, np.sqrt(counts.trials), counts.index)
    p = _inside(counts.mean, counts.total)
    least = np.minimum(1.0, MOST_REGULAR + 1 / (counts.total * p * (1 - p)))
    rarity = np.where(counts.unanimous, 0.0, _rarity(counts.mean, counts.total / np.maximum(own, least)))
    freedom = 1 / (1 / np.maximum(counts.freedom, 1.0) + rarity)
    single = counts.freedom <= 0
    return np.where(single, 1.0, own), np.where(single, np.inf, freedom), np.where(single, 1.0, least)


def _moderated(counts: _Counts, pool: Correlation) -> tuple[np.ndarray, np.ndarray]:
    """(D, F) of ``proportions``: what a row shows and what its kind does, weighted by degrees of freedom."""
    believed = np.maximum(1 + (counts.trials - 1) * pool.rho, MOST_REGULAR)
    rarity = _rarity(counts.mean, counts.total / believed)
    freedom = np.where(counts.unanimous, 0.0, counts.freedom / (1 + counts.freedom * rarity))
    whole = np.maximum(pool.freedom + freedom, 1e-9)
    return (pool.freedom * believed + freedom * counts.dispersion) / whole, whole


def _rarity(mean, n) -> np.ndarray:
    """How much the skewness of a mean of n trials adds to the reciprocal of degrees of freedom."""
    p = _inside(mean, n)
    return 2 * (1 - 2 * p) ** 2 / (p * (1 - p) * n)


def _inside(mean, n) -> np.ndarray:
    """A mean of n trials, with two successes and two failures more."""
    return (mean * n + 2) / (n + 4)


def _ratio(numerator, denominator) -> np.ndarray:
    """numerator / denominator; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(denominator)), where=denominator > 0)


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


def resamples(count: int, draws: int = RESAMPLES) -> Float[np.ndarray, "draws count"]:
    """The share that each of ``count`` values has in each resample, drawn with replacement; the same at every
    call, so that statistics of one sample are resampled together."""
    places = np.random.default_rng(0).integers(0, count, (draws, count))
    cells = places + count * np.arange(draws)[:, None]
    return np.bincount(cells.ravel(), minlength=draws * count).reshape(draws, count) / count


def bootstrap(values: ArrayLike, draws: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) of values over the first axis: the percentile bootstrap of their mean.

    ``scipy.stats.bootstrap(..., method="percentile")`` to the last digit, but one product of matrices for all
    columns. Values that all agree have an interval of no width: shares belong in ``proportions``.
    """
    values = np.asarray(values, float)
    weights = resamples(len(values), draws)
    low, high = np.quantile(np.tensordot(weights, values, 1), (0.025, 0.975), axis=0)
    mean = values.mean(0)
    return mean, np.minimum(low, mean), np.maximum(high, mean)
