"""History and geography: real facts withheld from pretraining, by popularity and template; two figures."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from sim.experiments.common import LAMBDAS, across, name_rows, selected, shown
from sim.experiments.common.predicted import PREDICTORS, prediction_errors, undecided
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure, point
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part, plain
from sim.worlds.atlas import FAMILIARITIES, TEMPLATES, Config, Setting

FULL = of_world(
    Config(),
    families=("lora",),
    extras=("bridge", "expert"),
    methods=("average", "sum", "ties", "svd"),
    lambdas=LAMBDAS,
    routers=("arrow",),
    oracle=True,
)

SMALL = replace(FULL, extras=(), methods=("average", "sum", "ties"), lambdas=(0.5, 0.75, 1.0))


@experiment(
    quick={
        "config": SMALL,
        "cells": tuple((f, t) for f in ("head", "tail") for t in ("none", "both")),
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
    yield plain(config, {_label(setting): setting for setting in settings})


def _label(setting: Setting) -> str:
    zipf = () if setting.zipf == Setting.zipf else (f"zipf{setting.zipf:g}",)
    return "/".join((setting.familiarity, setting.template, *zipf))


WORDS = (
    f"Real facts of about {FULL.world.countries} countries, names in {FULL.world.length} pieces; pretraining "
    f"withholds {FULL.world.edits} capitals and currencies of each third by population and shows the rest in "
    "proportion to 1/rank; 2 layers of width 64, rank 4 on all matrices; seeds as the picture says."
)

METHODS = (
    ("single", "joint", "joint (ceiling)"),
    ("parts", "oracle", "oracle router"),
    ("parts", "sum", "sum"),
    ("parts", "lambda=0.75", "λ = ¾"),
    ("parts", "average", "average"),
    ("parts", "svd", "SVD"),
    ("parts", "ties", "TIES"),
    ("parts", "arrow", "Arrow"),
    ("bridge", "sum", "+ bridge, sum"),
    ("expert", "sum", "+ expert, sum"),
    ("single", "country", "country alone"),
    ("single", "currency", "currency alone"),
)
"""(library, method, label) from the top of the main figure; a run has those that its profile makes. One
adapter alone cannot compose: what it scores at once above a guess is what real facts give away."""

DIRECT = "direct_given_among_answers"

PANELS = (
    ("both", "cot_answer", "(a) step by step,\nshared template"),
    ("none", "cot_answer", "(b) step by step,\nno template"),
    ("both", DIRECT, "(c) at once, answers\namong those taught"),
)
"""(template, metric, title)."""

THIRDS = {"head": "most populous third", "middle": "middle third", "tail": "least populous third"}


def _library(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    rows = selected(source.summary("atlas"), ("cot_answer", "direct", DIRECT), pairs)
    return rows[rows["zipf"] == Setting().zipf]


@figure(
    "Which currency is used in the country of a capital, from one adapter that knows capitals and one that "
    "knows currencies: step by step the sum nears joint training for familiar countries and needs the "
    "template; asked at once merges do about as well as either adapter alone.",
    WORDS
    + " Dashed: a guess among the answers, which are all different. (c) where the model answers with one "
    "of them.",
    "experiment atlas",
    _library,
    ("atlas",),
)
def atlas_library(rows: pd.DataFrame):
    """Accuracy on the main question by method, one series a third of the countries."""
    picture, panels = style.figure(style.PAGE, 3.2, ncols=3, sharey=True)
    methods = shown(rows, METHODS)
    for axes, (template, metric, title) in zip(panels, PANELS, strict=True):
        chosen = rows[(rows["template"] == template) & (rows["metric"] == metric)]
        for series, (third, name) in enumerate(THIRDS.items()):
            found = chosen[chosen["familiarity"] == third]
            if not found.empty:
                across(axes, found, methods, (series - 1) * 0.22, series, name)
        axes.axvline(1 / FULL.world.edits, color="black", linestyle="--", linewidth=0.8, zorder=0)
        axes.set(xlim=(-0.03, 1.03), xlabel="share of questions answered")
        axes.set_title(title, loc="left")
    name_rows(panels, methods)
    title = f"countries by population (seeds: {rows['seeds'].max():g})"
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, title=title)
    return picture


QUESTIONS = {
    "cot_answer": "capital,\n2 hops",
    "cot3_answer": "capital,\n3 hops",
    "history_cot": "historic\nstate",
}
"""What is asked step by step, by metric."""

REUSED = METHODS[:5]


def _prediction(source: Source) -> pd.DataFrame:
    """Panel "question": every question by method, most populous third, shared template. Panel "cell": mean
    prediction and outcome of every cell. Panel "error": ``prediction_errors`` of the same."""
    pairs = tuple((library, method) for library, method, _ in REUSED)
    rows = selected(source.summary("atlas"), tuple(QUESTIONS), pairs)
    asked = rows[rows["label"] == "head/both"].assign(panel="question")
    said = source.summary("atlas", "predictions")
    said, where = said[said["method"].str.startswith("lambda=")], ["label", "lam", "metric"]
    found = [
        point(part["disentangled"].mean(), part["measured"], panel="cell")
        for _, part in said.dropna(subset="disentangled").groupby(where)
    ]
    errors = prediction_errors(undecided(said)).assign(panel="error")
    kept = ["panel", "library", "method", "metric", "predicted", "measured", "low", "high", "seeds"]
    return pd.concat([asked[kept], pd.DataFrame(found), errors], ignore_index=True)


@figure(
    "Single adapters foretell their merge on real facts too; the coverage law, blind to damage, less well.",
    f"{WORDS} Left: most populous third, shared template; three hops ask for the country of the next capital "
    "eastwards, historic states are named in few sentences of pretraining. Middle: predicted against "
    "measured accuracy, one point a setting, probe and λ. Right: mean absolute error, filled on cells that "
    "are neither at floor nor ceiling (0.05 to 0.95), hollow on all; 95% bootstrap intervals over seeds; "
    "base: the merge answers as the base does.",
    "experiment atlas",
    _prediction,
    ("atlas",),
)
def atlas_prediction(rows: pd.DataFrame):
    """Questions of other kinds by method; calibration of the disentangled predictor; errors of all."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.5, ncols=3)
    asked = rows[rows["panel"] == "question"]
    for series, (library, method, name) in enumerate(REUSED):
        found = asked[(asked["library"] == library) & (asked["method"] == method)].set_index("metric")
        found = found.reindex(list(QUESTIONS))
        x = np.arange(len(QUESTIONS)) + (series - 2) * 0.13
        style.points(left, x, found["measured"], found["low"], found["high"], series, name)
    left.set_xticks(range(len(QUESTIONS)), list(QUESTIONS.values()))
    left.set(ylabel="answered step by step", ylim=(-0.03, 1.03))
    title = f"left (seeds: {asked['seeds'].max():g})"
    picture.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=5, title=title)
    cell = rows[rows["panel"] == "cell"]
    middle.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    colour = style.COLOURS[0]
    middle.plot(
        cell["predicted"], cell["measured"], style.MARKERS[0], color=colour, markersize=2.5, alpha=0.6
    )
    middle.set(xlabel="predicted by single adapters\n(disentangled)", ylabel="measured of the merge")
    errors = rows[rows["panel"] == "error"]
    names = [name for name in PREDICTORS if name in set(errors["predictor"])]
    for series, scope in enumerate(("undecided", "all")):
        found = errors[errors["scope"] == scope].set_index("predictor").reindex(names)
        x = np.arange(len(names)) + (series - 0.5) * 0.2
        style.points(right, x, found["measured"], found["low"], found["high"], 1, scope, hollow=series == 1)
    right.set_xticks(range(len(names)), names, rotation=35, ha="right")
    right.set(ylabel="mean absolute error", ylim=(0, None))
    right.legend(fontsize=6)
    return picture
