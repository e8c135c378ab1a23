"""Greedy decoding and scoring: what a model answers, and which step of a solution trace it got right."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from sim.worlds import Sequences

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


def answers(next_logits: NextLogits, probe: Sequences) -> Int[Array, "B L"]:
    """The greedy completion of every prompt of a probe, as long as the right one."""
    return greedy(next_logits, probe.tokens[:, : probe.prompt], probe.tokens.shape[1] - probe.prompt)


def exact(completions: Int[Array, "B L"], probe: Sequences) -> Bool[Array, " B"]:
    """Whether every token of the completion is right (exact match)."""
    return jnp.all(completions == probe.tokens[:, probe.prompt :], axis=1)


def trace_factors(
    completions: Int[Array, "B L"], probe: Sequences, name_tokens: int
) -> dict[str, Bool[Array, " B"]]:
    """Which steps of "x r ANSWER y SEP y s ANSWER z" a generated trace took (theory/README.md, section 9).

    Returns booleans for each query:
        answer:       the final name is right, whatever came before;
        template:     r, ANSWER, SEP, s, ANSWER stand where they belong;
        name_copied:  the subject was copied, and the bridge as generated was copied;
        hop1:         the generated bridge is right;
        hop2:         the final name is right and so was the bridge (over hop1: hop 2 given hop 1).
    """
    k = name_tokens
    names = {"x": 0, "y": k + 2, "y_again": 2 * k + 3, "z": 3 * k + 5}
    span = {name: slice(start, start + k) for name, start in names.items()}
    target = probe.tokens[:, probe.prompt :]
    is_name = jnp.zeros(completions.shape[1], bool)
    for part in span.values():
        is_name = is_name.at[part].set(True)

    def right(name):
        return jnp.all(completions[:, span[name]] == target[:, span[name]], axis=1)

    copied_bridge = jnp.all(completions[:, span["y_again"]] == completions[:, span["y"]], axis=1)
    return {
        "answer": right("z"),
        "template": jnp.all((completions == target) | is_name[None, :], axis=1),
        "name_copied": right("x") & copied_bridge,
        "hop1": right("y"),
        "hop2": right("y") & right("z"),
    }
