"""The MLP of one layer: the norm before it, its two products and the residual sum."""

import functools

import jax
import jax.numpy as jnp
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


def _on(tiles, x_ref, gain_ref, up_ref, down_ref, y_ref):
    start, present = tile(tiles, ROWS)
    x = rows_of(x_ref, start, present)
    inner, _ = normed(x, gain_ref[:])
    width = x.shape[1]

    def part(index, y):
        at = pl.ds(index * width, width)
        features = jnp.maximum(tiles.dot(inner, up_ref[at, :], trans_b=True), 0.0)
        return y + tiles.dot(features, down_ref[:, at], trans_b=True)

    put(y_ref, start, jax.lax.fori_loop(0, up_ref.shape[0] // width, part, x), present)


def _back(
    ranks, tiles, x_ref, dy_ref, gain_ref, up_ref, down_ref, outer_ref, within_ref,
    dx_ref, d_outer_ref, d_within_ref,
):  # fmt: skip
    start, present = tile(tiles, ROWS)
    dot, gain = tiles.dot, gain_ref[:]
    inner, _ = normed(rows_of(x_ref, start, present), gain)
    dy, scale = of_one(rows_of(dy_ref, start, present))
    width = inner.shape[1]
    thin_up = ranks.only(dot(inner, outer_ref[:, :]), 0).astype(tiles.kind)
    thin_down = ranks.only(dot(dy, outer_ref[:, :]), 1).astype(tiles.kind)

    def part(index, carried):
        d_inner, back = carried
        at = pl.ds(index * width, width)
        up, within = up_ref[at, :], within_ref[at, :]
        features = jnp.maximum(dot(inner, up, trans_b=True), 0.0)
        d = jnp.where(features > 0, dot(dy, down_ref[:, at]), 0.0)
        d_within = dot(d, thin_up, trans_a=True) + dot(features, thin_down, trans_a=True)
        d_within_ref[at, :] = scale * d_within
        back += ranks.only(dot(d, within), 0) + ranks.only(dot(features, within), 1)
        return d_inner + dot(d, up), back

    nothing = jnp.zeros_like(inner), jnp.zeros((ROWS, outer_ref.shape[1]), inner.dtype)
    d_inner, back = jax.lax.fori_loop(0, up_ref.shape[0] // width, part, nothing)
    writes = ranks.only(back, 1)
    d_outer = dot(inner, back - writes, trans_a=True) + dot(dy, writes, trans_a=True)
    d_outer_ref[:, :] = scale * d_outer
    # Read again: the loop needs the registers.
    x, dy = rows_of(x_ref, start, present), rows_of(dy_ref, start, present)
    put(dx_ref, start, dy + scale * before_norm(d_inner, x, gain), present)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def mlp(
    tiles: Tiles, x_ND: Array, gain_D: Array, weights: tuple[Array, ...], factors: Factors
) -> Float[Array, "N D"]:
    """x + MLP(RMSNorm(x)) with updates of ``weights``, those of up (hidden, D) and down (D, hidden).

    Differentiable in x and in the factors.
    """
    return _forward(tiles, x_ND, gain_D, weights, factors)[0]


def _forward(tiles, x, gain, weights, factors):
    adapted = folded(tiles, weights, factors)
    (y,) = run(_on, tiles, ROWS, [x], (gain, *adapted))
    return y, (x, gain, adapted, weights, factors)


def _backward(tiles, residuals, dy):
    x, gain, adapted, weights, factors = residuals
    ranks, *sides = join_factors(tiles, factors)
    kernel = functools.partial(_back, ranks)
    dx, *sums = run(kernel, tiles, ROWS, [x, dy], (gain, *adapted, *sides), [side.shape for side in sides])
    return dx, jnp.zeros_like(gain), tuple(map(jnp.zeros_like, weights)), split_gradients(*sums, ranks)


mlp.defvjp(_forward, _backward)
