"""The interval of a difference from two intervals, and the correlation over seeds that it takes."""

import math
from collections.abc import Mapping

import numpy as np

from sim.lab.intervals import Interval


def difference(first: Interval, second: Interval, correlation: float = 0.0) -> Interval:
    """a - b from the intervals of a and b ("square and add": Newcombe 1998; Zou and Donner 2008):

        low  = a - b - sqrt((a - a_low)^2  + (b_high - b)^2 - 2 r (a - a_low) (b_high - b))
        high = a - b + sqrt((a_high - a)^2 + (b - b_low)^2  - 2 r (a_high - a) (b - b_low))

    r is the correlation of the two over seeds. With Student's intervals of means this is exactly the interval
    of the paired differences. r = 0 is used for runs without values by seed; it is the safe side if models of
    one seed share their luck.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second

    def joined(x: float, y: float) -> float:
        return math.sqrt(max(x * x + y * y - 2 * correlation * x * y, 0.0))

    return a - b, a - b - joined(a - a_low, b_high - b), a - b + joined(a_high - a, b - b_low)


def correlation(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    """Pearson's correlation over the seeds of both; 0 with fewer than three, or where one does not vary."""
    seeds = sorted(first.keys() & second.keys())
    x, y = ([values[seed] for seed in seeds] for values in (first, second))
    varies = len(seeds) > 2 and len(set(x)) > 1 and len(set(y)) > 1
    return float(np.corrcoef(x, y)[0, 1]) if varies else 0.0
