"""The algebra of low-rank updates, in factors (theory/README.md, section 0).

An update is Delta W = scale * B A with B (out, r) and A (r, in). Nothing here forms Delta W except
``dense``: inner products, norms, sums, and singular values all go through r x r cores, at a cost of
O((out + in) r^2) instead of O(out * in).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class LowRank(NamedTuple):
    """Factors of Delta W = scale * b @ a: b (..., out, r), a (..., r, in), scale a number or (...)."""

    b: Float[Array, "*batch out r"]
    a: Float[Array, "*batch r in"]
    scale: float | Float[Array, "*batch"] = 1.0


def absorbed(update: LowRank) -> LowRank:
    """The same Delta W with scale 1, the scale multiplied into B."""
    scale = jnp.asarray(update.scale, update.b.dtype)
    return LowRank(update.b * scale[..., None, None], update.a, 1.0)


def cast(update: LowRank, dtype: DTypeLike) -> LowRank:
    """The same factors in another type, of JAX or of NumPy as they are."""
    return update._replace(b=update.b.astype(dtype), a=update.a.astype(dtype))


def dense(update: LowRank) -> Float[Array, "*batch out in"]:
    """Delta W = scale * B A as one (out, in) matrix. For small models and for tests."""
    update = absorbed(update)
    return update.b @ update.a


def scaled(update: LowRank, weight: float | Array) -> LowRank:
    """weight * Delta W, in the scale alone, so that weight 1 changes no bit."""
    return update._replace(scale=update.scale * weight)


def concatenated(updates: Sequence[LowRank]) -> LowRank:
    """Sum of updates as one update of rank sum(r_i): B = [s_1 B_1 ... s_K B_K], A stacked. Exact."""
    parts = [absorbed(update) for update in updates]
    b = jnp.concatenate([part.b for part in parts], axis=-1)
    a = jnp.concatenate([part.a for part in parts], axis=-2)
    return LowRank(b, a, 1.0)


def singular(update: LowRank) -> tuple[Array, Array, Array]:
    """Thin SVD of Delta W without forming it: u (out, r), s (r,), vt (r, in), k = min(r, out, in) kept.

    QR of B and of A^T, then an SVD of the r x r core R_B R_A^T: exact, no iteration count to choose.
    """
    update = absorbed(update)
    q_b, r_b = jnp.linalg.qr(update.b)
    q_a, r_a = jnp.linalg.qr(jnp.swapaxes(update.a, -1, -2))
    u, s, vt = jnp.linalg.svd(r_b @ jnp.swapaxes(r_a, -1, -2), full_matrices=False)
    return q_b @ u, s, vt @ jnp.swapaxes(q_a, -1, -2)


def from_singular(u: Array, s: Array, vt: Array) -> LowRank:
    """Factors of u diag(s) vt with the singular values split evenly: B = u sqrt(s), A = sqrt(s) vt."""
    root = jnp.sqrt(s)
    return LowRank(u * root[..., None, :], root[..., :, None] * vt, 1.0)


def supported(s: Float[Array, "r"], size: float | Array = 0.0, eps: float | None = None) -> Array:
    """Which singular values (largest first) stand above rounding: s > 10 eps max(r s_1, size).

    ``size`` is the norm of the terms that the matrix was computed from. Where they cancel, as in a sum of
    opposed updates, all of s is rounding and only ``size`` shows it. ``eps``: relative rounding of the input,
    where it is coarser than that of s.
    """
    eps = jnp.finfo(s.dtype).eps if eps is None else eps
    return s > 10 * eps * jnp.maximum(s.shape[0] * s[0], size)


def directions(
    update: LowRank, size: float | Array = 0.0, eps: float | None = None
) -> tuple[Array, Array, Array]:
    """``singular`` with every direction below rounding set to 0: u (out, r), s (r,), vt (r, in).

    Rounding is measured against |scale| |B| |A| and ``size`` (see ``supported``), so that an update that is
    zero, or nothing but rounding, has no direction. No batch axes.
    """
    u, s, vt = singular(update)
    factors = jnp.abs(update.scale) * jnp.linalg.norm(update.b) * jnp.linalg.norm(update.a)
    alive = supported(s, jnp.maximum(factors, size).astype(s.dtype), eps)
    return jnp.where(alive[None, :], u, 0), jnp.where(alive, s, 0), jnp.where(alive[:, None], vt, 0)


def truncated(update: LowRank, rank: int) -> LowRank:
    """The best rank-``rank`` approximation in Frobenius norm (Eckart-Young), singular values split evenly."""
    u, s, vt = singular(update)
    return from_singular(u[..., :, :rank], s[..., :rank], vt[..., :rank, :])


def inner(left: LowRank, right: LowRank) -> Array:
    """<Delta W_1, Delta W_2>_F = tr((B_1^T B_2)(A_2 A_1^T)), through r x r cores only."""
    left, right = absorbed(left), absorbed(right)
    core_b = jnp.swapaxes(left.b, -1, -2) @ right.b
    core_a = left.a @ jnp.swapaxes(right.a, -1, -2)
    return jnp.sum(core_b * core_a, axis=(-2, -1))


def norm(update: LowRank) -> Array:
    """Frobenius norm |Delta W|_F, from the singular values (no cancellation, unlike ``inner`` of itself)."""
    return jnp.sqrt(jnp.sum(jnp.square(singular(update)[1]), axis=-1))


def apply(update: LowRank, x: Float[Array, "*tokens in"]) -> Float[Array, "*tokens out"]:
    """Delta W x for row vectors x, in O((out + in) r) a token."""
    return jnp.asarray(update.scale, x.dtype) * jax.numpy.matmul(
        jnp.matmul(x, jnp.swapaxes(update.a, -1, -2)), jnp.swapaxes(update.b, -1, -2)
    )
