"""Measure one module of a library from its factors, and the coverage law on activations at its input.

The predictions (critical lambda, coverage) are calls into ``theory``; nothing here merges or runs a model.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.merge.methods.linear import combination, cross_terms
from sim.model.routing import gate, prototypes
from theory import coverage, interference
from theory.lowrank import LowRank, apply, directions, inner, norm


def triangle(tall: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "m k"]:
    """R (min(n, k), k) of a QR of a tall matrix, block by block: R of the stacked Rs of blocks of rows.

    A block has up to 8192 entries (or 2 k rows): it stays in the cache, and OpenBLAS, however many threads it
    was given, uses one, where they would wait for each other by spinning at every column.
    """
    width = tall.shape[1]
    height = max(2 * width, 8192 // width)
    while len(tall) > height:
        blocks = -(-len(tall) // height)
        padded = np.pad(tall, ((0, blocks * height - len(tall)), (0, 0)))
        tall = np.linalg.qr(padded.reshape(blocks, height, width), mode="r").reshape(-1, width)
    return np.linalg.qr(tall, mode="r")


def shared_cores(updates: Sequence[LowRank]) -> list[LowRank]:
    """The updates in coordinates of the spaces they span together: B (at most R, r_i), A (r_i, at most R).

    With [B_1 ... B_K] = Q_B [C_1 ... C_K] and [A_1^T ... A_K^T] = Q_A [D_1^T ... D_K^T], Delta W_i = Q_B (s_i
    C_i D_i) Q_A^T: all norms, angles and projections of the Delta W and their factors are those of the cores.
    Nothing as long as a module is left after two QRs whose Q is never formed, R = sum r_i, and modules of
    every shape share one compiled program. NumPy arrays in and out.
    """
    b = np.concatenate([update.b for update in updates], axis=1)
    a = np.concatenate([update.a for update in updates], axis=0)
    c, d = triangle(b), triangle(a.T)
    edges = np.cumsum([0, *(update.a.shape[0] for update in updates)])
    spans = [slice(*pair) for pair in itertools.pairwise(edges)]
    return [LowRank(c[:, at], d[:, at].T, u.scale) for at, u in zip(spans, updates, strict=True)]


@jax.jit
def measure_module(updates: Sequence[LowRank]) -> dict[str, Any]:
    """Everything known of one module without data; arrays are (K,), (K, K), or lists of K.

    None of it changes when all B, or all A^T, are turned by one rotation, so ``shared_cores`` will do for the
    updates. Squares that add up over modules are kept as squares. An update of zero has no directions: what
    would be said of them is NaN.
    """
    count = len(updates)
    triplets = [interference.bases(update) for update in updates]

    def table(function) -> Array:
        return jnp.stack([jnp.stack([function(i, j) for j in range(count)]) for i in range(count)])

    def cosines(side) -> list[list[Array]]:
        """Of all pairs; those of (j, i) are those of (i, j), and are taken once."""
        upper = {
            (i, j): interference.principal_cosines(triplets[i][side], triplets[j][side])
            for i in range(count)
            for j in range(i, count)
        }
        return [[upper[min(i, j), max(i, j)] for j in range(count)] for i in range(count)]

    rows, columns = cosines(2), cosines(0)
    spectra = [s for _, s, _ in triplets]
    retained = [interference.retained(updates, i) for i in range(count)]
    total = combination(updates, jnp.ones(count, updates[0].b.dtype))
    rank = max(update.a.shape[0] for update in updates)
    norm2 = jnp.stack([jnp.sum(jnp.square(s)) for s in spectra])
    alive = norm2 > 0

    def of_spectra(function) -> Array:
        return jnp.where(alive, jnp.stack([function(s) for s in spectra]), jnp.nan)

    result = {
        "spectrum": spectra,
        "norm2": norm2,
        "effective_rank": of_spectra(interference.effective_rank),
        "arrow_gap": of_spectra(interference.arrow_gap),
        "inner": table(lambda i, j: inner(updates[i], updates[j])),
        "row_cosines": rows,
        "column_cosines": columns,
        "interference2": table(
            lambda i, j: jnp.square(interference.interference(updates[j], triplets[i][2]))
        ),
        "prototype_cosine": jnp.where(
            alive[:, None] & alive[None, :],
            table(lambda i, j: jnp.abs(triplets[i][2][:, 0] @ triplets[j][2][:, 0])),
            jnp.nan,
        ),
        "retained": retained,
        "critical_lambda": [
            jnp.where(jnp.isnan(g), jnp.nan, coverage.critical_lambda(1.0, 2.0 * g)) for g in retained
        ],
        "beside": [interference.leakage(updates, i) for i in range(count)],
        "rival": [interference.rival(updates, i) for i in range(count)],
        "sum2": jnp.square(norm(total)),
        "svd_kept2": jnp.sum(jnp.square(directions(total)[1][:rank])),
    }
    if len({update.a.shape[0] for update in updates}) == 1:
        result["cross2"] = jnp.square(norm(cross_terms(updates, jnp.ones(count, updates[0].b.dtype) / count)))
    return result


@jax.jit
def measure_features(
    updates: Sequence[LowRank], x: Float[Array, "tokens in"], own: Sequence[Float[Array, "n in"] | None]
) -> dict[str, Array]:
    """The coverage law on activations x: kappa per adapter and token, and what it decides at 1 and at 1/K.

    kappa_i(x) = |Delta W_i x| / full swing; the full swing is the mean |Delta W_i x'| over the adapter's own
    training activations if given, else the largest it could be at that norm, s_1 |x| (so kappa is a lower
    bound). The rank's share rho is inside the measured swing.
    """
    count = len(updates)
    kappas = []
    for update, mine in zip(updates, own, strict=True):
        swing = jnp.linalg.norm(apply(update, x), axis=-1)
        if mine is None:
            full = directions(update)[1][0] * jnp.linalg.norm(x, axis=-1)
        else:
            full = jnp.broadcast_to(jnp.mean(jnp.linalg.norm(apply(update, mine), axis=-1)), swing.shape)
        kappas.append(swing / jnp.where(full > 0, full, 1))
    kappa = jnp.stack(kappas)
    chosen = {
        f"{name}_choice": jnp.mean(gate(x, prototypes(name, updates), top_k=1) > 0, axis=0)
        for name in ("arrow", "spectr")
    }
    return {
        "kappa": kappa,
        "critical_lambda": coverage.critical_lambda(1.0, 2.0 * kappa),
        "covered_alone": jnp.mean(coverage.decides(1.0, kappa, 1.0), axis=-1),
        "covered_average": jnp.mean(coverage.decides(1.0 / count, kappa, 1.0), axis=-1),
        "covered_by_any": jnp.mean(jnp.any(coverage.decides(1.0 / count, kappa, 1.0), axis=0)),
        **chosen,
    }
