"""Twin of ``theory.dynamics``: gradient descent on the factors with optax (theory/README.md, section 11)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sim.model.descent import minimise
from theory.lowrank import LowRank


def loss(factors: LowRank, keys: Float[Array, "facts m"], residual: Float[Array, "facts n"]) -> Array:
    """|R - B A Phi|_F^2 / 2 with facts as rows."""
    return jnp.sum(jnp.square(residual - (keys @ factors.a.T) @ factors.b.T)) / 2


def descend(
    keys: Float[Array, "facts m"],
    residual: Float[Array, "facts n"],
    start: LowRank,
    step: float,
    steps: int,
) -> LowRank:
    """``steps`` steps of ``optax.sgd(step)`` on B and A from ``start`` (scale 1): flow time step * steps."""

    def objective(factors, _):
        return loss(LowRank(*factors), keys, residual)

    return LowRank(*minimise(objective, (start.b, start.a), optax.sgd(step), steps)[0])


def flow(
    keys: Float[Array, "facts m"],
    residual: Float[Array, "facts n"],
    start: Float[Array, "r m"],
    time: float,
    steps: int = 1000,
) -> LowRank:
    """The flow from B = 0 and A0 by descent in ``steps`` steps of size time/steps; error O(time/steps)."""
    b = jnp.zeros((residual.shape[1], start.shape[0]), jnp.float64)
    return descend(keys, residual, LowRank(b, start), time / steps, steps)


def orthogonal_start(rank: int, width: int, size: float, key: Array) -> Float[Array, "r m"]:
    """A0 with orthogonal rows of norm ``size``, uniformly random: A0 A0^T = size^2 I."""
    frame = jnp.linalg.qr(jax.random.normal(key, (width, rank), jnp.float64))[0]
    return size * frame.T


def start_on(keys: Float[Array, "facts m"], rank: int, size: float, key: Array) -> Float[Array, "r m"]:
    """The same inside the span of whitened ``keys``, which is where the exact flow asks for it."""
    return orthogonal_start(rank, keys.shape[0], size, key) @ keys


def whitened_keys(facts: int, width: int, key: Array) -> Float[Array, "facts m"]:
    """F orthonormal keys in R^m as rows, uniformly random."""
    return orthogonal_start(facts, width, 1.0, key)
