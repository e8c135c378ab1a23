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
    apart,
    before_norm,
    beside,
    dot,
    folded,
    normed,
    put,
    rows_of,
    run,
    tile,
)
from sim.model.transformer import rotary


def _attended(tiles: Tiles, x: Array, tables, weights, head):
    """(queries, keys, values, softmax weights) of one head of a tile; ``weights`` are refs of q, k and v."""
    width = x.shape[1] // tiles.heads
    cos, sin, turn = (ref[:, :] for ref in tables)
    at = pl.ds(head * width, width)

    def turned(ref):
        value = dot(x, ref[at, :], trans_b=True)
        return value * cos + dot(value, turn) * sin

    q, k = turned(weights[0]), turned(weights[1])
    v = dot(x, weights[2][at, :], trans_b=True)
    scores = dot(q, k, trans_b=True) * width**-0.5
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
        return y + dot(dot(attended, v), o_ref[:, pl.ds(index * width, width)], trans_b=True)

    put(y_ref, start, jax.lax.fori_loop(0, tiles.heads, head, x), present)


def _back(
    tiles, x_ref, dy_ref, gain_ref, q_ref, k_ref, v_ref, o_ref, cos_ref, sin_ref, turn_ref,
    a_ref, bq_ref, bk_ref, bv_ref, ao_ref, bo_ref,
    dx_ref, da_ref, dbq_ref, dbk_ref, dbv_ref, dao_ref, dbo_ref,
):  # fmt: skip
    start, present = tile(tiles, tiles.whole * tiles.tokens)
    x, dy, gain = rows_of(x_ref, start, present), rows_of(dy_ref, start, present), gain_ref[:]
    inner, inverse = normed(x, gain)
    width = x.shape[1] // tiles.heads
    thin = dot(inner, a_ref[:, :], trans_b=True)
    back_o = dot(dy, bo_ref[:, :])

    def head(index, carried):
        d_inner, back, thin_o = carried
        at = pl.ds(index * width, width)
        tables, weights = (cos_ref, sin_ref, turn_ref), (q_ref, k_ref, v_ref)
        q, k, v, attended = _attended(tiles, inner, tables, weights, index)
        read = dot(attended, v)
        thin_o += dot(read, ao_ref[:, at], trans_b=True)
        dao_ref[:, at] = dot(back_o, read, trans_a=True)
        d_read = dot(dy, o_ref[:, at])
        dv = dot(attended, d_read, trans_a=True)
        d_attended = dot(d_read, v, trans_b=True)
        level = jnp.sum(d_attended * attended, axis=1, keepdims=True)
        d_scores = attended * (d_attended - level) * width**-0.5
        cos, sin, turn = cos_ref[:, :], sin_ref[:, :], turn_ref[:, :]
        dq, dk = dot(d_scores, k), dot(d_scores, q, trans_a=True)
        dq, dk = (d * cos + dot(d * sin, turn, trans_b=True) for d in (dq, dk))
        for d, weight, b, db in (
            (dq, q_ref, bq_ref, dbq_ref),
            (dk, k_ref, bk_ref, dbk_ref),
            (dv, v_ref, bv_ref, dbv_ref),
        ):
            if not tiles.first:
                d_inner += dot(d, weight[at, :])
            back += dot(d, b[at, :])
            db[at, :] = dot(d, thin, trans_a=True)
        return d_inner, back, thin_o

    nothing = jnp.zeros_like(x), jnp.zeros_like(thin), jnp.zeros_like(back_o)
    d_inner, back, thin_o = jax.lax.fori_loop(0, tiles.heads, head, nothing)
    da_ref[:, :] = dot(back, inner, trans_a=True)
    dbo_ref[:, :] = dot(dy, thin_o, trans_a=True)
    if not tiles.first:
        put(dx_ref, start, dy + before_norm(d_inner, x, gain, inverse), present)


def _tables(tiles: Tiles, width: int) -> tuple[Array, Array, Array]:
    """Cosines and sines of ``transformer.rotary`` for every row of a tile, (ROWS, K), and the turn (K, K):
    x * cos + (x @ turn) * sin is x, rotated."""
    half = width // 2
    first = jnp.broadcast_to(jnp.arange(width) < half, (1, tiles.tokens, 1, width)).astype(jnp.float32)
    of_sequence = rotary(first)[0, :, 0]  # cosines where x had ones, sines where it had none
    of_row = of_sequence[np.arange(ROWS) % tiles.tokens]
    turn = np.kron([[0, 1], [-1, 0]], np.eye(half)).astype(np.float32)
    return jnp.tile(of_row[:, :half], 2), jnp.tile(of_row[:, half:], 2), jnp.asarray(turn)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attention(
    tiles: Tiles, x_ND: Array, gain_D: Array, weights: tuple[Array, ...], factors: Factors
) -> Float[Array, "N D"]:
    """x + attention(RMSNorm(x)) with updates of ``weights``, those of q, k, v and o, each (D, D).

    Differentiable in x (unless it is the ``first``) and in the factors; rows of no token stay undefined.
    """
    return _forward(tiles, x_ND, gain_D, weights, factors)[0]


def _forward(tiles, x, gain, weights, factors):
    held = folded(weights, factors)
    tables = _tables(tiles, x.shape[1] // tiles.heads)
    each = tiles.whole * tiles.tokens
    (y,) = run(_on, tiles, each, (x, gain, *held, *tables), x)
    return y, (x, gain, held, factors)


def _backward(tiles, kept, dy):
    x, gain, held, factors = kept
    stacked, columns = beside(factors[:3])
    o_a, (o_b,) = beside(factors[3:])
    given = (x, dy, gain, *held, *_tables(tiles, x.shape[1] // tiles.heads), stacked, *columns, o_a, o_b)
    partial = tuple(value.shape for value in (stacked, *columns, o_a, o_b))
    dx, da, dq, dk, dv, dao, dbo = run(_back, tiles, tiles.whole * tiles.tokens, given, x, partial)
    changes = apart(da, [dq, dk, dv], factors[:3]) + apart(dao, [dbo], factors[3:])
    dx = jnp.zeros_like(x) if tiles.first else dx
    return dx, jnp.zeros_like(gain), tuple(map(jnp.zeros_like, held)), changes


attention.defvjp(_forward, _backward)
