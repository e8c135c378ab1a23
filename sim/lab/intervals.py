"""95% intervals over seeds (every measured figure carries one)."""

import numpy as np
from scipy import special

Z = float(special.ndtri(0.975))


def proportion(right, asked) -> tuple[float, float, float]:
    """(mean, low, high) of a success rate from one (right, asked) pair a seed.

    Wilson's score interval on the pooled counts, with the number of trials divided by the design effect
    max(1, between-seed variance / binomial variance): queries of one seed share a base and an adapter and
    are not independent (Kish 1965). With one seed it is the plain Wilson interval.

    Raises:
        ValueError: nothing was asked.
    """
    right, asked = np.atleast_1d(np.asarray(right, float)), np.atleast_1d(np.asarray(asked, float))
    total = asked.sum()
    if total <= 0:
        raise ValueError("an interval needs at least one trial")
    mean = right.sum() / total
    effect = 1.0
    binomial = mean * (1 - mean)
    if len(right) > 1 and binomial > 0:
        between = np.sum(asked * (right / np.maximum(asked, 1) - mean) ** 2) / (len(right) - 1)
        effect = max(1.0, between / binomial)
    n = total / effect
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(binomial / n + Z**2 / (4 * n**2))
    # Rounding must not push a bound past the mean or out of [0, 1].
    return float(mean), float(np.clip(centre - half, 0.0, mean)), float(np.clip(centre + half, mean, 1.0))


def mean(values) -> tuple[float, float, float]:
    """(mean, low, high) of real values, one a seed: Student's t. One seed has an infinite interval."""
    values = np.asarray(values, float)
    centre = float(values.mean())
    if len(values) < 2:
        return centre, -np.inf, np.inf
    half = float(special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    return centre, centre - half, centre + half
