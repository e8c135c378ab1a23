"""Core Space: merge the coordinates of the updates in one basis that they share; compress, then merge.

Every update is M_i = U^T Delta W_i V in orthonormal bases U, V of what all columns and all rows span, and
sum_i w_i Delta W_i = U (sum_i w_i M_i) V^T: nothing is lost. A merge that commutes with rotations (every
linear, spherical and spectral one here) is therefore the same merge in these coordinates, only cheaper;
a test shows it. What changes are the merges by entries, which see another basis.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.elementwise import check_density
from sim.merge.methods.sign import voted
from sim.merge.registry import method
from theory.lowrank import LowRank, directions, supported

Cores = tuple[Float[Array, "out m"], Float[Array, "K m n"], Float[Array, "n in"], Array, Array]


def cores(updates: Sequence[LowRank], eps: float | None = None) -> Cores:
    """The shared bases U (out, m), V^T (n, in), the coordinates M_i, and which of the m, n directions exist.

    Panariello et al. 2025 (arXiv 2509.17786): U the left singular vectors of [B_1 ... B_K], V^T the right
    ones of the stacked A_i. Here the factors are the balanced ones, U_i S_i^1/2 and S_i^1/2 V_i^T: the paper
    stacks those of the files, so that one Delta W in two factorisations merges in two ways, and an adapter
    that is zero (B = 0) still turns the basis by its A. Directions below rounding are 0.
    """
    pieces = [directions(update, eps=eps) for update in updates]
    columns = jnp.concatenate([u * jnp.sqrt(s)[None, :] for u, s, _ in pieces], axis=1)
    rows = jnp.concatenate([jnp.sqrt(s)[:, None] * vt for _, s, vt in pieces], axis=0)
    (u, left), (v, right) = _basis(columns, eps), _basis(rows.T, eps)
    stack = jnp.stack([((u.T @ piece) * s[None, :]) @ (vt @ v) for piece, s, vt in pieces])
    return u, stack, v.T, left, right


def _basis(columns: Float[Array, "n k"], eps: float | None) -> tuple[Float[Array, "n m"], Array]:
    """Left singular vectors, those below rounding 0, and which these are."""
    q, r = jnp.linalg.qr(columns)
    p, s, _ = jnp.linalg.svd(r, full_matrices=False)
    alive = supported(s, eps=eps)
    return jnp.where(alive[None, :], q @ p, 0), alive


def _voted(
    stack: Float[Array, "K m n"], weights: Array, density: float, vote: str, entries: Array, eps: float
) -> Float[Array, "m n"]:
    """TIES of coordinates, each of which is known to the rounding of its whole matrix, not of itself."""
    noise = 10 * stack.shape[-1] * eps * jnp.sqrt(jnp.sum(jnp.square(stack), axis=(1, 2)))
    return voted(stack, weights, density, vote, entries, noise)


@method("core", float64=True, identity={"density": 1.0})
def core_ties(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    eps: float,
    density: float = 0.2,
    vote: str = "mass",
) -> LowRank:
    """TIES in Core Space: of the coordinates U^T Delta W_i V in a basis that the updates share. In factors.

    Panariello et al. 2025 (arXiv 2509.17786); bases as in ``cores``, the trim counts the coordinates that
    exist. The other merges of the paper (task arithmetic, TSV, Iso) are the same in any basis: use them as
    they are. Where updates share neither rows nor columns, and no singular value of one is one of another, no
    coordinate is held by two, no sign is contested, and at density 1 this is the sum.
    """
    check_density(density)
    u, stack, vt, left, right = cores(updates, eps)
    return LowRank(u @ _voted(stack, weights, density, vote, jnp.sum(left) * jnp.sum(right), eps), vt, 1.0)


HOOI_STEPS = 10
"""Rounds of alternation: the paper's count is not in its text that we read; the loss never rises."""


@method("core", float64=True, identity={"density": 1.0})
def compress_then_merge(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    eps: float,
    rank: int | None = None,
    beta: float = 0.25,
    density: float = 0.25,
    vote: str = "mass",
) -> LowRank:
    """CtM: the best r-dimensional bases for all updates at once, then TIES of the r x r coordinates.

    He et al. 2026 (arXiv 2606.03723). U, V maximise sum_i |U^T X_i V|^2 over orthonormal columns, where
    X_i = lambda_i Delta W_i / |Delta W_i|, lambda_i = beta |Delta W_i| + (1 - beta) mean |Delta W| (Tucker-2:
    HOSVD, then ``HOOI_STEPS`` rounds of alternation, in the basis of ``cores``). The coordinates that are
    merged are those of the Delta W themselves. r: ``rank``, by default the largest rank of the inputs. beta
    and density are those of the command in the authors' repository, whose coefficient 0.75 is left to the
    weights. No merge of rank r keeps more of disjoint facts than ``svd`` of the sum does.
    """
    check_density(density)
    u, stack, vt, left, right = cores(updates, eps)
    size = min(rank or max(update.a.shape[0] for update in updates), *stack.shape[1:])
    norms = jnp.sqrt(jnp.sum(jnp.square(stack), axis=(1, 2)))
    wanted = beta * norms + (1 - beta) * jnp.mean(norms)
    target = stack * (wanted / jnp.where(norms > 0, norms, 1))[:, None, None]
    columns, rows = _leading(target, size), _leading(jnp.swapaxes(target, 1, 2), size)
    for _ in range(HOOI_STEPS):
        columns = _leading(target @ rows, size)
        rows = _leading(jnp.swapaxes(target, 1, 2) @ columns, size)
    small = jnp.swapaxes(columns, 0, 1) @ stack @ rows
    entries = jnp.minimum(size, jnp.sum(left)) * jnp.minimum(size, jnp.sum(right))
    merged = _voted(small, weights, density, vote, entries, eps)
    return LowRank(u @ columns @ merged, rows.T @ vt, 1.0)


def _leading(stack: Float[Array, "K m n"], size: int) -> Float[Array, "m size"]:
    """The top left singular vectors of the matrices side by side."""
    side = jnp.concatenate(list(stack), axis=1)
    return jnp.linalg.svd(side, full_matrices=False)[0][:, :size]
