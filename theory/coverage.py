"""Retention and the coverage law: when a scaled, mismatched, starved edit still decides an answer.

theory/README.md, sections 3 (lambda) and 5 (lambda, kappa, rho). Everything broadcasts over arrays.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from theory import checks


def lambda_range(
    margin: Float[Array, "..."], swing: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(low, high), fact by fact: the new answer leads at a coefficient lambda > 0 iff low < lambda < high.

    ``margin`` M is the base's lead of the old answer over the new, of any sign, ``swing`` Delta the change of
    (new - old) by the adapter at lambda = 1, of any sign: new leads iff lambda Delta > M.

                M > 0               M = 0           M < 0
    Delta > 0   (M/Delta, inf)      (0, inf)        (0, inf)
    Delta = 0   (inf, inf) never    (inf, inf)      (0, inf)
    Delta < 0   (inf, inf)          (inf, inf)      (0, M/Delta)

    At the end M/Delta, and everywhere for M = Delta = 0, old and new tie. An answer to be *kept*, which leads
    its rival by m and loses d of that lead at lambda = 1, has the range of (-m, -d). Exact for adapters on W.
    Raises ValueError for NaN, infinity or an empty array.
    """
    checks.finite(margin=margin, swing=swing)
    margin, swing = jnp.asarray(margin, jnp.float64), jnp.asarray(swing, jnp.float64)
    meet = margin / jnp.where(swing == 0, 1.0, swing)
    low = jnp.where(margin < 0, 0.0, jnp.where(swing > 0, meet, jnp.inf))
    high = jnp.where((margin < 0) & (swing < 0), meet, jnp.inf)
    return low, high


def critical_lambda(margin: Float[Array, "..."], swing: Float[Array, "..."]) -> Float[Array, "..."]:
    """lambda_c, the lower end of ``lambda_range``: M/Delta, 0 or infinity (the new answer never leads).

    Above it the new answer leads, with one exception: against M < 0 and Delta < 0 the new answer leads at
    first and is lost again at the range's upper end. Raises ValueError as ``lambda_range``.
    """
    return lambda_range(margin, swing)[0]


def retention(
    lam: Float[Array, "..."],
    margin: Float[Array, "..."] | float = 1.0,
    swing: Float[Array, "..."] | float = 2.0,
) -> Float[Array, "..."]:
    """1 where lambda Delta > M, 0 where it is less, 1/2 where equal: a tie is a coin toss.

    M and Delta of any sign (inside, at the ends of and outside ``lambda_range``). Equal means to 1e-12 of
    the margin. The defaults are an exact overwrite (old logit 1, new 0, moved to 0 and 1): threshold
    at 1/2. Raises ValueError for NaN, an empty array, or an infinite lambda or swing.
    """
    checks.finite(lam=lam, swing=swing)
    checks.numbers(margin=margin)
    push, margin = jnp.asarray(lam, jnp.float64) * jnp.asarray(swing), jnp.asarray(margin, jnp.float64)
    tie = jnp.isclose(push, margin, rtol=1e-12, atol=0.0)
    return jnp.where(tie, 0.5, jnp.where(push > margin, 1.0, 0.0))


def largest_library(
    critical: float | Float[Array, "facts"] = 0.5, upper: float | Float[Array, "facts"] = math.inf
) -> int:
    """The largest K whose uniform average keeps every fact: max_k low_k < 1/K < min_k high_k; 0 for none.

    ``critical`` and ``upper`` are the ends low, high of ``lambda_range``, lambda_c and infinity unless M < 0
    and Delta < 0. 1 for exact overwrites: a library of two is a tie and of three a loss. Adapters that
    overshoot (swing Delta over margin M > 0) allow K = ceil(Delta / M) - 1. Facts with an upper end need
    K > 1/high: of (M, Delta) = (-1, -2) the adapter alone keeps nothing, and three or more do. Raises
    ValueError for a negative end, for NaN, and when every lambda_c is 0, for which no largest K exists.
    """
    checks.within(0, math.inf, critical=critical, upper=upper)
    low, high = (jnp.asarray(end, jnp.float64) for end in (critical, upper))
    if float(jnp.max(low)) == 0:
        raise ValueError(
            "critical lambda is 0 for every fact: libraries have no largest size that keeps them"
        )
    # Rounding: 1/low within 1e-9 of a whole number is that number, which is a tie and so a loss.
    size = math.ceil(1.0 / float(jnp.max(low)) - 1e-9) - 1
    return size if size > 0 and size * float(jnp.min(high)) > 1 + 1e-9 else 0


