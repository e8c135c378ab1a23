"""Cross-lingual code: one adapter knows a new language, another new functions; can they be combined?"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from sim.experiments.common import LAMBDAS, across, name_rows, named, selected, shown
from sim.experiments.common.predicted import (
    PREDICTORS,
    errors_across,
    prediction_errors,
    undecided,
)
from sim.experiments.common.world_claim import world_claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure, point
from sim.merge.looks import ONE_ADAPTER, look_of, spelled
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part, plain
from sim.worlds.crosslingual import FAMILIARITY, TEMPLATES, Config, Setting

DEFAULT = of_world(
    Config(),
    families=("lora",),
    extras=("bridge",),
    methods=("average", "sum", "ties", "svd"),
    lambdas=LAMBDAS,
    routers=("arrow",),
    oracle=True,
)
"""The paper profile's: 2 layers of width 64, rank 4 on every matrix."""

SMALL = replace(DEFAULT, extras=(), methods=("average", "sum"), lambdas=(0.75,), routers=(), oracle=False)
"""Only the two adapters and the joint one: for programs that must compile quickly."""


@experiment(
    quick={
        "config": SMALL,
        "cells": (("familiar", "both"), ("new", "both")),
    },
    paper={
        "config": DEFAULT,
        "cells": (
            *(("familiar", t) for t in TEMPLATES),
            *((f, t) for f in FAMILIARITY if f != "familiar" for t in ("none", "both")),
            *((f, "both", "known") for f in ("familiar", "new")),
        ),
    },
    seeds={"quick": 4},
)
def crosslingual(config: ReuseConfig, cells: tuple[tuple[str, ...], ...]) -> Iterator[Part]:
    """New functions in a new language: method against familiarity and template."""
    yield plain(config, {"/".join(cell): Setting(*cell) for cell in cells})


METHODS = named(
    ("single", "joint"),
    *(("parts", name) for name in ("oracle", "sum", "lambda=0.75", "average", "svd", "ties", "arrow")),
    ("bridge", "sum"),
    ("single", "language"),
    ("single", "functions"),
)
"""Rows of the main figure, from the top."""

SERIES = (
    ("familiar", "pivot", "both familiar"),
    ("familiar", "known", "both familiar, worked in known languages"),
    ("new_language", "pivot", "words of N unseen"),
    ("new_functions", "pivot", "function names unseen"),
    ("new", "pivot", "both unseen"),
)
"""(familiarity, worked, label)."""

PANELS = (
    ("both", "cot_runs", "translate, then code,\nshared template"),
    ("none", "cot_runs", "translate, then code,\nno template"),
    ("both", "direct_runs", "code at once,\nshared template"),
)
"""(template, metric, title)."""

SIZES = (
    "Cross-lingual world of 20 known and 8 new functions, 4 inputs; 2 layers of width 64, rank 4 on all "
    "matrices. Programs are run on 16 fresh inputs. "
)

GUESS = f"guess 1/{Config().edits}"


