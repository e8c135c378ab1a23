"""One hop known from pretraining: is one adapter enough, and how familiar must the country be?

Paper profile: 5 seeds x 5 cells x 3 adapters = 75 adapters, each trained until it knows its data, as many
as in ``people_dose`` and with fewer merges: about 5 minutes of one GPU.
"""

from collections.abc import Iterator

import pandas as pd

from sim.experiments.common import across, guide, of_method, selected, shown
from sim.experiments.people import SEEDS
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.merge.looks import ONE_ADAPTER, look_of, spelled
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.jobs import Part
from sim.worlds import capitals as world
from sim.worlds.capitals import ENTITIES, Setting
from sim.worlds.people import SOLUTIONS

SHORT = LanguageConfig(world.Config(), methods=("average", "sum"), lambdas=(0.25, 0.75))
"""Every adapter by itself, and the common sums of the two parts."""

FEW_STEPS = LanguageConfig(
    world.Config(facts=2), batch=4, look=5, most=10, decay=5, methods=("average", "sum")
)


@experiment(
    quick={"config": FEW_STEPS, "entities": ("familiar", "fake")},
    paper={"config": SHORT, "entities": ENTITIES, "bare": ("familiar",)},
    seeds=SEEDS,
)
def capitals(config: LanguageConfig, entities: tuple[str, ...], bare: tuple[str, ...] = ()) -> Iterator[Part]:
    """One hop known from pretraining, the other from one adapter, on a real language model (needs a base)."""
    dose = SOLUTIONS * config.world.facts
    settings = {f"{name}/shared": Setting(name, "shared", dose) for name in entities}
    yield Part.of(config, settings | {f"{name}/none": Setting(name, "none", dose) for name in bare})


NAMES = {
    "familiar": "the base's answer",
    "doubtful": "likely to the base",
    "obscure": "unlikely to the base",
    "fake": "made up",
}
"""What the right capital is to the base, by ``Setting.entities``."""

BARE = "the base's answer, no template"

SECOND = ("single", "hop2")
METHODS = (
    ("single", "joint", spelled("joint")),
    ("parts", "sum", "sum of both"),
    ("parts", "average", "average of both"),
    (*SECOND, "second hop alone"),
    ("single", "hop1", "first hop alone"),
    ("single", "base", spelled("base")),
)
"""Rows of (a, b), from the top."""

WRITTEN, STEP, FIRST = "cot_answer", "cot_hop1", "direct_likeliest"
LOSS = "hop1_loss"
"""Of the base: -log p of the right capital after "The capital of COUNTRY is", in nats."""

CURVES = (
    ("single", "joint", WRITTEN, look_of("joint"), spelled("joint"), False),
    ("parts", "average", WRITTEN, look_of("average"), "average of both", False),
    (*SECOND, WRITTEN, ONE_ADAPTER, "second hop alone", False),
    (*SECOND, STEP, ONE_ADAPTER, "its first step", True),
)
"""Series of (c): model, metric, look, name, and whether markers are hollow."""

GUESS = 1 / 16


def _table(source: Source) -> pd.DataFrame:
    """Accuracies and, in the column ``likelihood``, the base's mean log-likelihood of the capitals."""
    summary = source.summary("capitals")
    rows = selected(summary, (WRITTEN, STEP, FIRST), METHODS)
    losses = selected(summary, (LOSS,), (("single", "base"),)).set_index("label")["measured"]
    return rows.assign(likelihood=-rows["label"].map(losses))


@figure(
    "Where pretraining knows the first hop, one adapter of the second answers two-hop questions, step by "
    "step and at once; the less likely the capital is to the base, the fewer.",
    "SmolLM2-135M, dequantised from a 4-bit file, rank 8; capitals of 16 countries and made-up emblems of "
    "these. The second hop's adapter was taught no country. Capitals that are not the base's answer are "
    "likely or unlikely to it, parted by the median of all. Points: shares of questions with 95% intervals; "
    "dashed: a guess; thin lines guide the eye.",
    _table,
    ("capitals",),
    panels=(
        "Two-hop questions step by step, one marker for what the right capital is to the base; worked "
        "solutions in each data set, hollow: none.",
        "The same questions at once: how often the right emblem is the likeliest of the 16.",
        "Step by step against the base's own log-likelihood of the right capitals, worked solutions.",
    ),
)
def one_hop_from_pretraining(rows: pd.DataFrame):
    """Accuracy by method, a series a level of familiarity; and by the base's likelihood of the capital."""
    picture, (left, middle, right) = style.figure(style.PAGE, 3.4, ncols=3, width_ratios=(1, 1, 1.1))
    methods, looks = shown(rows, METHODS), style.levels(len(NAMES))
    series = [
        (f"{entities}/shared", look, name)
        for (entities, name), look in zip(NAMES.items(), looks, strict=True)
    ]
    series.append(("familiar/none", looks[0], BARE))
    for axes, metric in ((left, WRITTEN), (middle, FIRST)):
        for place, (label, look, name) in enumerate(series):
            cells = rows[(rows["label"] == label) & (rows["metric"] == metric)]
            if len(cells):
                across(axes, cells, methods, (place - 2) * 0.16, look, name, hollow=name == BARE)
        style.unit(axes, "x")
    left.set_xlabel("two-hop accuracy")
    middle.set_xlabel("right emblem likeliest")
    style.rows([left, middle], [label for _, _, label in methods])
    middle.set_yticklabels([])
    for axes in (left, middle):
        style.reference(axes, GUESS, "guess", True)
    dosed = rows[rows["template"] == "shared"]
    for library, method, metric, look, name, hollow in CURVES:
        curve = of_method(dosed[dosed["metric"] == metric], library, method).sort_values("likelihood")
        guide(right, curve["likelihood"], curve, look, name, hollow)
    style.unit(right)
    style.reference(right, GUESS, "guess")
    right.set(xlabel="log-likelihood of the capital to the base, nats", ylabel="accuracy")
    titles = ("step by step", "asked at once", "dose of familiarity")
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.set_title(title, loc="left")
    style.key(picture, [left], "(a, b) the right capital is", "left", 0.6)
    style.key(picture, [right], "(c)", "right", 0.4)
    return picture


from sim.experiments.capitals import claims  # noqa: E402, F401 (it registers)
