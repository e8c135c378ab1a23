"""Spectral merges: KnOTS, TSV-M, Iso-C, Iso-CTS and WUDI, in factors.

Each works in the singular vectors of the Delta W, which the factors give through small cores. Published
versions take the full SVD of a dense Delta W; fed a rank-r update, that includes arbitrary null
directions. Here only the supported directions take part: singular values above rounding, measured against
the norm of the inputs and their own precision (``eps``: float32 factors are known to 1e-7 whatever they are
computed in), so that adapters that are zero or cancel leave nothing to choose by noise.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.elementwise import check_density
from sim.merge.methods.linear import combination
from sim.merge.methods.sign import voted
from sim.merge.registry import method
from theory.lowrank import LowRank, absorbed, directions, from_singular, norm, scaled, supported


def polar(columns: Float[Array, "n k"], eps: float) -> Float[Array, "n k"]:
    """The nearest matrix with orthonormal columns (Procrustes), on the span of the columns only.

    From P diag(s) Q^T it keeps P Q^T over the supported s, so zero columns stay zero.
    """
    q, r = jnp.linalg.qr(columns)
    p, s, qt = jnp.linalg.svd(r, full_matrices=False)
    return q @ jnp.where(supported(s, eps=eps)[None, :], p, 0) @ qt


@method("spectral", float64=True, identity={"density": 1.0})
def knots(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    eps: float,
    density: float = 0.2,
    vote: str = "mass",
) -> LowRank:
    """KnOTS: one SVD of [Delta W_1 ... Delta W_K], then TIES on the aligned parts S V_i^T. In factors.

    Stoica et al. 2025 (arXiv 2410.19735). [Delta W_1 ... Delta W_K] = U S [V_1^T ... V_K^T]; the merge is U
    TIES(w_i S V_i^T), whose trim counts the supported directions only. Rank: the sum of the ranks.
    """
    check_density(density)
    parts = [absorbed(update) for update in updates]
    q_b, r_b = jnp.linalg.qr(jnp.concatenate([part.b for part in parts], axis=1))
    q_a, r_a = zip(*(jnp.linalg.qr(part.a.T) for part in parts), strict=True)
    # Delta W_i = Q_B (R_B)_i (R_Ai)^T Q_Ai^T, and the Q_Ai are orthonormal, so the SVD of the side-by-side
    # matrix is that of the side-by-side cores.
    edges = [0]
    for part in parts:
        edges.append(edges[-1] + part.a.shape[0])
    cores = [r_b[:, edges[i] : edges[i + 1]] @ r_a[i].T for i in range(len(parts))]
    u, s, _ = jnp.linalg.svd(jnp.concatenate(cores, axis=1), full_matrices=False)
    alive = supported(s, eps=eps)
    aligned = jnp.stack([u.T @ core @ q.T for core, q in zip(cores, q_a, strict=True)])
    aligned = jnp.where(alive[None, :, None], aligned, 0)
    noise = jnp.broadcast_to(10 * len(s) * eps * s[0], len(parts))
    merged = voted(aligned, weights, density, vote, jnp.sum(alive) * aligned.shape[-1], noise)
    return LowRank(q_b @ u, merged, 1.0)


@method("spectral", float64=True)
def tsv_merge(updates: Sequence[LowRank], weights: Float[Array, "K"], *, eps: float) -> LowRank:
    """TSV-M: the singular vectors of all adapters side by side, each side orthogonalised, values kept.

    Gargiulo et al. 2025 (arXiv 2412.00081): sum_i U_i S_i V_i^T with [U_1 ... U_K] and [V_1 ... V_K]
    replaced by their nearest orthonormal matrices. The paper first cuts each full-rank update to 1/K of its
    rank; an adapter is already that small, so all of its supported directions stay.
    """
    parts = [scaled(update, weight) for update, weight in zip(updates, weights, strict=True)]
    us, ss, vts = zip(*(directions(part, eps=eps) for part in parts), strict=True)
    u, v = polar(jnp.concatenate(us, axis=1), eps), polar(jnp.concatenate(vts, axis=0).T, eps)
    return from_singular(u, jnp.concatenate(ss), v.T)


def _flattened(u: Array, s: Array, vt: Array) -> LowRank:
    """Every singular value but 0 replaced by their mean."""
    mean = jnp.sum(s) / jnp.maximum(jnp.sum(s > 0), 1).astype(s.dtype)
    return from_singular(u, jnp.where(s > 0, mean, 0), vt)


@method("spectral", float64=True, identity=None)
def iso_c(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, eps: float, rank: int | None = None
) -> LowRank:
    """Iso-C: the weighted sum with its spectrum made flat: U V^T times the mean singular value. In factors.

    Marczak et al. 2025 (arXiv 2502.04959), the mean over the supported singular values of the sum. A
    ``rank`` cuts the sum before the spectrum is made flat: afterwards no direction is above another.
    """
    u, s, vt = directions(combination(updates, weights), eps=eps)
    return _flattened(u[:, :rank], s[:rank], vt[:rank])


@method("spectral", float64=True, identity=None)
def iso_cts(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    eps: float,
    common: float = 0.8,
    rank: int | None = None,
) -> LowRank:
    """Iso-CTS: top directions of the sum, the rest of the rank for each adapter's own; spectrum made flat.

    Marczak et al. 2025 (arXiv 2502.04959). Of the supportable rank R = min(sum r_i, out, in, ``rank``) each
    of the K adapters gets s = round((1 - common) R / K) directions and the sum gets the other R - K s. Own
    directions are the top s of (I - U U^T) w_i Delta W_i; both sides are orthogonalised, all values set to
    their mean.
    """
    if not 0.0 < common <= 1.0:
        raise ValueError(f"common must be in (0, 1], not {common}")
    supportable = min(sum(u.a.shape[0] for u in updates), updates[0].b.shape[0], updates[0].a.shape[1])
    rank = min(supportable, rank or supportable)
    # At most what the smallest adapter has, and the sum keeps at least one direction.
    own = round((rank - int(common * rank)) / len(updates))
    own = min(own, min(update.a.shape[0] for update in updates), (rank - 1) // len(updates))
    shared = rank - own * len(updates)
    u, s, vt = directions(combination(updates, weights), eps=eps)
    sides = [(u[:, :shared], s[:shared], vt[:shared])]
    u = u[:, :shared]
    for update, weight in zip(updates, weights, strict=True):
        part = absorbed(scaled(update, weight))
        residual = part._replace(b=part.b - u @ (u.T @ part.b))
        # Below the rounding of the update itself there is nothing left of it but noise.
        own_u, own_s, own_vt = directions(residual, len(s) * norm(part), eps)
        sides.append((own_u[:, :own], own_s[:own], own_vt[:own]))
    us, ss, vts = zip(*sides, strict=True)
    v = polar(jnp.concatenate(vts, axis=0).T, eps)
    return _flattened(polar(jnp.concatenate(us, axis=1), eps), jnp.concatenate(ss), v.T)


@method("spectral", float64=True)
def wudi(updates: Sequence[LowRank], weights: Float[Array, "K"], *, eps: float) -> LowRank:
    """WUDI: the update nearest to every adapter on that adapter's own row space, by its closed form.

    Cheng et al. 2025 (arXiv 2503.08099) descend on sum_i |(D - w_i T_i) T_i^T|^2 / |T_i|^2, T_i = Delta W_i.
    Its minimum of least norm is D = (sum_i w_i T_i G_i)(sum_i G_i)^+ with G_i = T_i^T T_i / |T_i|^2: RegMean
    with the adapters' own Gram matrices. With C the stacked rows S_i V_i^T / |T_i|, so that C^T C = sum_i
    G_i, this is [w_i U_i S_i^2 / |T_i|]_i (C^T)^+: one SVD of a (sum r_i) x in matrix.
    """
    pieces = [directions(update, eps=eps) for update in updates]
    sizes = [jnp.sqrt(jnp.sum(jnp.square(s))) for _, s, _ in pieces]
    sizes = [jnp.where(size > 0, size, 1) for size in sizes]
    rows = [(s / size)[:, None] * vt for size, (_, s, vt) in zip(sizes, pieces, strict=True)]
    q, r = jnp.linalg.qr(jnp.concatenate(rows, axis=0).T)
    p, s, wt = jnp.linalg.svd(r.T, full_matrices=False)  # C = p diag(s) wt q^T
    alive = supported(s, eps=eps)
    inverse = (p * jnp.where(alive, 1 / jnp.where(alive, s, 1), 0)[None, :]) @ wt @ q.T
    columns = [
        weight * u * (s**2 / size)[None, :]
        for weight, size, (u, s, _) in zip(weights, sizes, pieces, strict=True)
    ]
    return LowRank(jnp.concatenate(columns, axis=1), inverse, 1.0)
