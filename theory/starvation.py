"""Rank starvation: how many facts a rank-r adapter overwrites or inserts (theory/README.md, section 6).

F facts with distinct answers, independent keys, a rank-r least-squares adapter whose column space is generic
(all singular values of the residual tie). Its projector in fact space is then P Haar of rank r, and
P_kk ~ Beta(r/2, (F-r)/2).
"""

import functools

import numpy as np
from jaxtyping import Float
from scipy import special

_NODES = 160


def _check(facts: int, rank: int) -> None:
    if facts < 1:
        raise ValueError(f"facts is {facts}; give a whole number of at least 1")
    if rank < 1:
        raise ValueError(f"rank is {rank}; give a whole number of at least 1")


def share_law(facts: int, rank: int) -> tuple[float, float]:
    """(r/2, (F-r)/2): P_kk ~ Beta of these, mean r/F. Raises ValueError unless 1 <= rank < facts."""
    _check(facts, rank)
    if rank >= facts:
        raise ValueError(f"rank {rank} holds all {facts} facts (share 1); the Beta law needs rank < facts")
    return rank / 2, (facts - rank) / 2


def overwrite_recall(
    facts: int, rank: int, lam: float | Float[np.ndarray, "..."] = 1.0
) -> float | Float[np.ndarray, "..."]:
    """P(P_kk > 1/(2 lambda)) = 1 - I_{1/(2 lambda)}(r/2, (F-r)/2).

    The chance that an overwritten fact answers new, at coefficient ``lam`` (for a prompt at overlap
    kappa pass lambda * kappa). Exact for lam <= 1, where no third answer can win; for lam > 1 it is the
    chance that new beats old. With rank >= facts it is 1[lam > 1/2], and 1/2 at the tie.
    Raises ValueError for facts or rank below 1.
    """
    _check(facts, rank)
    lam = np.asarray(lam, np.float64)
    if rank >= facts:
        return np.where(np.isclose(lam, 0.5, rtol=0, atol=1e-12), 0.5, np.where(lam > 0.5, 1.0, 0.0))[()]
    threshold = np.minimum(0.5 / np.maximum(lam, 1e-300), 1.0)
    return special.betainc((facts - rank) / 2, rank / 2, 1.0 - threshold)[()]


@functools.lru_cache(maxsize=1024)
def insertion_recall(facts: int, rank: int) -> float:
    """E[Phi(X)^(F-1)], X^2 = chi^2_r / beta, beta ~ Beta((F-r)/2, (r-1)/2) independent: exact at any size.

    The chance that a new fact (no old answer in the base) is recalled among the F answers the adapter
    inserts. It does not depend on lambda > 0. As F grows at fixed r it becomes
    E_t[Phi(sqrt(t (F-1) / (1-t)))^(F-1)] with t ~ Beta(r/2, (F-r)/2), and the threshold is at r ~ 2 ln F.
    Rank 1 has the closed form (2/F)(1 - 2^-F); with rank >= facts it is 1.
    Raises ValueError for facts or rank below 1.
    """
    _check(facts, rank)
    if rank >= facts:
        return 1.0
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # chi_r on the range that carries all but 1e-16 of its mass.
    low, high = np.sqrt(2 * special.gammaincinv(rank / 2, [1e-16, 1 - 1e-15]))
    chi = low + (high - low) * (nodes + 1) / 2
    log_chi = (rank - 1) * np.log(chi) - chi**2 / 2 - (rank / 2 - 1) * np.log(2) - special.gammaln(rank / 2)
    chi_weight = weights * (high - low) / 2 * np.exp(log_chi)
    if rank == 1:
        return float(np.sum(chi_weight * special.ndtr(chi) ** (facts - 1)))
    # beta = cos(angle)^2, which makes the density smooth at both ends for every rank.
    a, b = (facts - rank) / 2, (rank - 1) / 2
    ends = np.arccos(np.sqrt(special.betaincinv(a, b, [1 - 1e-15, 1e-16])))
    angle = ends[0] + (ends[1] - ends[0]) * (nodes + 1) / 2
    log_beta = 2 * (a - 0.5) * np.log(np.cos(angle)) + 2 * (b - 0.5) * np.log(np.sin(angle))
    beta_weight = weights * (ends[1] - ends[0]) * np.exp(log_beta - special.betaln(a, b))
    x = chi[:, None] / np.cos(angle)[None, :]
    return min(float(chi_weight @ special.ndtr(x) ** (facts - 1) @ beta_weight), 1.0)


def insertion_recall_large(facts: int, rank: int) -> float:
    """E_t[Phi(sqrt(t (F-1) / (1-t)))^(F-1)], t ~ Beta(r/2, (F-r)/2): the large-F form of the above.

    It treats the F-1 rivals as independent Gaussians; the error is below 0.02 from F = 16 on at rank 4.
    Raises ValueError for facts or rank below 1.
    """
    _check(facts, rank)
    if rank >= facts:
        return 1.0
    a, b = share_law(facts, rank)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ends = np.arcsin(np.sqrt(special.betaincinv(a, b, [1e-16, 1 - 1e-15])))
    angle = ends[0] + (ends[1] - ends[0]) * (nodes + 1) / 2
    log_t = 2 * (a - 0.5) * np.log(np.sin(angle)) + 2 * (b - 0.5) * np.log(np.cos(angle))
    mass = weights * (ends[1] - ends[0]) * np.exp(log_t - special.betaln(a, b))
    return min(float(np.sum(mass * special.ndtr(np.tan(angle) * np.sqrt(facts - 1)) ** (facts - 1))), 1.0)


def overwrite_rank(facts: int, lam: float = 1.0) -> float:
    """F / (2 lambda): the rank at which half of F distinct overwrites survive. Infinite at lambda <= 1/2."""
    _check(facts, 1)
    return facts / (2 * lam) if lam > 0.5 else float("inf")


def insertion_rank(facts: int) -> float:
    """2 ln F: the rank at which F insertions begin to be recalled, to leading order in F."""
    _check(facts, 1)
    return 2 * float(np.log(facts))


def cycle_shares(length: int, rank: int) -> float:
    """Mean share rho of a rank-r adapter for overwrites that move L answers round one cycle.

    The residual (shift - identity) has singular values 2|sin(pi j / L)|, so by symmetry every fact's share
    is sum of the r largest sin^2(pi j / L), times 2/L: r/L + sin(pi r / L) / (L sin(pi / L)) when
    r + L is odd (no pair of equal singular values is cut). Below r = L it exceeds r/L: a cycle is easier to
    overwrite than distinct answers. Raises ValueError for length below 2 or rank below 1.
    """
    _check(length, rank)
    if length < 2:
        raise ValueError(f"length is {length}; a cycle needs at least 2 facts")
    energy = np.sort(4 * np.sin(np.pi * np.arange(length) / length) ** 2)[::-1]
    return float(energy[:rank].sum() / energy.sum())


def cycle_overwrite_rank(length: int, lam: float = 1.0) -> int:
    """Smallest rank whose mean share passes 1/(2 lambda) on one L-cycle: about 0.265 L at lambda = 1.

    The root x = r/L of x + sin(pi x) / pi = 1/(2 lambda) as L grows, not 1/(2 lambda) itself. Returns L + 1
    when no rank suffices (lambda <= 1/2).
    """
    for rank in range(1, length + 1):
        if 2 * lam * cycle_shares(length, rank) > 1 + 1e-12:
            return rank
    return length + 1
