"""The best low-rank approximation of a dense matrix: by SVD, or by block Krylov iteration if it is large."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from theory.lowrank import LowRank, from_singular

EXACT_SIDE = 1024
"""Matrices with a side up to this are truncated by a full SVD, larger ones by block Krylov iteration."""

OVERSAMPLE = 8
"""Columns of a Krylov block beyond the rank."""

STEPS = 8
"""Krylov blocks at most: enough where no gap in the spectrum helps."""


def truncated_dense(matrix: Float[Array, "out in"], rank: int) -> LowRank:
    """The best rank-``rank`` approximation of a dense matrix, singular values split evenly.

    A full SVD of a 4096 x 14336 matrix takes minutes; block Krylov iteration finds the leading subspace to
    near rounding in seconds, outside a transformation of JAX: it looks at numbers to know when it is done.
    """
    if min(matrix.shape) > EXACT_SIDE and not isinstance(matrix, jax.core.Tracer):
        return from_singular(*map(jnp.asarray, _krylov_svd(matrix, rank)))
    u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    return from_singular(u[:, :rank], s[:rank], vt[:rank])


@jax.jit
def _inner(left: Float[Array, "p in"], right: Float[Array, "q in"]) -> Float[Array, "p q"]:
    return left.astype(jnp.float64) @ right.astype(jnp.float64).T


def _krylov_svd(matrix: Float[Array, "out in"], rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leading SVD within span[M X, (M M^T) M X, ...], X a fixed random block of rank + 8 columns.

    Musco and Musco 2015 (arXiv 1504.05477), which needs no gap in the spectrum. Q holds an orthonormal basis
    of the span and W = Q^T M; with E the leading eigenvectors of W W^T, u = Q E and s v^T = E^T W. A step
    costs two products with M, and the last one has |M v - s u| < 256 eps s_1 for every triplet. W W^T is
    summed in float64, so that the squares of singular values cost float32 nothing, and float64 only what is
    below 1e-8 s_1. JAX multiplies what is as long as M, with all cores or where M lies; the rest is NumPy's,
    because every step has shapes of its own, which would all be compiled.
    """
    (out_dim, in_dim), dtype = matrix.shape, np.dtype(matrix.dtype)
    eps = np.finfo(dtype).eps
    start = np.random.default_rng(0).standard_normal((in_dim, rank + OVERSAMPLE), dtype)
    block, rows = np.asarray(matrix @ start), []
    basis, gram = np.zeros((out_dim, 0), dtype), np.zeros((0, 0))
    for _ in range(STEPS):
        block = block[:, : out_dim - basis.shape[1]]
        for _ in range(2):  # once would leave what cancels in the first pass
            block = scipy.linalg.qr(block - basis @ (basis.T @ block), mode="economic")[0]
        basis = np.concatenate([basis, block], axis=1)
        rows.append(block.T @ matrix)
        inner = np.concatenate([_inner(rows[-1], row) for row in rows], axis=1)
        gram = np.block([[gram, inner[:, : len(gram)].T], [inner]])
        values, vectors = scipy.linalg.eigh(gram)
        values, vectors = values[: -rank - 1 : -1], vectors[:, : -rank - 1 : -1].astype(dtype)
        if basis.shape[1] == out_dim:
            break
        block = np.asarray(matrix @ rows[-1].T)
        outside = (block - basis @ (basis.T @ block)) @ vectors[-block.shape[1] :]
        s = np.sqrt(np.maximum(values, eps**2 * values[0]))
        if np.all(np.linalg.norm(outside, axis=0) <= 256 * eps * s[0] * s):
            break
    right = vectors.T @ np.concatenate(rows)
    s = np.linalg.norm(right, axis=1)
    return basis @ vectors, s, right / np.where(s > 0, s, 1)[:, None]
