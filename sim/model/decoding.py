"""Greedy decoding: what a model writes after a prompt."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from sim.model.sequences import Sequences

NextLogits = Callable[[Array, Array], Array]
"""(tokens (B, T), position) -> logits (B, V) of the token after that position."""


def greedy(next_logits: NextLogits, prompts: Int[Array, "B P"], length: int) -> Int[Array, "B L"]:
    """Append the most likely token ``length`` times; ties go to the smaller token number.

    The whole buffer is run at every step: at these lengths that costs less than keeping a cache, and
    causality makes the padding to the right of the current token irrelevant.
    """
    batch, start = prompts.shape
    buffer = jnp.concatenate([prompts, jnp.zeros((batch, length), prompts.dtype)], axis=1)

    def step(buffer, index):
        token = jnp.argmax(next_logits(buffer[:, :-1], index - 1), axis=-1).astype(buffer.dtype)
        return jax.lax.dynamic_update_slice_in_dim(buffer, token[:, None], index, axis=1), None

    buffer, _ = jax.lax.scan(step, buffer, start + jnp.arange(length))
    return buffer[:, start:]


def answers(next_logits: NextLogits, group: Sequences) -> Int[Array, "B L"]:
    """The greedy completion of every prompt of a group, as long as the right one."""
    return greedy(next_logits, group.tokens[:, : group.prompt], group.target.shape[1])
