"""Delta W entry by entry without holding every Delta W at once: row blocks, exact thresholds, masks.

Elementwise methods (TIES, DARE, ...) are defined on the entries of Delta W. K dense updates of a
4096 x 14336 module take K x 235 MB, so the entries are made from the factors block of rows by block
of rows; only the merged matrix is ever whole. Thresholds over a whole tensor are found exactly by
bisection on the bit patterns of the magnitudes, each step one counting pass over the blocks.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory.lowrank import LowRank, from_singular

BLOCK_ENTRIES = 1 << 22
"""Entries of one Delta W made at a time: 16 MB in float32."""


_UNSIGNED = {16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}


def row_block(out_dim: int, in_dim: int) -> int:
    """Rows a block: the fewest blocks of at most BLOCK_ENTRIES entries, of equal height."""
    blocks = -(-out_dim * in_dim // BLOCK_ENTRIES)
    return -(-out_dim // blocks)


def stack_rows(updates: Sequence[LowRank], rows: Int[Array, "n"]) -> Float[Array, "K n in"]:
    """The given rows of every Delta W, from the factors. Rows past the end are zero."""
    out_dim = updates[0].b.shape[0]
    inside = (rows < out_dim)[:, None]

    def one(update: LowRank) -> Array:
        b = jnp.where(inside, update.b[jnp.minimum(rows, out_dim - 1)], 0)
        return jnp.asarray(update.scale, b.dtype) * (b @ update.a)

    return jnp.stack([one(update) for update in updates])


def over(entries: Float[Array, "K n in"]) -> Float[Array, "n in"]:
    """Sum over the updates, unrolled: XLA reduces a short leading axis poorly on a CPU."""
    return functools.reduce(jnp.add, [entries[i] for i in range(entries.shape[0])])


def map_rows(
    updates: Sequence[LowRank], function: Callable[[Float[Array, "K n in"], Int[Array, "n"]], Array]
) -> Float[Array, "out in"]:
    """The dense matrix whose rows are ``function(entries of all updates, row numbers)``, block by block."""
    out_dim, in_dim = updates[0].b.shape[0], updates[0].a.shape[1]
    block = row_block(out_dim, in_dim)
    blocks = -(-out_dim // block)
    if blocks == 1:
        rows = jnp.arange(out_dim)
        return function(stack_rows(updates, rows), rows)

    def one(index: Array) -> Array:
        rows = index * block + jnp.arange(block)
        return function(stack_rows(updates, rows), rows)

    merged = jax.lax.map(one, jnp.arange(blocks))
    return merged.reshape(blocks * block, in_dim)[:out_dim]


def reduce_rows(
    updates: Sequence[LowRank], function: Callable[[Float[Array, "K n in"], Int[Array, "n"]], Array]
) -> Array:
    """Sum over row blocks of ``function(entries of all updates, row numbers)``; padding rows are zero."""
    out_dim, in_dim = updates[0].b.shape[0], updates[0].a.shape[1]
    block = row_block(out_dim, in_dim)
    blocks = -(-out_dim // block)
    if blocks == 1:
        rows = jnp.arange(out_dim)
        return function(stack_rows(updates, rows), rows)

    def one(total: Array, index: Array) -> tuple[Array, None]:
        rows = index * block + jnp.arange(block)
        return total + function(stack_rows(updates, rows), rows), None

    shape = jax.eval_shape(
        function,
        jax.ShapeDtypeStruct((len(updates), block, in_dim), updates[0].b.dtype),
        jax.ShapeDtypeStruct((block,), jnp.arange(1).dtype),
    )
    return jax.lax.scan(one, jnp.zeros(shape.shape, shape.dtype), jnp.arange(blocks))[0]


def separating(
    count: Callable[[Array], Array], keep: Int[Array, "m"], total: int, dtype
) -> Float[Array, "m"]:
    """For m sets of ``total`` nonnegative floats, a value that exactly the keep largest of each reach.

    ``count(trial)`` says how many bit patterns of each set are at least ``trial`` (m,). Nonnegative floats
    order as their bit patterns do, so the search runs on integers: by interpolation of the counts, every
    other step by halving, until the count is met or the bracket is one pattern wide (entries that tie with
    the keep-th largest are then all kept). keep = 0 gives NaN, which no entry reaches.
    """
    bits = jnp.finfo(dtype).bits
    unsigned = _UNSIGNED[bits]

    def unfinished(state: tuple) -> Array:
        low, high, low_count, _, _ = state
        return jnp.any((low_count != keep) & (high - low > 1))

    def narrow(state: tuple) -> tuple:
        low, high, low_count, high_count, step = state
        share = (low_count - keep) / jnp.maximum(low_count - high_count, 1)
        share = jnp.where(step % 2 == 0, share, 0.5)
        width = (high - low).astype(jnp.float64)
        offset = jnp.clip(share * width, 1, jnp.maximum(width - 1, 1)).astype(unsigned)
        trial = low + jnp.where((low_count == keep) | (high - low <= 1), 0, offset)
        found = count(trial)
        enough = found >= keep
        return (
            jnp.where(enough, trial, low),
            jnp.where(enough, high, trial),
            jnp.where(enough, found, low_count),
            jnp.where(enough, high_count, found),
            step + 1,
        )

    low = jnp.zeros(keep.shape, unsigned)
    high = jnp.full(keep.shape, 1 << (bits - 1), unsigned)  # above every nonnegative pattern, NaN included
    state = (low, high, jnp.full_like(keep, total), jnp.zeros_like(keep), 0)
    low = jax.lax.while_loop(unfinished, narrow, state)[0]
    nothing = jnp.asarray(jnp.nan, dtype)
    return jnp.where(keep > 0, jax.lax.bitcast_convert_type(low, dtype), nothing)


def threshold(
    updates: Sequence[LowRank],
    keep: Int[Array, "m"],
    values: Callable[[Float[Array, "K n in"]], Float[Array, "m n in"]] = jnp.abs,
) -> Float[Array, "m"]:
    """For m nonnegative fields over the entries, a value that only the keep largest reach, in row blocks.

    The default fields are |Delta W_i| (m = K). See ``separating``: about a dozen counting passes.
    """
    dtype = updates[0].b.dtype

    def count(trial: Array) -> Array:
        return reduce_rows(updates, lambda entries, rows: reaching(values(entries), trial))

    return separating(count, keep, updates[0].b.shape[0] * updates[0].a.shape[1], dtype)


def threshold_of(values: Float[Array, "m n in"], keep: Int[Array, "m"]) -> Float[Array, "m"]:
    """The same for m nonnegative arrays held whole."""
    return separating(lambda trial: reaching(values, trial), keep, values[0].size, values.dtype)


def reaching(values: Float[Array, "m n in"], trial: Array) -> Int[Array, "m"]:
    """How many values of each set have a bit pattern of at least ``trial``."""
    patterns = jax.lax.bitcast_convert_type(values, trial.dtype)
    return jnp.sum(patterns >= trial[:, None, None], axis=(1, 2))


def check_density(density: float) -> None:
    """Raise ValueError unless 0 < density <= 1."""
    if not 0.0 < density <= 1.0:
        raise ValueError(f"density must be in (0, 1], not {density}")


def kept(density: float, entries: int) -> int:
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


EXACT_SIDE = 1024
"""Matrices with a side up to this are truncated by a full SVD, larger ones by block Krylov."""


def truncated_dense(matrix: Float[Array, "out in"], rank: int) -> LowRank:
    """The best rank-``rank`` approximation of a dense matrix, singular values split evenly.

    A full SVD of a 4096 x 14336 matrix takes minutes; block Krylov iteration (Musco and Musco 2015, arXiv
    1504.05477) finds the leading subspace to near rounding in seconds, without a gap being needed. Its
    start block is fixed, so that the result is a function of the matrix alone.
    """
    if min(matrix.shape) <= EXACT_SIDE:
        u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    else:
        u, s, vt = _krylov_svd(matrix, rank + 8, steps=8)
    return from_singular(u[:, :rank], s[:rank], vt[:rank])


def _krylov_svd(matrix: Float[Array, "out in"], width: int, steps: int) -> tuple[Array, Array, Array]:
    """SVD of the matrix within span[M X, (M M^T) M X, ...] for a random block X of ``width`` columns."""
    block = jax.random.normal(jax.random.key(0), (matrix.shape[1], width), matrix.dtype)
    block = jnp.linalg.qr(matrix @ block)[0]
    blocks = [block]
    for _ in range(steps - 1):
        block = jnp.linalg.qr(matrix @ (matrix.T @ block))[0]
        blocks.append(block)
    basis = jnp.linalg.qr(jnp.concatenate(blocks, axis=1))[0]
    u, s, vt = jnp.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ u, s, vt
