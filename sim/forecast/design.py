"""Which merges to run first: those that leave the least uncertain of all others."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sim.forecast.kriging import COVARIANCES, START

EXTRA = 8
"""Runs of a design besides as many as there are single adapters and pairs."""

TARGETS = 256
"""Candidates, at even distances in their list, whose variance is looked at."""


def size(adapters: int) -> int:
    """Runs of a design without the base: K + K (K - 1) / 2 + 8."""
    return adapters + adapters * (adapters - 1) // 2 + EXTRA


def spread(
    candidates: Float[np.ndarray, "C K"],
    first: Sequence[int],
    count: int,
    parameters: Sequence[float] = START,
) -> list[int]:
    """``count`` places of candidates, ``first`` in front: one by one that which takes away most of the
    variance of all candidates, over prompts of every adapter.

    The saturating covariance at these parameters stands for what is not known yet. A prompt counts in the
    merges that its own adapter is in, every merge as much as another. Sequential design by integrated mean
    squared error (Sacks et al., Stat. Sci. 4, 1989), with the Cholesky factor built up run by run.
    Deterministic.
    """
    candidates = np.asarray(candidates, float)
    targets = candidates[:: -(-len(candidates) // TARGETS)]
    adapters = candidates.shape[1]
    own, other, noise = np.exp(parameters)
    gains = np.full((adapters, adapters), other) + (own - other) * np.eye(adapters)
    covariance = COVARIANCES["saturating"]
    cross = np.stack([covariance(candidates, targets, each) for each in gains])  # less what is run: (K, C, T)
    total = np.stack([covariance(one[None], one[None], each)[0, 0] for each in gains for one in candidates])
    total = total.reshape(adapters, -1) + noise
    sizes = np.maximum(np.count_nonzero(targets, axis=1), 1)
    share = ((targets.T > 0) / sizes)[:, None, :]
    roots, target_roots = [np.zeros((0, adapters, len(part))) for part in (candidates, targets)]
    places: list[int] = []
    while len(places) < min(count, len(candidates)):
        if len(places) < len(first):
            place = int(first[len(places)])
        else:
            gain = np.sum(np.sum(np.square(cross) * share, axis=2) / total, axis=0)
            gain[places] = -1.0
            place = int(np.argmax(gain))
        point, scale = candidates[place][None], np.sqrt(total[:, place])[:, None]
        new = []
        for part, rows in ((candidates, roots), (targets, target_roots)):
            column = np.stack([covariance(part, point, each)[:, 0] for each in gains])
            explained = np.einsum("nk,nkc->kc", roots[:, :, place], rows)
            new.append((column - explained) / scale)
        cross = cross - new[0][:, :, None] * new[1][:, None, :]
        total = np.maximum(total - np.square(new[0]), noise)
        roots, target_roots = (
            np.concatenate([rows, row[None]]) for rows, row in zip((roots, target_roots), new, strict=True)
        )
        places.append(place)
    return places
