"""Merging whole adapters, module by module."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from sim.lab import seeds
from sim.merge.aligned import aligned
from sim.merge.module import merge, refuse_zero_sum
from sim.merge.peft.files import Adapter
from sim.merge.registry import METHODS
from sim.merge.truncation import truncated_dense
from theory.lowrank import LowRank, cast, concatenated, norm, scaled, singular, truncated


def merge_module(
    method: str,
    updates: Sequence[LowRank],
    weights: jax.Array | None,
    key: jax.Array | None,
    rank: int | None,
    options: tuple[tuple[str, Any], ...],
) -> tuple[LowRank, jax.Array, jax.Array]:
    """Merge one module into factors: (update, |merge|^2, |what the rank cut off|^2).

    A dense result is cut to ``rank``, or to the sum of the ranks if none is given. Both squares are 0 if
    nothing was cut, and NaN for a method that handles the rank itself, where they are not known.
    """
    if not METHODS[method].dense:
        return _merged_factors(method, updates, weights, key, rank, options)
    # Not compiled as a whole: thresholds and truncation look at numbers to know when they are done.
    merged = merge(method, updates, weights, key=key, **dict(options))
    ranks = sum(update.a.shape[0] for update in updates)
    low_rank = truncated_dense(merged, min(rank or ranks, *merged.shape))
    total = jnp.square(jnp.linalg.norm(merged))
    return low_rank, total, jnp.maximum(total - _square(low_rank), 0)


def _square(split: LowRank) -> jax.Array:
    """|Delta W|^2 of factors u sqrt(s), sqrt(s) v^T: the squares s_k^2 added."""
    return jnp.sum(jnp.sum(jnp.square(split.b), axis=0) * jnp.sum(jnp.square(split.a), axis=1))


@functools.partial(jax.jit, static_argnames=("method", "rank", "options"))
def _merged_factors(
    method: str,
    updates: Sequence[LowRank],
    weights: jax.Array | None,
    key: jax.Array | None,
    rank: int | None,
    options: tuple[tuple[str, Any], ...],
) -> tuple[LowRank, jax.Array, jax.Array]:
    """``merge_module`` by a method whose result is in factors."""
    record = METHODS[method]
    own_rank = rank if record.uses_rank else None
    merged = merge(method, updates, weights, rank=own_rank, key=key, **dict(options))
    if rank is None or merged.a.shape[0] <= rank:
        unknown = jnp.full((), jnp.nan if record.uses_rank else 0.0)
        return merged, unknown, unknown
    low_rank, total = truncated(merged, rank), jnp.square(norm(merged))
    return low_rank, total, jnp.maximum(total - jnp.square(norm(low_rank)), 0)


def merge_adapters(
    adapters: Sequence[Adapter],
    method: str,
    weights: Sequence[float] = (),
    *,
    rank: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> tuple[dict[str, LowRank], float]:
    """Merge whole adapters module by module: (updates by module, share of |merge|^2 lost to the rank).

    A module that an adapter does not have counts as zero in it (``aligned``).
    Raises: ValueError for a method that needs data, other base models, or anything ``merge`` refuses.
    """
    record = METHODS[method]
    if record.needs:
        raise ValueError(f"{method} is not data-free: it needs {', '.join(record.needs)}; use it from Python")
    if weights:
        refuse_zero_sum(record, weights)
    adapters = aligned(adapters)
    _check_rank(adapters[0], rank)
    given = tuple(sorted((options or {}).items()))
    merged, total, lost = {}, 0.0, 0.0
    bar = tqdm(adapters[0].modules, desc=f"merging by {method}", unit="module", delay=1, disable=not progress)
    for index, name in enumerate(bar):
        updates = [adapter.modules[name] for adapter in adapters]
        key = seeds.key(index, root=seed) if record.uses_key else None
        dtype = np.result_type(*(update.b.dtype for update in updates))
        updates = [cast(update, dtype) for update in updates]
        update, energy, cut = merge_module(
            method, updates, jnp.asarray(weights, jnp.float64) if weights else None, key, rank, given
        )
        merged[name] = jax.tree.map(np.asarray, update)
        if not all(np.isfinite(factor).all() for factor in merged[name][:2]):
            raise ValueError(f"{method} gave NaN on {name}: check the weights and the adapters' norms")
        total, lost = total + float(energy), lost + float(cut)
    return merged, lost / total if total else 0.0


def truncation_loss(
    adapters: Sequence[Adapter], method: str, weights: Sequence[float] = (), rank: int | None = None
) -> float | None:
    """Share of |sum_i w_i Delta W_i|^2 that the rank will cut off (Eckart-Young), before anything is merged.

    None where it is not known beforehand: for methods that are not linear in the Delta W. 0 without a cut.
    Raises: ValueError as ``aligned`` does, and for a rank that does not fit.
    """
    if METHODS[method].coefficient is None and method != "svd":
        return None
    adapters = aligned(adapters)
    _check_rank(adapters[0], rank)
    weights = weights or [1.0] * len(adapters)
    total = lost = 0.0
    for name in adapters[0].modules:
        updates = [adapter.modules[name] for adapter in adapters]
        ranks = [update.a.shape[0] for update in updates]
        rank_limit = rank or (max(ranks) if method == "svd" else sum(ranks))
        wide = [scaled(cast(u, np.float64), weight) for u, weight in zip(updates, weights, strict=True)]
        energy = jnp.square(singular(concatenated(wide))[1])
        total, lost = total + float(jnp.sum(energy)), lost + float(jnp.sum(energy[rank_limit:]))
    return lost / total if total else 0.0


def _check_rank(adapter: Adapter, rank: int | None) -> None:
    for name, update in adapter.modules.items():
        largest = min(update.b.shape[0], update.a.shape[1])
        if rank is not None and not 1 <= rank <= largest:
            raise ValueError(f"--rank {rank} must be between 1 and {largest}, the smaller side of {name}")
