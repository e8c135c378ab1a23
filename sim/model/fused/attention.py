"""Attention of one layer: the norm before it, its four products and the residual sum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from sim.model.fused.tiles import (
    ROWS,
    Factors,
    Tiles,
    before_norm,
    folded,
    join_factors,
    normed,
    of_one,
    put,
    rows_of,
    run,
    split_gradients,
    tile,
)
from sim.model.transformer import rotary


def _attended(tiles: Tiles, x: Array, tables, weights, head):
    """(queries, keys, values, softmax weights) of one head of a tile; ``weights`` are refs of q, k and v."""
    width = x.shape[1] // tiles.heads
    cos, sin, turn = (ref[:, :] for ref in tables)
    at = pl.ds(head * width, width)

    def turned(ref):
        value = tiles.dot(x, ref[at, :], trans_b=True)
        return value * cos + tiles.dot(value, turn) * sin

    q, k = turned(weights[0]), turned(weights[1])
    v = tiles.dot(x, weights[2][at, :], trans_b=True)
    scores = tiles.dot(q, k, trans_b=True) * width**-0.5
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (ROWS, ROWS), axis) for axis in (0, 1))
    seen = (row // tiles.tokens == column // tiles.tokens) & (column <= row)
    scores = jnp.where(seen, scores, -1e30)
    powers = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    return q, k, v, powers / jnp.sum(powers, axis=1, keepdims=True)


def _on(tiles, x_ref, gain_ref, q_ref, k_ref, v_ref, o_ref, cos_ref, sin_ref, turn_ref, y_ref):
    start, present = tile(tiles, tiles.whole * tiles.tokens)
    x = rows_of(x_ref, start, present)
    inner, _ = normed(x, gain_ref[:])
    width = x.shape[1] // tiles.heads

    def head(index, y):
        tables, weights = (cos_ref, sin_ref, turn_ref), (q_ref, k_ref, v_ref)
        _, _, v, attended = _attended(tiles, inner, tables, weights, index)
        read = tiles.dot(attended, v)
        return y + tiles.dot(read, o_ref[:, pl.ds(index * width, width)], trans_b=True)

    put(y_ref, start, jax.lax.fori_loop(0, tiles.heads, head, x), present)


def _back(
    ranks, tiles, x_ref, dy_ref, gain_ref, q_ref, k_ref, v_ref, o_ref, cos_ref, sin_ref, turn_ref,
    outer_ref, within_ref, dx_ref, d_outer_ref, d_within_ref,
):  # fmt: skip
    start, present = tile(tiles, tiles.whole * tiles.tokens)
    dot, gain = tiles.dot, gain_ref[:]
    inner, _ = normed(rows_of(x_ref, start, present), gain)
    dy, scale = of_one(rows_of(dy_ref, start, present))
    width = inner.shape[1] // tiles.heads
    thin = dot(inner, outer_ref[:, :])
    thin_of = [ranks.only(thin, matrix).astype(tiles.kind) for matrix in range(3)]
    thin_o = ranks.only(dot(dy, outer_ref[:, :]), 3).astype(tiles.kind)

    def head(index, carried):
        d_inner, back = carried
        at = pl.ds(index * width, width)
        tables, weights = (cos_ref, sin_ref, turn_ref), (q_ref, k_ref, v_ref)
        q, k, v, attended = _attended(tiles, inner, tables, weights, index)
        d_read = dot(dy, o_ref[:, at])
        dv = dot(attended, d_read, trans_a=True)
        d_attended = dot(d_read, v, trans_b=True)
        level = jnp.sum(d_attended * attended, axis=1, keepdims=True)
        d_scores = attended * (d_attended - level) * width**-0.5
        cos, sin, turn = cos_ref[:, :], sin_ref[:, :], turn_ref[:, :]
        dq, dk = dot(d_scores, k), dot(d_scores, q, trans_a=True)
        dq, dk = (d * cos + dot(d * sin, turn, trans_b=True) for d in (dq, dk))
        within, read = within_ref[at, :], dot(attended, v)
        back += ranks.only(dot(read, within), 3)
        d_within = dot(read, thin_o, trans_a=True)
        for matrix, (d, weight) in enumerate(zip((dq, dk, dv), weights, strict=True)):
            if not tiles.first:
                d_inner += dot(d, weight[at, :])
            back += ranks.only(dot(d, within), matrix)
            d_within += dot(d, thin_of[matrix], trans_a=True)
        d_within_ref[at, :] = scale * d_within
        return d_inner, back

    d_inner, back = jax.lax.fori_loop(0, tiles.heads, head, (jnp.zeros_like(inner), jnp.zeros_like(thin)))
    writes = ranks.only(back, 3)
    d_outer = dot(inner, back - writes, trans_a=True) + dot(dy, writes, trans_a=True)
    d_outer_ref[:, :] = scale * d_outer
    if not tiles.first:
        # Read again: the loop needs the registers.
        x, dy = rows_of(x_ref, start, present), rows_of(dy_ref, start, present)
        put(dx_ref, start, dy + scale * before_norm(d_inner, x, gain), present)


def _tables(tiles: Tiles, width: int) -> tuple[Array, Array, Array]:
    """Cosines and sines of ``transformer.rotary`` for every row of a tile, (ROWS, K), and the turn (K, K):
    x * cos + (x @ turn) * sin is x, rotated."""
    half = width // 2
    first = jnp.broadcast_to(jnp.arange(width) < half, (1, tiles.tokens, 1, width)).astype(jnp.float32)
    of_sequence = rotary(first)[0, :, 0]  # cosines where x had ones, sines where it had none
    of_row = of_sequence[np.arange(ROWS) % tiles.tokens]
    turn = np.kron([[0, 1], [-1, 0]], np.eye(half)).astype(np.float32)
    return jnp.tile(of_row[:, :half], 2), jnp.tile(of_row[:, half:], 2), jnp.asarray(turn, tiles.kind)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention(
    tiles: Tiles, x_ND: Array, gain_D: Array, weights: tuple[Array, ...], factors: Factors
) -> Float[Array, "N D"]:
    """x + attention(RMSNorm(x)) with updates of ``weights``, those of q, k, v and o, each (D, D).

    Differentiable in x (unless it is the ``first``) and in the factors.
    """
    return _forward(tiles, x_ND, gain_D, weights, factors)[0]


def _forward(tiles, x, gain, weights, factors):
    adapted = folded(tiles, weights, factors)
    others = (gain, *adapted, *_tables(tiles, x.shape[1] // tiles.heads))
    (y,) = run(_on, tiles, tiles.whole * tiles.tokens, [x], others)
    return y, (x, gain, adapted, weights, factors)


def _backward(tiles, residuals, dy):
    x, gain, adapted, weights, factors = residuals
    ranks, *sides = join_factors(tiles, factors)
    others = (gain, *adapted, *_tables(tiles, x.shape[1] // tiles.heads), *sides)
    kernel = functools.partial(_back, ranks)
    partial = [side.shape for side in sides]
    dx, *sums = run(kernel, tiles, tiles.whole * tiles.tokens, [x, dy], others, partial)
    dx = jnp.zeros_like(x) if tiles.first else dx
    return dx, jnp.zeros_like(gain), tuple(map(jnp.zeros_like, weights)), split_gradients(*sums, ranks)


attention.defvjp(_forward, _backward)
