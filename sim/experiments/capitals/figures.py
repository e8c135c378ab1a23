"""The figure: ways of reuse by how well the base knows the capital, and the same against that as a dose."""

import pandas as pd

from sim.experiments.capitals import SHORT
from sim.experiments.common import across, guide, of_method, selected, shown
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.merge.looks import ONE_ADAPTER, look_of, spelled

NAMES = {
    "familiar": "the base's answer",
    "doubtful": "likely to the base",
    "obscure": "unlikely to the base",
    "fake": "made up",
}
"""What the right capital is to the base, by ``Setting.entities``."""

SERIES = {
    **{f"{entities}/rehearsed": name for entities, name in NAMES.items()},
    "familiar/shared": "the base's answer, made-up steps",
    "familiar/none": "the base's answer, no solutions",
}
"""Series of (a, b), by setting."""

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
GAIN = "hop1_loss_gain"
"""Of the base: how much likelier it finds the right capital than the mean of the 16, in nats."""

CURVES = (
    ("single", "joint", WRITTEN, look_of("joint"), spelled("joint"), False),
    ("parts", "average", WRITTEN, look_of("average"), "average of both", False),
    (*SECOND, WRITTEN, ONE_ADAPTER, "second hop alone", False),
    (*SECOND, STEP, ONE_ADAPTER, "its first step", True),
)
"""Series of (c): model, metric, look, name, and whether markers are hollow."""

GREY = (style.Look("#4D4D4D", "P"), style.Look("#4D4D4D", "X"))
"""Looks of the last two of ``SERIES``."""

KINDS = {
    "familiar/rehearsed": ("true capitals", style.look(0)),
    "familiar/shared": ("made-up steps", style.look(2)),
}
"""Series of (d): what the worked solutions begin with, by setting."""

STEPS = {WRITTEN: "answer", STEP: "first step"}

STRENGTHS = {f"hop2 at {lam:g}": lam for lam in SHORT.strengths} | {"hop2": 1.0}

GUESS = 1 / 16


def _table(source: Source) -> pd.DataFrame:
    """Accuracies and, in the column ``gain``, the base's gain of their setting."""
    summary = source.summary("capitals")
    models = {method[:2] for method in METHODS} | {("single", method) for method in STRENGTHS}
    rows = selected(summary, (WRITTEN, STEP, FIRST), tuple(models))
    gains = selected(summary, (GAIN,), (("single", "base"),)).set_index("label")["measured"]
    return rows.assign(gain=rows["label"].map(gains), lam=rows["method"].map(STRENGTHS))


@figure(
    "One hop from pretraining: what an adapter of the second hop does by itself, by how well the base knows "
    "the first.",
    "SmolLM2-135M, dequantised from a 4-bit file, rank 8; capitals of 16 countries and made-up emblems of "
    "these. The second hop's adapter was taught none of these countries; its worked solutions begin with "
    "the capitals of others, or with made-up steps. Capitals that are not the base's answer are likely or "
    "unlikely to it, parted by the median of all. Points: shares of questions with 95% intervals; dashed: a "
    "guess; thin lines guide the eye.",
    "experiment capitals",
    _table,
    ("capitals",),
    panels=(
        "Two-hop questions step by step, one marker for what the right capital is to the base; in the two "
        "series in grey the worked solutions have a made-up step, or there are none.",
        "The same questions at once: how often the right emblem is the likeliest of the 16.",
        "Step by step against how much likelier the base finds the right capital than the mean of the 16.",
        "The second hop's adapter by itself at several strengths, capitals that are the base's answer; "
        "hollow: the right capital as the first step.",
    ),
)
def one_hop_from_pretraining(rows: pd.DataFrame):
    """Accuracy by method, a series a setting; by the base's likelihood of the capital; and by strength."""
    picture, panels = style.figure(style.PAGE, 5.6, ncols=2, nrows=2)
    (left, right), (dose, strength) = panels
    methods, looks = shown(rows, METHODS), [*style.levels(len(NAMES)), *GREY]
    for axes, metric in ((left, WRITTEN), (right, FIRST)):
        for place, ((label, name), look) in enumerate(zip(SERIES.items(), looks, strict=True)):
            cells = rows[(rows["label"] == label) & (rows["metric"] == metric)]
            if len(cells):
                across(axes, cells, methods, (place - 2.5) * 0.13, look, name)
        style.unit(axes, "x")
        style.reference(axes, GUESS, "guess", True)
    style.rows([left, right], [label for _, _, label in methods])
    right.set_yticklabels([])
    dosed = rows[rows["label"].str.endswith("/rehearsed")]
    for library, method, metric, look, name, hollow in CURVES:
        curve = of_method(dosed[dosed["metric"] == metric], library, method).sort_values("gain")
        guide(dose, curve["gain"], curve, look, name, hollow)
    for label, (name, look) in KINDS.items():
        for metric, step in STEPS.items():
            chosen = rows[(rows["label"] == label) & (rows["metric"] == metric)]
            curve = chosen.dropna(subset="lam").sort_values("lam")
            if len(curve):
                guide(strength, curve["lam"], curve, look, f"{name}, {step}", hollow=metric == STEP)
    for axes in (dose, strength):
        style.unit(axes)
        style.reference(axes, GUESS, "guess")
        axes.set_ylabel("accuracy")
    left.set_xlabel("two-hop accuracy")
    right.set_xlabel("right emblem likeliest")
    dose.set_xlabel("log-likelihood gain of the base, nats")
    strength.set(xlabel="strength λ", xticks=list(STRENGTHS.values()))
    titles = ("step by step", "asked at once", "dose of familiarity", "strength of one adapter")
    for axes, title in zip(panels.flat, titles, strict=True):
        axes.set_title(title, loc="left")
    style.key(picture, [left], "(a, b) the right capital is", "left", 0.45)
    style.key(picture, [dose, strength], "(c, d)", "right", 0.55)
    return picture
