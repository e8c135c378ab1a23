"""Which merges to run first: those that leave the least uncertain of all others."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sim.predict.kriging import COVARIANCES, START

EXTRA = 8
"""Runs of a design besides as many as there are single adapters and pairs."""


def size(adapters: int) -> int:
    """Runs of a design without the base: K + K (K - 1) / 2 + 8."""
    return adapters + adapters * (adapters - 1) // 2 + EXTRA


def spread(
    candidates: Float[np.ndarray, "C K"], first: Sequence[int], count: int
) -> list[int]:
    """``count`` places of candidates, ``first`` among them in front: one by one that which takes away most of
    the variance of all candidates, over prompts of every adapter.

    The saturating covariance at its starting gains stands for what is not known yet. A prompt counts in the
    merges that its own adapter is in. Sequential design by integrated mean squared error (Sacks et al., Stat.
    Sci. 4, 1989). Deterministic.
    """
    candidates = np.asarray(candidates, float)
    adapters = candidates.shape[1]
    own, other, noise = np.exp(START)
    gains = np.full((adapters, adapters), other) + (own - other) * np.eye(adapters)
    inner = np.stack([COVARIANCES["saturating"](candidates, candidates, each) for each in gains])
    share = (candidates.T > 0).astype(float)
    places: list[int] = []
    while len(places) < min(count, len(candidates)):
        if len(places) < len(first):
            place = int(first[len(places)])
        else:
            total = np.einsum("kii->ki", inner) + noise
            gain = np.einsum("kji,kj->i", np.square(inner) / total[:, None, :], share)
            gain[places] = -1.0
            place = int(np.argmax(gain))
        column = inner[:, :, place]
        inner = inner - column[:, :, None] * column[:, None, :] / (column[:, place] + noise)[:, None, None]
        places.append(place)
    return places
