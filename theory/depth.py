"""Depth: when two stacked memories compose two hops, and when they cannot (theory/README.md, section 8).

    lower layer  M1 = sum_k w_k a_k^T    subject a_k -> bridge as written, w_k
    upper layer  M2 = sum_k c_k q_k^T    bridge as read, q_k -> answer c_k,     cos(w_k, q_k) = rho_b

All embeddings ~ N(0, I/d); q_k = rho_b w_k + sqrt(1 - rho_b^2) w'_k with w'_k independent. Adapter 1 holds M1
and adapter 2 holds M2, so their sum at coefficient lambda is lambda M1 below lambda M2. The scores are
K = C^T M2 M1 A; with residual connections the answer is read from x + M1 x + M2 x + M2 M1 x instead.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from theory import checks
from theory.capacity import recall_at_snr


@dataclass(frozen=True)
class Noise:
    """Moments of the score matrix K at a coefficient.

    signal: mean right score;  rival: s^2, variance of a rival's score;  own: s_self^2, variance of the right
    score;  ratio, spread: mean and standard deviation over facts of (right score) / (its rivals' deviation).
    """

    signal: float
    rival: float
    own: float
    ratio: float
    spread: float


def noise(facts: int, dim: int, alignment: float, lam: float = 1.0, residual: bool = False) -> Noise:
    """s^2, s_self^2 and their joint correction, from the traces of K (x = N/d, rho = rho_b):

        signal = lambda^2 rho,   s^2 = lambda^4 [(1 + x)^2 + rho^2 (2 + x)] / d + e
        s_self^2 = lambda^4 [(1 + x)^2 + rho^2 (5 + x)] / d + e
        e = [2 lambda^2 (1 + x) + 1] / d with residual connections, else 0

    e is what bypasses a layer: c.(M1 a), c.(M2 a) and c.a. ``ratio`` and ``spread`` add that a fact's score
    and the size of its rivals rise and fall together (the third and fourth traces, at e = 0). Without the
    residual lambda cancels. Raises ValueError unless facts (2 or more) and dim are whole numbers, the
    alignment lies in [-1, 1], and lambda is finite and, without the residual, not 0.
    """
    checks.whole(2, facts=facts)
    checks.whole(dim=dim)
    checks.within(-1, 1, alignment=alignment)
    checks.finite(lam=lam)
    if lam == 0 and not residual:
        raise ValueError("lam is 0; without residual connections nothing then reaches the answer")
    x, rho, rest = facts / dim, alignment, 1 - alignment**2
    # Moments 2, 3, 4 of the Gram matrices C^T C and A^T A (Marchenko-Pastur), then of b = Q^T W.
    m2, m3, m4 = 1 + x, 1 + 3 * x + x**2, 1 + 6 * x + 6 * x**2 + x**3
    bb = rho**2 + x
    bbb = rho**3 * m3 + rho * rest * x * (2 + x)
    bbbb = rho**4 * m4 + 2 * rho**2 * rest * x * (m2 + m3) + rest**2 * x**2 * (2 + x)
    # Traces of K = (C^T C) b (A^T A) over N, by freeness of the three factors.
    energy = m2**2 * bb
    square = rho**2 * (1 + 3 * x)
    third = m3 * m2 * bb * rho + m2 * ((m3 - m2) * bb * rho + m2 * (bbb - bb * rho))
    fourth = (m4 - m2**2) * (m2 * bb) ** 2 + m2**2 * ((m4 - m2**2) * bb**2 + m2**2 * bbbb)
    own = (energy + square - 2 * rho**2) / facts
    rivals = energy - rho**2  # N s^2: the sum of squares of all rivals of one fact
    pull = 2 / facts * (third - rho * energy)  # covariance of the right score with |K e_k|^2
    together = pull - 2 * rho * own
    wobble = 2 / facts * (fourth - energy**2) - 4 * rho * pull + 4 * rho**2 * own
    bypass = (2 * lam**2 * (1 + x) + 1) / dim if residual else 0.0
    signal, own, rivals = lam**2 * rho, lam**4 * own + bypass, lam**4 * rivals + facts * bypass
    together, wobble = lam**6 * together, lam**8 * wobble
    scale = (facts / rivals) ** 0.5
    ratio = scale * (signal - together / (2 * rivals) + 3 / 8 * signal * wobble / rivals**2)
    spread = scale**2 * (own - signal * together / rivals + signal**2 * wobble / (4 * rivals**2))
    return Noise(signal, rivals / facts, own, ratio, max(spread, 0.0) ** 0.5)


def accuracy(facts: int, dim: int, alignment: float, lam: float = 1.0, residual: bool = False) -> float:
    """E_g[Phi(ratio + spread g)^(N-1)]: direct two-hop accuracy of the merged adapters, right layer order.

    To leading order in d this is E_g[Phi((rho_b + s_self g) / s)^(N-1)] (``accuracy_leading``).
    """
    moments = noise(facts, dim, alignment, lam, residual)
    return recall_at_snr(moments.ratio, facts, moments.spread)


def accuracy_leading(
    facts: int, dim: int, alignment: float, lam: float = 1.0, residual: bool = False
) -> float:
    """E_g[Phi((signal + s_self g) / s)^(N-1)]: s and s_self taken as the same for every fact."""
    moments = noise(facts, dim, alignment, lam, residual)
    return recall_at_snr(moments.signal / moments.rival**0.5, facts, (moments.own / moments.rival) ** 0.5)


def wrong_order_accuracy(entities: int) -> float:
    """1/N exactly: the first-hop facts sit above the second-hop facts (theory/README.md, section 8).

    Any base, any nonlinearity, any rank and coefficients, residual or not, so long as what the upper adapter
    writes (bridges) is orthogonal to the answer rows of the readout, and s1 is a uniformly random bijection.
    Raises ValueError for fewer than 1 entity.
    """
    checks.whole(entities=entities)
    return 1.0 / entities


def familiarity(exposures: float | Float[np.ndarray, "..."], half: float) -> float | Float[np.ndarray, "..."]:
    """[model] rho_b = sqrt(c / (c + c0)) after c exposures of an entity in pretraining; "fake" is c = 0.

    The cosine between a unit vector and the mean of c exposures of it, each with independent noise of squared
    norm c0 = ``half``: half the squared cosine is reached at c = c0.
    Raises ValueError unless c0 > 0 and c >= 0.
    """
    checks.at_least(0, exposures=exposures)
    checks.above(0, half=half)
    exposures = np.asarray(exposures, np.float64)
    return np.sqrt(exposures / (exposures + half))[()]
