"""The merges to choose from: strengths of every adapter, over a grid."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

GRID = (0.25, 0.5, 0.75, 1.0)

MOST = 2048
"""All combinations of strengths are candidates if they are at most so many, else common strengths of subsets;
and if these are more than twice as many, those of some subsets, drawn."""


def grid(count: int, given: Sequence[float]) -> tuple[float, ...]:
    """The strengths of an adapter: those given, or ``GRID`` and 1/K; in order, without 0.

    Raises: ValueError for a strength that is not a positive number.
    """
    if not all(np.isfinite(lam) and lam > 0 for lam in given):
        raise ValueError(f"--lams {' '.join(map(str, given))}: give positive numbers; 0 is always there")
    return tuple(sorted({*given} if given else {*GRID, 1 / count}))


def candidates(count: int, lams: Sequence[float], most: int = MOST) -> Float[np.ndarray, "C K"]:
    """All merges to choose from, the base first."""
    if (len(lams) + 1) ** count <= most:
        return np.array(sorted(itertools.product((0.0, *lams), repeat=count)))
    subsets = (
        [np.array(bits) for bits in itertools.product((0, 1), repeat=count) if any(bits)]
        if count < 17
        else []
    )
    if not subsets or len(subsets) * len(lams) > 2 * most:
        rng = np.random.default_rng(0)
        drawn = [rng.permutation(count) < size for size in rng.integers(2, count, 2 * most // len(lams))]
        subsets = list(
            {
                tuple(bits): bits for bits in [*np.eye(count, dtype=bool), np.ones(count, bool), *drawn]
            }.values()
        )
    common = [lam * np.asarray(bits, float) for lam in lams for bits in subsets]
    return np.unique(np.array([np.zeros(count), *common]), axis=0)


def first(each: Float[np.ndarray, "C K"]) -> list[int]:
    """Places that are run before all others: the base, each adapter at its largest strength, all at 1/K and
    at the largest strength, so far as they are there."""
    count, top = each.shape[1], each.max()
    wanted = [np.zeros(count), *(top * np.eye(count)), np.full(count, 1 / count), np.full(count, top)]
    places = [np.flatnonzero(np.isclose(each, one).all(axis=1)) for one in wanted]
    return list(dict.fromkeys(int(at[0]) for at in places if len(at)))


def near(best: Float[np.ndarray, " K"], lams: Sequence[float]) -> Float[np.ndarray, "n K"]:
    """Merges one or two steps of the grid from the best: for strengths that differ by adapter."""
    steps = (0.0, *lams)
    at = [int(np.argmin(np.abs(np.array(steps) - lam))) for lam in best]
    moves = {tuple(at)}
    for moved in itertools.combinations(range(len(best)), 2):
        for change in itertools.product((-1, 0, 1), repeat=2):
            other = list(at)
            for place, step in zip(moved, change, strict=True):
                other[place] = min(max(other[place] + step, 0), len(steps) - 1)
            moves.add(tuple(other))
    return np.array(sorted([steps[i] for i in move] for move in moves))