def _reuse(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    return selected(source.summary("crosslingual"), ("cot_runs", "direct_runs"), pairs)


@figure(
    "New functions asked for in a new language: at once, no data-free method answers; by translating first, "
    "the sum reuses what the adapters' templates share.",
    SIZES
    + "Rows: ways of reusing the two adapters. Points: programs that do what was asked, one marker for what "
    "pretraining knows of the words; bars: 95% intervals. Dashed: a guess among the taught programs.",
    "experiment crosslingual",
    _reuse,
    ("crosslingual",),
    panels=(
        "Traces stand in pretraining and in both data sets, those of new functions asked for in P, or "
        '("worked in known languages") in all known languages.',
        "Traces stand in neither.",
        "Programs written at once, shared template.",
    ),
)
def crosslingual_reuse(rows: pd.DataFrame):
    """The main figure: programs that run as they should by method, one series a familiarity."""
    picture, panels = style.figure(style.PAGE, 4.2, ncols=3, sharey=True)
    methods = shown(rows, METHODS)
    for axes, (template, metric, title) in zip(panels, PANELS, strict=True):
        chosen = rows[(rows["template"] == template) & (rows["metric"] == metric)]
        for series, (familiarity, worked, name) in enumerate(SERIES):
            accuracies = chosen[(chosen["familiarity"] == familiarity) & (chosen["worked"] == worked)]
            if not accuracies.empty:
                across(
                    axes, accuracies, methods, (series - 2) * 0.15, style.levels(len(SERIES))[series], name
                )
        style.reference(axes, 1 / Config().edits, GUESS, across=True)
        axes.set_title(title, loc="left")
        axes.set_xlabel("programs that do as asked")
        style.unit(axes, "x")
    name_rows(panels, methods)
    style.key(picture, panels)
    return picture


QUESTIONS = (
    ("language", "paraphrase, N into P"),
    ("known_inputs", "inputs, known function"),
    ("known_runs", "known function, at once"),
    ("known_cot_runs", "known function, by translation"),
    ("direct_inputs", "inputs, new function"),
    ("direct_runs", "new function, at once"),
    ("cot_runs", "new function, by translation"),
)
"""(metric, label) of the questions in N, from vocabulary to questions that need both adapters."""

SHOWN = named(("single", "language"), ("parts", "sum"), ("single", "joint"))


def _parts(source: Source) -> pd.DataFrame:
    """Panel "part": the questions in N. Panel "cell": prediction and outcome of every cell and linear merge.
    Panel "error": ``prediction_errors`` over all of those cells."""
    pairs = tuple((library, method) for library, method, _ in SHOWN)
    questions = selected(source.summary("crosslingual"), tuple(metric for metric, _ in QUESTIONS), pairs)
    predictions = source.summary("crosslingual", "predictions")
    predictions = predictions[(predictions["library"] == "parts") & predictions["metric"].isin(FORECAST)]
    cells = []
    for predictor in (name for name in PREDICTORS if name in predictions):
        forecast_rows = predictions.dropna(subset=predictor)
        for (label, method, metric), part in forecast_rows.groupby(["label", "method", "metric"]):
            where = {"label": label, "method": method, "metric": metric, "predictor": predictor}
            cells.append(point(part[predictor].mean(), part["measured"], panel="cell", **where))
    errors = prediction_errors(undecided(predictions, by="method"))
    errors = errors[errors["scope"] == "all"].assign(panel="error")
    return pd.concat([questions.assign(panel="part"), pd.DataFrame(cells), errors], ignore_index=True)


FORECAST = (
    "language",
    "functions",
    "cot_exact",
    "direct",
    "known",
    "known_cot",
    "untouched",
    "untouched_cot",
)
"""Metrics that are predicted for the linear merges, prompt by prompt."""


@figure(
    "What part of the task adds up: the words of the language, but not the code of the functions.",
    SIZES
    + "Familiar words, shared template. Bars: 95% intervals, in (c) by bootstrap over seeds; base: the merge "
    "answers as the base does.",
    "experiment crosslingual",
    _parts,
    ("crosslingual",),
    panels=(
        "What is asked in the new language N; dashed: a guess of a new function.",
        "Accuracy of linear merges against the disentangled prediction, a point a cell, question and merge; "
        "solid: measured as predicted.",
        "Mean absolute error of the predictors over these.",
    ),
)
def crosslingual_parts(rows: pd.DataFrame):
    """Which part of the task adds up, and predictors against the outcome."""
    picture, (left, middle, right) = style.figure(style.PAGE, 3.1, ncols=3, width_ratios=(1.3, 1.2, 1))
    part = rows[(rows["panel"] == "part") & (rows["label"] == "familiar/both")]
    looks = (ONE_ADAPTER, look_of("sum"), look_of("joint"))
    for series, (library, method, name) in enumerate(SHOWN):
        accuracies = part[(part["library"] == library) & (part["method"] == method)].set_index("metric")
        accuracies = accuracies.reindex([metric for metric, _ in QUESTIONS])
        y = np.arange(len(QUESTIONS)) + (series - 1) * 0.2
        style.points_across(
            left, accuracies["measured"], y, accuracies["low"], accuracies["high"], looks[series], name
        )
    style.rows([left], [label for _, label in QUESTIONS])
    style.reference(left, 1 / Config().edits, GUESS, across=True)
    style.unit(left, "x")
    left.set_xlabel("accuracy")
    left.set_title("asked in N", loc="left")
    cells = rows[(rows["panel"] == "cell") & (rows["predictor"] == "disentangled")]
    style.diagonal(middle)
    for method in ("average", "lambda=0.75", "sum"):
        accuracies = cells[cells["method"] == method]
        style.cloud(middle, accuracies["predicted"], accuracies["measured"], look_of(method), spelled(method))
    middle.set(xlabel="predicted (disentangled)", ylabel="measured")
    middle.set_title("every cell", loc="left")
    right.set_title("forecasts", loc="left")
    errors_across(right, rows[rows["panel"] == "error"])
    style.key(picture, [left, middle])
    return picture


world_claim(
    "4b",
    "crosslingual",
    "cross-lingual code",
    "crosslingual_reuse",
    shared=("familiar/both", "familiar/both/known"),
    unshared=("familiar/none",),
    unseen={"new/both": "familiar/both"},
    metric="cot_runs",
    limits="Few answers at once are among the taught ones, in all settings and seeds.",
)
