"""Capacity of a rank-r associative memory (theory/README.md, section 7).

    M = sum_k v_k u_k^T,  keys u_k and values v_k ~ N(0, I/d), k = 1..F;   M_r its rank-r truncation.

Fact k is recalled among n candidates when v_k^T M_r u_k is the largest v_j^T M_r u_k. Two laws: ``snr`` holds
when facts far outnumber dimensions (F >> d, r >> log F), ``recall`` at any load F/d and any rank.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy import optimize, special

from theory import checks, quadrature

_NODES = 160


def _check(facts: float, dim: int, rank: int, candidates: float | None = None) -> None:
    """Whole dimension and rank; F and the candidates may be fractional, as the laws are smooth in them."""
    checks.above(1, facts=facts)
    checks.whole(dim=dim, rank=rank)
    if rank > dim:
        raise ValueError(f"rank {rank} must be a whole number from 1 to the dimension {dim}")
    if candidates is not None:
        checks.at_least(1, candidates=candidates)


def edge(share: float) -> float:
    """s* in [0, 2] with share = (1/pi) int_{s*}^2 sqrt(4 - s^2) ds: the smallest singular value kept.

    In units of sqrt(F/d), where the singular values of M fill a quarter circle on [0, 2] as F/d grows;
    share is rho = r/d. Raises ValueError unless 0 < share <= 1.
    """
    checks.above(0, share=share)
    checks.within(0, 1, share=share)
    # With s* = 2 cos(a) the integral is (2a - sin 2a) / pi.
    angle = optimize.brentq(lambda a: (2 * a - np.sin(2 * a)) / np.pi - share, 0.0, np.pi / 2, xtol=1e-14)
    return float(2 * np.cos(angle))


def captured(share: float) -> float:
    """f = (1/pi) int_{s*}^2 s^2 sqrt(4 - s^2) ds: the part of |M|_F^2 in the top r singular values.

    It is the mean score of a fact's own value too, because sum_k v_k^T M_r u_k = |M_r|_F^2 exactly. With
    s* = 2 cos(a): f = (2a - sin(4a)/2) / pi. f -> 4 rho for small rho, f = 1 at rho = 1.
    """
    angle = np.arccos(edge(share) / 2)
    return float((2 * angle - np.sin(4 * angle) / 2) / np.pi)


def snr(facts: float, dim: int, rank: int) -> float:
    """sqrt(f d^2 / F): own score over the standard deviation of a rival's, for F >> d >> 1."""
    _check(facts, dim, rank)
    return float(np.sqrt(captured(rank / dim) / facts) * dim)


def recall_at_snr(ratio: float, candidates: float, self_noise: float = 1.0) -> float:
    """E_g[Phi(SNR + self_noise g)^(n-1)], g ~ N(0, 1): the best of n candidates is the right one.

    ``self_noise`` is the standard deviation of the right score in units of a rival's: 1 when crosstalk is
    all there is (F >> d), sqrt(2) for a symmetric score matrix (section 6 of theory/README.md).
    Raises ValueError for NaN, fewer than 1 candidate or a negative self_noise.
    """
    checks.numbers(ratio=ratio)
    checks.at_least(1, candidates=candidates)
    checks.at_least(0, self_noise=self_noise)
    nodes, weights = quadrature.normal(80)
    return float(weights @ special.ndtr(ratio + self_noise * nodes) ** (candidates - 1))


def recall_large(facts: float, dim: int, rank: int, candidates: float | None = None) -> float:
    """E_g[Phi(SNR + g)^(n-1)] with ``snr``: the law for F >> d. n is F unless ``candidates`` is given."""
    return recall_at_snr(snr(facts, dim, rank), facts if candidates is None else candidates)


@dataclass(frozen=True)
class Traces:
    """Moments of the score matrix K_jk = v_j^T M_r u_k, each divided by F.

    signal: tr K / F, mean score of the right value;  energy: |K|_F^2 / F;  square: tr(K^2) / F.
    """

    signal: float
    energy: float
    square: float


