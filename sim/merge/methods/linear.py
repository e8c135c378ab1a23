"""The linear family: merges that are weighted sums of the Delta W, exact in factors.

Each returns factors whose rank is the sum of the ranks. ``linear_factors`` is the odd one out: it sums
A and B separately, as PEFT's ``linear`` does, and so adds the cross terms B_i A_j (see ``cross_terms``).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.registry import method
from theory.lowrank import LowRank, concatenated, scaled, truncated


def combination(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """sum_i w_i Delta W_i in factors of rank sum(r_i). A single update keeps its factors bit for bit."""
    if len(updates) == 1:
        return scaled(updates[0], weights[0])
    return concatenated([scaled(update, weight) for update, weight in zip(updates, weights, strict=True)])


@method("linear", normalises=True, coefficient=lambda count: 1 / count)
def average(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Uniform (or weighted) mean of the Delta W: sum_i w_i Delta W_i with sum_i w_i = 1. Exact."""
    return combination(updates, weights)


@method("linear", name="sum", coefficient=lambda count: 1.0)
def sum_(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Weighted sum of the Delta W, weights taken as given (1 by default). Exact."""
    return combination(updates, weights)


@method("linear", coefficient=lambda count: 1.0)
def concat(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """The weighted sum under PEFT's name for it (``cat``): factors stacked, rank sum(r_i). Exact."""
    return combination(updates, weights)


TASK_COEFFICIENT = 0.3
"""What Ilharco et al. recommend where no held-out data can choose."""


@method("linear", coefficient=lambda count: TASK_COEFFICIENT, identity={"coefficient": 1.0})
def task_arithmetic(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, coefficient: float = TASK_COEFFICIENT
) -> LowRank:
    """Task arithmetic: coefficient * sum_i w_i Delta W_i, the coefficient fixed beforehand. Exact.

    Ilharco et al. 2023 (arXiv 2212.04089) search the coefficient on held-out data and recommend 0.3 to 0.4
    without any. Searching it is not data-free: see ``task_arithmetic_fitted``.
    """
    return combination(updates, coefficient * weights)


@method("linear", float64=True)
def svd(updates: Sequence[LowRank], weights: Float[Array, "K"], *, rank: int | None = None) -> LowRank:
    """The weighted sum cut to the best approximation of rank ``rank`` (default: the largest input rank).

    Eckart-Young on QR factors: never forms Delta W. A single update that already has the rank is left alone.
    """
    rank = rank or max(update.a.shape[0] for update in updates)
    summed = combination(updates, weights)
    return summed if summed.a.shape[0] <= rank else truncated(summed, rank)


@method("linear")
def linear_factors(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """A and B summed apart, as PEFT's ``linear`` does: NOT the sum of the Delta W but it plus cross terms.

    B = sum_i sqrt|w_i s_i| B_i, A = sum_i sign(w_i s_i) sqrt|w_i s_i| A_i, so that Delta W = sum_i w_i Delta
    W_i + sum_{i != j} (...) B_i A_j. Adapters must share one rank. Kept to measure what others do.
    """
    parts = _root_weighted(updates, weights)
    return LowRank(sum(part.b for part in parts), sum(part.a for part in parts), 1.0)


def cross_terms(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """What ``linear_factors`` adds to the weighted sum: sum over i != j of the products B_i A_j, in factors.

    Its Frobenius norm is ``theory.lowrank.norm`` of the result. Rank at most r plus the sum of the ranks.
    """
    parts = _root_weighted(updates, weights)
    mixed = LowRank(sum(part.b for part in parts), sum(part.a for part in parts), 1.0)
    return concatenated([mixed, *(scaled(part, -1.0) for part in parts)])


def _root_weighted(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> list[LowRank]:
    """Each update with its weight and scale split as square roots between B and A (the sign goes to A)."""
    if len({update.a.shape[0] for update in updates}) > 1:
        raise ValueError("linear_factors sums A and B themselves, so every adapter must have the same rank")
    parts = []
    for update, weight in zip(updates, weights, strict=True):
        total = jnp.asarray(update.scale, update.b.dtype) * weight
        root = jnp.sqrt(jnp.abs(total))
        parts.append(LowRank(root * update.b, jnp.sign(total) * root * update.a, 1.0))
    return parts
