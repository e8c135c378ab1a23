"""The referee's controls in the other worlds, an experiment each, and one figure with a column for each.

Cells have the names of the two-hop world's (``sim.experiments.controls``). ``sim.worlds.controls`` says what
each control is made of there, which has no meaning, and why no theorem proves these nulls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from sim.experiments.common.claim import claim
from sim.experiments.controls import lines
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.reuse.config import of_world
from sim.reuse.jobs import Part
from sim.worlds import atlas, crosslingual, kind_of, math_word
from sim.worlds.controls import FINETUNING, IDENTITY

WORLDS = {"math_word": math_word, "crosslingual": crosslingual, "atlas": atlas}

RUNS = {name: f"{name}_controls" for name in WORLDS}
"""The experiment of each world."""

LINES = {name: lines.controls_of(world.PARTS, proved=False) for name, world in WORLDS.items()}

SIZES = {
    "quick": {"linked": (), "without": ("none",)},
    "paper": {"linked": ("both",), "without": ("none", "both")},
}
"""Where identities occur: in cells of a base that saw two-hop answers (besides "none", which has all
libraries), and in cells of a base that did not."""


def _parts(config: Any, linked: Sequence[str], without: Sequence[str]) -> Iterator[Part]:
    """Familiar material; the adapters are taught nothing but facts."""
    kind = kind_of(config)
    batches = () if kind.name == "crosslingual" else IDENTITY  # there they are among the paraphrases
    parts_only = of_world(
        config,
        pretraining=lines.with_batches(kind.pretraining, *batches),
        finetuning=lines.with_batches(kind.finetuning, *FINETUNING),
        families=("lora",),
        methods=("average", "sum"),
        losses=True,
    )
    every = replace(parts_only, extras=("direct_expert", *lines.libraries(WORLDS[kind.name].PARTS)))
    cell = kind.setting
    yield Part.of(every, {"linked/none": cell(template="pretraining", identity="none")})
    # A part each: as many runs at once in all of them, so that what is compiled for one serves the others.
    for i in linked:
        yield Part.of(parts_only, {f"linked/{i}": cell(template="pretraining", identity=i)})
    for i in without:
        yield Part.of(lines.unlinked(parts_only), {f"unlinked/{i}": cell(template="none", identity=i)})


@experiment(**SIZES)
def math_word_controls(linked: Sequence[str], without: Sequence[str]) -> Iterator[Part]:
    """The referee's controls in math word problems."""
    # The null of a loss takes every pairing of questions and answers: fewer questions, far fewer of these.
    yield from _parts(math_word.Config(controls=True, test_paraphrases=1), linked, without)


@experiment(**SIZES)
def crosslingual_controls(linked: Sequence[str], without: Sequence[str]) -> Iterator[Part]:
    """The referee's controls in cross-lingual code."""
    yield from _parts(crosslingual.Config(controls=True), linked, without)


@experiment(**SIZES)
def atlas_controls(linked: Sequence[str], without: Sequence[str]) -> Iterator[Part]:
    """The referee's controls on facts of history and geography."""
    yield from _parts(atlas.Config(controls=True), linked, without)


def _collect(source: Source) -> pd.DataFrame:
    tables = [
        lines.against_nulls(source.summary(RUNS[name]), controls, ("gain",)).assign(world=name)
        for name, controls in LINES.items()
    ]
    return pd.concat(tables, ignore_index=True)


TITLES = {
    "math_word": "math word problems",
    "crosslingual": "cross-lingual code",
    "atlas": "history and geography",
}


@figure(
    "In the other worlds too the loss of a merge is near that of a guess where nobody was taught one of the "
    "hops; in cross-lingual code a small gain is not excluded.",
    "Loss: mean -log p over all pairings of questions and answers, less that of the right pairs. "
    "Familiar material, template in pretraining alone; 2 layers "
    "of width 64, rank 4 on all matrices. Hop 1 and hop 2: trade and craft verbs; language and functions; "
    "country and currency. Rows as in the two-hop world, the highest gain of the sum in the mean over worlds "
    "first; grey: nobody was taught one of the hops. Points: means over seeds; bars: 95% intervals. Dashed: "
    "a guess; of word problems with a stand-in for a hop it is what other operations in its place make right "
    "(section 2, 2f).",
    _collect,
    tuple(RUNS.values()),
    "experiments of the controls",
    panels=tuple(f"{title[0].upper()}{title[1:]}." for title in TITLES.values()),
)
def referee_worlds(rows: pd.DataFrame):
    """Every control's loss against its null, a panel a world."""
    picture, panels = style.figure(style.PAGE, 4.2, ncols=len(WORLDS), sharey=True)
    worlds = [(rows[rows["world"] == world], "gain") for world in WORLDS]
    lines.draw_panels(dict(zip(panels, worlds, strict=True)), rows, "lacking")
    for axes, title in zip(panels, TITLES.values(), strict=True):
        axes.set_title(title, loc="left")
    style.key(picture, panels)
    return picture


OF_WHO_LACKS = (
    "The null of who lacks a hop (theory, 2f) was derived after a first run in which several models lay "
    "above the null of random pairings."
)


def _claim(number: str, world: str, subject: str, answers: int, history: str = "") -> None:
    """Register the claim that no model composes if no model knows one of the hops, with or without
    ``OF_WHO_LACKS``."""
    lacking = [line for line in LINES[world] if line.lacks]
    cells = partial(lines.cells_of, RUNS[world], lacking, lacking=bool(history))
    claim(
        number,
        f"... and in {subject}, where a hop is known to nobody",
        "referee_worlds",
        RUNS[world],
        fixed="2026-11-29",
        rules=lines.rules_of(
            "nobody", "models of which nobody was taught one of the hops", cells, answers, history
        ),
        evidence="With a random or an unrelated adapter in place of one hop, the model nearest to its bound "
        "gains {nobody_loss} nats of loss over its null or over the base. Of its answers that occur, the one "
        "nearest to its bound is right in {nobody_accuracy}, where the null is "
        "{nobody_accuracy.of.predicted:.4f}.",
        limits="No theorem proves these nulls: the world ties bridges as written to bridges as read. "
        "Too few such answers to be judged came from {nobody_accuracy.silent} of the models.",
    )


_claim("1+b", "math_word", "math word problems", math_word.Config().prime, OF_WHO_LACKS)
_claim("1+c", "crosslingual", "cross-lingual code", crosslingual.Config().edits)
_claim("1+d", "atlas", "history and geography, on real facts", atlas.Config().edits)
