"""Math word problems that need two adapters' operations, by form of the solution, verbs and depth."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import across, name_rows, named, of_method, selected, shown
from sim.experiments.common.claim import POOLED, Cell
from sim.experiments.common.predicted import errors_across, prediction_errors, undecided
from sim.experiments.common.world_claim import world_claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.merge.looks import spelled
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part, plain
from sim.worlds.math_word import TEMPLATES, TRACES, VERBS, Config, Setting

DEFAULT = of_world(
    Config(),
    families=("lora",),
    extras=("bridge",),
    methods=("average", "sum", "ties", "svd"),
    lambdas=(0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25),
    routers=("arrow",),
    oracle=True,
)
"""The paper profile's: 2 layers of width 64, rank 4 on every matrix."""

SMALL = replace(
    DEFAULT,
    pretraining=DEFAULT.pretraining.lasting(400, 1e-2),
    extras=(),
    methods=("average", "sum"),
    lambdas=(0.75,),
    routers=(),
    oracle=False,
)

SHARED = ("prose", "equation", "program")
"""Forms of both adapters' data and of the questions."""

MIXED = ("prose_program", "program_prose")
"""Forms that differ between the adapters; the questions have the first one's."""

QUICK = (Setting("real", "both"), Setting("fake", "both"))
"""On one base a seed: bases take most of the time."""

PAPER = (
    *(Setting("real", template, form) for template in TEMPLATES for form in SHARED),
    *(Setting(verbs, "both", form) for verbs in VERBS if verbs != "real" for form in SHARED),
    *(Setting("real", "both", form) for form in MIXED),
    *(Setting("real", "both", form, dose) for form in ("prose", "program") for dose in (0, 256)),
)
"""Problems with unfamiliar verbs need a template, so these settings have one."""


@experiment(
    quick={"config": SMALL, "settings": QUICK},
    paper={"config": DEFAULT, "settings": PAPER},
    seeds={"quick": 4},
)
def math_word(config: ReuseConfig, settings: tuple[Setting, ...]) -> Iterator[Part]:
    """Math word problems that mix two taught families of operations, in prose, equations or programs."""
    yield plain(config, {_label(setting): setting for setting in settings})


def _label(setting: Setting) -> str:
    dose = () if setting.bridges == Setting.bridges else (str(setting.bridges),)
    return "/".join((setting.verbs, setting.template, setting.form, *dose))


SIZES = (
    f"Word problems modulo {DEFAULT.world.prime}, {DEFAULT.world.verbs} new verbs an adapter; "
    f"{DEFAULT.layers} layers of width {DEFAULT.width}, rank {DEFAULT.rank} on all matrices. "
)

METHODS = named(
    ("single", "joint"),
    *(("parts", name) for name in ("oracle", "sum", "lambda=0.75", "average", "svd", "ties", "arrow")),
    ("bridge", "sum"),
)
"""Rows of the main figure, from the top."""

SOLVED, DIRECT = "cot_solved", "direct_given_among_answers"
"""The final quantity, as written or as the written program computes it; and as answered at once."""

SEEN = {"real": "known, another meaning", "heard": "seen in distractors", "fake": "never seen"}
"""Labels of the verbs: how pretraining used them."""

UNSHARED = {
    "real/none/prose": "nowhere",
    "real/pretraining/prose": "in pretraining alone",
    "real/data/prose": "in the adapters' data alone",
    "real/both/prose_program": "taught in prose and program, asked in prose",
    "real/both/program_prose": "taught in program and prose, asked in program",
}
"""Cells in which the adapters' data share no solution template with each other and with pretraining."""

PANELS = (
    ("prose,\nshared", SOLVED, {f"{verbs}/both/prose": name for verbs, name in SEEN.items()}),
    ("program,\nshared", SOLVED, {f"{verbs}/both/program": name for verbs, name in SEEN.items()}),
    ("not shared,\nknown verbs", SOLVED, UNSHARED),
    ("at once,\nprose", DIRECT, {f"{verbs}/both/prose": name for verbs, name in SEEN.items()}),
)
"""(title, metric, {label: name of the series})."""


