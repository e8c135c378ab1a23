"""Delta W entry by entry without holding every Delta W at once: row blocks, exact thresholds, masks.

Elementwise methods (TIES, DARE, ...) are defined on the entries of Delta W. K dense updates of a
4096 x 14336 module take K x 235 MB, so the entries are made from the factors block of rows by block
of rows; only the merged matrix, or one field that a threshold is sought in, is ever whole. What is done to
a block is a function of a file, not a closure, so that it is compiled once for all modules of one shape.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from theory.lowrank import LowRank

BLOCK_ENTRIES = 1 << 22
"""Entries of one Delta W made at a time: 16 MB in float32."""


_UNSIGNED = {16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}


def row_block(out_dim: int, in_dim: int) -> int:
    """Rows a block: the fewest blocks of at most BLOCK_ENTRIES entries, of equal height.

    Where up to twice as many divide the rows evenly, these: no padding has to be cut off the whole matrix.
    """
    fewest = -(-out_dim * in_dim // BLOCK_ENTRIES)
    blocks = next((count for count in range(fewest, 2 * fewest) if out_dim % count == 0), fewest)
    return -(-out_dim // blocks)


def stack_rows(updates: Sequence[LowRank], rows: Int[Array, "n"]) -> Float[Array, "K n in"]:
    """The given rows of every Delta W, from the factors. Rows past the end are zero."""
    out_dim = updates[0].b.shape[0]
    inside = (rows < out_dim)[:, None]

    def one(update: LowRank) -> Array:
        b = jnp.where(inside, update.b[jnp.minimum(rows, out_dim - 1)], 0)
        return jnp.asarray(update.scale, b.dtype) * (b @ update.a)

    return jnp.stack([one(update) for update in updates])


def sum_updates(entries: Float[Array, "K n in"]) -> Float[Array, "n in"]:
    """Sum over the updates, unrolled: XLA reduces a short leading axis poorly on a CPU."""
    return functools.reduce(jnp.add, [entries[i] for i in range(entries.shape[0])])


RowFunction = Callable[..., Array]
"""f(entries (K, n, in), row numbers (n,), *arrays, **options): known by its name, not a closure."""


def map_rows(updates: Sequence[LowRank], function: RowFunction, *arrays: Any, **options: Any) -> Array:
    """The dense (out, in) matrix whose rows are ``function``'s of the entries of all updates, in blocks."""
    block = row_block(updates[0].b.shape[0], updates[0].a.shape[1])
    return _map_rows(list(updates), arrays, function, tuple(sorted(options.items())), block)


def reduce_rows(updates: Sequence[LowRank], function: RowFunction, *arrays: Any, **options: Any) -> Array:
    """Sum over row blocks of ``function`` of the entries of all updates; padding rows are zero."""
    block = row_block(updates[0].b.shape[0], updates[0].a.shape[1])
    return _reduce_rows(list(updates), arrays, function, tuple(sorted(options.items())), block)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _map_rows(updates: list, arrays: tuple, function: RowFunction, options: tuple, block: int) -> Array:
    one, blocks = _on_block(updates, arrays, function, options, block)
    if blocks == 1:
        return one(0)
    out_dim, in_dim = updates[0].b.shape[0], updates[0].a.shape[1]
    merged = jax.lax.map(one, jnp.arange(blocks))
    return merged.reshape(blocks * block, in_dim)[:out_dim]


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _reduce_rows(updates: list, arrays: tuple, function: RowFunction, options: tuple, block: int) -> Array:
    one, blocks = _on_block(updates, arrays, function, options, block)
    shape = jax.eval_shape(one, 0)
    start = jnp.zeros(shape.shape, shape.dtype)
    return jax.lax.fori_loop(0, blocks, lambda index, total: total + one(index), start)


