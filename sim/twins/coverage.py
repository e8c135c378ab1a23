"""Twin of ``theory.coverage``: memories built and read, one by one (theory/README.md, sections 3 and 5)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theory.edits import rank_one_edit
from theory.lowrank import dense
from theory.model import gaussian

_WIDTH = 24
_OUTPUTS = 6


def _edited(margin: Array, swing: Array, key: Array) -> tuple[Array, Array, Array]:
    """(phi, base logits, their change): old answer is row 0 at ``margin``, new is row 1, others are lower."""
    phi = gaussian(jax.random.fold_in(key, 0), (_WIDTH,))
    low = -5.0 - jnp.abs(gaussian(jax.random.fold_in(key, 1), (_OUTPUTS,)))
    base = low.at[0].set(margin).at[1].set(0.0)
    change = jnp.zeros(_OUTPUTS).at[0].set(-swing / 2).at[1].set(swing / 2)
    return phi, base, dense(rank_one_edit(phi, change)) @ phi


@functools.partial(jax.jit, static_argnames=("steps",))
def critical_lambda(
    margin: Float[Array, "..."], swing: Float[Array, "..."], *, key: Array, steps: int = 60
) -> Float[Array, "..."]:
    """The lambda in [0, 100] at which an edited memory's argmax flips, by bisection; infinity if none."""

    def one(margin, swing):
        _, base, change = _edited(margin, swing, key)

        def flipped(lam):
            return jnp.argmax(base + lam * change) == 1

        def halve(ends, _):
            middle = ends.sum() / 2
            return jnp.where(flipped(middle), ends.at[1].set(middle), ends.at[0].set(middle)), None

        ends, _ = jax.lax.scan(halve, jnp.asarray([0.0, 100.0]), None, length=steps)
        return jnp.where(flipped(100.0), ends[1], jnp.inf)

    return jnp.vectorize(one)(jnp.asarray(margin, jnp.float64), jnp.asarray(swing, jnp.float64))


@jax.jit
def retention(
    lam: Float[Array, "..."], margin: float = 1.0, swing: float = 2.0, *, key: Array
) -> Float[Array, "..."]:
    """Whether the scaled edit answers new: 1, 0, or 1/2 where the two logits tie (to 1e-9)."""
    _, base, change = _edited(margin, swing, key)

    def one(lam):
        logits = base + lam * change
        leading = logits >= logits.max() - 1e-9
        return leading[1] / leading.sum()

    return jnp.vectorize(one)(jnp.asarray(lam, jnp.float64))


@functools.partial(jax.jit, static_argnames=("facts",))
def decides(
    lam: Float[Array, "cells"],
    overlap: Float[Array, "cells"],
    share: Float[Array, "cells"],
    *,
    key: Array,
    facts: int = 8,
) -> Array:
    """Whether fact 0 answers new: orthonormal keys, a projector with P_00 = share, read at overlap kappa.

    F facts with distinct answers; P is of rank 1, its unit vector at squared weight ``share`` on fact 0
    and random elsewhere; the read feature is kappa phi_0 + sqrt(1 - kappa^2) psi, and the base knows the old
    answer there too.
    """

    def one(lam, overlap, share, key):
        other = gaussian(key, (facts - 1,))
        other = other / jnp.linalg.norm(other) * jnp.sqrt(1 - share)
        vector = jnp.concatenate([jnp.sqrt(share)[None], other])
        strength = overlap * jnp.outer(vector, vector)[:, 0]  # P phi_0's coordinates, times kappa
        base = jnp.zeros(2 * facts).at[0].set(1.0)
        logits = base + lam * jnp.concatenate([-strength, strength])
        return jnp.argmax(logits) == facts

    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(lam.size))
    return jax.vmap(one)(lam, overlap, share, keys)


@jax.jit
def covers(
    lam: Float[Array, "adapters"],
    overlap: Float[Array, "adapters steps"],
    share: Float[Array, "adapters steps"],
    *,
    key: Array,
) -> Array:
    """Whether a merged memory answers every step anew, adapters that teach a step agreeing on its answer."""
    adapters, steps = overlap.shape
    frame = jnp.linalg.qr(gaussian(key, (2 * steps, 2 * steps)))[0]
    keys, spare = frame[:steps], frame[steps:]
    old, new = jnp.eye(steps, 2 * steps), jnp.eye(steps, 2 * steps, k=steps)
    merged = jnp.zeros((2 * steps, 2 * steps))
    for i in range(adapters):
        # Adapter i stores step j at a key of overlap kappa_ij with the prompt, at share rho_ij.
        stored = overlap[i][:, None] * keys + jnp.sqrt(1 - overlap[i] ** 2)[:, None] * spare
        merged = merged + lam[i] * (new - old).T @ (share[i][:, None] * stored)
    logits = old + keys @ merged.T
    return jnp.all(jnp.argmax(logits, axis=1) == steps + jnp.arange(steps))
