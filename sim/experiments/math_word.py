"""Math word problems: operations taught apart, asked together, by form of the solution, verbs and depth."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import across, name_rows, of_method, selected, shown
from sim.experiments.common.predicted import PREDICTORS, prediction_errors, undecided
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part, plain
from sim.worlds.math_word import ASKED, TEMPLATES, VERBS, Config, Setting

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

SMALL = replace(DEFAULT, extras=(), methods=("average", "sum", "ties"), lambdas=(0.75,), oracle=False)

SHARED = ("prose", "equation", "program")
"""Forms in which both adapters are taught, and asked."""

APART = ("prose_program", "program_prose")
"""Forms that differ between the adapters; asked is the first one's."""

QUICK = (
    *(Setting("real", "both", form) for form in (*SHARED, *APART)),
    Setting("real", "none"),
    *(Setting("fake", "both", form) for form in ("prose", "program")),
)

PAPER = (
    *(Setting("real", template, form) for template in TEMPLATES for form in SHARED),
    *(Setting(verbs, "both", form) for verbs in VERBS if verbs != "real" for form in SHARED),
    *(Setting("real", "both", form) for form in APART),
    *(Setting("real", "both", form, dose) for form in ("prose", "program") for dose in (0, 256)),
)
"""Verbs that are not known need a template to be solved at all: they are asked where there is one."""


@experiment(quick={"config": SMALL, "settings": QUICK}, paper={"config": DEFAULT, "settings": PAPER})
def math_word(config: ReuseConfig, settings: tuple[Setting, ...]) -> Iterator[Part]:
    """Math word problems that mix two taught families of operations, in prose, equations or programs."""
    yield plain(config, {_label(setting): setting for setting in settings})


def _label(setting: Setting) -> str:
    dose = () if setting.bridges == Setting.bridges else (str(setting.bridges),)
    return "/".join((setting.verbs, setting.template, setting.form, *dose))


SIZES = (
    f"Word problems modulo {DEFAULT.world.prime}, {DEFAULT.world.verbs} new verbs an adapter; "
    f"{DEFAULT.layers} layers of width {DEFAULT.width}, rank {DEFAULT.rank} on all matrices; seeds as shown. "
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
)
"""(library, method, label) in the order of the main figure, from the top."""

SOLVED, DIRECT = "cot_solved", "direct_given_among_answers"
"""The final quantity, as written or as the written program computes it; and as answered at once."""

SEEN = {"real": "known, another meaning", "heard": "seen in distractors", "fake": "never seen"}
"""What pretraining knows of the taught verbs."""

UNSHARED = {
    "real/none/prose": "nowhere",
    "real/pretraining/prose": "in pretraining alone",
    "real/data/prose": "in the adapters' data alone",
    "real/both/prose_program": "taught in prose and program, asked in prose",
    "real/both/program_prose": "taught in program and prose, asked in program",
}
"""Cells in which the adapters' data share no solution template with each other and with pretraining."""

PANELS = (
    ("(a) prose,\nshared", SOLVED, {f"{verbs}/both/prose": name for verbs, name in SEEN.items()}),
    ("(b) program,\nshared", SOLVED, {f"{verbs}/both/program": name for verbs, name in SEEN.items()}),
    ("(c) not shared,\nknown verbs", SOLVED, UNSHARED),
    ("(d) asked at once", DIRECT, {f"{verbs}/both/prose": name for verbs, name in SEEN.items()}),
)
"""(title, metric, {label: name of the series})."""


def _word_problems(source: Source) -> pd.DataFrame:
    pairs = tuple((library, method) for library, method, _ in METHODS)
    return selected(source.summary("math_word"), (SOLVED, DIRECT), pairs)


