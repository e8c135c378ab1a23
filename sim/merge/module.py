"""The entry point of every merge: K low-rank updates of one module into one."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.merge.registry import METHODS, Method
from sim.merge.truncation import truncated_dense
from theory.lowrank import LowRank, cast, truncated

SMALLEST_SUM = 1e-6
"""Weights whose sum is below this share of sum |w| sum to zero but for the rounding of their decimals."""


def refuse_zero_sum(record: Method, weights: Sequence[float] | Array) -> None:
    """Raise ValueError if a method that divides by the sum of the weights is given weights that sum to 0."""
    weights = np.asarray(weights, np.float64)
    if record.normalises and abs(weights.sum()) <= SMALLEST_SUM * np.abs(weights).sum():
        raise ValueError(f"{record.name} divides by the sum of the weights, which is 0; use sum instead")


def merge(
    name: str,
    updates: Sequence[LowRank],
    weights: Sequence[float] | Float[Array, "K"] | None = None,
    *,
    rank: int | None = None,
    key: Array | None = None,
    **options: Any,
) -> LowRank | Float[Array, "out in"]:
    """Merge the updates of ONE module: K low-rank updates of one (out, in) weight into one.

    Pure, with static shapes: ``jax.jit`` and ``jax.vmap`` apply (batch the factors and scales on their
    leading axes). Computes in the dtype of the factors; weights are normalised in float64, and under a
    transformation of JAX their sum cannot be checked: call ``refuse_zero_sum`` before.

    Args:
        name: a key of ``METHODS``.
        updates: K updates with 2-D factors; ranks may differ unless the method says otherwise.
        weights: K numbers, negative allowed; None is 1 each, or 1/K for a method that normalises.
        rank: truncate the result to this rank (Eckart-Young). Methods that are dense then return factors.
        key: a ``jax.random.key`` for the methods that draw (DARE, DELLA).
        options: the method's own, see ``METHODS[name].options`` and ``.needs``.

    Returns: a LowRank, or an (out, in) array if ``METHODS[name].dense`` and ``rank`` is None.

    Raises: ValueError for an unknown method or option, a missing key or statistic, a wrong number of
    weights, weights that are not finite or that sum to zero (``SMALLEST_SUM``) where they are divided by
    their sum, factors whose shapes do not match, or a rank below 1.
    """
    record = METHODS[name]
    _check(record, updates, rank, key, options)
    updates = [LowRank(jnp.asarray(update.b), jnp.asarray(update.a), update.scale) for update in updates]
    dtype = updates[0].b.dtype
    weights = jnp.asarray([1.0] * len(updates) if weights is None else weights, jnp.float64)
    if weights.shape != (len(updates),):
        raise ValueError(f"{len(updates)} adapters need {len(updates)} weights, not shape {weights.shape}")
    if not isinstance(weights, jax.core.Tracer):
        if not np.isfinite(weights).all():
            raise ValueError(f"weights must be finite numbers, not {weights}")
        refuse_zero_sum(record, weights)
    if record.normalises:
        weights = weights / jnp.sum(weights)
    if record.uses_key:
        options["key"] = key
    if record.uses_rank:
        options["rank"] = rank
    if record.uses_eps:
        options["eps"] = float(jnp.finfo(dtype).eps)
    if record.float64:
        updates = [cast(update, jnp.float64) for update in updates]
    else:
        weights = weights.astype(dtype)
    result = record.function(updates, weights, **options)
    if rank is not None and not isinstance(result, LowRank):
        result = truncated_dense(result, rank)
    elif rank is not None and result.a.shape[-2] > rank:
        result = truncated(cast(result, jnp.float64), rank)  # singular values may be close: see ``float64``
    return cast(result, dtype) if isinstance(result, LowRank) else result.astype(dtype)


def _check(record: Method, updates: Sequence[LowRank], rank: int | None, key: Any, options: Mapping) -> None:
    """Everything about the call that can be wrong before any arithmetic."""
    if not updates:
        raise ValueError("nothing to merge: give at least one adapter")
    shapes = {(u.b.shape[-2], u.a.shape[-1]) for u in updates}
    if any(u.b.ndim != 2 or u.a.ndim != 2 or u.b.shape[1] != u.a.shape[0] for u in updates):
        pairs = [(u.b.shape, u.a.shape) for u in updates]
        raise ValueError(f"factors must be B (out, r) and A (r, in); found {pairs}; use vmap for a batch")
    if len(shapes) > 1:
        raise ValueError(f"adapters of different (out, in) shapes cannot be merged: {sorted(shapes)}")
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    if record.uses_key and key is None:
        raise ValueError(f"{record.name} draws at random: give a key (a seed on the command line)")
    choices = {*record.options, *record.needs}
    for option in options:
        if option not in choices:
            raise ValueError(
                f"{record.name} has no option {option!r}; it takes {', '.join(sorted(choices)) or 'none'}"
            )
    for need in record.needs:
        if need not in options:
            raise ValueError(f"{record.name} is not data-free: it needs {need!r}")
