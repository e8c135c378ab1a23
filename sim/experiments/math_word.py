"""Math word problems that need two adapters' operations, by form of the solution, verbs and depth."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import DIRECT, EVERY_WAY, WAYS_OF_REUSE, of_method, reader
from sim.experiments.common.claim import POOLED, Cell
from sim.experiments.common.pictures import ERRORS, FORECASTS, all_errors, draw_reuse
from sim.experiments.common.predicted import errors_across
from sim.experiments.common.world_claim import world_claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure, line, points
from sim.merge.looks import look_of, spelled
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part
from sim.worlds.math_word import TEMPLATES, TRACES, VERBS, Config, Setting

DEFAULT = of_world(
    Config(), **EVERY_WAY | {"extras": ("bridge",), "lambdas": (0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25)}
)
"""The paper profile's: 2 layers of width 64, rank 4 on every matrix."""

TWO_STEPS = tuple((name, count) for name, count in DEFAULT.pretraining.batch if name[-1] not in "34")
"""A batch of pretraining without solutions of three and four steps, which take a quarter of its tokens."""

SMALL = replace(
    DEFAULT,
    world=replace(DEFAULT.world, longer=0),
    pretraining=replace(DEFAULT.pretraining.lasting(400, 1e-2), batch=TWO_STEPS).in_one_tile(),
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
    yield Part.of(config, {_label(setting): setting for setting in settings})


def _label(setting: Setting) -> str:
    dose = () if setting.bridges == Setting.bridges else (str(setting.bridges),)
    return "/".join((setting.verbs, setting.template, setting.form, *dose))


SIZES = (
    f"Word problems modulo {DEFAULT.world.prime}, {DEFAULT.world.verbs} new verbs an adapter; "
    f"{DEFAULT.layers} layers of width {DEFAULT.width}, rank {DEFAULT.rank} on all matrices. "
)

SOLVED = "cot_solved"
"""The final quantity, as written or as the written program computes it."""

WAYS = {
    "program": ("real/both/program", SOLVED),
    "equation": ("real/both/equation", SOLVED),
    "prose": ("real/both/prose", SOLVED),
    "prose, at once": ("real/both/prose", DIRECT),
}
"""Known verbs, one form shared: name -> (setting, metric)."""

SEEN = {"real": "known verbs", "heard": "verbs of distractors", "fake": "verbs never seen"}
"""What pretraining shows of the taught verbs."""

SETTINGS = {f"{verbs}/both/{form}": f"{name}, {form}" for verbs, name in SEEN.items() for form in SHARED} | {
    "real/none/prose": "no solutions anywhere",
    "real/pretraining/prose": "solutions in pretraining alone",
    "real/data/prose": "solutions in the data alone",
    "real/both/prose_program": "prose for one, program for the other",
    "real/both/program_prose": "program for one, prose for the other",
}
"""Setting -> its name."""


@figure(
    "Asked at once, two families of operations do not combine; written out, the sum of the adapters, "
    "of all merges of the two, comes closest to one adapter for both, most where both were taught in one "
    "form that pretraining knows.",
    SIZES
    + "Two-step problems. Points: share of problems solved; bars: 95% intervals. Dashed: a guess among the "
    "numbers.",
    reader("math_word", (SOLVED, DIRECT), WAYS_OF_REUSE),
    ("math_word",),
    panels=(
        "Ways of reusing the two adapters, best first. Pretraining knows the verbs with another meaning; "
        "pretraining and both data sets write solutions as programs, as equations or in prose, or the final "
        "number is asked for at once.",
        "Settings, best first by the sum: what pretraining shows of the verbs and the form of all solutions; "
        "below, known verbs in prose without shared solutions, and adapters taught in two forms, asked in "
        "the first.",
    ),
)
def word_problems(rows: pd.DataFrame):
    """Accuracy by way of reuse, and by setting."""
    null = (1 / DEFAULT.world.prime, f"guess 1/{DEFAULT.world.prime}")
    return draw_reuse(rows, WAYS_OF_REUSE, WAYS, SETTINGS, SOLVED, null, "problems solved")


def _depths(source: Source) -> pd.DataFrame:
    """Panel "depth": share of whole solutions that are right, and the product of their steps' forecasts, for
    the sum and the joint adapter. Panel "error": errors of the predictors."""
    summary = source.summary("math_word")
    exact = {f"{name}_exact": depth for depth, name in TRACES.items()}
    rows = summary[summary["metric"].isin(exact) & summary["label"].isin(f"real/both/{f}" for f in SHARED)]
    of = [of_method(rows[rows["predictor"] == "product"], "parts", "sum"), of_method(rows, "single", "joint")]
    depths = pd.concat(of).drop_duplicates(["label", "method", "metric"])
    depths = depths.assign(panel="depth", depth=depths["metric"].map(exact))
    return pd.concat([depths, all_errors(source, "math_word")], ignore_index=True)


@figure(
    "Longer solutions fail more often, and the sum's more often than single adapters forecast.",
    SIZES + "Known verbs, one form shared by pretraining and both data sets. Bars: 95% intervals, in (d) by "
    "bootstrap over seeds. " + FORECASTS,
    _depths,
    ("math_word",),
    panels=(
        "Solutions in prose that are right in every token, by their number of steps; line: forecast for the "
        "sum, the product of the step accuracies that single adapters foretell.",
        "Solutions as equations.",
        "Solutions as programs.",
        ERRORS,
    ),
)
def word_problem_depth(rows: pd.DataFrame):
    """Whole solutions against the number of steps, a panel a form; errors of the predictors."""
    picture, panels = style.figure(style.PAGE, 2.7, ncols=4, width_ratios=(1, 1, 1, 1.2))
    for axes, form in zip(panels, SHARED, strict=False):
        of_form = rows[(rows["panel"] == "depth") & (rows["form"] == form)]
        for shift, method in ((-0.06, "sum"), (0.06, "joint")):
            points(
                axes,
                of_form[of_form["method"] == method],
                "depth",
                look_of(method),
                spelled(method),
                shift=shift,
            )
        total = of_form[of_form["method"] == "sum"]
        line(axes, total, "depth", look_of("sum"), label="forecast for the sum")
        axes.set(xlabel="steps", xticks=list(TRACES), xlim=(min(TRACES) - 0.4, max(TRACES) + 0.4), title=form)
        style.unit(axes)
    panels[0].set_ylabel("solutions right throughout")
    errors_across(panels[-1], rows[rows["panel"] == "error"])
    style.key(picture, panels[:3], place="left", share=0.6)
    style.key(picture, panels[3:], "(d)", "right", 0.4)
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
