"""Cross-lingual code: one adapter knows a new language, another new functions; can they be combined?"""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import EVERY_WAY, WAYS_OF_REUSE, named, reader
from sim.experiments.common.pictures import ERRORS, FORECASTS, draw_forecasts, draw_reuse, forecasts
from sim.experiments.common.world_claim import world_claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import figure
from sim.merge.looks import ONE_ADAPTER, look_of
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part
from sim.worlds.crosslingual import FAMILIARITY, TEMPLATES, Config, Setting

DEFAULT = of_world(Config(), **EVERY_WAY | {"extras": ("bridge",)})
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
    yield Part.of(config, {"/".join(cell): Setting(*cell) for cell in cells})


METHODS = (*WAYS_OF_REUSE, *named(("single", "language"), ("single", "functions")))
"""Rows of the main figure, from the top."""

WAYS = {
    "worked in all known languages": ("familiar/both/known", "cot_runs"),
    "worked in one": ("familiar/both", "cot_runs"),
    "at once": ("familiar/both", "direct_runs"),
}
"""Familiar words, shared template: name -> (setting, metric)."""

SETTINGS = {
    "familiar/both/known": "all familiar, worked in all known languages",
    "familiar/both": "all familiar",
    "new_language/both": "words of N unseen",
    "new_functions/both": "names of functions unseen",
    "new/both": "both unseen",
    "familiar/pretraining": "template in pretraining alone",
    "familiar/data": "template in the data alone",
    "familiar/none": "no template",
}
"""Setting -> its name."""

SIZES = (
    "Cross-lingual world of 20 known and 8 new functions, 4 inputs; 2 layers of width 64, rank 4 on all "
    "matrices. Programs are run on 16 fresh inputs. "
)

GUESS = f"guess 1/{Config().edits}"


@figure(
    "New functions asked for in a new language N: at once, no data-free method answers; by translating "
    "first, the sum reuses what the adapters' templates share.",
    SIZES + "Points: programs that do what was asked; bars: 95% intervals. Dashed: a guess among the taught "
    "programs.",
    reader("crosslingual", ("cot_runs", "direct_runs"), METHODS),
    ("crosslingual",),
    panels=(
        "Ways of reusing the two adapters, best first. Pretraining knows all words; it and both data sets "
        "show the template: the request is first put into a known language, P. Traces of new functions start "
        "from P "
        'or ("worked in all known languages") from each known language; or the code is asked for at once.',
        "Settings, best first by the sum: what pretraining knows of the words, and where the template "
        "stands.",
    ),
)
def crosslingual_reuse(rows: pd.DataFrame):
    """Programs that run as they should, by way of reuse and by setting."""
    null = (1 / Config().edits, GUESS)
    return draw_reuse(rows, METHODS, WAYS, SETTINGS, "cot_runs", null, "programs that do as asked")


QUESTIONS = {
    "language": "paraphrase, N into P",
    "functions": "new function, asked in P",
    "known": "known function, at once",
    "known_cot": "known function, by translation",
    "direct": "new function, at once",
    "cot_exact": "new function, by translation",
    "untouched": "known function, asked in P",
}
"""Metric -> question. Those of both adapters are asked in N."""

SHOWN = named(("parts", "sum"), ("single", "language"), ("single", "functions"), ("single", "joint"))


@figure(
    "What part of the task adds up, as single adapters foretell: the words of the language and the code of "
    "the functions, each asked by itself, and their chain by translation; not both at once.",
    SIZES
    + "Familiar words, shared template. Bars: 95% intervals, in (b) by bootstrap over seeds. "
    + FORECASTS,
    lambda source: forecasts(source, "crosslingual", "familiar/both", QUESTIONS, SHOWN),
    ("crosslingual",),
    panels=(
        "Completions right in every token, best first by the sum; stroke: the disentangled forecast of the "
        "sum.",
        ERRORS,
    ),
)
def crosslingual_parts(rows: pd.DataFrame):
    """Which part of the task adds up, and predictors against the outcome."""
    looks = (look_of("sum"), ONE_ADAPTER, style.Look("#157DA8", "<"), look_of("joint"))
    return draw_forecasts(rows, QUESTIONS, SHOWN, looks)


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
