"""Twin of ``theory.edits``: adapters trained by gradient descent (theory/README.md, section 1)."""

import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sim.model.descent import minimise
from sim.twins.dynamics import descend
from theory.lowrank import LowRank, apply
from theory.model import gaussian


@functools.partial(jax.jit, static_argnames=("rank", "steps"))
def least_squares_adapter(
    keys: Float[Array, "facts m"],
    residual: Float[Array, "facts n"],
    rank: int,
    *,
    key: Array,
    steps: int = 4000,
) -> LowRank:
    """A rank-r LoRA trained from B = 0 and a small Gaussian A: descent on |R - B A Phi|_F^2 / 2.

    The step is 0.4 over the largest singular value of R Phi^T, the curvature of balanced factors.
    """
    start = 1e-2 * gaussian(key, (rank, keys.shape[1])) / keys.shape[1] ** 0.5
    step = 0.4 / jnp.linalg.norm(residual.T @ keys, 2)
    return descend(
        keys, residual, LowRank(jnp.zeros((residual.shape[1], rank), jnp.float64), start), step, steps
    )


def least_squares_loss(
    keys: Float[Array, "facts m"],
    residual: Float[Array, "facts n"],
    rank: int,
    *,
    key: Array,
    steps: int = 4000,
) -> Float[Array, ""]:
    """|R - Delta W Phi|_F^2 of the trained adapter."""
    trained = least_squares_adapter(keys, residual, rank, key=key, steps=steps)
    return jnp.sum(jnp.square(residual - apply(trained, keys)))


def rank_one_edit(
    phi: Float[Array, "m"], change: Float[Array, "n"], *, steps: int = 200
) -> Float[Array, "n m"]:
    """A full Delta W trained from 0 on one fact: descent stays in phi's span, so it ends at least norm."""
    step = 0.5 / jnp.sum(jnp.square(phi))

    def loss(weights, _):
        return jnp.sum(jnp.square(change - weights @ phi)) / 2

    begin = jnp.zeros((change.size, phi.size), jnp.float64)
    return minimise(loss, begin, optax.sgd(step), steps)[0]
