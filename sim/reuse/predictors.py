"""Predictions of a merge that never run the merged model (theory/README.md, section 12).

Most take logits of the base and of single adapters where a completion is decided (teacher forcing), arrays
(..., S, L, V) for S prompts and L tokens; lambda is the common coefficient of a linear merge.
``disentangled``, ``second_order`` and ``crossed`` are sums of effects and take any activations in place of
logits: the residual stream before the final norm, say (``sim.reuse.interaction``).
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


def second_order(base: Array, scaled_singles: Sequence[Array], mixed: Sequence[Array]) -> Array:
    """``disentangled`` and, for each pair of adapters, lambda_i lambda_j d2f/dlambda_i dlambda_j at the base.

    mixed: those products, one a pair. Left out: terms of the third order in lambda, and every bend of a ReLU
    between the base and the merge.
    """
    return disentangled(base, scaled_singles) + sum(mixed)


def crossed(
    base: Array, scaled_singles: Sequence[Array], across: Sequence[Array], at_base: Sequence[Array]
) -> Array:
    """``disentangled`` and half of what derivatives change by between the base and each single adapter.

        base + sum_i (f_i - base) + 1/2 sum_i (across_i - at_base_i)
        across_i  = sum_{j != i} lambda_j df/dlambda_j, adapter i alone in the model at its lambda_i
        at_base_i = the same sum, no adapter in the model

    Exact for f = sum_i g_i(lambda_i) + sum_{i<j} c_ij lambda_i lambda_j with any g_i. Of a pair's terms of
    the third order it has half (theory/README.md, section 12).
    """
    bent = sum(there - here for there, here in zip(across, at_base, strict=True))
    return disentangled(base, scaled_singles) + 0.5 * bent


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