def _on_block(
    updates: list, arrays: tuple, function: RowFunction, options: tuple, block: int
) -> tuple[Callable[[Any], Array], int]:
    """The function of block ``index``, and the number of blocks."""

    def one(index: Any) -> Array:
        rows = index * block + jnp.arange(block)
        return function(stack_rows(updates, rows), rows, *arrays, **dict(options))

    return one, -(-updates[0].b.shape[0] // block)


def separating(count: Callable[[Array], Array], keep: Int[Array, ""], total: int, dtype: Any) -> Array:
    """Of ``total`` nonnegative floats, a value that exactly the keep largest reach.

    ``count(trial)`` says how many bit patterns are at least ``trial``. Nonnegative floats order as their bit
    patterns do, so the search runs on integers: by interpolation of the counts, every other step by halving,
    until the count is met or the bracket is one pattern wide (entries that tie with the keep-th largest are
    then all kept). keep = 0 gives NaN, which no entry reaches.
    """
    bits = jnp.finfo(dtype).bits
    unsigned = _UNSIGNED[bits]

    def unfinished(state: tuple) -> Array:
        low, high, low_count, _, _ = state
        return (low_count != keep) & (high - low > 1)

    def narrow(state: tuple) -> tuple:
        low, high, low_count, high_count, step = state
        share = (low_count - keep) / jnp.maximum(low_count - high_count, 1)
        share = jnp.where(step % 2 == 0, share, 0.5)
        width = (high - low).astype(jnp.float64)
        offset = jnp.clip(share * width, 1, jnp.maximum(width - 1, 1)).astype(unsigned)
        trial = low + jnp.where((low_count == keep) | (high - low <= 1), 0, offset)
        tally = count(trial)
        enough = tally >= keep
        return (
            jnp.where(enough, trial, low),
            jnp.where(enough, high, trial),
            jnp.where(enough, tally, low_count),
            jnp.where(enough, high_count, tally),
            step + 1,
        )

    low = jnp.zeros(keep.shape, unsigned)
    high = jnp.full(keep.shape, 1 << (bits - 1), unsigned)  # above every nonnegative pattern, NaN included
    state = (low, high, jnp.full_like(keep, total), jnp.zeros_like(keep), 0)
    low = jax.lax.while_loop(unfinished, narrow, state)[0]
    nothing = jnp.asarray(jnp.nan, dtype)
    return jnp.where(keep > 0, jax.lax.bitcast_convert_type(low, dtype), nothing)


def threshold_of(values: Float[Array, "..."], keep: int | Int[Array, ""]) -> Float[Array, ""]:
    """What only the keep largest of nonnegative values reach, and those tied with the last of them.

    The keep-th largest itself by selection (``np.partition``), which takes a pass or two; while JAX traces,
    by ``separating``. keep = 0 gives NaN, which nothing reaches.
    """
    if not isinstance(values, jax.core.Tracer) and not isinstance(keep, jax.core.Tracer):
        at = values.size - int(keep)
        value = np.partition(np.asarray(values).ravel(), at)[at] if at < values.size else np.nan
        return jnp.asarray(value, values.dtype)
    patterns = jax.lax.bitcast_convert_type(values, _UNSIGNED[jnp.finfo(values.dtype).bits])
    return separating(lambda trial: jnp.sum(patterns >= trial), jnp.asarray(keep), values.size, values.dtype)


def threshold(updates: Sequence[LowRank], *keeps: int) -> Float[Array, "m K"]:
    """For each of m counts and each update, what only that many of the largest |Delta W_i| reach.

    As ``threshold_of``; one |Delta W_i| is whole at a time. Its entries are those of ``map_rows`` to the bit.
    """
    thresholds = []
    for update in updates:
        entries = map_rows([update], magnitudes)
        thresholds.append(jnp.stack([threshold_of(entries, keep) for keep in keeps]))
    return jnp.stack(thresholds, axis=1)


def magnitudes(entries: Float[Array, "1 n in"], rows: Int[Array, "n"]) -> Float[Array, "n in"]:
    """|Delta W| of one update: what ``map_rows`` takes."""
    return jnp.abs(entries[0])


def check_density(density: float) -> None:
    """Raise ValueError unless 0 < density <= 1."""
    if not 0.0 < density <= 1.0:
        raise ValueError(f"density must be in (0, 1], not {density}")


def count_entries(density: float, entries: int) -> int:
    """How many of ``entries`` a density keeps: floor, as TIES and PEFT count, but never none."""
    check_density(density)
    # The small addition undoes the rounding of products such as 0.29 * 100 = 28.999999999999996.
    return max(1, int(density * entries + 1e-9))


def uniform_rows(key: Array, rows: Int[Array, "n"], count: int, in_dim: int, dtype) -> Float[Array, "K n in"]:
    """Uniform draws for K updates, keyed by (update, row): the same whatever the block height."""

    def one(index: Array, row: Array) -> Array:
        row_key = jax.random.fold_in(jax.random.fold_in(key, index), row)
        return jax.random.uniform(row_key, (in_dim,), dtype)

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(jnp.arange(count), rows)
