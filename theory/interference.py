"""What two low-rank updates do to each other, in factors (theory/README.md, sections 3, 5 and 10).

All of it is exact algebra on singular triplets (u_k, s_k, v_k) of the Delta W, at O((out + in) r^2). An
adapter reads inputs along its row space (the v_k) and writes along its column space (the u_k).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from theory.lowrank import LowRank, apply, directions


def effective_rank(s: Float[Array, "*batch r"]) -> Float[Array, "*batch"]:
    """exp(entropy of s / sum(s)): r for equal singular values, 1 for a single one (Roy and Vetterli 2007).

    0 for a zero update.
    """
    total = jnp.sum(s, axis=-1, keepdims=True)
    share = s / jnp.where(total > 0, total, 1.0)
    return jnp.where(total[..., 0] > 0, 1.0, 0.0) * jnp.exp(
        -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0), axis=-1)
    )


def bases(update: LowRank) -> tuple[Array, Array, Array]:
    """(u (out, r), s (r,), v (in, r)) of Delta W, directions below rounding set to 0 on both sides."""
    u, s, vt = directions(update)
    return u, s, vt.T


def principal_cosines(left: Float[Array, "d r"], right: Float[Array, "d q"]) -> Float[Array, "p"]:
    """Cosines of the principal angles between two subspaces given orthonormal (or zero) columns.

    Largest first, p = min(r, q). 1 is a shared direction; the mean squared cosine of random subspaces of R^d
    is max(r, q)/d.
    """
    return jnp.linalg.svd(left.T @ right, compute_uv=False)


def interference(of: LowRank, reads: Float[Array, "in r"]) -> Float[Array, ""]:
    """|Delta W_j V_i|_F: what adapter j writes on the inputs that adapter i reads (V_i orthonormal columns).

    0 when the row spaces are at right angles: on each adapter's inputs the sum then equals that adapter.
    Divide by |Delta W_i|_F for the strength relative to what i itself writes there.
    """
    return jnp.linalg.norm(apply(of, reads.T))


def retained(updates: Sequence[LowRank], adapter: int) -> Float[Array, "r"]:
    """g_k = <u_k, (sum_j Delta W_j) v_k> / s_k for the directions of one adapter: 1 + what the others add.

    Take direction k as one exact overwrite stored at key v_k. A merge lambda * sum_j Delta W_j gives it
    lambda g_k of its full swing, so it survives iff lambda exceeds critical_lambda(1, 2 g_k) = 1/(2 g_k)
    (``theory.coverage``): 1/2 without interference. [model]: facts need not lie along singular directions,
    and what the others write outside u_k is left out. Directions below rounding give NaN.
    """
    u, s, v = bases(updates[adapter])
    moved = sum(apply(update, v.T) for update in updates)
    return jnp.sum(moved * u.T, axis=-1) / jnp.where(s > 0, s, jnp.nan)


def leakage(updates: Sequence[LowRank], adapter: int) -> Float[Array, "r"]:
    """p_k = |(1 - u_k u_k^T) (sum_j Delta W_j) v_k| / s_k: the sum's output at v_k at right angles to u_k.

    Take direction k as one exact overwrite, s_k u_k standing for i_new - i_old of length sqrt 2. A third
    answer leads the new one by lambda (sqrt 2 p_k (w_t - w_new) - g_k) with |w| = 1 and w_new = w_old, and
    w_t - w_new <= sqrt(3/2): none can win where sqrt 3 p_k < g_k (``retained``), whatever lambda > 0.
    Directions below rounding give NaN.
    """
    u, s, v = bases(updates[adapter])
    moved = sum(apply(update, v.T) for update in updates)
    along = jnp.sum(moved * u.T, axis=-1)
    return jnp.linalg.norm(moved - along[:, None] * u.T, axis=-1) / jnp.where(s > 0, s, jnp.nan)


def rival(updates: Sequence[LowRank], adapter: int) -> Float[Array, "r"]:
    """max_{j != i} |Delta W_j v_k| / s_k for the directions of one of two or more adapters.

    At input v_k adapter i writes s_k, so a router that scores |Delta W x| (SpectR) and takes the best sends
    it to i iff this is below 1, and ties at 1. Exact. Directions below rounding give NaN.
    """
    _, s, v = bases(updates[adapter])
    others = [update for j, update in enumerate(updates) if j != adapter]
    loudest = jnp.max(jnp.stack([jnp.linalg.norm(apply(update, v.T), axis=-1) for update in others]), axis=0)
    return loudest / jnp.where(s > 0, s, jnp.nan)


def arrow_gap(s: Float[Array, "*batch r"]) -> Float[Array, "*batch"]:
    """1 - s_2 / s_1: how well determined Arrow's prototype v_1 is (0: any vector of a plane would do).

    0 for a zero update, of which any vector at all would do.
    """
    alive = s[..., 0] > 0
    second = s[..., 1] if s.shape[-1] > 1 else jnp.zeros_like(s[..., 0])
    return jnp.where(alive, 1 - second / jnp.where(alive, s[..., 0], 1.0), 0.0)


def relu_bend(a: float | Array, b: float | Array) -> tuple[Array, Array]:
    """Integrals over c of I(c) and of I(c)^2, I = relu(c + a + b) - relu(c + a) - relu(c + b) + relu(c).

    What two changes a and b of a ReLU's input do to each other, over all offsets c: a trapezoid of height
    m = min(|a|, |b|) and area a b, whose square has m^2 (M - m / 3), M = max(|a|, |b|). Offsets of density p
    near the bend give E I = p a b and E I^2 = p m^2 (M - m / 3): with a and b in proportion to lambda the
    root mean square falls as lambda^(3/2), while every second derivative is 0 but at the bend itself. Exact.
    """
    low, high = jnp.minimum(jnp.abs(a), jnp.abs(b)), jnp.maximum(jnp.abs(a), jnp.abs(b))
    return jnp.asarray(a) * b, jnp.square(low) * (high - low / 3)
