"""Arrow's prototype and which adapter it selects (theory/README.md, section 10).

An adapter's update is Delta W = D Phi^T over F facts whose features phi_k = mu + sigma xi_k share a mean mu
(the relation token) and differ by xi_k ~ N(0, I_m) (the entity). Three numbers decide what Arrow's prototype
v_1, the top right singular vector, can see:

    theta = |mu| / sigma     c = m / F (``aspect``)
    tau = |D 1| / sqrt(F)  for  D^T D = I + (tau^2 - 1) 11^T/F (``sight``)

tau = 1 for facts with distinct answers (D^T D = I), sqrt(1 - F/n) for the first cross-entropy gradient of F
distinct answers out of n equally likely ones, 0 for an edit that keeps the answer marginal (permuted
answers). Scores are in units of sigma: s_i = |<x, v_i>| / sigma, |N(mean_i, spread_i^2)| in the limit.
"""

import functools
import itertools

import numpy as np
from jaxtyping import Float
from scipy import special

from theory import checks, quadrature

_POINTS = 2**16
"""Draws of all scores in the mean over them: quadrature error below 1e-3, checked for up to 8 adapters."""


def _effective(theta, aspect, sight) -> tuple[np.ndarray, np.ndarray]:
    """(theta_eff^2 = tau^2 (theta^2 + c) - c, whether it is above the transition sqrt(c))."""
    checks.at_least(0, theta=theta, sight=sight)
    checks.above(0, aspect=aspect)
    theta, aspect, sight = (np.asarray(value, np.float64) for value in (theta, aspect, sight))
    strength = sight**2 * (theta**2 + aspect) - aspect
    seen = strength > np.sqrt(aspect)
    return np.where(seen, strength, 1.0), seen


def alignment(
    theta: float | Float[np.ndarray, "..."], aspect: float | Float[np.ndarray, "..."], sight: float = 1.0
) -> Float[np.ndarray, "..."]:
    """<v_1, mu/|mu|>^2 of the prototype with the mean feature, in the limit m, F -> infinity at m/F = c.

        theta^2/(theta^2 + c) * (1 - c/q^2)   with  q = tau^2 (theta^2 + c) - c,  above q = sqrt(c), else 0

    For tau = 1 it is 1 - c(1 + theta^2)/(theta^2 (theta^2 + c)) above theta = c^(1/4) (Benaych-Georges and
    Nadakuditi 2012); for tau = 0 always 0. Broadcasts. Raises ValueError for a negative theta or sight, or an
    aspect that is not above 0.
    """
    strength, seen = _effective(theta, aspect, sight)
    theta, aspect = np.asarray(theta, np.float64), np.asarray(aspect, np.float64)
    share = theta**2 / np.maximum(theta**2 + aspect, 1e-300)
    return np.where(seen, share * (1 - aspect / strength**2), 0.0)[()]


def alignment_orthogonal(facts: int) -> float:
    """F/(F + 1): the same squared cosine, exactly, for orthogonal mu and entity parts of equal norm.

    The one-layer model with orthonormal embeddings, no relu, and features as wide as the embeddings (or m ->
    infinity); distinct answers. Raises ValueError for fewer than 1 fact.
    """
    checks.whole(facts=facts)
    return facts / (facts + 1)


def score_law(
    theta: float,
    aspect: float,
    load: float = 1.0,
    *,
    noise: float = 1.0,
    other: float = 0.0,
    features: float = np.inf,
    seen: float = 0.0,
    sight: float = 1.0,
) -> tuple[float, float]:
    """(mean, spread) of one adapter's signed score <x, v_1>/sigma at a prompt x.

    ``load`` is how much of the adapter's own mean mu the prompt contains (1 at a prompt that ends in its
    relation token, 0 where the token is not last), ``noise`` the entity-like energy of the prompt in units of
    one entity (sum of squared attention counts), ``other`` the energy of other relations' means, in units of
    theta^2, which a prototype meets by chance with variance other * theta^2 (1 - a^2)/(features - 1), a^2 =
    ``alignment``. ``seen`` is the amplitude (attention count) with which the prompt holds the entity of one
    of the adapter's own facts; its square is part of the noise. With q as in ``alignment``,

        mean      load a theta + seen a c/theta
        variance  noise + seen^2 ((1 + c/q)^2 - 1) + other theta^2 (1 - a^2)/(features - 1)

    so at a prompt of its own data (load, noise and seen all 1) the score is (1 + c/theta^2) times a fresh
    one's, in law, for tau = 1. Below the transition a = 0 and c/q is sqrt(c): even a blind adapter knows its
    own prompts a little (this factor assumes a flat spectrum, D^T D as above). Raises ValueError as
    ``alignment``, for a negative count, and for a noise below seen^2.
    """
    checks.finite(load=load)
    checks.at_least(0, other=other, noise=noise, seen=seen)
    if other:
        checks.numbers(features=features)
        if features <= 1:
            raise ValueError(f"features is {features}; other relations' means need more than 1")
    if noise < seen**2:
        raise ValueError(
            f"noise is {noise}, but the seen entity alone is {seen**2} of it; give at least that"
        )
    cosine = np.sqrt(alignment(theta, aspect, sight))
    strength, visible = _effective(theta, aspect, sight)
    mean = load * cosine * theta
    if theta > 0:
        mean = mean + seen * cosine * aspect / theta
    own = 1 + (aspect / strength if visible else np.sqrt(aspect))
    chance = other * theta**2 * (1 - cosine**2) / (features - 1) if other else 0.0
    return float(mean), float(np.sqrt(noise + seen**2 * (own**2 - 1) + chance))


