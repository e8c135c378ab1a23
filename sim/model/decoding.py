"""Greedy decoding: what a model writes after a prompt."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from sim.model.sequences import Sequences

Cache = TypeVar("Cache")
"""Keys and values of the tokens read so far, as a decoder keeps them."""

ReadOn = Callable[[Array, Array, Cache], tuple[Array, Cache]]
"""(new tokens (B, T), position of the first, cache) -> (logits (B, V) after the last, cache with them)."""


def greedy(read_on: ReadOn, prompts: Int[Array, "B P"], length: int, cache: Cache) -> Int[Array, "B L"]:
    """Append the most likely token ``length`` times; ties go to the smaller token number.

    ``cache`` has room for prompt and completion.
    """
    logits, cache = read_on(prompts, jnp.int32(0), cache)

    def step(carry, position):
        logits, cache = carry
        token = jnp.argmax(logits, axis=-1).astype(prompts.dtype)
        return read_on(token[:, None], position, cache), token

    positions = prompts.shape[1] + jnp.arange(length - 1, dtype=jnp.int32)
    (logits, _), written = jax.lax.scan(step, (logits, cache), positions)
    last = jnp.argmax(logits, axis=-1).astype(prompts.dtype)
    return jnp.concatenate([written, last[None]]).T


def answers(read_on: ReadOn, group: Sequences, cache: Cache) -> Int[Array, "B L"]:
    """The greedy completion of every prompt of a group, as long as the right one."""
    return greedy(read_on, group.tokens[:, : group.prompt], group.target.shape[1], cache)
