"""Familiarity when a name is two tokens: an unseen name is a new pair of known pieces."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pandas as pd

from sim.experiments.common import DEFAULT, NAMES, SETTING, SMALL, chance, of_method, reader
from sim.experiments.common.claim import NOTHING, Cell, Rule, claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import figure, points_across
from sim.merge.looks import look_of
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
from sim.worlds.two_hop import ENTITIES, Setting


@experiment(
    quick={"config": SMALL, "entities": ("real", "fake"), "steps": 600},
    paper={"config": DEFAULT, "entities": tuple(ENTITIES), "steps": 1200},
)
def names(config: ReuseConfig, entities: tuple[str, ...], steps: int) -> Iterator[Part]:
    """The same with names of two tokens, where an unseen name is a new pair of known pieces."""
    config = replace(config, world=replace(config.world, name_tokens=2), layers=3)
    config = replace(config, pretraining=config.pretraining.lasting(steps, 6e-3))
    yield Part.of(config, {e: Setting(e, "both") for e in entities})


SHOWN = (
    ("single", "joint", "cot_answer", "joint adapter, step by step", False),
    ("parts", "sum", "cot_answer", "sum, step by step", False),
    ("parts", "sum", "cot_copied", "sum, names copied", True),
    ("parts", "sum", "direct", "sum, at once", True),
)
"""(library, method, metric, label, whether markers are hollow)."""

MARKS = ("*", "o", "^", "D")


@figure(
    "Reuse falls with familiarity when a name is a pair of known pieces: real names above an unseen bridge, "
    "and that above an unseen subject or both, which are not told apart.",
    SETTING.replace("Two-hop world", "Two-hop world with names of two tokens").replace("2 layers", "3 layers")
    + " Template in pretraining and in both data sets. Points: share of queries, with 95% intervals; dashed: "
    "the most that one hop allows.",
    reader(
        "names",
        ("cot_answer", "direct", "cot_copied", "cot_hop1"),
        (("parts", "sum"), ("single", "joint")),
    ),
    ("names",),
)
def two_token_names(rows: pd.DataFrame):
    """Two-hop accuracy and what breaks first, by familiarity: a row each."""
    picture, axes = style.figure(style.COLUMN, 2.6)
    order = [entities for entities in NAMES if entities in set(rows["entities"])]
    for series, (library, method, metric, label, hollow) in enumerate(SHOWN):
        chosen = of_method(rows[rows["metric"] == metric], library, method).set_index("entities")
        mark = style.Look(look_of(method).colour, MARKS[series])
        points_across(axes, chosen, order, (series - 1.5) * 0.17, mark, label, hollow)
    style.unit(axes, "x")
    style.rows([axes], [NAMES[entities] for entities in order])
    chance(axes, across=True)
    axes.set_xlabel("share of queries")
    style.key(picture, [axes])
    return picture


_sum = partial(Cell, "names")
HALVES = (_sum("half_fake"), _sum("half_fake_subject"))

claim(
    "2b",
    "fake < half fake < real",
    "two_token_names",
    "names",
    fixed="2026-11-29",
    rules=(
        Rule(
            "ends",
            "accuracy step by step of the sum: both names real, less both unseen",
            _sum("real"),
            _sum("fake"),
            above=NOTHING,
        ),
        Rule("upper", "both real, less one unseen (bridge; subject)", _sum("real"), HALVES, above=NOTHING),
        Rule("lower", "one unseen (bridge; subject), less both", HALVES, _sum("fake"), above=NOTHING),
    ),
    numbers={
        "bridge": HALVES[0],
        "subject": HALVES[1],
        "copied": _sum("real", metric="cot_copied"),
        "copied_fake": _sum("fake", metric="cot_copied"),
    },
    evidence="Where a name is two known tokens, the sum answers {ends.of} with real names, {bridge} with the "
    "bridge unseen, {subject} with the subject unseen and {ends.to} with both. Of its chains {copied} copy "
    "real names, {copied_fake} unseen ones.",
)
