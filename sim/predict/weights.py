"""Which linear merges are predicted: one coefficient an adapter, over a grid."""

import itertools
from collections.abc import Sequence

import numpy as np

Weights = tuple[float, ...]
"""The coefficients of sum_i lambda_i Delta W_i."""

GRID = (0.25, 0.5, 0.75, 1.0)


def grid(count: int, given: Sequence[float]) -> tuple[float, ...]:
    """The strengths at which each adapter is run: those given, or ``GRID`` and 1/K; in order, without 0.

    Raises: ValueError for a strength that is not a positive number.
    """
    if not all(np.isfinite(lam) and lam > 0 for lam in given):
        raise ValueError(f"--lams {' '.join(map(str, given))}: give positive numbers; 0 is always there")
    return tuple(sorted({*given} if given else {*GRID, 1 / count}))


def weights(count: int, lams: Sequence[float], most: int) -> list[Weights]:
    """All combinations of 0 and the strengths, if at most ``most``; else one common strength, and each alone.

    In order; the base (all 0) is the first.
    """
    steps = (0.0, *lams)
    if len(steps) ** count <= most:
        return sorted(itertools.product(steps, repeat=count))
    single = [tuple(lam * (i == j) for j in range(count)) for i in range(count) for lam in lams]
    return sorted({(0.0,) * count, *single, *((lam,) * count for lam in lams)})


def common(each: Sequence[Weights]) -> list[int]:
    """Places of the merges with one strength for all, the base among them, by rising strength."""
    return [at for at, one in enumerate(each) if len(set(one)) == 1]


def singles(each: Sequence[Weights]) -> list[int]:
    """Places of the base and of single adapters: no merges, and nothing to predict."""
    return [at for at, one in enumerate(each) if np.count_nonzero(one) < 2]