@figure(
    "Asked at once, two families of operations do not combine; written out, the sum of the adapters comes "
    "closest to one adapter for both, if both were taught in one form that pretraining knows.",
    SIZES
    + "Two-step problems. Solutions are written in prose (a) or as programs that an interpreter runs (b); in "
    "(c) pretraining, the adapters, or both lack them, or the adapters were taught in different forms; "
    "(d) the same adapters as in (a). Dashed: a guess among the numbers.",
    "experiment math_word",
    _word_problems,
    ("math_word",),
)
def word_problems(rows: pd.DataFrame):
    """Accuracy by method: panels by form and template, series by familiarity of the verbs."""
    picture, panels = style.figure(style.PAGE, 4.2, ncols=len(PANELS), sharey=True)
    methods = shown(rows, METHODS)
    for axes, (title, metric, labels) in zip(panels, PANELS, strict=True):
        first = len(SEEN) - 1 if labels is UNSHARED else 0
        for series, (label, name) in enumerate(labels.items()):
            found = rows[(rows["label"] == label) & (rows["metric"] == metric)]
            if not found.empty:
                across(axes, found, methods, (series - (len(labels) - 1) / 2) * 0.16, first + series, name)
        axes.axvline(1 / DEFAULT.world.prime, color="black", linestyle="--", linewidth=0.8, zorder=0)
        axes.set_title(title, loc="left")
        axes.set(xlim=(-0.03, 1.03), xlabel="problems solved")
    name_rows(panels, methods)
    legends = (
        (panels[3], "left", f"taught verbs (a, b, d); all: mean and\n95% interval of {_seeds(rows)} seeds"),
        (panels[2], "right", "written solutions (c)"),
    )
    for axes, place, title in legends:
        handles, names = axes.get_legend_handles_labels()
        picture.legend(
            handles, names, loc=f"outside lower {place}", title=title, title_fontsize=7, alignment="left"
        )
    return picture


def _seeds(rows: pd.DataFrame) -> str:
    low, high = int(rows["seeds"].min()), int(rows["seeds"].max())
    return str(high) if low == high else f"{low} to {high}"


def _depths(source: Source) -> pd.DataFrame:
    """Panel "depth": whole solutions that are right, beside the product of their steps' forecasts, for the
    sum and the joint adapter. Panel "error": errors of the predictors over undecided cells."""
    summary = source.summary("math_word")
    exact = {f"{name}_exact": depth for depth, name in ASKED.items()}
    rows = summary[summary["metric"].isin(exact) & summary["label"].isin(f"real/both/{f}" for f in SHARED)]
    of = [of_method(rows[rows["predictor"] == "product"], "parts", "sum"), of_method(rows, "single", "joint")]
    depths = pd.concat(of).drop_duplicates(["label", "method", "metric"])
    depths = depths.assign(panel="depth", depth=depths["metric"].map(exact))
    told = source.summary("math_word", "predictions")
    told = told[told["library"] == "parts"]
    errors = prediction_errors(undecided(told, by="method"))
    errors = errors[errors["scope"] == "undecided"].assign(panel="error")
    return pd.concat([depths, errors], ignore_index=True)


@figure(
    "Longer solutions fail more often, and the sum's more often than single adapters forecast.",
    SIZES
    + "Known verbs, one form shared. Left: whole solutions right in every token, sum filled, joint hollow; "
    "lines: product of the step accuracies that single adapters forecast for the sum. Right: mean absolute "
    "error of the predictors of section 12 on merges, over all probes that are neither at floor nor ceiling "
    "(0.05 to 0.95), with 95% bootstrap intervals over seeds; base: the merge answers as the base does.",
    "experiment math_word",
    _depths,
    ("math_word",),
)
def word_problem_depth(rows: pd.DataFrame):
    """Whole solutions against the number of steps, by form; errors of the predictors."""
    picture, (left, right) = style.figure(style.PAGE, 2.4, ncols=2)
    for series, form in enumerate(SHARED):
        for method, hollow in (("sum", False), ("joint", True)):
            chosen = (rows["panel"] == "depth") & (rows["form"] == form) & (rows["method"] == method)
            found = rows[chosen].sort_values("depth")
            x = found["depth"] + (series - 1) * 0.08 + 0.03 * hollow
            label = None if hollow else form
            style.points(left, x, found["measured"], found["low"], found["high"], series, label, hollow)
            left.plot(found["depth"], found["predicted"], color=style.COLOURS[series], linewidth=0.8)
    left.set_xticks(list(ASKED))
    left.set(xlabel="steps", ylabel="solutions right throughout", ylim=(-0.03, 1.03))
    left.legend(title=f"{_seeds(rows)} seeds", title_fontsize=7, loc="upper right", bbox_to_anchor=(1.35, 1))
    errors = rows[rows["panel"] == "error"].set_index("predictor")
    errors = errors.reindex([name for name in PREDICTORS if name in errors.index])
    style.points(right, range(len(errors)), errors["measured"], errors["low"], errors["high"], 6)
    right.set_xticks(range(len(errors)), errors.index, rotation=20)
    right.set(ylabel="mean absolute error", ylim=(0, None))
    return picture
