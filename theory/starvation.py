"""Rank starvation: how many facts a rank-r adapter overwrites or inserts (theory/README.md, section 6).

F facts with distinct answers, independent keys, a rank-r least-squares adapter whose column space is generic
(all singular values of the residual tie). Its projector in fact space is then P Haar of rank r, and
P_kk ~ Beta(r/2, (F-r)/2). Keys that share a strong direction, as the prompts of one relation do, take one of
the r ranks for it: the ``shared_`` laws.
"""

import functools

import numpy as np
from jaxtyping import Float
from scipy import special

from theory import checks, quadrature

_NODES = 160


def share_law(facts: int, rank: int) -> tuple[float, float]:
    """(r/2, (F-r)/2): P_kk ~ Beta of these, mean r/F. Raises ValueError unless 1 <= rank < facts."""
    checks.whole(facts=facts, rank=rank)
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
    Raises ValueError for facts or rank that are no whole numbers of at least 1, or a lam that is not finite.
    """
    checks.whole(facts=facts, rank=rank)
    return _overwritten(facts, rank, 0.0, lam)


def shared_overwrite_recall(
    facts: int, rank: int, lam: float | Float[np.ndarray, "..."] = 1.0
) -> float | Float[np.ndarray, "..."]:
    """The same when the keys share a direction that takes one rank: P = 11^T/F + P', P' Haar of rank r-1.

        P(1/F + (1 - 1/F) t > 1/(2 lambda)),   t ~ Beta((r-1)/2, (F-r)/2)

    The mean share stays r/F; what changes is the spread. Raises ValueError as ``overwrite_recall``.
    """
    checks.whole(facts=facts, rank=rank)
    return _overwritten(facts - 1, rank - 1, 1 / facts, lam)


def _overwritten(facts: int, rank: int, floor: float, lam) -> float | Float[np.ndarray, "..."]:
    """P(floor + (1 - floor) t > 1/(2 lam)), t ~ Beta(rank/2, (facts-rank)/2); ties count 1/2."""
    checks.finite(lam=lam)
    lam = np.asarray(lam, np.float64)
    share = 0.5 / np.maximum(lam, 1e-300)
    if floor < 1:
        share = (share - floor) / (1 - floor)
    if rank >= facts or rank == 0:
        certain = 1.0 if rank >= facts else 0.0
        return np.where(
            np.isclose(share, certain, rtol=0, atol=1e-12), 0.5, np.where(share < certain, 1.0, 0.0)
        )[()]
    return special.betainc((facts - rank) / 2, rank / 2, 1.0 - np.clip(share, 0.0, 1.0))[()]


@functools.lru_cache(maxsize=1024)
def insertion_recall(facts: int, rank: int) -> float:
    """E[Phi(X)^(F-1)], X^2 = chi^2_r / beta, beta ~ Beta((F-r)/2, (r-1)/2) independent: exact at any size.

    The chance that a new fact (no old answer in the base) is recalled among the F answers the adapter
    inserts. It does not depend on lambda > 0. As F grows at fixed r it becomes
    E_t[Phi(sqrt(t (F-1) / (1-t)))^(F-1)] with t ~ Beta(r/2, (F-r)/2), and the threshold is at r ~ 2 ln F.
    Rank 1 has the closed form (2/F)(1 - 2^-F); with rank >= facts it is 1.
    Raises ValueError for facts or rank that are no whole numbers of at least 1.
    """
    checks.whole(facts=facts, rank=rank)
    if rank >= facts:
        return 1.0
    x, mass = _lead(rank, facts - rank)
    return min(float(mass @ special.ndtr(x) ** (facts - 1)), 1.0)


@functools.lru_cache(maxsize=1024)
def shared_insertion_recall(facts: int, rank: int) -> float:
    """The same when the keys share a direction that takes one rank: P = 11^T/F + P', P' Haar of rank r-1.

        E[Re Phi(X + i h)^(F-1)],   X^2 = F/(F-1) chi^2_(r-1) / beta,   h ~ N(0, 1/(F-1)),
        beta ~ Beta((F-r)/2, (r-2)/2)

    exact at any size. One rank is spent on the direction that all facts share, which distinguishes none of
    them: about ``insertion_recall`` at r-1. h takes the mean of the F-1 rivals out, which is fixed. Rank 1
    leaves an exact tie of F answers, 1/F; with rank >= facts it is 1.
    Raises ValueError as ``insertion_recall``.
    """
    checks.whole(facts=facts, rank=rank)
    if rank >= facts:
        return 1.0
    if rank == 1:
        return 1.0 / facts
    x, mass = _lead(rank - 1, facts - rank)
    mean, weight = quadrature.normal(24)
    x = np.sqrt(facts / (facts - 1)) * x[:, None] + 1j * mean / np.sqrt(facts - 1)
    return min(float(mass @ (special.ndtr(x) ** (facts - 1)).real @ weight), 1.0)


def _lead(rank: int, lost: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, weights of X = sqrt(chi^2_rank / beta), beta ~ Beta(lost/2, (rank-1)/2), 1 for rank = 1."""
    own, own_mass = quadrature.chi_squared(rank, _NODES)
    beta, beta_mass = quadrature.beta(lost / 2, (rank - 1) / 2, _NODES)
    return np.sqrt(own[:, None] / beta[None, :]).ravel(), np.outer(own_mass, beta_mass).ravel()


