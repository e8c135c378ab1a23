"""The one optimisation loop: optax under ``lax.scan``, for adapters, bases and the twins of the laws."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Trainable = TypeVar("Trainable")


def minimise(
    loss: Callable[[Trainable, Array], Array],
    start: Trainable,
    optimiser: optax.GradientTransformation,
    steps: int,
) -> tuple[Trainable, Float[Array, " steps"]]:
    """(value after the last step, loss before every step) of descent on ``loss(value, step index)``.

    The optimiser sees one flat vector: a few operations a step, not a few for every array.
    """
    optimiser = optax.flatten(optimiser)

    def step(carry, index):
        value, state = carry
        now, gradient = jax.value_and_grad(loss)(value, index)
        updates, state = optimiser.update(gradient, state, value)
        return (optax.apply_updates(value, updates), state), now

    (value, _), losses = jax.lax.scan(step, (start, optimiser.init(start)), jnp.arange(steps))
    return value, losses
