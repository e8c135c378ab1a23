"""A referee's controls: other ways in which two facts might be joined, in the same world, against nulls.

Cells "linked/I" have a base that was shown two-hop answers and traces, "unlinked/I" one that was not; I says
where identities ("b IS b") occur. A world that offers controls (``sim.worlds.controls``) is one ``Part``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from sim.experiments.common import SMALL
from sim.experiments.common.claim import Cell, claim
from sim.experiments.controls import lines, worlds
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import figure
from sim.reuse.jobs import Part
from sim.worlds import two_hop
from sim.worlds.controls import FINETUNING
from sim.worlds.two_hop import PARTS, TEMPLATES, Setting
from sim.worlds.two_hop import controls as two_hop_controls

__all__ = ["ALL", "LINES", "PARTS_ONLY", "controls", "referee", "worlds"]
PARTS_ONLY = replace(
    SMALL,
    world=two_hop.Config(controls=True),
    # Twice as many steps as elsewhere at half the rate: comparisons are learned last.
    pretraining=lines.with_batches(two_hop.PRETRAINING, *two_hop_controls.PRETRAINING).lasting(600, 6e-3),
    finetuning=lines.with_batches(two_hop.FINETUNING, *FINETUNING),
    methods=("average", "sum"),
    lambdas=(),
    routers=(),
    oracle=False,
    losses=True,
)
"""The two hop adapters and the joint one, in a world with controls."""

ALL = replace(PARTS_ONLY, extras=("direct_expert", *lines.libraries(PARTS), "compared", "kinds"))
"""The same with every library that the world names."""


@experiment(
    quick={"linked": ("both",), "without": ("none", "both")},
    paper={"linked": ("pretraining", "data", "both"), "without": tuple(TEMPLATES)},
)
def controls(linked: Sequence[str], without: Sequence[str]) -> Iterator[Part]:
    """Controls: facts that pretraining knows, comparisons, stand-ins, a direct expert, identities."""
    yield Part.of(ALL, {"linked/none": Setting()})
    yield Part.of(PARTS_ONLY, {f"linked/{i}": Setting(identity=i) for i in linked})
    yield Part.of(
        lines.unlinked(PARTS_ONLY), {f"unlinked/{i}": Setting(template="none", identity=i) for i in without}
    )


LINES = lines.controls_of(PARTS, proved=True)


@figure(
    "Two edited hops are joined in no answer and no loss, whatever is added or stands in; what pretraining "
    "joined, and an edited and a known hop where it showed two-hop answers, the loss tells.",
    "Two-hop world of 64 entities, 16 edits a hop; 2 layers of width 64, rank 4 on all matrices. Rows: what "
    "is edited, known or replaced; the highest gain of the sum first. Identities are facts of the form b is "
    "b; a plain base was shown no two-hop answers; one adapter: the joint one, or the one that is left. "
    "Points: means over seeds; bars: 95% intervals. Dashed: a guess. Grey rows: a theorem (section 2) proves "
    "that nothing beats it.",
    lambda source: lines.against_nulls(source.summary("controls"), LINES, ("accuracy", "gain")),
    ("controls",),
    panels=(
        "Share of right answers among those that occur.",
        "Mean -log p over all pairings of questions and answers, less that of the right pairs.",
    ),
)
def referee(rows: pd.DataFrame):
    """Every control against its null: answers that occur, and the loss."""
    picture, panels = style.figure(style.PAGE, 4.4, ncols=2, sharey=True)
    lines.draw_panels(dict(zip(panels, ((rows, "accuracy"), (rows, "gain")), strict=True)), rows, "theorem")
    for axes, title in zip(panels, ("answers", "loss"), strict=True):
        axes.set_title(title, loc="left")
    style.key(picture, panels)
    return picture


def _lines(theorem: str, lacking: bool = False) -> Callable[[str], list[Cell]]:
    proved = [line for line in LINES if line.theorem == theorem]
    return partial(lines.cells_of, "controls", proved, lacking=lacking)


def _gain(label: str) -> Cell:
    return Cell("controls", label, "sum", "direct_known_second_loss_gain_over_base")


claim(
    "1+a",
    "Controls are at their nulls where a theorem says so, in the answer and in the loss",
    "referee",
    "controls",
    fixed="2026-11-29",
    rules=(
        *lines.rules_of(
            "composition",
            "models that have both hops, base without two-hop answers (2d)",
            _lines("2d"),
            PARTS_ONLY.world.edits,
        ),
        *lines.rules_of(
            "instrument",
            "models of which nobody was taught one of the hops (2a)",
            _lines("2a", lacking=True),
            PARTS_ONLY.world.edits,
            "An earlier rule took a guess for the null where nobody knows one of the hops; the exact one "
            "(2g) is a little higher.",
        ),
    ),
    numbers={"linked": _gain("linked/none"), "unlinked": _gain("unlinked/none")},
    evidence="Composition is tested where a model has both hops and theorem 2d proves the null, by "
    "{composition_loss.count} numbers of the loss and {composition_accuracy.count} of the answer; nearest to "
    "their bounds are a gain of {composition_loss} nats and {composition_accuracy}. Where nobody was taught "
    "one of the hops nothing can be composed: these numbers test the instrument, {instrument_loss} nats and "
    "{instrument_accuracy}.",
    limits="Where the base was shown two-hop answers no theorem holds: with hop 2 known, the sum then gains "
    "{linked} nats over the base, and {unlinked} if the base was shown none. A bound is a quarter of what "
    "knowing the answer would give: less than that can hide.",
)