def lambda_window(
    edit_margin: Float[Array, "edits"],
    edit_swing: Float[Array, "edits"],
    untouched_margin: Float[Array, "untouched"],
    untouched_swing: Float[Array, "untouched"],
) -> tuple[Array, Array]:
    """(low, high): every common lambda strictly between keeps all edits and gets every untouched fact right.

    The intersection of all ranges (``lambda_range``): of (M, Delta) for the edits; of (-M, -D) for the
    untouched facts, where the base leads the best wrong answer by M and D is the change at lambda = 1 of
    (best wrong - right). For M > 0 everywhere low = max M/Delta, high = min M/D. Empty when low >= high.
    Raises ValueError for NaN, infinity or an empty array.
    """
    low, high = _ranges(edit_margin, edit_swing, untouched_margin, untouched_swing)
    return jnp.max(low), jnp.min(high)


def _ranges(edit_margin, edit_swing, untouched_margin, untouched_swing) -> tuple[Array, Array]:
    """(low, high) of every fact, the edits first."""
    checks.finite(
        edit_margin=edit_margin,
        edit_swing=edit_swing,
        untouched_margin=untouched_margin,
        untouched_swing=untouched_swing,
    )
    edits = lambda_range(edit_margin, edit_swing)
    untouched = lambda_range(-jnp.asarray(untouched_margin), -jnp.asarray(untouched_swing))
    low, high = (
        jnp.concatenate([jnp.atleast_1d(a), jnp.atleast_1d(b)]) for a, b in zip(edits, untouched, strict=True)
    )
    return low, high


def best_lambda(
    edit_margin: Float[Array, "edits"],
    edit_swing: Float[Array, "edits"],
    untouched_margin: Float[Array, "untouched"],
    untouched_swing: Float[Array, "untouched"],
    largest: float = 1.0,
) -> tuple[Array, Array]:
    """(lambda, accuracy): the common lambda in (0, largest] that gets most of all these facts right.

    Accuracy is a step function with steps at the ends of the ranges, and at a step it is no higher than on
    either side. So the middle of each piece is tried and the best piece wins (the smallest lambda among
    equals). A fact that ties at every lambda (M = Delta = 0) is not right. Equals ``lambda_window``'s inside
    when that is not empty. Exact for adapters on W when each fact has one rival answer.
    Raises ValueError for NaN, infinity or an empty array, and unless ``largest`` is above 0.
    """
    checks.above(0, largest=largest)
    low, high = _ranges(edit_margin, edit_swing, untouched_margin, untouched_swing)
    edges = jnp.concatenate([low, high, jnp.asarray([0.0, largest])])
    edges = jnp.sort(jnp.clip(edges, 0.0, largest))
    middles = (edges[:-1] + edges[1:]) / 2
    right = jnp.sum((middles[:, None] > low[None]) & (middles[:, None] < high[None]), axis=1)
    right = jnp.where(edges[1:] > edges[:-1], right, -1)  # an empty piece is no choice
    best = jnp.argmax(right)
    return middles[best], right[best] / low.size


def strength(
    lam: Float[Array, "..."], overlap: Float[Array, "..."], share: Float[Array, "..."]
) -> Float[Array, "..."]:
    """lambda * kappa * rho: the fraction of a full overwrite that arrives at a prompt. Refuses NaN."""
    checks.numbers(lam=lam, overlap=overlap, share=share)
    return jnp.asarray(lam) * overlap * share


def decides(
    lam: Float[Array, "..."],
    overlap: Float[Array, "..."],
    share: Float[Array, "..."],
    margin: Float[Array, "..."] | float = 1.0,
    swing: Float[Array, "..."] | float = 2.0,
) -> Array:
    """The coverage law: an edit decides the answer iff lambda kappa rho Delta > M_old.

    For exact overwrites (Delta = 2, M_old = 1, the defaults): iff 2 lambda kappa rho > 1.
    ``overlap`` is kappa (section 4), ``share`` is rho (``theory.edits.shares``). Returns booleans.
    Raises ValueError for NaN or an empty array.
    """
    checks.numbers(margin=margin, swing=swing)
    return strength(lam, overlap, share) * swing > margin


def covers(
    lam: float | Float[Array, "adapters"],
    overlap: Float[Array, "adapters steps"],
    share: Float[Array, "adapters steps"],
    margin: float = 1.0,
    swing: float = 2.0,
) -> Array:
    """A merged library solves a solution trace iff sum_i lambda_i kappa_i rho_i Delta > M_old at every step.

    The sum runs over the adapters that teach the step's answer (share 0 for one that says nothing about it).
    When each step is taught by one adapter this is the coverage law for some adapter at every step.
    Raises ValueError for NaN, an empty array, or coefficients that are neither one nor one an adapter.
    """
    checks.numbers(lam=lam, margin=margin, swing=swing)
    lam = jnp.asarray(lam, jnp.float64).reshape(-1, 1)
    if overlap.shape != share.shape or lam.shape[0] not in (1, overlap.shape[0]):
        raise ValueError(
            f"lam {lam.shape[0]}, overlap {overlap.shape} and share {share.shape} do not fit; "
            "give one coefficient, or one an adapter, and (adapters, steps) twice"
        )
    return jnp.all(jnp.sum(strength(lam, overlap, share), axis=0) * swing > margin)
