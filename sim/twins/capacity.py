"""Twin of ``theory.capacity``: random memories, truncated by a real SVD (theory/README.md, section 7)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.lab import seeds

_QUERIES = 1000


def _memory(key: Array, facts: int, dim: int, rank: int) -> tuple[Array, Array, Array]:
    """(keys U, values V, truncated M_r) with M = V U^T; facts are columns."""
    draws = [jax.random.normal(jax.random.fold_in(key, i), (dim, facts), jnp.float64) for i in range(2)]
    keys, values = (draw / dim**0.5 for draw in draws)
    u, s, vt = jnp.linalg.svd(values @ keys.T)
    return keys, values, (u[:, :rank] * s[None, :rank]) @ vt[:rank]


@functools.partial(jax.jit, static_argnames=("facts", "dim", "rank", "candidates", "draws"))
def recall(
    facts: int, dim: int, rank: int, candidates: int | None = None, *, key: Array, draws: int
) -> Float[Array, "draws"]:
    """Measured recall of each of ``draws`` memories, for ``theory.capacity.recall`` and ``recall_large``.

    Facts are exchangeable: the first ``candidates`` values (all F by default) compete, for the keys of the
    first 1000 of them at most.
    """
    candidates = facts if candidates is None else candidates
    queries = min(candidates, _QUERIES)

    def one(key):
        keys, values, memory = _memory(key, facts, dim, rank)
        scores = values[:, :candidates].T @ (memory @ keys[:, :queries])
        return jnp.mean(jnp.argmax(scores, axis=0) == jnp.arange(queries))

    # One memory at a time: batched LAPACK gains nothing on a CPU and can hang.
    return jax.lax.map(one, seeds.keys(key, draws))


@functools.partial(jax.jit, static_argnames=("load", "share", "dim", "draws"))
def traces(load: float, share: float, *, dim: int, key: Array, draws: int) -> Float[Array, "draws 3"]:
    """(tr K, |K|_F^2, tr K^2) / F of each draw at width ``dim``: twin of ``theory.capacity.traces``."""
    facts, rank = round(load * dim), round(share * dim)

    def one(key):
        keys, values, memory = _memory(key, facts, dim, rank)
        scores = values.T @ memory @ keys
        return jnp.stack([jnp.trace(scores), jnp.sum(scores**2), jnp.sum(scores * scores.T)]) / facts

    return jax.lax.map(one, seeds.keys(key, draws))
