"""Twin of ``theory.merges``: adapters of facts are built or trained, merged or routed, and read at the keys.

Keys of all adapters are orthogonal, of lengths that differ unless they are given, in a random frame; every
fact has an old and a new answer of its own, R_k = i_new - i_old, unless it is shared.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge import merge
from sim.model import routing
from theory.edits import exact_adapter, shares
from theory.lowrank import LowRank, dense
from theory.model import gaussian

_FACTS = 3
"""Facts an adapter."""


def _facts(
    count: int, key: Array, lengths: Sequence[float] | None = None
) -> tuple[Float[Array, "count m"], Float[Array, "count n"]]:
    """Keys, of these lengths or of lengths that differ, and wanted changes of facts that share nothing."""
    frame = jnp.linalg.qr(gaussian(jax.random.fold_in(key, 0), (count + 4, count)))[0].T
    length = jax.random.uniform(jax.random.fold_in(key, 1), (count,), jnp.float64, 0.6, 1.6)
    length = length if lengths is None else jnp.asarray(lengths, jnp.float64)
    eye = jnp.eye(2 * count)
    return length[:, None] * frame, eye[:count] - eye[count:]


def _library(
    adapters: int, key: Array, lengths: Sequence[float] | None = None
) -> tuple[list[LowRank], Array, Array]:
    """Adapters of ``_FACTS`` facts each, and the keys and changes of all, adapter by adapter.

    Each adapter's factors are turned at random: no order of its facts is left in them.
    """
    keys, residual = _facts(adapters * _FACTS, key, lengths)
    library = []
    for i in range(adapters):
        block = slice(i * _FACTS, (i + 1) * _FACTS)
        update = exact_adapter(keys[block], residual[block])
        turn = jnp.linalg.qr(gaussian(jax.random.fold_in(key, 2 + i), (_FACTS, _FACTS)))[0]
        library.append(LowRank(update.b @ turn, turn.T @ update.a, update.scale))
    return library, keys, residual


def _read(merged: LowRank | Array, keys: Array, residual: Array) -> Array:
    """The share of its wanted change that each fact gets."""
    if not isinstance(merged, LowRank):
        merged = LowRank(merged, jnp.eye(merged.shape[1]))
    return shares(merged, keys, residual)


def energies(adapters: int, *, key: Array) -> Float[Array, "facts"]:
    """|R_k|^2 / |phi_k|^2 of every fact of the library, over its sum in the fact's adapter."""
    keys, _ = _facts(adapters * _FACTS, key)
    energy = (1 / jnp.sum(jnp.square(keys), axis=1)).reshape(adapters, _FACTS)
    return (energy / jnp.sum(energy, axis=1, keepdims=True)).ravel()


def merged_strength(
    name: str,
    adapters: int,
    *,
    key: Array,
    weights: Sequence[float] | None = None,
    lengths: Sequence[float] | None = None,
    **options,
) -> Float[Array, "facts"]:
    """Strength at which each fact of a library that shares nothing is read from a merge.

    ``lengths`` of the keys of all facts: equal ones make equal singular values.
    """
    library, keys, residual = _library(adapters, key, lengths)
    return _read(merge(name, library, weights, **options), keys, residual)


def ace_strength(adapters: int, ridge: float, *, key: Array) -> Float[Array, "facts"]:
    """Strengths of ACE, fact by fact."""
    return merged_strength("ace", adapters, key=key, ridge=ridge)


def slerp_strength(weight: float, *, key: Array, name: str = "nuslerp") -> Float[Array, "facts"]:
    """Strengths of the facts of the adapter of that weight, merged with one other."""
    return merged_strength(name, 2, key=key, weights=[weight, 1 - weight])[:_FACTS]


def svc_strength(holders: int, adapters: int, alpha: float = 1.0, *, key: Array) -> Array:
    """Strength of a fact that ``holders`` of the adapters share; each has facts of its own besides."""
    keys, residual = _facts(1 + adapters * _FACTS, key)
    library = []
    for index in range(adapters):
        own = list(range(1 + index * _FACTS, 1 + (index + 1) * _FACTS))
        taught = jnp.array([0, *own] if index < holders else own)
        library.append(exact_adapter(keys[taught], residual[taught]))
    return _read(merge("svc", library, alpha=alpha), keys[:1], residual[:1])[0]


def routed_strength(
    name: str, adapters: int, *, key: Array, temperature: float = 1.0
) -> Float[Array, "facts"]:
    """Strength at which each fact is read from a library that a router gates, at the fact's own key."""
    library, keys, residual = _library(adapters, key)
    project = routing.routed([{"w": update} for update in library], name, temperature=temperature)
    moved = project("w", jnp.zeros((residual.shape[1], keys.shape[1])), keys)
    return jnp.sum(residual * moved, axis=1) / jnp.sum(jnp.square(residual), axis=1)


def row_alignment(
    keys: Float[Array, "facts m"], residual: Float[Array, "facts n"], rate: float, steps: int
) -> Array:
    """Cosine of Delta W^T Delta W with the keys' Gram matrix after descent on |R - Delta W Phi|^2 / 2."""

    def step(_, update):
        return update + rate * (residual.T - update @ keys.T) @ keys

    update = jax.lax.fori_loop(0, steps, step, jnp.zeros((residual.shape[1], keys.shape[1])))
    gram, true = update.T @ update, keys.T @ keys
    return jnp.sum(gram * true) / (jnp.linalg.norm(gram) * jnp.linalg.norm(true))


def sum_gap(name: str, adapters: int, *, key: Array, **options) -> Array:
    """|merge - sum| / |sum| of a library that shares nothing."""
    library, _, _ = _library(adapters, key)
    total = sum(dense(update) for update in library)
    merged = merge(name, library, **options)
    merged = dense(merged) if isinstance(merged, LowRank) else merged
    return jnp.linalg.norm(merged - total) / jnp.linalg.norm(total)
