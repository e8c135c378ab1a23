"""Baselines from the draw of a world: edits that avoid the old facts (theory/README.md, section 2g).

They follow from how a world is drawn and predict nothing about a model, so worlds may import them.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from theory import checks


def edited_null(old: Int[np.ndarray, "facts"]) -> Float[np.ndarray, "facts facts"]:
    """P(subject i was sent to bridge j), given the old facts and both sets, but not the edit (2g).

        0 for j = old_i,   else D(F - 1, k - [old_i >= 0] - [j in old]) / D(F, k)

    D(m, k) = sum_j (-1)^j C(k, j) (m - j)! bijections of m avoid k pairs without a common member. ``old``
    holds the number, among the F edited bridges, of the bridge that each subject had before, and -1 where it
    was none of them; k of them are 0 or more. Rows and columns sum to 1. The expected accuracy of a model
    that lacks the edit is exactly the mean of the entries at its answers.
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

    It bounds the accuracy on any question of a model that lacks one of two edits of F facts, whatever else
    the model knows. A guess among the F answers that ignores the old facts is right in 1/F. 1 for F below 3:
    there the old fact gives the new one away. Raises ValueError for fewer than 1 fact.
    """
    checks.whole(facts=facts)
    return (facts - 1) / (facts**2 - 3 * facts + 3) if facts > 1 else 1.0
