"""The linear family: merges that are weighted sums of the Delta W, exact in factors.

Each returns factors whose rank is the sum of the ranks. ``linear_factors`` is the odd one out: it sums
A and B separately, as PEFT's ``linear`` does, and so adds the cross terms B_i A_j (see ``cross_terms``).
"""

from collections.abc import Sequence

from jaxtyping import Array, Float

from theory.lowrank import LowRank, concatenated, scaled, truncated

from .registry import method


def combination(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """sum_i w_i Delta W_i in factors of rank sum(r_i). A single update keeps its factors bit for bit."""
    if len(updates) == 1:
        return scaled(updates[0], weights[0])
    return concatenated([scaled(update, weight) for update, weight in zip(updates, weights, strict=True)])


@method("linear", normalises=True)
def average(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Uniform (or weighted) mean of the Delta W: sum_i w_i Delta W_i with sum_i w_i = 1. Exact."""
    return combination(updates, weights)


@method("linear", name="sum")
def sum_(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Weighted sum of the Delta W, weights taken as given (1 by default). Exact."""
    return combination(updates, weights)


@method("linear")
def concat(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """The weighted sum under PEFT's name for it (``cat``): factors stacked, rank sum(r_i). Exact."""
    return combination(updates, weights)


@method("linear")
def svd(updates: Sequence[LowRank], weights: Float[Array, "K"], *, rank: int | None = None) -> LowRank:
    """The weighted sum cut to the best approximation of rank ``rank`` (default: the largest input rank).

    Eckart-Young on QR factors: never forms Delta W. A single update that already has the rank is left alone.
    """
    rank = rank or max(update.a.shape[0] for update in updates)
    summed = combination(updates, weights)
    return summed if summed.a.shape[0] <= rank else truncated(summed, rank)
