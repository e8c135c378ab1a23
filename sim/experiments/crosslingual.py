"""Cross-lingual code: is what one adapter knows of a language of use to another that knows new functions?"""

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

SMALL = replace(DEFAULT, extras=(), methods=("average", "sum", "ties"), lambdas=(0.75,))
"""The two adapters and the ceiling alone, for programs that compile quickly."""


@experiment(
    quick={
        "config": SMALL,
        "cells": (*((f, "both") for f in FAMILIARITY), ("familiar", "none"), ("familiar", "both", "known")),
    },
    paper={
        "config": DEFAULT,
        "cells": (
            *(("familiar", t) for t in TEMPLATES),
            *((f, t) for f in FAMILIARITY if f != "familiar" for t in ("none", "both")),
            *((f, "both", "known") for f in ("familiar", "new")),
        ),
    },
)
def crosslingual(config: ReuseConfig, cells: tuple[tuple[str, ...], ...]) -> Iterator[Part]:
    """New functions asked for in a new language: method against familiarity and template."""
    yield plain(config, {"/".join(cell): Setting(*cell) for cell in cells})


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
    ("single", "language", "language alone"),
    ("single", "functions", "functions alone"),
)
"""(library, method, label) in the order of the main figure, from the top."""

SERIES = (
    ("familiar", "pivot", "both familiar"),
    ("familiar", "known", "both familiar, worked\nin known languages"),
    ("new_language", "pivot", "words of N unseen"),
    ("new_functions", "pivot", "function names unseen"),
    ("new", "pivot", "both unseen"),
)
"""(familiarity, worked, label)."""

PANELS = (
    ("both", "cot_runs", "(a) translate, then code,\nshared template"),
    ("none", "cot_runs", "(b) translate, then code,\nno template"),
    ("both", "direct_runs", "(c) code at once"),
)
"""(template, metric, title)."""

SIZES = (
    "Cross-lingual world of 20 known and 8 new functions, 4 inputs; 2 layers of width 64, rank 4 on all "
    "matrices; the picture says how many seeds. Programs are run on 16 fresh inputs."
)


def _reuse(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    return selected(source.summary("crosslingual"), ("cot_runs", "direct_runs"), pairs)


@figure(
    "New functions asked for in a new language: at once, no data-free method answers; by translating first, "
    "the sum reuses what the adapters' templates share.",
    SIZES + " (a) Traces in pretraining and in both data sets, those of new functions asked for in P, or "
    "(second series) in all known languages; (b) in neither; (c) programs written at once, shared template; "
    "dashed: a guess among the 8 taught programs.",
    "experiment crosslingual",
    _reuse,
    ("crosslingual",),
)
def crosslingual_reuse(rows: pd.DataFrame):
    """The main figure: programs that run as they should by method, one series a familiarity."""
    picture, panels = style.figure(style.PAGE, 3.6, ncols=3, sharey=True)
    methods = shown(rows, METHODS)
    for axes, (template, metric, title) in zip(panels, PANELS, strict=True):
        chosen = rows[(rows["template"] == template) & (rows["metric"] == metric)]
        for series, (familiarity, worked, name) in enumerate(SERIES):
            found = chosen[(chosen["familiarity"] == familiarity) & (chosen["worked"] == worked)]
            across(axes, found, methods, (series - 2) * 0.15, series, name)
        axes.axvline(1 / Config().edits, color="black", linestyle="--", linewidth=0.8, zorder=0)
        axes.set_title(title, loc="left")
        axes.set(xlabel="programs that do what was asked", xlim=(-0.03, 1.03))
    panels[1].text(0.97, 0.02, _seeds(rows), transform=panels[1].transAxes, ha="right", fontsize=6)
    name_rows(panels, methods)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=6)
    return picture


def _seeds(rows: pd.DataFrame) -> str:
    return f"{rows['seeds'].max():.0f} seeds a cell"


ASKED = (
    ("language", "paraphrase, N into P"),
    ("known_inputs", "inputs, known function"),
    ("known_runs", "known function, at once"),
    ("known_cot_runs", "known function, by translation"),
    ("direct_inputs", "inputs, new function"),
    ("direct_runs", "new function, at once"),
    ("cot_runs", "new function, by translation"),
)
"""(metric, label) of what is asked in N, from vocabulary alone to what needs both adapters."""

