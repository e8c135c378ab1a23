"""Traces of other entities in the adapters' own data: their number, their wording and the base."""

from collections.abc import Iterator

import pandas as pd

from sim.experiments.common import DEFAULT, SETTING, SMALL, chance, curves, reader
from sim.experiments.common.claim import NOTHING, SHARE, Cell, Rule, claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import figure
from sim.merge.looks import look_of
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
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
    """Traces in both adapters' data: their number, their wording, and whether the base knows them."""
    yield Part.of(
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


@figure(
    "Traces in the adapters' own data bridge the hops only if pretraining knows the template and they are "
    "worded alike: 4 shared traces raise the sum, 4 paraphrased ones destroy it.",
    SETTING
    + " Traces of other, real entities in each adapter's data. Points: accuracy step by step, with 95% "
    "intervals, hollow where the two data sets, or data and base, are worded apart; thin lines guide the "
    "eye; dashed: the most that one hop allows.",
    reader("bridges", ("cot_answer",), (("parts", "sum"), ("single", "joint"))),
    ("bridges",),
)
def bridge_dose(rows: pd.DataFrame):
    """Chain-of-thought accuracy against the number of traces, by wording and base."""
    picture, axes = style.figure(style.COLUMN, 2.9)
    series = []
    for mark, (template, wording, method, label, hollow) in zip(MARKS, SHOWN, strict=True):
        worded = (rows["wording"] == wording) | (rows["bridges"] == 0)
        chosen = (rows["method"] == method) & (rows["template"] == template) & worded
        series.append((rows[chosen], style.Look(look_of(method).colour, mark), label, hollow))
    curves(axes, rows, "bridges", series, 0.07)
    axes.set(xlabel="traces of other entities in each data set", ylabel="accuracy, step by step")
    chance(axes)
    style.key(picture, [axes])
    return picture


RUNS = ("familiarity", "bridges", "rank")
FIXED = "2026-11-29"
OTHERS = (1, 2, 8, 16, 32)
"""Ranks other than 4 for which the run also has twice the rank."""


def _dosed(*doses: int, method: str = "sum", wording: str = "shared") -> tuple[Cell, ...]:
    return tuple(Cell("bridges", f"both/{wording}/{dose}", method) for dose in doses)


def _where(template: str, method: str = "sum") -> Cell:
    return Cell("familiarity", f"real/{template}", method)


def _ranks(*ranks: int, method: str = "sum") -> tuple[Cell, ...]:
    return tuple(Cell("rank", f"rank{rank}", method) for rank in ranks)


claim(
    "3a",
    "Reuse works when the data sets share a solution template",
    "bridge_dose",
    *RUNS,
    fixed=FIXED,
    rules=(
        Rule(
            "reach",
            "accuracy step by step, template in pretraining and in both data sets: sum of two adapters of "
            "rank 4, over the joint adapter of rank 8",
            _ranks(4),
            _ranks(8, method="joint"),
            above=SHARE,
            ratio=True,
        ),
        Rule(
            "ranks",
            "the same at rank 1, 2, 8, 16, 32, over the joint adapter of twice the rank",
            _ranks(*OTHERS),
            _ranks(*(2 * rank for rank in OTHERS), method="joint"),
            above=SHARE,
            ratio=True,
        ),
        Rule(
            "template",
            "accuracy step by step of the sum: template in pretraining and both data sets, less nowhere",
            _where("both"),
            _where("none"),
            above=NOTHING,
        ),
        Rule(
            "traces",
            "template in pretraining: four shared traces in each data set, less none",
            _dosed(4),
            _dosed(0),
            above=NOTHING,
        ),
        Rule(
            "only",
            "template in both data sets alone, less nowhere",
            _where("data"),
            _where("none"),
            above=NOTHING,
        ),
    ),
    numbers={
        "paraphrased": _dosed(4, wording="paraphrased")[0],
        "recall": Cell("familiarity", "real/data", "bridge", "trace_recall", "single"),
    },
    evidence="With the template in pretraining and in both data sets the sum of two adapters of rank 4 "
    "answers {reach.of}, the joint adapter of the same total rank {reach.to}; without the template the sum "
    "has {template.to}. Four traces of other entities in each data set lift the sum from {traces.to} to "
    "{traces.of} if they are worded as in pretraining; four that each data set words in its own way leave it "
    "at {paraphrased}.",
    limits="A template that only the data sets hold leaves the sum at {only.of}, but this may be too little "
    "training: an adapter that is taught nothing but such traces ends with {recall} of them. The rank at "
    "which the sum falls furthest short gives {ranks} of the joint adapter of twice the rank.",
)

claim(
    "3b",
    "Averaging benefits as well",
    "library_and_familiarity",
    *RUNS,
    fixed=FIXED,
    rules=(
        Rule(
            "template",
            "accuracy step by step of the average, rank 4: template in pretraining and both data sets, less "
            "nowhere",
            _where("both", "average"),
            _where("none", "average"),
            above=NOTHING,
        ),
        Rule(
            "traces",
            "template in pretraining: shared traces in each data set (4, 16, 64, 256), less none",
            _dosed(4, 16, 64, 256, method="average"),
            _dosed(0, method="average"),
            above=NOTHING,
            history="Written after the tables had shown that traces lower the average at rank 4.",
        ),
    ),
    numbers={
        "pretraining": _where("pretraining", "average"),
        "low": _ranks(4, method="average")[0],
        "high": _ranks(64, method="average")[0],
    },
    evidence="At rank 4 the average answers {template.to} without a template, {pretraining} with one in "
    "pretraining alone, and {template.of} once both data sets hold it as well. Four shared traces in each "
    "data set change it by {traces.lines[0]}.",
    limits="At rank 64 the average has {high} with the template everywhere, at rank 4 {low}. That is about "
    "dilution (theory, section 3) and says nothing about templates: at other ranks than 4 no setting lacks "
    "one.",
)
