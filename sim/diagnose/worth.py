"""What the files' advice to merge was worth where the merges were run: pairs on a language model."""

import functools
from dataclasses import dataclass

from sim.lab.figure import Source, committed

AVERAGE, SUM = "average", "sum"
LOW = 0.05
RUN = "merge_forecast"
"""The experiment whose committed tables are read."""


@dataclass(frozen=True)
class Worth:
    """Share of an adapter's answers that a merge of two keeps, over pairs: median and ``LOW`` quantile."""

    pairs: int
    median: float
    low: float


@functools.cache
def worth(merge: str) -> Worth:
    """Of the pairs of the test bed, experiment ``merge_forecast``, that the files advise to merge.

    merge: "average" (lambda = 1/2) or "sum" (1). Each adapter of a pair counts.
    """
    rows = Source(committed() / "experiments").summary(RUN, "pairs_measured")
    rows = rows[(rows["merge"] == merge) & rows["action"].isin([AVERAGE, SUM])]
    pairs = len(rows.drop_duplicates(["adapters", "design", "seed", "left", "right"]))
    return Worth(pairs, rows["answers"].median(), rows["answers"].quantile(LOW))


def nearest(lam: float) -> str:
    """The merge that was run at the strength nearer to lam."""
    return AVERAGE if lam <= 0.75 else SUM


def sentence(lam: float) -> str:
    """What a merge at a strength near lam kept, in words."""
    merge = nearest(lam)
    one = worth(merge)
    return (
        f"What is kept the files cannot tell: of {one.pairs} pairs of a language model that they advise to "
        f"merge, the {merge} kept {one.median:.0%} of the answers of an adapter in the median, and less than "
        f"{one.low:.0%} in one case of twenty"
    )