def insertion_recall_large(facts: int, rank: int) -> float:
    """E_t[Phi(sqrt(t (F-1) / (1-t)))^(F-1)], t ~ Beta(r/2, (F-r)/2): the large-F form of the above.

    It treats the F-1 rivals as independent Gaussians; the error is below 0.02 from F = 16 on at rank 4.
    Raises ValueError as ``insertion_recall``.
    """
    checks.whole(facts=facts, rank=rank)
    if rank >= facts:
        return 1.0
    t, mass = quadrature.beta(*share_law(facts, rank), _NODES)
    return min(float(mass @ special.ndtr(np.sqrt((facts - 1) * t / (1 - t))) ** (facts - 1)), 1.0)


def overwrite_rank(facts: int, lam: float = 1.0) -> float:
    """F / (2 lambda): the rank at which half of F distinct overwrites survive. Infinite at lambda <= 1/2.

    Raises ValueError unless facts is a whole number of at least 1 and lam is finite.
    """
    checks.whole(facts=facts)
    checks.finite(lam=lam)
    return facts / (2 * lam) if lam > 0.5 else float("inf")


def insertion_rank(facts: int) -> float:
    """2 ln F: the rank at which F insertions begin to be recalled, to leading order in F.

    Raises ValueError unless facts is a whole number of at least 1.
    """
    checks.whole(facts=facts)
    return 2 * float(np.log(facts))


def cycle_shares(length: int, rank: int) -> float:
    """Mean share rho of a rank-r adapter for overwrites that move L answers round one cycle.

    The residual (shift - identity) has singular values 2|sin(pi j / L)|, so by symmetry every fact's share
    is sum of the r largest sin^2(pi j / L), times 2/L: r/L + sin(pi r / L) / (L sin(pi / L)) when
    r + L is odd (no pair of equal singular values is cut). Below r = L it exceeds r/L: a cycle is easier to
    overwrite than distinct answers. Raises ValueError unless length is a whole number of at least 2 and rank
    one of at least 1.
    """
    checks.whole(2, length=length)
    checks.whole(rank=rank)
    energy = np.sort(4 * np.sin(np.pi * np.arange(length) / length) ** 2)[::-1]
    return float(energy[: int(rank)].sum() / energy.sum())


def cycle_overwrite_rank(length: int, lam: float = 1.0) -> int:
    """Smallest rank whose mean share passes 1/(2 lambda) on one L-cycle: about 0.265 L at lambda = 1.

    The root x = r/L of x + sin(pi x) / pi = 1/(2 lambda) as L grows, not 1/(2 lambda) itself. Returns L + 1
    when no rank suffices (lambda <= 1/2). Raises ValueError unless length is a whole number of at least 2 and
    lam is finite.
    """
    checks.whole(2, length=length)
    checks.finite(lam=lam)
    for rank in range(1, int(length) + 1):
        if 2 * lam * cycle_shares(length, rank) > 1 + 1e-12:
            return rank
    return length + 1
