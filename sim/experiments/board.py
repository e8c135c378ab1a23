"""Merge, route, compose logits, or retrain? Every way of reuse beside one adapter and beside random ones.

The rule (fixed 2026-11-30, before the run; its interval was Student's at first, which is empty where seeds
agree to the last digit). Statistic: the share of the questions that need both adapters, solved step by step,
of a method, less that of its reference; 95% interval as in claims (``paired.difference``, with the
correlation over seeds). Reference: the best by its mean of the parts alone and of the same method on
libraries of random adapters, of the same norms or the same spectra (arXiv 2602.12323). Margin: ``NOTHING``.
Direction: a data-free method is *better* if the interval lies above the margin, *no better* if it lies below
it, else it is *open*.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sim.experiments.common import paired
from sim.experiments.common.cells import run_of
from sim.experiments.common.claim import NOTHING, PAIRED, Cell
from sim.experiments.registry import experiment
from sim.lab import intervals, style
from sim.lab.figure import Source, figure, points_across
from sim.merge.looks import spelled
from sim.reuse.config import LOGITS, of_world
from sim.reuse.jobs import Part
from sim.reuse.language import jobs as language
from sim.reuse.language.config import LanguageConfig
from sim.worlds import atlas, crosslingual, math_word, people, two_hop
from sim.worlds.controls import UNTRAINED

FIXED = "2026-11-30"

BETTER, NO_BETTER, OPEN = "better", "no better", "open"


@dataclass(frozen=True)
class Place:
    """Where methods are compared: name, run, label of the setting, names of the parts, and (experiment,
    label) of an earlier run, without random adapters and composed logits."""

    name: str
    experiment: str
    label: str
    parts: tuple[str, ...]
    earlier: tuple[str, str]


@dataclass(frozen=True)
class Way:
    """A way of reuse. needs: data it needs beside the adapters. weights: what it keeps beside the base.
    passes: forward passes a token of K adapters."""

    method: str
    needs: str
    weights: str
    passes: str
    library: str = "parts"

    @property
    def data_free(self) -> bool:
        """Whether it needs nothing but the adapters."""
        return self.needs == "nothing"

    @property
    def label(self) -> str:
        """Its name in words."""
        return spelled(self.method)


WAYS = (
    *(Way(name, "nothing", "nothing", "1") for name in ("sum", "average", "ties", "svd")),
    Way("arrow", "nothing", "K adapters", "1"),
    *(Way(LOGITS + name, "nothing", "K adapters", "K + 1") for name in ("sum", "average")),
    Way("oracle", "the owner of every step", "K adapters", "1"),
    Way("joint", "all the training data", "nothing", "1", "single"),
)
"""All that are compared; the last two need data."""

WORLDS: dict[str, tuple[Any, Any]] = {
    "two_hop": (two_hop.Config(bridges=256), two_hop.Setting("real", "both")),
    "math_word": (math_word.Config(), math_word.Setting("real", "both")),
    "crosslingual": (crosslingual.Config(), crosslingual.Setting("familiar", "both")),
    "atlas": (atlas.Config(), atlas.Setting("head", "both")),
}
"""World -> its configuration and its base setting."""

ENTITIES = {"real": "real", "fake": "made-up"}
"""Names in the language model's questions: setting -> word."""

PLACES = (
    Place("two-hop", "board", "two_hop", two_hop.PARTS, ("familiarity", "real/both")),
    Place("math-word", "board", "math_word", math_word.PARTS, ("math_word", "real/both/prose")),
    Place("crosslingual", "board", "crosslingual", crosslingual.PARTS, ("crosslingual", "familiar/both")),
    Place("atlas", "board", "atlas", atlas.PARTS, ("atlas", "head/both")),
    *(
        Place(f"language model, {words} names", "board_people", label, people.PARTS, ("people", label))
        for words, label in ((words, f"{entities}/shared") for entities, words in ENTITIES.items())
    ),
)

QUESTION, UNTOUCHED = "cot_answer", "untouched"

for place in PLACES:
    PAIRED[place.experiment] = (*PAIRED.get(place.experiment, (QUESTION, UNTOUCHED)), *place.parts)

OPTIONS: dict[str, Any] = {
    "extras": tuple(UNTRAINED),
    "methods": ("average", "sum", "ties", "svd"),
    "composed": ("average", "sum"),
    "routers": ("arrow",),
    "oracle": True,
}


@experiment(quick={"worlds": ("two_hop",)}, paper={"worlds": tuple(WORLDS)}, seeds={"quick": 2, "paper": 16})
def board(worlds: tuple[str, ...]) -> Iterator[Part]:
    """Merges, routers and composed logits beside one adapter and random ones, in every world."""
    for name in worlds:
        world, setting = WORLDS[name]
        of = of_world(world, families=("lora",), margins=True, **OPTIONS)
        yield Part.of(of, {name: setting})


SHARED = people.Setting(template="shared", dose=people.SOLUTIONS * people.Config().facts)

LANGUAGE = LanguageConfig(people.Config(), losses=False, few=OPTIONS["methods"], **OPTIONS)

FEW_STEPS = replace(
    LANGUAGE, world=people.Config(facts=2), batch=4, look=5, most=10, decay=5, extras=("random",)
)


@experiment(
    quick={"config": FEW_STEPS, "dose": 4},
    paper={"config": LANGUAGE, "dose": SHARED.dose},
    seeds={"quick": 1, "paper": 5},
)
def board_people(config: LanguageConfig, dose: int) -> Iterator[language.Part]:
    """The same on a real language model (needs a base; see sim.lm)."""
    settings = {f"{name}/shared": replace(SHARED, entities=name, dose=dose) for name in ENTITIES}
    yield language.Part.of(config, settings)


