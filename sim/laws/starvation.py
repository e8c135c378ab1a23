"""Section 6: recall of overwrites and insertions at too low a rank against trained LoRAs; its figure."""

import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import check, exact, rate
from sim.lab.figure import LINES, Source, figure, law, line, points, share
from sim.lab.seeds import Effort
from sim.twins import starvation as twin
from theory import coverage
from theory import starvation as closed

CELLS = ((6, 4), (8, 2), (8, 6), (16, 10), (24, 16), (32, 20), (32, 26))
"""(facts, rank) of overwrites."""


@check("overwrite recall", "6a", "law")
def _overwrite(effort: Effort):
    for facts, rank in effort.some(CELLS):
        for step, lam in enumerate((0.6, 0.75, 0.9, 1.0)):
            key = seeds.key(13, facts, rank, step)
            runs = twin.overwrite_recall(facts, rank, lam, key=key, draws=effort(128))
            predicted = closed.overwrite_recall(facts, rank, lam)
            yield rate(f"F={facts}, r={rank}, lambda={lam}", predicted, runs, facts)


INSERTED = (
    *((6, 1), (6, 2), (6, 4), (8, 1), (8, 2), (8, 6), (16, 2), (16, 4)),
    *((16, 10), (24, 3), (24, 6), (24, 16), (32, 4), (32, 8), (32, 20)),
)
"""(facts, rank) of insertions."""


@check("insertion recall", "6b", "law")
def _insertion(effort: Effort):
    for facts, rank in effort.some(INSERTED):
        runs = twin.insertion_recall(facts, rank, key=seeds.key(14, facts, rank), draws=effort(128))
        yield rate(f"F={facts}, r={rank}", closed.insertion_recall(facts, rank), runs, facts)


ONE_RELATION = ((6, 2), (8, 3), (12, 6), (16, 5), (6, 4), (8, 5), (12, 3), (12, 9))
"""(facts, rank) of LoRAs trained on the prompts of one relation."""


@check("overwrite recall, keys of one relation", "6d", "asymptotic")
def _shared_overwrite(effort: Effort):
    """Off by up to 1/(4F): what their common direction leaves of the rank it takes."""
    for facts, rank in effort.some(ONE_RELATION):
        key = seeds.key(30, facts, rank)
        runs = twin.shared_overwrite_recall(facts, rank, key=key, draws=effort(64))
        predicted = closed.shared_overwrite_recall(facts, rank)
        yield rate(f"F={facts}, r={rank}, m=256", predicted, runs, facts, slack=1 / (4 * facts))


@check("insertion recall, keys of one relation", "6d", "asymptotic")
def _shared_insertion(effort: Effort):
    """Off by up to 1/(4F), likewise."""
    for facts, rank in effort.some(ONE_RELATION):
        key = seeds.key(31, facts, rank)
        runs = twin.shared_insertion_recall(facts, rank, key=key, draws=effort(64))
        predicted = closed.shared_insertion_recall(facts, rank)
        yield rate(f"F={facts}, r={rank}, m=256", predicted, runs, facts, slack=1 / (4 * facts))


CYCLES = ((16, 3), (16, 5), (16, 7), (33, 6), (33, 8), (33, 10), (64, 15), (64, 17), (64, 19))
"""(facts on the cycle, rank)."""
SHARED = ((8, 2), (16, 6), (24, 15), (4, 1), (8, 5), (12, 9), (20, 4), (32, 24))
"""(facts, rank) of mean shares."""


@check("mean share r/F of trained adapters", "6g", "exact")
def _mean_share(effort: Effort):
    for facts, rank in effort.some(SHARED):
        runs = twin.shares(facts, rank, key=seeds.key(15, facts), draws=32)
        a, b = closed.share_law(facts, rank)
        yield exact(f"F={facts}, r={rank}, 300 steps", a / (a + b), runs.mean(), 1e-6, 32)


@check("one cycle of answers, recall", "6c", "exact")
def _cycle(effort: Effort):
    for length, rank in effort.some(CYCLES):
        predicted = coverage.retention(closed.cycle_shares(length, rank))
        measured = twin.cycle_recall(length, rank, key=seeds.key(16, length))
        yield exact(f"L={length}, r={rank}", predicted, measured, 1e-12)


FACTS = (16, 32, 64)
KINDS = {
    "overwrite_recall": lambda facts: [round(part * facts) for part in (1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)],
    "insertion_recall": lambda facts: [rank for rank in (1, 2, 4, 6, 8, 12) if rank < facts],
}
"""Ranks at which each kind of edit is measured, by facts."""


def _collect(source: Source) -> pd.DataFrame:
    rows = []
    for facts in source.effort.some(FACTS):
        count = source.effort(2048 // facts, 16384 // facts)
        for place, (kind, ranks) in enumerate(KINDS.items()):
            recall, setting = getattr(closed, kind), {"kind": kind, "facts": facts}
            last = facts if kind == "overwrite_recall" else min(facts, 24)
            for rank in range(1, last + 1):
                rows.append(law(recall(facts, rank), rank=rank, rank_share=rank / facts, **setting))
            for rank in source.effort.some(ranks(facts)):
                runs = getattr(twin, kind)(facts, rank, key=seeds.key(place, facts, rank), draws=count)
                setting |= {"rank": rank, "rank_share": rank / facts}
                rows.append(share(recall(facts, rank), np.asarray(runs), facts, **setting))
    return pd.DataFrame(rows)


@figure(
    "Overwriting needs rank in proportion to the facts, inserting only its logarithm.",
    "LoRAs of rank r trained by gradient descent on F facts with orthonormal keys, λ = 1. Filled and solid: "
    "facts that overwrite; hollow and dashed: facts that are new." + LINES,
    _collect,
    section="section 6",
)
def rank_starvation(table: pd.DataFrame):
    """Overwrite and insertion recall against r/F for three F."""
    picture, axes = style.figure(style.COLUMN, 2.7)
    for facts, look in zip(FACTS, style.levels(len(FACTS)), strict=True):
        for kind in KINDS:
            rows = table[(table["facts"] == facts) & (table["kind"] == kind)]
            hollow = kind == "insertion_recall"
            line(axes, rows, "rank_share", look, linestyle="--" if hollow else "-")
            points(axes, rows, "rank_share", look, None if hollow else f"F = {facts}", hollow)
    axes.set(xlabel="rank over facts r/F", ylabel="facts recalled", xlim=(0, 1.0))
    style.unit(axes)
    axes.text(0.27, 0.45, "insert\n(hollow)", ha="left", va="center")
    axes.text(0.65, 0.45, "overwrite\n(filled)", ha="left", va="center")
    style.key(picture, [axes])
    return picture