def _folded_pdf(x, mean, spread):
    both = np.exp(-(((x - mean) / spread) ** 2) / 2) + np.exp(-(((x + mean) / spread) ** 2) / 2)
    return both / (spread * np.sqrt(2 * np.pi))


def _folded_cdf(x, mean, spread):
    return special.ndtr((x - mean) / spread) - special.ndtr((-x - mean) / spread)


def _scores(mean, spread) -> tuple[np.ndarray, np.ndarray]:
    checks.finite(mean=mean)
    checks.above(0, spread=spread)
    mean, spread = np.asarray(mean, np.float64), np.asarray(spread, np.float64)
    if mean.ndim != 1 or mean.shape != spread.shape:
        raise ValueError(
            f"mean has shape {mean.shape} and spread {spread.shape}; give one of each for every adapter"
        )
    return np.abs(mean), spread


def _grid(mean, spread) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, infinity) that resolve every score: pieces that shrink towards each mean."""
    steps = np.array([0.0, 0.5, 1, 2, 3, 4.5, 6, 9])
    ends = mean[:, None] + spread[:, None] * np.concatenate([-steps[:0:-1], steps])[None]
    ends = np.unique(np.concatenate([[0.0], ends[ends > 0]]))
    pieces = [quadrature.interval(low, high, 16) for low, high in itertools.pairwise(ends)]
    return np.concatenate([x for x, _ in pieces]), np.concatenate([w for _, w in pieces])


def selection(
    mean: Float[np.ndarray, "adapters"], spread: Float[np.ndarray, "adapters"]
) -> Float[np.ndarray, "adapters"]:
    """P(adapter i has the largest |score|) in (K,), for independent scores N(mean_i, spread_i^2).

        integral of f_i(x) prod_{j != i} F_j(x) dx,   f, F the folded normal density and distribution

    Top-1 Arrow's choice; 1/K each for equal scores. For two adapters of equal spread it is
    Phi(u)Phi(w) + Phi(-u)Phi(-w) with u, w = (mean_1 -+ mean_2)/(spread sqrt 2).
    The probabilities sum to 1 within 1e-9 at any spreads.
    Raises ValueError unless there is one finite mean and one positive spread an adapter.
    """
    mean, spread = _scores(mean, spread)
    x, weights = _grid(mean, spread)
    density = _folded_pdf(x[None], mean[:, None], spread[:, None])
    below = _folded_cdf(x[None], mean[:, None], spread[:, None])
    return np.array(
        [weights @ (density[i] * np.prod(np.delete(below, i, axis=0), axis=0)) for i in range(len(mean))]
    )


@functools.cache
def _normals(count: int) -> Float[np.ndarray, "points adapters"]:
    """Standard normal draws of ``count`` scores that fill the space evenly: Sobol points, always the same."""
    from scipy.stats import qmc  # the import takes half a second; only expectations need it

    points = qmc.Sobol(count, scramble=False).random(_POINTS)
    return special.ndtri(points + 0.5 / _POINTS)


def expected_gate(
    mean: Float[np.ndarray, "adapters"],
    spread: Float[np.ndarray, "adapters"],
    temperature: float,
    top_k: int | None = None,
) -> Float[np.ndarray, "adapters"]:
    """E[g_i] in (K,): mean gate of a softmax of |score| / temperature over the top k, others 0.

    Temperature in units of sigma. The mean over independent scores N(mean_i, spread_i^2) is taken over 65536
    evenly spread draws (quasi Monte Carlo), so the gates sum to 1 to rounding at any temperature and spread;
    error below 1e-3. As T -> 0 or for k = 1 it becomes ``selection``. A softmax weight is the chance of
    winning after Gumbel noise of scale T, so the gate is a selection probability too.
    Raises ValueError for a temperature that is not above 0, or a top_k that is no whole number in 1..K.
    """
    mean, spread = _scores(mean, spread)
    top_k = len(mean) if top_k is None else top_k
    checks.above(0, temperature=temperature)
    checks.whole(top_k=top_k)
    if top_k > len(mean):
        raise ValueError(f"top_k must be between 1 and the {len(mean)} adapters of the library, not {top_k}")
    if top_k == 1:
        return selection(mean, spread)
    scores = np.abs(mean + spread * _normals(len(mean)))
    lead = (scores - scores.max(axis=1, keepdims=True)) / temperature
    last = np.partition(lead, -top_k, axis=1)[:, -top_k, None]
    gates = np.where(lead >= last, np.exp(lead), 0.0)
    return (gates / gates.sum(axis=1, keepdims=True)).mean(axis=0)
