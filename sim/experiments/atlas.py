"""History and geography: real facts withheld from pretraining, by popularity and template; two figures."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import DIRECT, EVERY_WAY, WAYS_OF_REUSE, named, reader
from sim.experiments.common.claim import POOLED, Cell
from sim.experiments.common.pictures import ERRORS, FORECASTS, draw_forecasts, draw_library, forecasts
from sim.experiments.common.world_claim import world_claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.merge.looks import look_of
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part
from sim.worlds.atlas import FAMILIARITIES, TEMPLATES, Config, Setting

FULL = of_world(Config(), **EVERY_WAY)

SMALL = replace(
    FULL,
    pretraining=FULL.pretraining.in_one_tile(),
    extras=(),
    methods=("average", "sum", "ties"),
    lambdas=(0.5, 0.75, 1.0),
    routers=(),
)


@experiment(
    quick={
        "config": SMALL,
        "cells": (("head", "both"), ("tail", "both")),  # on one base a seed: bases take most of the time
    },
    paper={
        "config": FULL,
        "cells": (
            *(("head", t) for t in TEMPLATES),
            *((f, t) for f in FAMILIARITIES if f != "head" for t in ("none", "both")),
            *((f, t, 0.0) for f in ("head", "tail") for t in ("none", "both")),
        ),
    },
)
def atlas(config: ReuseConfig, cells: tuple[tuple, ...]) -> Iterator[Part]:
    """Real facts of history and geography: popularity of the countries, how unequal it is, and template."""
    settings = [Setting(*cell) for cell in cells]
    yield Part.of(config, {_label(setting): setting for setting in settings})


def _label(setting: Setting) -> str:
    zipf = () if setting.zipf == Setting.zipf else (f"zipf{setting.zipf:g}",)
    return "/".join((setting.familiarity, setting.template, *zipf))


WORDS = (
    f"Real facts of about {FULL.world.countries} countries, names in {FULL.world.length} pieces; pretraining "
    f"withholds {FULL.world.edits} capitals and currencies of each third by population and shows the rest in "
    "proportion to 1/rank; 2 layers of width 64, rank 4 on all matrices."
)

METHODS = (*WAYS_OF_REUSE, *named(("expert", "sum"), ("single", "country"), ("single", "currency")))
"""Rows of the main figure, from the top. A profile makes only some of them. A single adapter cannot compose:
if it scores above a guess at once, the real facts give the answer away."""

PANELS = (
    ("both", "cot_answer", "step by step,\nshared template"),
    ("none", "cot_answer", "step by step,\nno template"),
    ("both", DIRECT, "at once,\ntaught answers only"),
)
"""(template, metric, title)."""

THIRDS = {"head": "most populous third", "middle": "middle third", "tail": "least populous third"}


def _library(source: Source) -> pd.DataFrame:
    rows = reader("atlas", ("cot_answer", "direct", DIRECT), METHODS)(source)
    return rows[rows["zipf"] == Setting().zipf]


@figure(
    "Which currency is used in the country of a capital, from one adapter that knows capitals and one that "
    "knows currencies: step by step an oracle router does as well as joint training, the sum far less even "
    "for familiar countries, and neither without the template; asked at once merges do about as well as "
    "either adapter alone.",
    WORDS
    + " Rows: ways of reusing the two adapters. Points: share of questions answered, one marker a third of "
    "the countries; bars: 95% intervals. Dashed: a guess among the answers, which are all different.",
    _library,
    ("atlas",),
    panels=(
        "Chain of thought; traces about other countries stand in pretraining and in both data sets.",
        "The same with traces nowhere.",
        "Answers at once with the shared template, where the model says one of the taught answers at all.",
    ),
)
def atlas_library(rows: pd.DataFrame):
    """Accuracy on the main question by method, one series a third of the countries."""
    picture, panels = style.figure(style.PAGE, 3.6, ncols=3, sharey=True)
    draw_library(panels, rows, METHODS, PANELS, "familiarity", THIRDS, 0.22)
    for axes in panels:
        style.reference(axes, 1 / FULL.world.edits, f"guess 1/{FULL.world.edits}", across=True)
        style.unit(axes, "x")
        axes.set_xlabel("questions answered")
    style.key(picture, panels, "countries by population")
    return picture


QUESTIONS = {
    "country": "country of a capital",
    "currency": "currency of a country",
    "cot_exact": "currency of a capital, by steps",
    "cot3_exact": "three hops, by steps",
    "history_cot": "historic state, by steps",
    "direct": "currency of a capital, at once",
    "direct3": "three hops, at once",
    "history": "historic state, at once",
    "untouched": "a fact nobody edited",
    "untouched_cot": "two such facts, by steps",
}
"""Metric -> question."""

REUSED = named(("parts", "sum"), ("parts", "average"), ("single", "joint"))


@figure(
    "Single adapters foretell their merge on real facts too, question by question; the coverage law, blind "
    "to damage, less well.",
    f"{WORDS} Bars: 95% intervals, in (b) by bootstrap over seeds. {FORECASTS}",
    lambda source: forecasts(source, "atlas", "head/both", QUESTIONS, REUSED),
    ("atlas",),
    panels=(
        "Questions answered right in every token, best first by the sum; most populous third, shared "
        "template; strokes: the disentangled forecasts of sum and average. Three hops ask for the country of "
        "the next capital eastwards, historic states are named in few sentences of pretraining.",
        ERRORS,
    ),
)
def atlas_prediction(rows: pd.DataFrame):
    """Merges of every question beside their forecast; errors of all predictors."""
    return draw_forecasts(rows, QUESTIONS, REUSED, [look_of(method) for _, method, _ in REUSED])


THREE_HOPS = "direct3_given_among_answers"

world_claim(
    "4c",
    "atlas",
    "history and geography, on real facts",
    "atlas_library",
    shared=("head/both",),
    unshared=("head/none",),
    unseen={"tail/both": "head/both"},
    at_once=("direct", "direct3", "history"),
    numbers={
        "base": Cell("atlas", POOLED, "base", THREE_HOPS),
        "average3": Cell("atlas", POOLED, "average", THREE_HOPS),
    },
    limits="Real facts are no guess to the base: to questions of three hops it is right in {base} of such "
    "answers before any adapter, the average in {average3}.",
)
