"""No latent composition: two adapters on W cannot join two hops in one pass (theory/README.md, section 2).

Setting: embeddings, attention, U frozen; adapters on W only; bridges and answers are disjoint output rows;
the answer rows of Delta W_1 do not depend on s1. Then on p12(a) the answer logits of any merge, and of any
gate that rescales the adapters by functions of the prompt, are independent of s1.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from theory import checks


def two_hop_accuracy(entities: int) -> float:
    """P(argmax over answers = s2(s1(a))) = 1/N, exactly, for s1(a) uniform over the N bridges.

    Holds whatever the rank, the coefficients, the merge or gate, the way the adapters were trained, and
    whatever the base knows about two-hop questions (Theorem 2 of the paper; theory/README.md, section 2).
    Merges that mix the adapters' rows have it over the relabellings of the bridges, if they cut between
    different singular values or break a tie as no relabelling can tell (2b).
    Raises ValueError for fewer than 1 entity.
    """
    checks.whole(entities=entities)
    return 1.0 / entities


def two_hop_loss(logits: Float[np.ndarray, "... answers"]) -> Float[np.ndarray, "..."]:
    """E[-log p(right answer)] over the answers, in nats: log sum_c exp(l_c) - mean_c l_c (Corollary 2f).

    ``logits`` are those of the N answers at the two-hop prompt. Where their differences do not depend on the
    first hop the right answer is each c equally often, so this is the mean loss exactly: at least log N, with
    equality for equal logits. A loss below it is knowledge of which answer belongs where, of any size, even
    where the most likely answer shows none. Raises ValueError for logits that are not finite.
    """
    logits = np.asarray(logits, np.float64)
    checks.finite(logits=logits)
    return special.logsumexp(logits, axis=-1) - logits.mean(-1)


def two_hop_bound(prior: Float[np.ndarray, "... bridges"]) -> Float[np.ndarray, "..."]:
    """Best two-hop accuracy for a non-uniform s1(a): max_b P(s1(a) = b | everything else), by last axis.

    Independence leaves a merged model nothing better than the prior's favourite; a uniform prior gives
    1/N back. Reached by a base or second adapter tuned to the prior. Raises ValueError when a row of
    ``prior`` is negative or does not sum to 1.
    """
    prior = np.asarray(prior, np.float64)
    checks.numbers(prior=prior)
    if (prior < 0).any() or not np.allclose(prior.sum(-1), 1.0, atol=1e-9):
        raise ValueError("prior must hold probabilities that sum to 1 over the last axis; normalise it")
    return prior.max(-1)


def edited_null(old: Int[np.ndarray, "facts"]) -> Float[np.ndarray, "facts facts"]:
    """P(subject i was sent to bridge j) for who knows the old facts and both sets, but not the edit (2g).

        0 for j = old_i,   else D(F - 1, k - [old_i >= 0] - [j in old]) / D(F, k)

    D(m, k) = sum_j (-1)^j C(k, j) (m - j)! bijections of m avoid k pairs without a common member. ``old``
    holds the number, among the F edited bridges, of the bridge that each subject had before, and -1 where it
    was none of them; k of them are 0 or more. Rows and columns sum to 1. Over questions, its mean at the
    answers that a model gives is what a model that lacks the edit scores, exactly.
    Raises ValueError for numbers outside -1..F - 1, for a bridge that two subjects had, and for one fact that
    no bridge is left for.
    """
    old = np.asarray(old)
    facts, former = len(old), old[old >= 0]
    checks.whole(-1, old=old)
    if (old >= facts).any() or len(np.unique(former)) < len(former):
        raise ValueError(f"old must hold different numbers below {facts}, or -1, not {old.tolist()}")
    if facts == len(former) == 1:
        raise ValueError("old is the only bridge there is; give two facts or more")
    away = np.arange(facts) != old[:, None]
    left = len(former) - (old >= 0)[:, None] - np.isin(np.arange(facts), former)
    ways = np.vectorize(lambda pairs: _avoiding(facts - 1, pairs) / _avoiding(facts, len(former)))
    return np.where(away, ways(np.where(away, left, 0)), 0.0)


def _avoiding(size: int, pairs: int) -> int:
    """Bijections of ``size`` things that avoid ``pairs`` pairs, no two of which share a member."""
    return sum((-1) ** j * math.comb(pairs, j) * math.factorial(size - j) for j in range(pairs + 1))


def edited_bound(facts: int) -> float:
    """(F - 1) / (F^2 - 3 F + 3): the largest entry that ``edited_null`` can have (2g).

    No model that lacks one of two edits of F facts is right more often on any question, whatever else it
    knows. A guess among the F answers that ignores the old facts is right in 1/F. 1 for F below 3: there the
    old fact gives the new one away. Raises ValueError for fewer than 1 fact.
    """
    checks.whole(facts=facts)
    return (facts - 1) / (facts**2 - 3 * facts + 3) if facts > 1 else 1.0


def two_hop_deviation(entities: int, draws: int = 1) -> float:
    """Upper bound on the standard deviation of measured accuracy over all N subjects: 1 / (N sqrt(draws)).

    For one uniformly random bijection the number of right answers has mean 1 and variance at most 1: it
    counts a with s1(a) = t(a) for a fixed map t, and two subjects hit with probability at most 1/(N(N-1)).
    Raises ValueError for fewer than 1 entity or draw.
    """
    checks.whole(draws=draws)
    return two_hop_accuracy(entities) / draws**0.5