SHOWN = (
    ("single", "language", "language alone"),
    ("parts", "sum", "sum"),
    ("single", "joint", "joint"),
)


def _parts(source: Source) -> pd.DataFrame:
    """Panel "part": what is asked in N. Panel "cell": prediction and outcome of every cell and linear merge.
    Panel "error": ``prediction_errors`` over all of those cells."""
    pairs = tuple((library, method) for library, method, _ in SHOWN)
    asked = selected(source.summary("crosslingual"), tuple(metric for metric, _ in ASKED), pairs)
    told = source.summary("crosslingual", "predictions")
    told = told[(told["library"] == "parts") & told["metric"].isin(FORECAST)]
    cells = []
    for predictor in (name for name in PREDICTORS if name in told):
        known = told.dropna(subset=predictor)
        for (label, method, metric), part in known.groupby(["label", "method", "metric"]):
            where = {"label": label, "method": method, "metric": metric, "predictor": predictor}
            cells.append(point(part[predictor].mean(), part["measured"], panel="cell", **where))
    errors = prediction_errors(undecided(told, by="method"))
    errors = errors[errors["scope"] == "all"].assign(panel="error")
    return pd.concat([asked.assign(panel="part"), pd.DataFrame(cells), errors], ignore_index=True)


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
"""What is predicted of the linear merges, prompt by prompt."""


@figure(
    "What part of the task adds up: the words of the language, but not the code of the functions.",
    SIZES + " Familiar words, shared template. Left: what is asked in N; dashed: a guess of a new function, "
    "1/8. Middle: predicted against measured accuracy of linear merges, one point a cell, question and "
    "merge. Right: mean absolute error over these, 95% bootstrap intervals over seeds; base: the merge "
    "answers as the base does.",
    "experiment crosslingual",
    _parts,
    ("crosslingual",),
)
def crosslingual_parts(rows: pd.DataFrame):
    """Which part of the task adds up, and predictors against the outcome."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.6, ncols=3, width_ratios=(1.6, 1.2, 1))
    part = rows[(rows["panel"] == "part") & (rows["label"] == "familiar/both")]
    for series, (library, method, name) in enumerate(SHOWN):
        found = part[(part["library"] == library) & (part["method"] == method)].set_index("metric")
        found = found.reindex([metric for metric, _ in ASKED])
        y = np.arange(len(ASKED)) + (series - 1) * 0.2
        style.points_across(left, found["measured"], y, found["low"], found["high"], series, name)
    left.axvline(1 / Config().edits, color="black", linestyle="--", linewidth=0.8, zorder=0)
    left.set_yticks(range(len(ASKED)), [label for _, label in ASKED])
    left.invert_yaxis()
    left.set(xlabel="accuracy", xlim=(-0.03, 1.03))
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=6, handletextpad=0.1)
    cells = rows[(rows["panel"] == "cell") & (rows["predictor"] == "disentangled")]
    middle.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    for series, method in enumerate(("average", "lambda=0.75", "sum")):
        found = cells[cells["method"] == method]
        marker, colour = style.MARKERS[series], style.COLOURS[series]
        label = {"lambda=0.75": "λ = ¾"}.get(method, method)
        middle.plot(
            found["predicted"],
            found["measured"],
            marker,
            color=colour,
            markersize=2.5,
            alpha=0.7,
            label=label,
        )
    middle.set(xlabel="predicted (disentangled)", ylabel="measured")
    middle.legend(loc="upper left", fontsize=6, handletextpad=0.1)
    middle.text(0.97, 0.02, _seeds(rows), transform=middle.transAxes, ha="right", fontsize=6)
    errors = rows[rows["panel"] == "error"].set_index("predictor")
    errors = errors.reindex([name for name in PREDICTORS if name in errors.index])
    style.points(right, range(len(errors)), errors["measured"], errors["low"], errors["high"], 0)
    right.set_xticks(range(len(errors)), errors.index, rotation=40, ha="right")
    right.set(ylabel="mean absolute error", ylim=(0, None))
    return picture
