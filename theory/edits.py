"""Rank-one and rank-r least-squares edits of a linear memory (theory/README.md, section 1).

The memory is f = W phi. A batch of F facts is given by rows: ``keys`` (F, m) holds the features phi_k,
``residual`` (F, n) the wanted change of the logits, so that Phi = keys^T and R = residual^T. Nothing here
knows where the features come from: the one-layer model and a trained transformer use the same functions.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from theory import checks
from theory.lowrank import LowRank


def check_rank(rank: int, out: int, width: int) -> None:
    """Raise ValueError unless rank is a whole number in 1 .. min(out, width)."""
    checks.whole(rank=rank)
    if rank > min(out, width):
        raise ValueError(
            f"rank {rank} is above the dimension of a ({out}, {width}) matrix; give at most {min(out, width)}"
        )


def rank_one_edit(key: Float[Array, "*batch m"], change: Float[Array, "*batch n"]) -> LowRank:
    """Delta W = change phi^T / |phi|^2, the smallest change that moves the logits at phi by ``change``.

    With change = i_new - i_old it overwrites one fact (Proposition 1 of the paper). Among all Delta W with
    Delta W phi = change it alone has the least Frobenius norm, |change| / |phi|. Leading axes are
    independent edits. Shapes: B (..., n, 1), A (..., 1, m). Raises ValueError for NaN or a zero key.
    """
    checks.finite(key=key, change=change)
    size = jnp.sum(jnp.square(key), axis=-1, keepdims=True)
    checks.above(0, key_norm=size)
    scaled_key = key / size
    return LowRank(change[..., :, None], scaled_key[..., None, :])


def _whitened(keys: Array, residual: Array) -> tuple[Array, Array]:
    """(Q^T R^T, P S^-1) for Phi = P S Q^T: the target in the whitened metric, and the way back.

    |R - Delta W Phi|^2 = |R Q - X|^2 + const with X = Delta W P S, so the best X is a truncated SVD of
    R Q, and Delta W = X S^-1 P^T. Directions of Phi below the rounding cut-off carry no facts and are cut.
    """
    q, s, pt = jnp.linalg.svd(keys, full_matrices=False)
    mask = s > s[..., :1] * jnp.finfo(s.dtype).eps * max(keys.shape[-2:])
    inverse = jnp.where(mask, 1.0 / jnp.where(mask, s, 1.0), 0.0)
    target = jnp.where(mask[..., :, None], jnp.swapaxes(q, -1, -2) @ residual, 0.0)
    return target, inverse[..., :, None] * pt


def least_squares_adapter(
    keys: Float[Array, "facts m"],
    residual: Float[Array, "facts n"],
    rank: int,
    tie_break: Float[Array, "facts n"] | None = None,
) -> LowRank:
    """The rank-r Delta W that minimises |R - Delta W Phi|_F, of least norm among those with its column space.

        Delta W = [R Phi^T S^(-1/2)]_r S^(-1/2),   S = Phi Phi^T   (pseudo-inverse root)

    (reduced-rank regression). For independent keys this is P_r R Phi^+ with P_r the projector on the top r
    left singular vectors of R. When singular values of R tie (facts with distinct answers), the minimiser is
    not unique, and an SVD would pick a coordinate-aligned one: ``tie_break``, a small generic matrix (for a
    Haar choice: Gaussian, about 1e-8 of the residual), is added to the residual only where the column
    space is chosen; the adapter is the exact minimiser within that space.

    Returns LowRank with B (n, r) orthonormal (or zero) columns and A (r, m); columns past the number of
    facts are zero. Raises ValueError for a rank below 1 or above min(n, m), and for NaN or no facts.
    """
    checks.finite(keys=keys, residual=residual)
    out, width = residual.shape[-1], keys.shape[-1]
    check_rank(rank, out, width)
    target, back = _whitened(keys, residual)
    chosen = target if tie_break is None else _whitened(keys, residual + tie_break)[0]
    vectors = jnp.linalg.svd(chosen, full_matrices=False)[2][..., :rank, :]
    a = (vectors @ jnp.swapaxes(target, -1, -2)) @ back
    missing = rank - vectors.shape[-2]
    if missing > 0:
        rows = [(0, 0)] * (vectors.ndim - 2) + [(0, missing), (0, 0)]
        vectors, a = jnp.pad(vectors, rows), jnp.pad(a, rows)
    return LowRank(jnp.swapaxes(vectors, -1, -2), a)


def exact_adapter(keys: Float[Array, "facts m"], residual: Float[Array, "facts n"]) -> LowRank:
    """R Phi^+ in factors B = R (n, F), A = Phi^+ (F, m): the least-squares adapter no rank limits.

    Fits every fact when the keys are independent, and then changes nothing outside their span.
    Raises ValueError for NaN or no facts.
    """
    checks.finite(keys=keys, residual=residual)
    return LowRank(jnp.swapaxes(residual, -1, -2), jnp.linalg.pinv(jnp.swapaxes(keys, -1, -2)))


def starved_adapter(exact: LowRank, start: Float[Array, "rank facts"]) -> LowRank:
    """R P Phi^+ with P (F, F) the projector on the row space of ``start``: ``exact_adapter`` cut to rank r.

    When the singular values of R tie, every such P minimises the loss, and LoRA gradient descent from
    B = 0, A = start, on orthonormal keys, lands on this one exactly (theory/README.md, section 6): P is Haar
    for a Gaussian start. Raises ValueError when ``start`` has more rows than facts.
    """
    if start.shape[-2] > start.shape[-1]:
        raise ValueError(
            f"start has rank {start.shape[-2]} for {start.shape[-1]} facts; use exact_adapter there"
        )
    frame = jnp.linalg.qr(jnp.swapaxes(start, -1, -2))[0]
    return LowRank(exact.b @ frame, jnp.swapaxes(frame, -1, -2) @ exact.a, exact.scale)


def least_squares_loss(
    keys: Float[Array, "facts m"], residual: Float[Array, "facts n"], rank: int
) -> Float[Array, ""]:
    """min over rank-r Delta W of |R - Delta W Phi|_F^2 = |R|_F^2 - sum_{i<=r} sigma_i^2.

    sigma_i are the singular values of R Phi^T S^(-1/2): Eckart-Young in the whitened metric.
    Raises ValueError for a rank below 1 or above min(n, m), and for NaN or no facts.
    """
    checks.finite(keys=keys, residual=residual)
    check_rank(rank, residual.shape[-1], keys.shape[-1])
    target, _ = _whitened(keys, residual)
    sigma = jnp.linalg.svd(target, compute_uv=False)[..., :rank]
    return jnp.sum(jnp.square(residual), axis=(-2, -1)) - jnp.sum(jnp.square(sigma), axis=-1)


def shares(update: LowRank, keys: Float[Array, "facts m"], residual: Float[Array, "facts n"]) -> Array:
    """rho_k = <R_k, Delta W phi_k> / |R_k|^2 in (F,): how much of its own wanted change each fact gets.

    1 for an adapter that fits the fact. For a least-squares adapter with independent keys it equals
    |P_r R_k|^2 / |R_k|^2, whose mean over facts of equal |R_k| is the explained energy
    sum_{i<=r} sigma_i^2 / |R|^2, at least min(r, F)/F, and that when all singular values tie or r >= F
    (theory/README.md, section 5).
    Facts whose residual is zero (nothing to change) get share 1. Raises ValueError for NaN or no
    facts.
    """
    checks.finite(keys=keys, residual=residual)
    moved = (keys @ jnp.swapaxes(update.a, -1, -2)) @ jnp.swapaxes(update.b, -1, -2) * update.scale
    size = jnp.sum(jnp.square(residual), axis=-1)
    gained = jnp.sum(residual * moved, axis=-1)
    return jnp.where(size > 0, gained / jnp.where(size > 0, size, 1.0), 1.0)