def _spectrum(load: float, angle: float):
    """Nodes x > threshold of the law of M M^T: (x, y, mass), mass = density * dx, y = x g(x) - 1.

    x y = (1 + y)^2 (load + y); x = low + (high - low) sin(angle)^6 absorbs the hard edge at 0.
    """
    root = np.sqrt(load**2 + 8 * load)
    low, high = ((1 + y) ** 2 * (load + y) / y for y in ((-load - root) / 4, (-load + root) / 4))
    low = low if load < 1 else 0.0
    nodes, weights = quadrature.interval(angle, np.pi / 2, _NODES)
    x = low + (high - low) * np.sin(nodes) ** 6
    weights = weights * 6 * (high - low) * np.sin(nodes) ** 5 * np.cos(nodes)
    # Cardano on y^3 + (load + 2) y^2 + (2 load + 1 - x) y + load = 0, which has one real root in the support.
    zeroth, third = (load - 1) ** 2 + 3 * x, 2 * (load - 1) ** 3 + 9 * (load + 2) * x
    inside = 27 * x * (4 * (load - 1) ** 3 + x * (3 * (load + 2) ** 2 - 4 * (load - 1) ** 2) - 4 * x**2)
    cube = np.cbrt((third + np.copysign(np.sqrt(np.maximum(inside, 0)), third)) / 2)
    y = -(load + 2 + np.exp(2j * np.pi / 3) * cube + np.exp(-2j * np.pi / 3) * zeroth / cube) / 3
    y = y.real - 1j * np.abs(y.imag)
    return x, y, weights * -y.imag / (np.pi * x)


def traces(load: float, share: float) -> Traces:
    """tr K, |K|_F^2 and tr K^2 (over F) in the limit d -> infinity at load = F/d and share = r/d.

    With density p of the squared singular values x of M (free product of two Marchenko-Pastur laws),
    g its Stieltjes transform, D(x) = 1 / (x |g|^2) and all integrals over the kept x:

        tr K / F    = int x p / load,       tr K^2 / F = int x^2 p / load
        |K|_F^2 / F = [ int x D^2 p - int int x y p(x) p(y) (D(x) - D(y)) / (x - y) ] / load

    The derivation is in theory/README.md, section 7. At share = 1: 1, (1 + load)^2, 1 + 2 load.
    Raises ValueError unless load > 0 and 0 < share <= 1.
    """
    checks.above(0, load=load, share=share)
    checks.within(0, 1, share=share)
    if share >= min(1.0, load) - 1e-12:
        return Traces(1.0, (1 + load) ** 2, 1 + 2 * load)
    cut = optimize.brentq(lambda a: _spectrum(load, a)[2].sum() - share, 0.0, np.pi / 2, xtol=1e-13)
    x, y, mass = _spectrum(load, cut)
    overlap = x / np.abs(1 + y) ** 2
    y_slope = 1 / (x * (2 / (1 + y) + 1 / (load + y) - 1 / y))
    slope = 1 / np.abs(1 + y) ** 2 - 2 * x * (np.conj(1 + y) * y_slope).real / np.abs(1 + y) ** 4
    gap = x[:, None] - x[None, :]
    ratio = np.where(
        gap == 0, slope[:, None], np.subtract.outer(overlap, overlap) / np.where(gap == 0, 1, gap)
    )
    weighed = mass * x
    energy = weighed @ overlap**2 - weighed @ ratio @ weighed
    return Traces(float(weighed.sum() / load), float(energy / load), float(weighed @ x / load))


