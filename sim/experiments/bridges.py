"""Traces of other entities in the adapters' own data: how many, worded how, on which base."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sim.experiments.common import DEFAULT, SETTING, SMALL, chance, guide, selected
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.merge.looks import look_of
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part, plain
from sim.worlds.two_hop import WORDINGS, Setting


@experiment(
    quick={"config": SMALL, "doses": (4, 64), "wordings": ("shared",), "templates": ("both",)},
    paper={
        "config": DEFAULT,
        "doses": (0, 4, 16, 64, 256),
        "wordings": WORDINGS,
        "templates": ("data", "both"),
    },
)
def bridges(
    config: ReuseConfig, doses: tuple[int, ...], wordings: tuple[str, ...], templates: tuple[str, ...]
) -> Iterator[Part]:
    """Dose of traces in both adapters' data: how many, worded how, on a base that knows them or not."""
    yield plain(
        config,
        {
            f"{template}/{wording}/{dose}": Setting("real", template, wording, dose)
            for template in templates
            for dose in doses
            for wording in (wordings if dose else wordings[:1])  # without traces there is no wording
        },
    )


SHOWN = (
    ("both", "shared", "joint", "joint adapter, shared", False),
    ("both", "shared", "sum", "sum, shared", False),
    ("both", "paraphrased", "sum", "sum, paraphrased", True),
    ("both", "different", "sum", "sum, hops reversed", True),
    ("data", "shared", "sum", "sum, shared, base lacks template", True),
)
"""(template, wording, method, label, whether markers are hollow)."""

MARKS = ("*", "o", "s", "^", "D")


def _bridges(source: Source) -> pd.DataFrame:
    return selected(source.summary("bridges"), ("cot_answer",), (("parts", "sum"), ("single", "joint")))


@figure(
    "Traces in the adapters' own data bridge the hops only if pretraining knows the template and they are "
    "worded alike: 4 shared traces raise the sum, 4 paraphrased ones destroy it.",
    SETTING
    + " Traces of other, real entities in each adapter's data. Points: accuracy step by step, with 95% "
    "intervals, hollow where the two data sets, or data and base, are worded apart; thin lines guide the "
    "eye; dashed: the most that one hop allows.",
    "experiment bridges",
    _bridges,
    ("bridges",),
)
def bridge_dose(rows: pd.DataFrame):
    """Chain-of-thought accuracy against the number of traces, by wording and base."""
    picture, axes = style.figure(style.COLUMN, 2.9)
    doses = sorted(rows["bridges"].unique())
    for series, (template, wording, method, label, hollow) in enumerate(SHOWN):
        worded = (rows["wording"] == wording) | (rows["bridges"] == 0)
        chosen = (rows["method"] == method) & (rows["template"] == template) & worded
        found = rows[chosen].sort_values("bridges")
        if not found.empty:
            x = np.searchsorted(doses, found["bridges"]) + (series - 2) * 0.07
            guide(axes, x, found, style.Look(look_of(method).colour, MARKS[series]), label, hollow)
    axes.set_xticks(range(len(doses)), [f"{dose:g}" for dose in doses])
    axes.set(xlabel="traces of other entities in each data set", ylabel="accuracy, step by step")
    style.unit(axes)
    chance(axes)
    style.key(picture, [axes])
    return picture
