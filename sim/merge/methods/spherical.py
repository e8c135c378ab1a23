"""Merges on the sphere of Delta W directions: slerp, multislerp, Karcher mean, model stock.

All of them return a linear combination of the Delta W whose coefficients depend only on the K x K matrix
of inner products, so they are exact in factors: the geometry is done on K numbers.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.methods.linear import combination
from sim.merge.registry import method
from theory.lowrank import LowRank, inner, norm


def cosines(updates: Sequence[LowRank]) -> tuple[Float[Array, "K K"], Float[Array, "K"]]:
    """Cosines between the Delta W (an update of norm 0 is at right angles to all), and their norms."""
    norms = jnp.stack([norm(update) for update in updates])
    safe = jnp.where(norms > 0, norms, 1)
    count = len(updates)
    cosine = jnp.eye(count, dtype=norms.dtype)
    for i in range(count):
        for j in range(i + 1, count):
            value = inner(updates[i], updates[j]) / (safe[i] * safe[j])
            cosine = cosine.at[i, j].set(value).at[j, i].set(value)
    return jnp.clip(cosine, -1, 1), norms


def _over_sine(angle: Array) -> Array:
    """angle / sin(angle), 1 at 0."""
    sine = jnp.sin(angle)
    return jnp.where(sine > 1e-12, angle / jnp.where(sine > 1e-12, sine, 1), 1.0)


def _step(point: Array, cosine: Array, weights: Array) -> Array:
    """One Karcher step from a unit point (coefficients on the unit updates).

    The weighted mean of the logarithms at the point, mapped back by the exponential.
    """
    towards = jnp.clip(cosine @ point, -1, 1)
    stretch = weights * _over_sine(jnp.arccos(towards))
    tangent = stretch - jnp.sum(stretch * towards) * point
    length = jnp.sqrt(jnp.maximum(tangent @ cosine @ tangent, 0))
    moved = jnp.cos(length) * point + jnp.sinc(length / jnp.pi) * tangent
    return _unit(moved, cosine)


def _unit(direction: Array, cosine: Array) -> Array:
    """The direction at length 1 (coefficients on the unit updates); 0 where it vanishes but for rounding.

    The mean of opposed updates does: it has no direction, and their merge is nothing.
    """
    size = jnp.sqrt(jnp.maximum(direction @ cosine @ direction, 0))
    return jnp.where(size > 1e-6, direction / jnp.where(size > 1e-6, size, 1), 0)


def _placed(updates: Sequence[LowRank], direction: Array, norms: Array, weights: Array) -> LowRank:
    """A unit direction given the weighted mean of the norms, as an update."""
    coefficients = direction / jnp.where(norms > 0, norms, 1)
    return combination(updates, coefficients * jnp.sum(weights * norms))


@method("spherical", float64=True, normalises=True)
def slerp(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Spherical interpolation of two Delta W along the arc between their directions. In factors.

    Shoemake 1985: [sin((1 - t) a) Delta W_1 + sin(t a) Delta W_2] / sin a, a the angle between them and t =
    w_2 / (w_1 + w_2). Nearly parallel updates (sin a < 1e-3, as is usual) are interpolated linearly.
    """
    if len(updates) == 1:
        return combination(updates, weights)
    if len(updates) != 2:
        raise ValueError(f"slerp takes two adapters, not {len(updates)}; use multislerp or karcher for more")
    cosine, _ = cosines(updates)
    angle = jnp.arccos(cosine[0, 1])
    sine = jnp.sin(angle)
    curved = jnp.sin(weights * angle) / jnp.where(sine > 1e-3, sine, 1)
    return combination(updates, jnp.where(sine > 1e-3, curved, weights))


@method("spherical", float64=True, normalises=True)
def multislerp(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Barycentre on the sphere in one step: logarithms at the mean direction, averaged, mapped back.

    Directions are averaged, the norm is the weighted mean norm. The logarithm map is the true one:
    projecting onto the tangent space instead (as mergekit does) makes the step vanish identically.
    """
    cosine, norms = cosines(updates)
    direction = _step(_unit(weights, cosine), cosine, weights)
    return _placed(updates, direction, norms, weights)


@method("spherical", float64=True, normalises=True)
def karcher(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Karcher mean: the direction with the least weighted squared arc length to all; mean norm. In factors.

    Fixed point of the multislerp step, iterated until it moves less than rounding (at most 200 steps).
    """
    cosine, norms = cosines(updates)
    tolerance = 8 * jnp.finfo(norms.dtype).eps

    def unfinished(state: tuple) -> Array:
        _, change, step = state
        return (change > tolerance) & (step < 200)

    def advance(state: tuple) -> tuple:
        point, _, step = state
        moved = _step(point, cosine, weights)
        return moved, jnp.max(jnp.abs(moved - point)), step + 1

    start = (_unit(weights, cosine), jnp.full((), jnp.inf, norms.dtype), 0)
    direction, _, _ = jax.lax.while_loop(unfinished, advance, start)
    return _placed(updates, direction, norms, weights)


@method("spherical", float64=True, normalises=True)
def model_stock(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """Model stock: the average, shrunk towards the base by how far the adapters disagree. In factors.

    Jang et al. 2024 (arXiv 2403.19522): t * average with t = K c / (1 + (K - 1) c), c the mean cosine of the
    pairs, taken as 0 if negative: adapters at right angles or opposed are merged to nothing.
    """
    count = len(updates)
    if count == 1:
        return combination(updates, weights)
    cosine, _ = cosines(updates)
    mean = jnp.maximum((jnp.sum(cosine) - count) / (count * (count - 1)), 0)
    return combination(updates, weights * (count * mean / (1 + (count - 1) * mean)))
