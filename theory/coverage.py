"""Retention and the coverage law: when a scaled, mismatched, starved edit still decides an answer.

theory/README.md, sections 3 (lambda) and 5 (lambda, kappa, rho). Everything broadcasts over arrays.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def critical_lambda(margin: Float[Array, "..."], swing: Float[Array, "..."]) -> Float[Array, "..."]:
    """lambda_c = M_old / Delta, fact by fact: the new answer leads for lambda > lambda_c.

    ``margin`` is the base's logit lead of the old answer over the new (0 or less where the new answer leads
    already: lambda_c is then 0), ``swing`` the change of (new - old) by the adapter at lambda = 1. Against a
    positive margin a swing of 0 or less never gets there (infinity). Exact for adapters on W.
    """
    margin, swing = jnp.asarray(margin, jnp.float64), jnp.asarray(swing, jnp.float64)
    ratio = margin / jnp.where(swing > 0, swing, 1.0)
    return jnp.where(margin <= 0, 0.0, jnp.where(swing > 0, ratio, jnp.inf))


def retention(lam: Float[Array, "..."], margin: float = 1.0, swing: float = 2.0) -> Float[Array, "..."]:
    """1 above the critical lambda, 0 below, 1/2 at it: the new answer's chance when a tie is a coin toss.

    The defaults are an exact overwrite (old logit 1, new 0, moved to 0 and 1): threshold at 1/2.
    """
    lead = jnp.asarray(lam, jnp.float64) * swing - margin
    return jnp.where(jnp.abs(lead) <= 1e-12, 0.5, jnp.where(lead > 0, 1.0, 0.0))


def largest_library(critical: float | Float[Array, "facts"] = 0.5) -> int:
    """The largest K whose uniform average (lambda = 1/K) keeps every fact: K < 1 / max_k lambda_c.

    1 for exact overwrites: a library of two is a tie and of three a loss. Adapters that overshoot
    (swing Delta over margin M) allow K = ceil(Delta / M) - 1. 0 means that not even the adapter
    alone holds. Raises ValueError when every fact has lambda_c = 0, for which no largest K exists.
    """
    worst = float(jnp.max(jnp.asarray(critical, jnp.float64)))
    if worst <= 0:
        raise ValueError("critical lambda is 0 for every fact: a library of any size keeps them")
    if math.isinf(worst):
        return 0
    # Rounding: 1/worst within 1e-9 of a whole number is that number, which is a tie and so a loss.
    return math.ceil(1.0 / worst - 1e-9) - 1


def lambda_window(
    edit_margin: Float[Array, "edits"],
    edit_swing: Float[Array, "edits"],
    kept_margin: Float[Array, "kept"],
    kept_swing: Float[Array, "kept"],
) -> tuple[Array, Array]:
    """(low, high): every common lambda strictly between keeps all edits and damages no untouched fact.

    low = max M/Delta over the edits, high = min M/D over the untouched facts, where D is the
    change at lambda = 1 of (best wrong - right) there and M the base's lead. Empty when low >= high.
    """
    low = jnp.max(critical_lambda(edit_margin, edit_swing))
    high = jnp.min(critical_lambda(kept_margin, kept_swing))
    return low, high


def best_lambda(
    edit_margin: Float[Array, "edits"],
    edit_swing: Float[Array, "edits"],
    kept_margin: Float[Array, "kept"],
    kept_swing: Float[Array, "kept"],
    largest: float = 1.0,
) -> tuple[Array, Array]:
    """(lambda, accuracy): the common lambda in (0, largest] that gets most of all these facts right.

    Accuracy is a step function with steps at the critical lambdas, so the middle of each piece is tried
    and the best piece wins (the smallest lambda among equals). Equals ``lambda_window``'s inside when
    that is not empty. Exact for adapters on W when each fact has one rival answer.
    """
    gained = critical_lambda(edit_margin, edit_swing)
    lost = critical_lambda(kept_margin, kept_swing)
    edges = jnp.sort(jnp.clip(jnp.concatenate([gained, lost, jnp.asarray([0.0, largest])]), 0.0, largest))
    middles = (edges[:-1] + edges[1:]) / 2
    right = jnp.sum(middles[:, None] > gained[None, :], axis=1) + jnp.sum(
        middles[:, None] < lost[None, :], axis=1
    )
    right = jnp.where(edges[1:] > edges[:-1], right, -1)  # an empty piece is no choice
    best = jnp.argmax(right)
    return middles[best], right[best] / (gained.size + lost.size)


def strength(
    lam: Float[Array, "..."], overlap: Float[Array, "..."], share: Float[Array, "..."]
) -> Float[Array, "..."]:
    """lambda * kappa * rho: the fraction of a full overwrite that arrives at a prompt."""
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
    """
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
    """
    lam = jnp.broadcast_to(jnp.asarray(lam, jnp.float64).reshape(-1, 1), overlap.shape)
    return jnp.all(jnp.sum(strength(lam, overlap, share), axis=0) * swing > margin)
