"""Tiles of tokens in registers, products on them, and kernels that run over all tiles."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from sim.model.training import PRECISION
from sim.model.transformer import EPSILON

ROWS = 64
"""Tokens of a tile, a power of two: whole sequences, and what is left over stays empty."""
LEAST = 16
"""The smallest side of a product on tensor cores."""
WARPS = 4
"""Groups of 32 threads that share a tile."""


class Tiles(NamedTuple):
    """What a block must know of the sequences it is given, all static.

    interpret: run as plain JAX, on any machine.
    first: nothing before this block is trained, so that the gradient of its input is not needed.
    """

    sequences: int
    tokens: int
    heads: int
    interpret: bool
    first: bool = False

    @property
    def stored(self) -> int:
        """Rows of an array of these tokens: every tile that begins within them ends within it."""
        return -(-self.sequences * self.tokens // ROWS) * ROWS + ROWS

    @property
    def whole(self) -> int:
        """Sequences of a tile of attention."""
        return ROWS // self.tokens


def padded(ranks: int) -> int:
    """Columns that ``ranks`` take: a power of two that a tensor core accepts."""
    return max(LEAST, 1 << (ranks - 1).bit_length())


def dot(a: Array, b: Array, trans_a: bool = False, trans_b: bool = False) -> Array:
    """a @ b with inputs rounded as in ``sim.model.training.PRECISION``, and float32 sums."""
    return triton.dot(a, b, trans_a=trans_a, trans_b=trans_b, allow_tf32=PRECISION == "tensorfloat32")


def normed(x: Array, gain: Array) -> tuple[Array, Array]:
    """(RMSNorm of the rows of x, what they were divided by, inverted)."""
    inverse = jax.lax.rsqrt(jnp.sum(x * x, axis=1, keepdims=True) / x.shape[1] + EPSILON)
    return x * inverse * gain[None, :], inverse


def before_norm(d_normed: Array, x: Array, gain: Array, inverse: Array) -> Array:
    """The gradient of x where that of ``normed(x, gain)`` is ``d_normed``."""
    d = d_normed * gain[None, :]
    return d * inverse - x * inverse**3 * (jnp.sum(d * x, axis=1, keepdims=True) / x.shape[1])


def _at(ref, start):
    # Both numbers of one type, whatever JAX's default integer is.
    return ref.at[pl.ds(start, ROWS), pl.ds(jnp.int32(0), ref.shape[1])]


def rows_of(ref, start, present: Array) -> Array:
    """A tile of the rows of ``ref`` from ``start``, zero where none is present."""
    return triton.load(_at(ref, start), mask=jnp.broadcast_to(present, (ROWS, ref.shape[1])), other=0.0)


def put(ref, start, value: Array, present: Array) -> None:
    """The opposite of ``rows_of``; rows that are not present stay as they are."""
    triton.store(_at(ref, start), value, mask=jnp.broadcast_to(present, value.shape))


def tile(tiles: Tiles, each: int):
    """(first row, which rows are present as (ROWS, 1)) of this program's tile of ``each`` tokens."""
    start = pl.program_id(0) * each
    row = jax.lax.broadcasted_iota(jnp.int32, (ROWS, 1), 0)
    return start, (row < each) & (start + row < tiles.sequences * tiles.tokens)


def run(kernel, tiles: Tiles, each: int, inputs, stream, partial=(), ahead: int = 2) -> list[Array]:
    """``kernel`` on every tile of ``each`` tokens: an array like ``stream``, and of each tile one of each of
    the shapes ``partial``.

    ahead: how many steps of a loop over weights are under way at once, to hide reading behind products.
    """
    count = -(-tiles.sequences * tiles.tokens // each)
    whole = [pl.BlockSpec(value.shape, lambda _, d=value.ndim: (0,) * d) for value in inputs]
    out_specs = [pl.BlockSpec(stream.shape, lambda _: (0, 0))]
    out_specs += [pl.BlockSpec((None, *shape), lambda tile: (tile, 0, 0)) for shape in partial]
    shapes = [jax.ShapeDtypeStruct(stream.shape, stream.dtype)]
    shapes += [jax.ShapeDtypeStruct((count, *shape), stream.dtype) for shape in partial]
    return pl.pallas_call(
        functools.partial(kernel, tiles),
        grid=(count,),
        in_specs=whole,
        out_specs=out_specs,
        out_shape=shapes,
        interpret=tiles.interpret,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=ahead),
    )(*inputs)


Factors = tuple[tuple[Array, Array], ...]
"""(B, A) of the matrices of a block, in the order of the block's weights."""


def folded(weights: tuple[Array, ...], factors: Factors) -> list[Array]:
    """W + B A of every matrix of a block."""
    return [weight + b @ a for weight, (b, a) in zip(weights, factors, strict=True)]


def beside(factors: Factors) -> tuple[Array, list[Array]]:
    """(the A of several matrices one below the other, (P, in); the B of each in its columns of P)."""
    ranks = [a.shape[0] for _, a in factors]
    total, ends = padded(sum(ranks)), np.cumsum(ranks)
    stacked = jnp.pad(jnp.concatenate([a for _, a in factors]), ((0, total - ends[-1]), (0, 0)))
    return stacked, [
        jnp.pad(b, ((0, 0), (end - rank, total - end)))
        for (b, _), rank, end in zip(factors, ranks, ends, strict=True)
    ]


def apart(da: Array, dbs: list[Array], factors: Factors) -> Factors:
    """Gradients of the factors from those of ``beside``, summed over tiles."""
    ends = np.cumsum([a.shape[0] for _, a in factors])
    da, found = jnp.sum(da, axis=0), []
    for db, (_, a), end in zip(dbs, factors, ends, strict=True):
        begin = end - a.shape[0]
        found.append((jnp.sum(db, axis=0)[:, begin:end], da[begin:end]))
    return tuple(found)