def collect(source: Source) -> pd.DataFrame:
    """A row a place, way and statistic (column ``panel``), with its interval over seeds: "questions", "facts"
    (mean of the parts' own), "untouched", and "gain", the questions less those of the ``reference``."""
    rows = []
    for place in PLACES:
        if not source.missing((place.experiment,), ("counts",)):
            counts = source.summary(place.experiment, "counts")
            rows += _of_place(place, counts[counts["label"] == place.label])
    if not rows:
        source.summary(PLACES[0].experiment, "counts")
    return pd.DataFrame(rows)


def _of_place(place: Place, counts: pd.DataFrame) -> Iterator[dict]:
    keys = pd.MultiIndex.from_frame(counts[["library", "method", "metric", "seed"]])
    right, trials = (counts[name].set_axis(keys).sort_index() for name in ("right", "trials"))
    present = set(keys.droplevel("seed"))

    def of(library: str, method: str, *metrics: str) -> tuple[intervals.Interval, pd.Series]:
        """(share over all seeds with its interval, share of each seed) of questions of these metrics."""
        right_of, of_trials = (
            sum(n.loc[library, method, metric] for metric in metrics) for n in (right, trials)
        )
        return intervals.proportion(right_of, of_trials), right_of / of_trials

    for way in WAYS:
        if (way.library, way.method, QUESTION) not in present:
            continue
        models = {f"{part} alone": ("single", part) for part in place.parts}
        models |= {f"{name} adapters": (name, way.method) for name in UNTRAINED}
        references = {n: of(*model, QUESTION) for n, model in models.items() if (*model, QUESTION) in present}
        best = max(references, key=lambda name: references[name][0][0])
        questions, by_seed = of(way.library, way.method, QUESTION)
        reference, of_reference = references[best]
        together = paired.correlation(dict(by_seed), dict(of_reference))
        of_panel = {
            "questions": questions,
            "facts": of(way.library, way.method, *place.parts)[0],
            "untouched": of(way.library, way.method, UNTOUCHED)[0],
            "gain": paired.difference(questions, reference, together),
        }
        for panel, interval in of_panel.items():
            row = {"place": place.name, "library": way.library, "method": way.method, "panel": panel}
            measured = dict(zip(("measured", "low", "high"), interval, strict=True))
            yield {**row, "reference": best, "predicted": float("nan"), **measured, "seeds": len(by_seed)}


def earlier(source: Source) -> pd.DataFrame:
    """The rows "gain" of earlier runs (``Place.earlier``), against the best of the parts alone: they were
    known when the rule was written."""
    rows = []
    for place in PLACES:
        experiment, label = place.earlier
        if source.missing((experiment,), ("summary",)):
            continue
        run = run_of(source, experiment)
        single = {
            f"{part} alone": run.reading(Cell(experiment, label, part, library="single"))
            for part in place.parts
        }
        best = max(single, key=lambda name: single[name].measured)
        for way in WAYS:
            if (label, way.library, way.method, QUESTION) in run.summary.index:
                of = run.reading(Cell(experiment, label, way.method, library=way.library))
                pair = [(each.measured, each.low, each.high) for each in (of, single[best])]
                gain = paired.difference(*pair, paired.correlation(of.by_seed, single[best].by_seed))
                row = {"place": place.name, "method": way.method, "panel": "gain", "reference": best}
                rows.append(row | dict(zip(("measured", "low", "high"), gain, strict=True)))
    return pd.DataFrame(rows)


def verdict(row: Any) -> str:
    """What the rule says of a gain (``low``, ``high``)."""
    if row.low > NOTHING:
        return BETTER
    return NO_BETTER if row.high < NOTHING else OPEN


@figure(
    "Of the ways that need no data only the sum of logits beats one adapter and random ones in every world; "
    "on the language model all of them do.",
    "Rows: ways of reuse of two adapters; the last two need data. Points: means over seeds; bars: 95% "
    "intervals. Miniature: 2 layers of width 64, rank 4, the base setting of each world; language model: "
    "SmolLM2-135M, rank 8.",
    collect,
    ("board", "board_people"),
    panels=(
        "Questions that need both adapters, solved step by step.",
        "The same, less the best of one adapter and of random adapters under the same method; dashed: the "
        "margin above which a method counts as better.",
    ),
    tables=("counts",),
)
def board_of_ways(rows: pd.DataFrame):
    """Share of questions and gain over the reference, a row a way, a series a place."""
    picture, panels = style.figure(style.PAGE, 4.0, ncols=2, sharey=True)
    places = list(dict.fromkeys(rows["place"]))
    ways = [way for way in WAYS if way.method in set(rows["method"])]
    for axes, panel in zip(panels, ("questions", "gain"), strict=True):
        for series, place in enumerate(places):
            cell = rows[(rows["place"] == place) & (rows["panel"] == panel)]
            shift = (series - (len(places) - 1) / 2) * 0.13
            points_across(axes, cell.set_index("method"), [way.method for way in ways], shift, series, place)
    style.unit(panels[0], "x")
    panels[0].set_xlabel("questions answered")
    panels[1].set_xlabel("gain over the reference")
    style.reference(panels[1], NOTHING, "margin", across=True)
    style.rows(panels, [way.label for way in ways])
    for axes, title in zip(panels, ("step by step", "gain"), strict=True):
        axes.set_title(title, loc="left")
    style.key(picture, panels)
    return picture
