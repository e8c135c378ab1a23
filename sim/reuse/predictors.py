"""Predictions of a merge that never run the merged model (theory/README.md, section 12).

All take logits of the base and of single adapters where a completion is decided (teacher forcing), arrays
(..., S, L, V) for S prompts and L tokens; lambda is the common coefficient of a linear merge.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def tangent(base: Array, singles: Sequence[Array], lams: Sequence[float | Array]) -> Array:
    """base + sum_i lambda_i (single_i - base), each single adapter run at lambda = 1.

    Exact for adapters on the readout W (or on the last MLP output, up to the final RMSNorm, which does not
    change the argmax); for any other adapter a linear extrapolation in lambda.
    """
    return base + sum(lam * (single - base) for lam, single in zip(lams, singles, strict=True))


def disentangled(base: Array, scaled_singles: Sequence[Array]) -> Array:
    """base + sum_i (adapter_i run alone at its lambda_i - base): ignores only what adapters do to each other.

    Weight disentanglement (Ortiz-Jimenez, Favero, Frossard 2023, arXiv 2305.12827) taken as a prediction.
    """
    return base + sum(single - base for single in scaled_singles)


def right(logits: Float[Array, "... S L V"], target: Int[Array, "S L"]) -> Bool[Array, "... S L"]:
    """Whether each token is the argmax: all of a row is an exact match of greedy decoding."""
    return jnp.argmax(logits, axis=-1) == target


def margin_and_swing(base: Array, single: Array, target: Int[Array, "S L"]) -> tuple[Array, Array]:
    """(M_old, Delta) of every token: the base's lead of its old answer over the new one, and the change of
    (new - old) that the adapter makes alone at lambda = 1 (section 3). The new answer leads the old one for
    lambda > M_old / Delta if logits are linear in lambda. Where the base is right already both are 0 or
    measure the lead over the runner-up: M_old < 0 there."""
    masked = jnp.put_along_axis(base, target[..., None], -jnp.inf, axis=-1, inplace=False)
    old = jnp.argmax(masked, axis=-1)[..., None]
    new = target[..., None]

    def lead(logits):
        return (jnp.take_along_axis(logits, new, -1) - jnp.take_along_axis(logits, old, -1))[..., 0]

    return -lead(base), lead(single) - lead(base)


def product(*steps: Bool[Array, " S"]) -> Array:
    """Product of the mean success of the steps of a trace: section 9 with independent steps."""
    total = jnp.asarray(1.0)
    for step in steps:
        total = total * jnp.mean(step.astype(jnp.float32))
    return total
