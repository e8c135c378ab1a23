"""The smallest rank at which a law of recall reaches a target, with an interval, and what else would do.

A law gives the recall p(r) that F facts have on average at rank r. One adapter's own recall varies: it
reaches the share t of its F facts with probability P(Binomial(F, p(r)) >= t F). The interval of the rank goes
from the smallest r where that is 2.5% to the smallest where it is 97.5%, over both laws of section 6: keys
without a common part (6a, 6b) and prompts of one relation (6d).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from theory import capacity, checks, cross_entropy, starvation

TAIL = 0.025
"""Probability on either side of an interval."""

Law = Callable[[int], float]
"""Rank -> recall, not decreasing."""


@dataclass(frozen=True)
class Need:
    """The rank that one way of training and reusing adapters needs; None where no rank does.

    case: what is done. facts: of one adapter. lam: its coefficient. recall: what the law says of ``rank``
    (of the full rank where no rank does). section: of theory/README.md.
    """

    case: str
    facts: int
    lam: float
    rank: int | None
    low: int | None
    high: int | None
    recall: float
    section: str

    def __str__(self) -> str:
        if self.rank is None:
            return f"no rank: recall {self.recall:.2f} even at full rank"
        return f"rank {self.rank} [{self.low}, {'none' if self.high is None else self.high}]"


@dataclass(frozen=True)
class Plan:
    """What a library needs: ``needs`` as it is planned, ``alternatives`` beside it for overwriting.

    loss: the training loss below which cross entropy, at enough rank, has each overwrite at ``lam``.
    """

    needs: tuple[Need, ...]
    alternatives: tuple[Need, ...]
    loss: float


def plan(facts: int, adapters: int, lam: float, recall: float = 0.95, width: int | None = None) -> Plan:
    """Ranks for ``adapters`` adapters of ``facts`` facts each, added up with the coefficient ``lam``.

    Args:
        recall: share of its facts that each adapter is to answer in the merge.
        width: of the matrix that stores the facts as associations of random keys and values (section 7).

    Raises:
        ValueError: for facts, adapters or a width below 1, fewer than 2 facts, a lam outside (0, 1] or a
            recall outside (0, 1).
    """
    checks.whole(2, facts=facts)
    checks.whole(adapters=adapters)
    checks.within(0, 1, lam=lam)
    checks.above(0, lam=lam, recall=recall)
    if recall >= 1:
        raise ValueError(f"recall is {recall:g}; give a share below 1, 0.95 say")
    needs = [overwriting(f"overwrite, {_reuse(adapters, lam)}", facts, lam, recall)]
    needs.append(inserting(f"insert, {_reuse(adapters, lam)}", facts, lam, recall))
    if width is not None:
        needs.append(storing(facts, width, recall))
    others = [
        overwriting(f"average of {count} adapters", facts, 1 / count, recall)
        for count in range(adapters - 1, 1, -1)
        if 1 / count > lam
    ]
    if lam < 0.75:
        others.append(overwriting("larger lambda", facts, 0.75, recall))
    if lam < 1:
        others.append(overwriting("sum, or a router that picks one", facts, 1.0, recall))
    if adapters > 1:
        others.append(overwriting("one joint adapter on all facts", adapters * facts, 1.0, recall))
    return Plan(tuple(needs), tuple(others), largest_loss(lam, 2 * facts))


def overwriting(case: str, facts: int, lam: float, recall: float) -> Need:
    """F facts taught over old answers by least squares: sections 6a and 6d."""
    laws = [
        lambda rank: float(starvation.shared_overwrite_recall(facts, rank, lam)),
        lambda rank: float(starvation.overwrite_recall(facts, rank, lam)),
    ]
    return _need(case, facts, lam, recall, laws, facts, "6 (6a, 6d)")


def inserting(case: str, facts: int, lam: float, recall: float) -> Need:
    """F new facts, of which the base has no answer, recalled among each other: sections 6b and 6d."""
    laws = [
        lambda rank: starvation.shared_insertion_recall(facts, rank),
        lambda rank: starvation.insertion_recall(facts, rank),
    ]
    return _need(case, facts, lam, recall, laws, facts, "6 (6b, 6d)")


def storing(facts: int, width: int, recall: float) -> Need:
    """F facts as a sum of outer products of random keys and values of one width, cut to rank r: section 7."""
    checks.whole(width=width)
    laws = [lambda rank: float(capacity.recall(facts, width, rank))]
    return _need(f"store in a matrix of width {width}", facts, 1.0, recall, laws, width, "7")


def largest_loss(lam: float, answers: int) -> float:
    """The cross entropy at which lambda_c = ``lam`` (section 6x; orthogonal keys, enough rank)."""
    start = float(np.log(np.e + answers - 1))

    def excess(log_loss: float) -> float:
        return 1 / cross_entropy.critical_lambda_at_loss(math.exp(log_loss), answers) - 1 / lam

    return math.exp(optimize.brentq(excess, -1 / lam - 50, math.log(start)))


def _reuse(adapters: int, lam: float) -> str:
    return f"{adapters} adapter{'s' if adapters > 1 else ''} at lambda {lam:.3g}"


def _need(
    case: str, facts: int, lam: float, recall: float, laws: Sequence[Law], largest: int, section: str
) -> Need:
    """The first law gives the rank, all of them its interval."""
    wanted = math.ceil(recall * facts - 1e-9)

    def reached(law: Law, rank: int) -> float:
        return float(stats.binom.sf(wanted - 1, facts, min(law(rank), 1.0)))

    rank = smallest(lambda r: laws[0](r) >= recall, largest)
    lows = [smallest(lambda r, law=law: reached(law, r) >= TAIL, largest) for law in laws]
    highs = [smallest(lambda r, law=law: reached(law, r) >= 1 - TAIL, largest) for law in laws]
    low = min((r for r in lows if r is not None), default=None)
    high = None if None in highs else max(highs)
    return Need(case, facts, lam, rank, low, high, laws[0](rank or largest), section)


def smallest(holds: Callable[[int], bool], largest: int) -> int | None:
    """The smallest whole number from 1 to ``largest`` that holds, if all larger ones do; None if none."""
    if not holds(largest):
        return None
    low, high = 0, largest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
