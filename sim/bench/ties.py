"""TIES of a pair of large modules, against plain NumPy on dense matrices and against the floor."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy.sparse.linalg

from sim.bench.clock import benchmark, clocked, floor_columns, machine_speed, random_adapters, seconds
from sim.merge import merge
from sim.merge.truncation import truncated_dense
from theory.lowrank import LowRank

OUT, IN, RANK = 4096, 14336, 64
"""The MLP matrix of a 7B model."""

DENSITY = 0.2


def dense_ties(updates: Sequence[LowRank]) -> np.ndarray:
    """TIES as one would write it in NumPy: every Delta W whole, trimmed at its own order statistic."""
    deltas = np.stack([np.float32(update.scale) * (update.b @ update.a) for update in updates])
    for delta in deltas:
        sizes = np.abs(delta)
        drop = delta.size - int(DENSITY * delta.size)
        delta[sizes < np.partition(sizes.ravel(), drop)[drop]] = 0
    agree = (np.sign(deltas) == np.sign(deltas.sum(axis=0))) & (deltas != 0)
    return (deltas * agree).sum(axis=0) / np.maximum(agree.sum(axis=0, dtype=np.float32), 1)


def floor(step: str, out_dim: int, in_dim: int, rank: int) -> tuple[float, float]:
    """(bytes, operations) that any implementation must spend, in float32.

    merge: factors in, the matrix out; both products. truncate, to the sum of the ranks: the matrix in,
    factors out; a product with the matrix on either side.
    """
    factors, entries = 2 * rank * (out_dim + in_dim), out_dim * in_dim
    return 4.0 * (factors + entries), entries * rank * {"merge": 4.0, "truncate": 8.0}[step]


@benchmark
def ties() -> pd.DataFrame:
    """Merge two rank-64 updates of a 4096 x 14336 module by TIES, and truncate the result to rank 128.

    The peers are plain NumPy on dense matrices, and SciPy's ``svds``, each run once. ``seconds`` of ours is
    the shortest of 3 runs, ``first`` one before with compilation. ``error`` is ours against the peer's: the
    relative difference of the merges (rounding decides the trim or the vote of an entry in a million), and
    the relative excess of the truncation's residual.
    """
    size = {"out_dim": OUT, "in_dim": IN, "rank": RANK}
    updates = [adapter.modules["layers.0"] for adapter in random_adapters(OUT, IN, RANK)]
    machine = machine_speed()

    def row(step: str, tool: str, elapsed: float, ours: float, **columns: float) -> dict[str, Any]:
        case = {"tool": tool, "step": step, **size, "seconds": elapsed, "first": np.nan, "error": np.nan}
        case |= floor_columns(floor(step, **size), machine)
        return case | {"ratio_to_ours": elapsed / ours} | columns

    def merged() -> jax.Array:
        return merge("ties", updates, density=DENSITY)

    first, dense_merge = clocked(merged)
    ours, peers = seconds(lambda: jax.block_until_ready(merged())), clocked(lambda: dense_ties(updates))
    difference = np.linalg.norm(dense_merge - peers[1]) / np.linalg.norm(peers[1])
    rows = [row("merge", "ours", ours, ours, first=first, error=float(difference))]
    rows += [row("merge", "numpy", peers[0], ours)]

    def truncated() -> LowRank:
        return truncated_dense(dense_merge, 2 * RANK)

    first, truncation = clocked(truncated)
    dense = np.asarray(dense_merge)
    ours, peers = (
        seconds(lambda: jax.block_until_ready(truncated())),
        clocked(lambda: scipy.sparse.linalg.svds(dense, 2 * RANK)),
    )
    u, s, vt = peers[1]
    left = np.linalg.norm(dense - truncation.b @ truncation.a) / np.linalg.norm(dense - (u * s) @ vt)
    rows += [row("truncate", "ours", ours, ours, first=first, error=float(left - 1))]
    rows += [row("truncate", "scipy svds", peers[0], ours)]
    return pd.DataFrame(rows)