def _word_problems(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    return selected(source.summary("math_word"), (SOLVED, DIRECT), pairs)


@figure(
    "Asked at once, two families of operations do not combine; written out, the sum of the adapters comes "
    "closest to one adapter for both, if both were taught in one form that pretraining knows.",
    SIZES
    + "Two-step problems. Rows: ways of reusing the two adapters. Points: share of problems solved, one "
    "marker for what pretraining knows of the taught verbs (a, b, d) or for where solutions stand (c); bars: "
    "95% intervals. Dashed: a guess among the numbers.",
    "experiment math_word",
    _word_problems,
    ("math_word",),
    panels=(
        "Solutions written in prose, which pretraining and both data sets hold.",
        "Solutions written as programs that an interpreter runs.",
        "Known verbs; pretraining, the adapters, or both lack solutions, or the two were taught in different "
        "forms.",
        "The adapters of (a), asked for the final number at once.",
    ),
)
def word_problems(rows: pd.DataFrame):
    """Accuracy by method: panels by form and template, series by familiarity of the verbs."""
    picture, panels = style.figure(style.PAGE, 4.3, ncols=len(PANELS), sharey=True)
    methods = shown(rows, METHODS)
    for axes, (title, metric, labels) in zip(panels, PANELS, strict=True):
        present = {label: name for label, name in labels.items() if label in set(rows["label"])}
        for series, (label, name) in enumerate(present.items()):
            accuracies = rows[(rows["label"] == label) & (rows["metric"] == metric)]
            place = (series - (len(present) - 1) / 2) * 0.16
            kind = list(labels).index(label)  # a label has its look in every panel
            mark = style.levels(len(SEEN))[kind] if labels is not UNSHARED else style.look(4 + kind)
            across(axes, accuracies, methods, place, mark, name)
        style.reference(axes, 1 / DEFAULT.world.prime, f"guess 1/{DEFAULT.world.prime}", across=True)
        axes.set_title(title, loc="left")
        axes.set_xlabel("problems solved")
        style.unit(axes, "x")
    name_rows(panels, methods)
    style.key(picture, [panels[0]], "taught verbs (a, b, d)", "left", 0.45)
    style.key(picture, [panels[2]], "written solutions (c)", "right", 0.55)
    return picture


def _depths(source: Source) -> pd.DataFrame:
    """Panel "depth": share of whole solutions that are right, and the product of their steps' forecasts, for
    the sum and the joint adapter. Panel "error": errors of the predictors over undecided cells."""
    summary = source.summary("math_word")
    exact = {f"{name}_exact": depth for depth, name in TRACES.items()}
    rows = summary[summary["metric"].isin(exact) & summary["label"].isin(f"real/both/{f}" for f in SHARED)]
    of = [of_method(rows[rows["predictor"] == "product"], "parts", "sum"), of_method(rows, "single", "joint")]
    depths = pd.concat(of).drop_duplicates(["label", "method", "metric"])
    depths = depths.assign(panel="depth", depth=depths["metric"].map(exact))
    predictions = source.summary("math_word", "predictions")
    predictions = predictions[predictions["library"] == "parts"]
    errors = prediction_errors(undecided(predictions, by="method"))
    errors = errors[errors["scope"] == "undecided"].assign(panel="error")
    return pd.concat([depths, errors], ignore_index=True)


@figure(
    "Longer solutions fail more often, and the sum's more often than single adapters forecast.",
    SIZES
    + "Known verbs, one form shared. (b) averages over all probes of the merges that are neither at floor "
    "nor ceiling (0.05 to 0.95); base: the merge answers as the base does. Bars: 95% intervals, in (b) by "
    "bootstrap over seeds.",
    "experiment math_word",
    _depths,
    ("math_word",),
    panels=(
        "Whole solutions right in every token, sum filled, joint adapter hollow; lines: product of the step "
        "accuracies that single adapters forecast for the sum.",
        "Mean absolute error of the predictors of section 12.",
    ),
)
def word_problem_depth(rows: pd.DataFrame):
    """Whole solutions against the number of steps, by form; errors of the predictors."""
    picture, (left, right) = style.figure(style.PAGE, 2.7, ncols=2, width_ratios=(1.2, 1))
    looks = style.levels(len(SHARED))
    for series, form in enumerate(SHARED):
        for method, hollow in (("sum", False), ("joint", True)):
            chosen = (rows["panel"] == "depth") & (rows["form"] == form) & (rows["method"] == method)
            curve = rows[chosen].sort_values("depth")
            x = curve["depth"] + (series - 1) * 0.2 + 0.07 * hollow
            label = f"{form}, {spelled(method)}"
            style.points(
                left, x, curve["measured"], curve["low"], curve["high"], looks[series], label, hollow
            )
            left.plot(curve["depth"], curve["predicted"], color=looks[series].colour, linewidth=0.8)
    left.set_xticks(list(TRACES))
    left.set(xlabel="steps", ylabel="solutions right throughout")
    left.set_title("longer solutions", loc="left")
    style.unit(left)
    right.set_title("forecasts", loc="left")
    errors_across(right, rows[rows["panel"] == "error"])
    style.key(picture, [left], place="left")
    return picture


world_claim(
    "4a",
    "math_word",
    "math word problems",
    "word_problems",
    shared=tuple(f"real/both/{form}" for form in SHARED),
    unshared=("real/none/prose", *(f"real/both/{form}" for form in MIXED)),
    unseen={f"fake/both/{form}": f"real/both/{form}" for form in ("prose", "program")},
    metric=SOLVED,
    numbers={half: Cell("math_word", POOLED, half, DIRECT, "single") for half in ("trade", "craft")},
    limits="Where it is least the sum has {reach} of the joint adapter. The null at once is a plain guess, "
    "but who lacks one hop can do better here, as operations are few (theory, 2f): one adapter alone is "
    "right in {trade} and {craft}. The tables of this run do not hold what that null needs; claim 1+b has "
    "it.",
)
