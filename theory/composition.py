"""No latent composition: two adapters on W cannot join two hops in one pass (theory/README.md, section 2).

Setting: embeddings, attention, U frozen; adapters on W only; bridges and answers are disjoint output rows;
the answer rows of Delta W_1 do not depend on s1. Then on p12(a) the answer logits of any merge, and of any
gate that rescales the adapters by functions of the prompt, are independent of s1.
"""

import numpy as np
from jaxtyping import Float
from scipy import special

from theory import checks
from theory.draws import edited_bound as edited_bound
from theory.draws import edited_null as edited_null


def two_hop_accuracy(entities: int) -> float:
    """P(argmax over answers = s2(s1(a))) = 1/N, exactly, for s1(a) uniform over the N bridges.

    Holds whatever the rank, the coefficients, the merge or gate, the way the adapters were trained, and
    whatever the base knows about two-hop questions (Theorem 2 of the paper; theory/README.md, section 2).
    For merges that mix the adapters' rows it is the mean over relabellings of the bridges. Such a merge must
    cut between different singular values, or break a tie in a way that relabelling does not change (2b).
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


def two_hop_deviation(entities: int, draws: int = 1) -> float:
    """Upper bound on the standard deviation of measured accuracy over all N subjects: 1 / (N sqrt(draws)).

    For one uniformly random bijection the number of right answers has mean 1 and variance at most 1: it
    counts a with s1(a) = t(a) for a fixed map t, and two subjects hit with probability at most 1/(N(N-1)).
    Raises ValueError for fewer than 1 entity or draw.
    """
    checks.whole(draws=draws)
    return two_hop_accuracy(entities) / draws**0.5