def recall(facts: float, dim: int, rank: int, candidates: float | None = None) -> float:
    """P(fact recalled) = E[Phi(X)^(n-1)] at any load x = F/d and any rank, rivals among the stored values.

        X = X_0 (1 + nu z sqrt(k / (F p A B))),   z ~ N(0, 1),   k = min(r, F, d)
        1/X_0^2 = beta/chi^2 + c/(F p) [1/B + (1 + x)/(A B^2)]/(2 + x)
        chi^2 ~ chi^2_k,   beta ~ Beta((F-k)/2, (k-1)/2),   p = chi^2/(chi^2 + F - k)
        A, B ~ chi^2_w / w,   w = 2 k/(q k/(F t^2) - 1)
        c = e k/(F t^2) - 1,   nu^2 = (e - q)/(F t^2),   (t, e, q) = ``traces``

    p is how much of the fact the r kept directions hold; A and B are the squared lengths of its key and
    value, in which own score and rivals rise and fall together; z is the asymmetry of the score matrix. For
    F << d it is the insertion law of section 6 at every size, for F >> d and r >> log F ``recall_large``;
    from r = F on it stays what the whole Hebbian sum gives. Error, by Monte Carlo: at most 1.5/d.
    ``facts`` may be fractional (for root finding). Raises ValueError for facts <= 1, a rank that is no whole
    number in 1..dim, or fewer than 1 candidate.
    """
    _check(facts, dim, rank, candidates)
    load, dimension = facts / dim, min(rank, facts)
    moments = traces(load, rank / dim)
    size = facts * moments.signal**2
    excess = max(moments.energy * dimension / size - 1, 0.0)
    noise = max(moments.energy - moments.square, 0.0) / size
    unequal = max(2 * (moments.square * dimension / size - 1) / dimension, 0.0)  # 4/w

    # chi^2_w / w by Wilson and Hilferty: smooth in w, and 1 where all kept singular values are equal.
    normal, mass = quadrature.normal(7)
    length = np.maximum(1 - unequal / 18 + normal * np.sqrt(unequal / 18), 0.02) ** 3
    key, value = (axis.ravel() for axis in np.meshgrid(length, length, indexing="ij"))
    lengths_mass = np.outer(mass, mass).ravel()
    rivals = (1 / value + (1 + load) / (key * value**2)) / (2 + load)

    own, own_mass = (np.ones(1),) * 2 if dimension == facts else quadrature.chi_squared(dimension, 48)
    share = own / (own + facts - dimension)
    spilt, spilt_mass = quadrature.beta((facts - dimension) / 2, (dimension - 1) / 2, 24)
    swing, swing_mass = quadrature.normal(20)

    share = share[:, None, None]
    lead = (spilt[:, None] / own[:, None, None] + excess * rivals / (facts * share)) ** -0.5
    jitter = np.sqrt(noise * dimension / (facts * share * key * value))
    x = lead[..., None] * (1 + jitter[..., None] * swing)
    hit = special.ndtr(x) ** ((facts if candidates is None else candidates) - 1)
    return min(float(own_mass @ (hit @ swing_mass @ lengths_mass) @ spilt_mass), 1.0)


def facts_at_recall(dim: int, rank: int, level: float = 0.5, large: bool = False) -> float:
    """The number of facts F (fractional) at which recall among all F values falls to ``level``.

    Inverts ``recall``, or ``recall_large`` with ``large``. Raises ValueError unless 0 < level < 1, and for a
    rank that is no whole number in 1..dim.
    """
    _check(2, dim, rank)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a recall to reach lies strictly between 0 and 1")
    law = recall_large if large else recall
    high = 4.0
    while law(high, dim, rank) > level:
        high *= 2
    return float(
        np.exp(optimize.brentq(lambda f: law(np.exp(f), dim, rank) - level, np.log(1.01), np.log(high)))
    )


def facts_small_share(dim: int, rank: int) -> float:
    """F with F ln F = 2 r d, from f d^2 / F = 2 ln F and f = 4 r / d: facts an adapter holds, leading order.

    2 r d is the number of parameters of the two factors. At full rank f = 1 and F ln F = d^2 / 2, the
    constant that arXiv:2605.10795 proves sharp (p log p / d^2 = 1/2); that memories store facts in proportion
    to parameters, up to logarithms, is Nichani, Lee and Bietti, arXiv:2412.06538. It is reached only by
    ranks far above 2 ln F: a memory of small rank holds about ``facts_bound``, whatever its d.
    Raises ValueError for a rank that is no whole number in 1..dim.
    """
    _check(2, dim, rank)
    budget = 2.0 * rank * dim
    return float(budget / special.lambertw(budget).real)


def facts_bound(rank: int) -> float:
    """exp(r/2): facts that rank r tells apart, by order: SNR^2 <= r (Cauchy-Schwarz), SNR^2 >= 2 ln F."""
    checks.whole(rank=rank)
    return float(np.exp(rank / 2))


def facts_full_rank(dim: int) -> float:
    """F with F ln F = d^2 / 2: the full-rank anchor of arXiv:2605.10795. Whole d only."""
    checks.whole(dim=dim)
    return float(dim**2 / 2 / special.lambertw(dim**2 / 2).real)


def sizes_at_load(dims: list[int], share: float, load: float) -> Int[np.ndarray, "sizes 3"]:
    """Rows (facts, dim, rank) with rank = share * dim and F ln F = load * f d^2 / 2: SNR^2 = 2 ln F / load.

    Growing d along such rows is the limit in which the laws of this file become sharp. Raises ValueError for
    no dims, a share outside (0, 1] or a load that is not above 0.
    """
    checks.whole(dims=dims)
    checks.above(0, share=share, load=load)
    checks.within(0, 1, share=share)
    rows = []
    for dim in dims:
        rank = max(1, round(share * dim))
        budget = load * captured(rank / dim) * dim**2 / 2
        rows.append((max(3, round(budget / special.lambertw(budget).real)), dim, rank))
    return np.asarray(rows)
