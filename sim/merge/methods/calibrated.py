"""Merges that correct a sum by what the updates themselves say: ACE's Gram matrices, calibrated spectra.

Both are cures for facts that several adapters share. Where adapters share nothing, rows of one at right
angles to the rows and columns of the other, both are the sum (``theory.merges``).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.methods.linear import combination
from sim.merge.registry import method
from theory.lowrank import LowRank, absorbed, directions, norm, scaled, supported


@method("calibrated", float64=True)
def ace(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, eps: float, ridge: float = 1e-5
) -> LowRank:
    """ACE: RegMean with Gram matrices guessed from the updates' own rows, and a ridge. In factors.

    Xu et al. 2026 (arXiv 2603.02945): D = (sum_i w_i T_i (G_i + ridge I)) (sum_i (G_i + ridge I))^-1, T_i =
    Delta W_i, G_i the covariance of the rows of T_i over its trace (rows centred by their mean). A direction
    that T_i alone holds with share g = s^2 / |T_i|^2 keeps (g + ridge) / (g + K ridge): ridge 0 gives the sum
    (uncentred: ``wudi``), a large ridge the average. Here every G is divided by its trace, the published
    branch for unlike adapters, and the ridge is relative to it; the numerator holds T_i itself, as in the
    paper (the code centres it too). Left out: the switch between branches and the ridge over the trace, which
    depend on the unit of the weights; the collective prior, a matrix of equal rows that no rotation of the
    inputs keeps; and the spectral refinement behind that switch.

    G_i estimates the inputs' covariance for an update R Phi^T with R^T R = c I, as after one step; for an
    interpolating one, R Phi^+, it estimates its inverse (theory/README.md, section 5).
    """
    if not ridge > 0:
        raise ValueError(f"ridge must be above 0, not {ridge}; without one the method is wudi")
    parts = [absorbed(update) for update in updates]
    rows = [_centred(part, eps) for part in parts]
    q, r = jnp.linalg.qr(jnp.concatenate(rows, axis=0).T)
    p, s, _ = jnp.linalg.svd(r, full_matrices=False)
    # sum_i G_i = axes diag(s^2) axes^T. A direction of rounding would matter once divided by the ridge.
    axes, count = jnp.where(supported(s, eps=eps)[None, :], q @ p, 0), len(parts)
    inverse = 1 / (jnp.square(s) + count * ridge)

    def solved(part: LowRank, own: Array) -> Array:
        inside = part.a @ axes
        seen = (part.a @ own.T) @ (own @ axes) + ridge * inside
        # Off the span of all rows the ridges alone remain, each a K-th of their sum.
        return (seen * inverse[None, :]) @ axes.T + (part.a - inside @ axes.T) / count

    a = jnp.concatenate([solved(part, own) for part, own in zip(parts, rows, strict=True)], axis=0)
    b = jnp.concatenate([weight * part.b for part, weight in zip(parts, weights, strict=True)], axis=1)
    return LowRank(b, a, 1.0)


def _centred(part: LowRank, eps: float) -> Float[Array, "r in"]:
    """C with C^T C the covariance of the rows of Delta W, its trace 1 (0 for an update of zero)."""
    _, s, vt = directions(part._replace(b=part.b - jnp.mean(part.b, axis=0, keepdims=True)), norm(part), eps)
    size = jnp.sqrt(jnp.sum(jnp.square(s)))
    return (s / jnp.where(size > 0, size, 1))[:, None] * vt


@method("calibrated", float64=True)
def svc(updates: Sequence[LowRank], weights: Float[Array, "K"], *, eps: float, alpha: float = 1.0) -> LowRank:
    """SVC: the sum with each singular value divided by how often its direction was counted. In factors.

    Li et al. 2026 (arXiv 2602.05536), after the weighted sum U S V^T. With a_i = u_r^T w_i Delta W_i and a
    their sum, s_i = <a, a_i> / |a_i|^2 (0 where a_i is) and S_r is multiplied by K / sum_i max(alpha, s_i).
    alpha = 1 only ever lowers a value; the paper's 1/K multiplies a direction that one adapter holds alone by
    K^2 / (2 K - 1). A weak response that points along a strong one counts most (s_i is one over its size), so
    a slight overlap of two adapters in rows and columns can cost the stronger its fact. (The authors' code
    divides by the mean s_i instead, and only where all are positive.)
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, not {alpha}")
    parts = [absorbed(scaled(update, weight)) for update, weight in zip(updates, weights, strict=True)]
    u, s, vt = directions(combination(parts, jnp.ones(len(parts))), eps=eps)
    counted = jnp.zeros_like(s)
    for part in parts:
        own = (u.T @ part.b) @ jnp.linalg.qr(part.a.T)[1].T
        size = jnp.sum(jnp.square(own), axis=1)
        along = s * jnp.sum((u.T @ part.b) * (vt @ part.a.T), axis=1)
        # A direction of the sum mixes with its neighbours by rounding: what is left of that is no response.
        alive = size > eps * jnp.square(norm(part))
        ratio = jnp.where(alive, along / jnp.where(alive, size, 1), 0)
        counted += jnp.maximum(alpha, ratio)
    return LowRank(u * (s * len(parts) / counted)[None, :], vt, 1.0)
