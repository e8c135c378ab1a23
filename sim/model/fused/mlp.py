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


def _on(tiles, x_ref, gain_ref, up_ref, down_ref, y_ref):
    start, present = tile(tiles, ROWS)
    x = rows_of(x_ref, start, present)
    inner, _ = normed(x, gain_ref[:])
    width = x.shape[1]

    def part(index, y):
        at = pl.ds(index * width, width)
        features = jnp.maximum(dot(inner, up_ref[at, :], trans_b=True), 0.0)
        return y + dot(features, down_ref[:, at], trans_b=True)

    put(y_ref, start, jax.lax.fori_loop(0, up_ref.shape[0] // width, part, x), present)


def _back(
    tiles, x_ref, dy_ref, gain_ref, up_ref, down_ref, au_ref, bu_ref, ad_ref, bd_ref,
    dx_ref, dau_ref, dbu_ref, dad_ref, dbd_ref,
):  # fmt: skip
    start, present = tile(tiles, ROWS)
    x, dy, gain = rows_of(x_ref, start, present), rows_of(dy_ref, start, present), gain_ref[:]
    inner, inverse = normed(x, gain)
    width = x.shape[1]
    thin_u = dot(inner, au_ref[:, :], trans_b=True)
    back_d = dot(dy, bd_ref[:, :])

    def part(index, carried):
        d_inner, back_u, thin_d = carried
        at = pl.ds(index * width, width)
        up = up_ref[at, :]
        features = jnp.maximum(dot(inner, up, trans_b=True), 0.0)
        d = jnp.where(features > 0, dot(dy, down_ref[:, at]), 0.0)
        dbu_ref[at, :] = dot(d, thin_u, trans_a=True)
        dad_ref[:, at] = dot(back_d, features, trans_a=True)
        thin_d += dot(features, ad_ref[:, at], trans_b=True)
        return d_inner + dot(d, up), back_u + dot(d, bu_ref[at, :]), thin_d

    nothing = jnp.zeros_like(x), jnp.zeros_like(thin_u), jnp.zeros_like(back_d)
    d_inner, back_u, thin_d = jax.lax.fori_loop(0, up_ref.shape[0] // width, part, nothing)
    dau_ref[:, :] = dot(back_u, inner, trans_a=True)
    dbd_ref[:, :] = dot(dy, thin_d, trans_a=True)
    put(dx_ref, start, dy + before_norm(d_inner, x, gain, inverse), present)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def mlp(
    tiles: Tiles, x_ND: Array, gain_D: Array, weights: tuple[Array, ...], factors: Factors
) -> Float[Array, "N D"]:
    """x + MLP(RMSNorm(x)) with updates of ``weights``, those of up (hidden, D) and down (D, hidden).

    Differentiable in x and in the factors; rows of no token stay undefined.
    """
    return _forward(tiles, x_ND, gain_D, weights, factors)[0]


def _forward(tiles, x, gain, weights, factors):
    held = folded(weights, factors)
    (y,) = run(_on, tiles, ROWS, (x, gain, *held), x, ahead=1)
    return y, (x, gain, held, factors)


def _backward(tiles, kept, dy):
    x, gain, held, factors = kept
    up_a, (up_b,) = beside(factors[:1])
    down_a, (down_b,) = beside(factors[1:])
    added = up_a, up_b, down_a, down_b
    partial = tuple(value.shape for value in added)
    dx, dau, dbu, dad, dbd = run(_back, tiles, ROWS, (x, dy, gain, *held, *added), x, partial)
    changes = apart(dau, [dbu], factors[:1]) + apart(dad, [dbd], factors[1:])
    return dx, jnp.zeros_like(gain), tuple(map(jnp.zeros_like, held)), changes


mlp.defvjp(_forward, _backward)
