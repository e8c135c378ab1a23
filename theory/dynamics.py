"""Gradient flow of a LoRA on a linear memory (theory/README.md, section 11).

Loss |R - B A Phi|_F^2 / 2 over factors B (n, r) and A (r, m), flow dB/dt = -dL/dB, dA/dt = -dL/dA. G = R
Phi^T (n, m) is the negative gradient with respect to Delta W at the start; its singular values s_i and
vectors u_i, v_i are the modes. Keys are whitened when Phi Phi^T is the identity on their span. One step of
gradient descent of size eta is time eta.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory import checks
from theory.lowrank import LowRank


def early(gradient: Float[Array, "n m"], start: Float[Array, "r m"], time: float) -> LowRank:
    """B = U sinh(S t) V^T A0^T and A^T = A0^T + V (cosh(S t) - I) V^T A0^T: the flow from B = 0 before it
    saturates.

    Exact for the flow without its quadratic term; the relative error is of the order |B A| / s_1, whatever
    the keys. It grows without bound: raises ValueError where e^(s_1 t) would overflow, for a negative time,
    and for NaN.
    """
    checks.finite(gradient=gradient, start=start)
    checks.at_least(0, time=time)
    u, s, vt = jnp.linalg.svd(gradient, full_matrices=False)
    if not checks.traced((s, time)) and float(s[0] * time) > 700:
        raise ValueError(
            f"time {time} is far beyond the early law, which ends at about 1/s_1 = {1 / s[0]:.3g}"
        )
    seen = vt @ start.T
    b = u @ (jnp.sinh(s * time)[:, None] * seen)
    a = start + ((jnp.cosh(s * time) - 1.0)[:, None] * seen).T @ vt
    return LowRank(b, a)


def flow(gradient: Float[Array, "n m"], start: Float[Array, "r m"], time: float | Array) -> LowRank:
    """The exact flow from B = 0 and A0 A0^T = lambda I, for whitened keys and any lambda.

    With Z = [B; A^T], A A^T - B^T B = lambda I is conserved and the flow is dZ/dt = F Z - Z Z^T Z / 2, so
    that

        Z Z^T = e^(Ft) Z0 (I + Z0^T (int_0^t e^(2Fs) ds) Z0)^(-1) Z0^T e^(Ft)
        F = [[-lambda/2 I, G], [G^T, lambda/2 I]]

    whose eigenvalues are +-sqrt(s_i^2 + lambda^2/4) and +-lambda/2 (balanced case: Fukumizu 1998;
    lambda-balanced: Domine et al. 2024). Returned as factors with B A = Delta W(t), B B^T and A^T A those of
    the flow; the factors themselves equal the flow's up to one r x r rotation. Keys that do not span R^m:
    ``start`` is A0 projected on their span (orthogonal rows there); what is outside never moves and
    multiplies no key. No overflow at any t. Raises ValueError for a start whose rows are not orthogonal and
    of one norm (to 1e-6), for a negative time, and for NaN.
    """
    checks.finite(gradient=gradient, start=start)
    checks.at_least(0, time=time)
    n, rank = gradient.shape[0], start.shape[0]
    balance = jnp.sum(jnp.square(start)) / rank
    if not checks.traced(start):
        square = np.asarray(start) @ np.asarray(start).T  # NumPy: a constant inside jit keeps its value
        uneven = float(np.max(np.abs(square - np.eye(rank) * np.trace(square) / rank)))
        if uneven > 1e-6 * float(np.trace(square) / rank):
            raise ValueError(
                f"start has A0 A0^T off lambda I by {uneven:.2g}; give orthogonal rows of one norm"
            )
    corner = balance / 2
    top = jnp.concatenate([-corner * jnp.eye(n), gradient], axis=1)
    bottom = jnp.concatenate([gradient.T, corner * jnp.eye(start.shape[1])], axis=1)
    rates, modes = jnp.linalg.eigh(jnp.concatenate([top, bottom], axis=0))
    rates, modes = rates[::-1], modes[:, ::-1]
    # Z Z^T does not change when Z0 is turned from the right: turn it so that column j starts at mode j.
    # Scaling column j by e^(-rate_j t) then leaves no entry that grows.
    overlap = jnp.linalg.qr((modes[n:].T @ start.T).T)[1].T
    growth = jnp.maximum(rates[:, None], 0.0) - rates[None, :rank]
    below = jnp.tril(jnp.ones_like(overlap)) > 0
    size = jnp.abs(rates)
    spent = jnp.where(size > 0, -jnp.expm1(-2 * size * time) / jnp.where(size > 0, 2 * size, 1.0), time)
    weighted = jnp.where(below, jnp.exp(jnp.where(below, growth, 0.0) * time), 0.0) * overlap
    core = jnp.diag(jnp.exp(-2 * rates[:rank] * time)) + weighted.T @ (spent[:, None] * weighted)
    decay = jnp.where(below, rates[:, None] - rates[None, :rank], 0.0)
    factor = modes @ (jnp.where(below, jnp.exp(decay * time), 0.0) * overlap)
    root = jnp.linalg.cholesky(core)
    factor = jnp.linalg.solve(root, factor.T).T
    return LowRank(factor[:n], factor[n:].T)


def logistic_mode(
    strength: Float[Array, "..."],
    start: Float[Array, "..."],
    time: Float[Array, "..."],
    curvature: float | Array = 1.0,
) -> Float[Array, "..."]:
    """sigma(t) = s a0 e^(2st) / (s + a0 kappa (e^(2st) - 1)): one mode from a balanced, aligned start a0.

    Balanced and aligned: b = a = sqrt(a0) along u and v. ``curvature`` kappa is the mode's Phi Phi^T (1 for
    whitened keys); sigma goes to s/kappa. Solves d sigma/dt = 2 sigma (s - kappa sigma). Raises ValueError
    unless strength and curvature are above 0, and start and time at least 0.
    """
    checks.above(0, strength=strength, curvature=curvature)
    checks.at_least(0, start=start, time=time)
    strength, start = jnp.asarray(strength, jnp.float64), jnp.asarray(start, jnp.float64)
    fade = jnp.exp(-2 * strength * time)
    spread = strength * fade + start * curvature * (1 - fade)
    return jnp.where(start > 0, strength * start / jnp.where(start > 0, spread, 1.0), 0.0)


def aligned_mode(
    strength: Float[Array, "..."], start: Float[Array, "..."], time: Float[Array, "..."]
) -> Float[Array, "..."]:
    """sigma(t) = s x/(1 + x): one mode from B = 0 and A0 along it, exactly.

        x = lambda sinh(2wt)/(2w) + lambda^2 (cosh(2wt) - 1)/(4w^2)

    ``start`` is lambda = |A0|^2 for A0 along v (rank 1), w = sqrt(s^2 + lambda^2/4), whitened keys. The
    one-mode case of ``flow``; for a small start it is ``logistic_mode`` from a0 = lambda/4. It tends to s as
    t grows, without overflow. Raises ValueError unless strength is above 0, and start and time at least 0.
    """
    checks.above(0, strength=strength)
    checks.at_least(0, start=start, time=time)
    strength, start = jnp.asarray(strength, jnp.float64), jnp.asarray(start, jnp.float64)
    rate = jnp.sqrt(jnp.square(strength) + jnp.square(start) / 4)
    ratio = start / (2 * rate)
    fade = jnp.exp(-2 * rate * time)  # x and 1 times e^(-2wt)
    x = ratio * (1 - jnp.square(fade)) / 2 + jnp.square(ratio) * jnp.square(1 - fade) / 2
    # fade may be 0 and so may x (no start): then nothing is ever learned
    return strength * x / jnp.where(start > 0, x + fade, 1.0)


def learning_time(strength: Float[Array, "..."], start: Float[Array, "..."]) -> Float[Array, "..."]:
    """Time at which ``aligned_mode`` reaches s/2, exactly.

        log((1 + q^2 + sqrt(1 + 3 q^2))/(q + q^2)) / (2w),   q = lambda/(2w)

    For a small start log(4s/lambda)/(2s) = (1/s) log(2 sqrt(s)/|A0|); infinite for none. Raises ValueError
    unless strength is above 0 and start at least 0.
    """
    checks.above(0, strength=strength)
    checks.at_least(0, start=start)
    strength, start = jnp.asarray(strength, jnp.float64), jnp.asarray(start, jnp.float64)
    rate = jnp.sqrt(jnp.square(strength) + jnp.square(start) / 4)
    q = start / (2 * rate)
    return jnp.log((1 + jnp.square(q) + jnp.sqrt(1 + 3 * jnp.square(q))) / (q + jnp.square(q))) / (2 * rate)


def learning_times(gradient: Float[Array, "n m"], start: Float[Array, "r m"]) -> Float[Array, "r"]:
    """Half-times of the r strongest modes, in (r,), from B = 0 and a small generic A0.

        t_i ~ log(4 s_i / lambda_i) / (2 s_i),   lambda_i = |A0 v_i|^2 after A0 v_1 ... A0 v_(i-1) are
        projected out

    Rank is handed out in this order: each mode takes one direction of the r, which the later ones cannot use.
    Sharp as A0 -> 0 for well separated s_i, whitened keys. Raises ValueError when the rank is above the
    number of modes, and for NaN.
    """
    checks.finite(gradient=gradient, start=start)
    _, s, vt = jnp.linalg.svd(gradient, full_matrices=False)
    rank = start.shape[0]
    if rank > s.shape[0]:
        raise ValueError(
            f"rank {rank} is above the {s.shape[0]} modes of the gradient; give at most that many"
        )
    left = jnp.diagonal(jnp.linalg.qr(start @ vt[:rank].T)[1])
    return learning_time(s[:rank], jnp.square(left))
