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
AHEAD, NARROW = 3, 64
"""Steps of a loop over weights that are under way at once, up to which width: wider ones leave no room."""
ROUNDED = jnp.float16 if PRECISION == "tensorfloat32" else jnp.float32
"""Inputs of products: float16 has the ten bits of TensorFloat-32, and takes half the room. Its narrow range
does no harm: activations are near one, and gradients are divided by their largest number before."""


class Tiles(NamedTuple):
    """What a block must know of the sequences it is given, all static.

    interpret: run as plain JAX, on any machine.
    kind: what the inputs of products are rounded to.
    first: nothing before this block is trained, so that the gradient of its input is not needed.
    """

    sequences: int
    tokens: int
    heads: int
    interpret: bool
    kind: type = ROUNDED
    first: bool = False

    @property
    def whole(self) -> int:
        """Sequences of a tile of attention."""
        return ROWS // self.tokens

    def dot(self, a: Array, b: Array, trans_a: bool = False, trans_b: bool = False) -> Array:
        """a @ b with inputs of ``kind``, and float32 sums."""
        a, b = a.astype(self.kind), b.astype(self.kind)
        return triton.dot(a, b, trans_a=trans_a, trans_b=trans_b, allow_tf32=False)


def of_one(gradient: Array) -> tuple[Array, Array]:
    """(a tile's gradient over its largest number, that number).

    What follows is linear in it, and float16 begins at 6e-8.
    """
    largest = jnp.maximum(jnp.max(jnp.abs(gradient)), 1e-30)
    return gradient / largest, largest


def normed(x: Array, gain: Array) -> tuple[Array, Array]:
    """(RMSNorm of the rows of x, what they were divided by, inverted)."""
    inverse = jax.lax.rsqrt(jnp.sum(x * x, axis=1, keepdims=True) / x.shape[1] + EPSILON)
    return x * inverse * gain[None, :], inverse


def before_norm(d_normed: Array, x: Array, gain: Array) -> Array:
    """The gradient of x where that of ``normed(x, gain)`` is ``d_normed``."""
    _, inverse = normed(x, gain)
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


def run(kernel, tiles: Tiles, each: int, streams, others, partial=()) -> list[Array]:
    """``kernel`` on every tile of ``each`` tokens of ``streams``, all of one shape, given ``others`` whole:
    an array like a stream, and of each tile one of each of the shapes ``partial``.
    """
    rows, width = streams[0].shape
    if tiles.interpret:  # Plain JAX moves a tile that ends beyond the array; a GPU masks it.
        streams = [jnp.pad(stream, ((0, ROWS), (0, 0))) for stream in streams]
    inputs = (*streams, *others)
    count = -(-rows // each)
    like = streams[0]
    whole = [pl.BlockSpec(value.shape, lambda _, d=value.ndim: (0,) * d) for value in inputs]
    out_specs = [pl.BlockSpec(like.shape, lambda _: (0, 0))]
    out_specs += [pl.BlockSpec((None, *shape), lambda tile: (tile, 0, 0)) for shape in partial]
    shapes = [jax.ShapeDtypeStruct(like.shape, like.dtype)]
    shapes += [jax.ShapeDtypeStruct((count, *shape), like.dtype) for shape in partial]
    stream, *sums = pl.pallas_call(
        functools.partial(kernel, tiles),
        grid=(count,),
        in_specs=whole,
        out_specs=out_specs,
        out_shape=shapes,
        interpret=tiles.interpret,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=AHEAD if width <= NARROW else 1),
    )(*inputs)
    return [stream[:rows], *sums]


Factors = tuple[tuple[Array, Array], ...]
"""(B, A) of the matrices of a block, in the order of the block's weights: all but the last read the stream,
and the last writes to it."""


def folded(tiles: Tiles, weights: tuple[Array, ...], factors: Factors) -> list[Array]:
    """W + B A of every matrix of a block, rounded."""

    def one(weight, b, a):
        # Term by term, which a compiler joins to the sum and the rounding: B A is never stored.
        return sum((b[:, r, None] * a[None, r] for r in range(a.shape[0])), weight).astype(tiles.kind)

    return [one(weight, b, a) for weight, (b, a) in zip(weights, factors, strict=True)]


class Ranks(tuple):
    """Ranks of the matrices of a block, each with columns of its own among P."""

    def only(self, value: Array, index: int) -> Array:
        """``value``, (rows, P), but zero outside the columns of matrix ``index``."""
        column = jax.lax.broadcasted_iota(jnp.int32, value.shape, 1)
        begin = sum(self[:index])
        return jnp.where((column >= begin) & (column < begin + self[index]), value, 0.0)


def join_factors(tiles: Tiles, factors: Factors) -> tuple[Ranks, Array, Array]:
    """(ranks, what touches the stream (D, P), what touches what is within the block (H, P)).

    The first has the A of matrices that read, turned, and the B of the one that writes, side by side; the
    second has the others. P is a power of two that a tensor core accepts.
    """
    ranks = Ranks(a.shape[0] for _, a in factors)
    room = max(LEAST, 1 << (sum(ranks) - 1).bit_length()) - sum(ranks)
    *reading, (last_b, last_a) = factors

    def side(arrays):
        return jnp.pad(jnp.concatenate(arrays, axis=1), ((0, 0), (0, room))).astype(tiles.kind)

    return ranks, side([a.T for _, a in reading] + [last_b]), side([b for b, _ in reading] + [last_a.T])


def split_gradients(d_outer: Array, d_within: Array, ranks: Ranks) -> Factors:
    """Gradients of the factors from those of ``join_factors``, summed over tiles."""
    ends = np.cumsum(ranks)[:-1]
    *outer, last_b = jnp.split(jnp.sum(d_outer, axis=0)[:, : sum(ranks)], ends, axis=1)
    *within, last_a = jnp.split(jnp.sum(d_within, axis=0)[:, : sum(ranks)], ends, axis=1)
    return (*((b, a.T) for b, a in zip(within, outer, strict=True)), (last_b, last_a.T))
