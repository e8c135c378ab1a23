"""Familiarity when a name is two tokens: an unseen name is a new pair of known pieces."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import DEFAULT, NAMES, SETTING, SMALL, chance, of_method, selected
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part, plain
from sim.worlds.two_hop import ENTITIES, Setting


@experiment(
    quick={"config": SMALL, "entities": ("real", "fake"), "steps": 600},
    paper={"config": DEFAULT, "entities": tuple(ENTITIES), "steps": 1200},
)
def names(config: ReuseConfig, entities: tuple[str, ...], steps: int) -> Iterator[Part]:
    """The same with names of two tokens, where an unseen name is a new pair of known pieces."""
    config = replace(config, world=replace(config.world, name_tokens=2), layers=3)
    config = replace(config, pretraining=replace(config.pretraining, steps=steps))
    yield plain(config, {e: Setting(e, "both") for e in entities})


SHOWN = (
    ("single", "joint", "cot_answer", "joint, chain of thought"),
    ("parts", "sum", "cot_answer", "sum, chain of thought"),
    ("parts", "sum", "cot_copied", "sum, names copied"),
    ("parts", "sum", "direct", "sum, direct"),
)


def _names(source: Source) -> pd.DataFrame:
    metrics = ("cot_answer", "direct", "cot_copied", "cot_hop1")
    return selected(source.summary("names"), metrics, (("parts", "sum"), ("single", "joint")))


@figure(
    "Reuse falls with familiarity, fake below half fake below real, when a name is a pair of known pieces.",
    SETTING.replace("Two-hop world", "Two-hop world with names of two tokens").replace("2 layers", "3 layers")
    + " Template in pretraining and in both data sets. Dashed: chance among the edited answers.",
    "experiment names",
    _names,
    ("names",),
)
def two_token_names(rows: pd.DataFrame):
    """Two-hop accuracy and what breaks first, by familiarity."""
    picture, axes = style.figure(style.COLUMN, 2.3)
    chance(axes)
    order = [entities for entities in reversed(NAMES) if entities in set(rows["entities"])]
    for series, (library, method, metric, label) in enumerate(SHOWN):
        chosen = of_method(rows[rows["metric"] == metric], library, method)
        found = chosen.set_index("entities").reindex(order).dropna(subset="measured")
        x = [order.index(entities) + (series - 1.5) * 0.12 for entities in found.index]
        style.points(
            axes, x, found["measured"], found["low"], found["high"], series, label, metric == "direct"
        )
    axes.set_xticks(range(len(order)), [NAMES[entities] for entities in order])
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.legend(loc="upper left")
    return picture
