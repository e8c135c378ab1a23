"""What the coverage law says of other merges and routers (theory/README.md, section 5).

A fact is kept iff 2 lambda kappa rho > 1. On facts that adapters do not share (orthogonal keys, answers of
their own) each rule here has one lambda in closed form, to be compared with the sum's 1 and the average's
1/K: what it promises beyond that is about facts that adapters share.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from theory import checks


def ace_strength(share: Float[Array, "..."], adapters: int, ridge: float) -> Float[Array, "..."]:
    """lambda of ACE: (g + ridge) / (g + K ridge), g the fact's share of its adapter's energy. [exact]

    g = |R_k|^2 |phi_k|^-2 over its sum. The sum at ridge 0, the average at ridge infinity; between, facts of
    little energy (long keys, many facts) are diluted first. Raises ValueError unless ridge > 0.
    """
    checks.above(0, ridge=ridge)
    checks.whole(adapters=adapters)
    return (share + ridge) / (share + adapters * ridge)


def svc_strength(holders: int, adapters: int, alpha: float = 1.0) -> float:
    """lambda of singular value calibration for a fact that h of K adapters were taught alike. [exact]

    h K / (h max(alpha, h) + (K - h) alpha): at alpha = 1 it is 1 for a fact of one adapter (the sum's own
    value) and for a fact of all (the average's), and above 1 between. The fact's singular value in the sum
    must be that of no fact which another set of adapters holds: where two are equal the SVD mixes them, and
    for h = 1 the strength lies anywhere from 1 to this, which at alpha = 1 is 1 too. Raises ValueError unless
    1 <= h <= K.
    """
    checks.whole(holders=holders, adapters=adapters)
    checks.above(0, alpha=alpha)
    if holders > adapters:
        raise ValueError(f"holders must be at most the {adapters} adapters, not {holders}")
    return holders * adapters / (holders * max(alpha, holders) + (adapters - holders) * alpha)


def slerp_strength(weight: float) -> float:
    """lambda of slerp and of NuSLERP, flat or by rows, for the adapter of that weight: sin(w pi/2). [exact]

    Updates without a common row or column are at right angles. Halves give 1/sqrt 2, not 1/2.
    """
    return float(jnp.sin(weight * jnp.pi / 2))


def softmax_strength(score: Float[Array, "..."], adapters: int, temperature: float) -> Float[Array, "..."]:
    """lambda of a softmax router at a prompt that one of K adapters scores and the others score 0. [exact]

    1 / (1 + (K - 1) exp(-s/T)): 1/K at high temperature. Where weights are proportional to the scores
    (LoGo) or 1 (rank-one parts; hard top-1 if it picks the adapter) lambda is 1 there, as the sum's is.
    Raises ValueError unless T > 0.
    """
    checks.above(0, temperature=temperature)
    return 1 / (1 + (adapters - 1) * jnp.exp(-score / temperature))


def row_spectrum(energy: Float[Array, "m"], rate: float, steps: int) -> Float[Array, "m"]:
    """Spectrum of Delta W^T Delta W / 2 after descent, in eigenvectors of Phi Phi^T = V diag(e) V^T. [exact]

    (1 - (1 - rate e)^steps)^2 / e for R^T R = 2 I: (rate steps)^2 e early, so that the rows of an update show
    the covariance of its inputs, and 1/e, its inverse, once descent has converged. 0 where e is 0.
    """
    live = jnp.where(energy > 0, energy, 1)
    return jnp.where(energy > 0, jnp.square(1 - (1 - rate * live) ** steps) / live, 0)


def row_alignment(energy: Float[Array, "m"], rate: float, steps: int) -> Array:
    """Cosine (Frobenius) of Delta W^T Delta W with Phi Phi^T: how right ACE's estimate is. [exact]"""
    spectrum = row_spectrum(energy, rate, steps)
    return jnp.sum(spectrum * energy) / jnp.sqrt(jnp.sum(jnp.square(spectrum)) * jnp.sum(jnp.square(energy)))
