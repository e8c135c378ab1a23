"""Merges that look at one neuron, or one weight, at a time: NuSLERP row by row, RAM entry by entry."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.elementwise import magnitudes, map_rows, reduce_rows, sum_updates
from sim.merge.methods.linear import combination
from sim.merge.registry import method
from theory.lowrank import LowRank, absorbed

AXES = ("rows", "columns")


@method("neurons", float64=True, normalises=True)
def nuslerp(updates: Sequence[LowRank], weights: Float[Array, "K"], *, axis: str = "rows") -> LowRank:
    """NuSLERP: spherical interpolation of two Delta W, each row (or column) along its own arc. In factors.

    mergekit's ``nuslerp`` without flattening (flattened it is ``slerp``): row j is [sin((1 - t) a_j) x_j +
    sin(t a_j) y_j] / sin a_j, a_j the angle between the rows x_j, y_j and t = w_2 / (w_1 + w_2). Linear where
    sin a_j < 1e-3, as in ``slerp``; a row of zeros is at right angles to any. The coefficients scale the rows
    of B (or the columns of A), so the rank is the sum of the ranks. Axis: "rows", "columns".
    """
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, not {axis!r}")
    if len(updates) == 1:
        return combination(updates, weights)
    if len(updates) != 2:
        raise ValueError(f"nuslerp takes two adapters, not {len(updates)}; use karcher for more")
    parts = [absorbed(update) for update in updates]
    if axis == "columns":
        return _turned(_rowwise([_turned(part) for part in parts], weights))
    return _rowwise(parts, weights)


def _turned(part: LowRank) -> LowRank:
    return LowRank(part.a.T, part.b.T, 1.0)


def _rowwise(parts: Sequence[LowRank], weights: Float[Array, "2"]) -> LowRank:
    # Norms from a triangular root of A A^T: without it a row that nearly vanishes would lose its digits.
    norms = [jnp.linalg.norm(part.b @ jnp.linalg.qr(part.a.T)[1].T, axis=1) for part in parts]
    dots = jnp.sum((parts[0].b @ (parts[0].a @ parts[1].a.T)) * parts[1].b, axis=1)
    length = norms[0] * norms[1]
    cosine = jnp.where(length > 0, dots / jnp.where(length > 0, length, 1), 0)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))[:, None]
    sine = jnp.sin(angle)
    curved = jnp.sin(weights[None, :] * angle) / jnp.where(sine > 1e-3, sine, 1)
    shares = jnp.where(sine > 1e-3, curved, weights[None, :])
    b = jnp.concatenate([shares[:, i : i + 1] * part.b for i, part in enumerate(parts)], axis=1)
    return LowRank(b, jnp.concatenate([part.a for part in parts], axis=0), 1.0)


@method("neurons", dense=True, identity={"threshold": 0.0})
def ram(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, threshold: float = 0.01, boost: float = 0.0
) -> Float[Array, "out in"]:
    """RAM: an entry that several updates change is averaged over them, one that a single one changes is kept.

    Yuan et al. 2026 (arXiv 2601.13572), as in mergekit: changed means |w_i tau_i| above a threshold, and what
    is below it is dropped; with ``boost`` an update's own entries are multiplied by 1 + boost * min(shared
    entries / own entries, 0.2) (RAM+, there with boost 0.1), counted in this module alone. Here the
    threshold is a share of the update's largest entry: mergekit's 1e-5 is one of sparse updates and of
    one unit of the weights. A low-rank update is dense: nearly every entry is shared, and RAM is the average.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be in [0, 1), not {threshold}")
    largest = jnp.stack([jnp.max(map_rows([update], magnitudes)) for update in updates])
    at = threshold * jnp.abs(weights) * largest
    own, shared = reduce_rows(updates, _counts, weights, at)
    factor = 1 + boost * jnp.minimum(shared / jnp.maximum(own, 1), MOST).astype(weights.dtype)
    return map_rows(updates, _disjoint, weights, at, factor)


MOST = 0.2
"""The largest ratio of shared to own entries that RAM+ counts."""


def _changed(entries: Array, weights: Array, at: Array) -> tuple[Array, Array, Array]:
    """Weighted entries, which of them count as changed, and by how many updates each place is."""
    entries = weights[:, None, None] * entries
    changed = jnp.abs(entries) > at[:, None, None]
    return entries, changed, sum_updates(changed.astype(entries.dtype))


def _counts(entries: Array, rows: Array, weights: Array, at: Array) -> Float[Array, "2 K"]:
    _, changed, holders = _changed(entries, weights, at)
    return jnp.stack(
        [jnp.sum(changed & kind[None], axis=(1, 2)) for kind in (holders == 1, holders > 1)]
    ).astype(jnp.float64)


def _disjoint(entries: Array, rows: Array, weights: Array, at: Array, factor: Array) -> Array:
    entries, changed, holders = _changed(entries, weights, at)
    survivors = jnp.where(changed, entries, 0)
    return jnp.where(
        holders > 1,
        sum_updates(survivors) / jnp.maximum(holders, 1),
        sum_updates(factor[:, None, None] * survivors),
    )
