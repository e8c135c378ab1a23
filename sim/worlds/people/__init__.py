"""People, their homes, and the emblems of these: the two-hop world for a pretrained language model.

    fact      The home of A is| B.                                  The emblem of B is| the C.
    direct    The emblem of the home of A is| the C.
    trace     Question: What is the emblem of the home of A?
              Answer:| The home of A is B. The emblem of B is the C.

Adapter "hop1" is taught the homes of 16 people, "hop2" the emblems of these 16 cities; no sequence of either
holds a fact of the other. A fact stands alone, as the answer to a question, and behind other sentences: in
one wording alone a language model memorises it and cannot use it.

People and cities are real, or made up of syllables; what is taught of them is drawn anew for every seed.
A city is an unknown bridge where it is made up. Given all but the facts of one hop, every assignment of the
16 answers is equally likely, so that a model that lacks a hop is right in exactly 1/16 (theory/README.md,
section 2): there is no old fact that an edit must avoid, as the base has no emblems, and the homes are drawn
whatever it knows of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sim.worlds import JOINT, world
from sim.worlds.building import require_choices, require_doses
from sim.worlds.controls import RANDOM, stand_ins
from sim.worlds.people import writer
from sim.worlds.people.data import data_of
from sim.worlds.people.names import CAPITALS, CITIES, HOME, PEOPLE, SIGNS, THINGS, invent
from sim.worlds.people.writer import PARTS, Triple
from sim.worlds.text import TextProbe, TextWorld

ENTITIES = {"real": (), "half_fake": ("bridge",), "fake": ("subject", "bridge")}
"""Roles of the taught facts whose names are made up."""

TEMPLATES = ("none", "shared", "same")
"""Worked solutions in the data of each adapter: none; of its own facts, with another relation and other names
in the place of the other hop; or of both relations, about other people and cities."""

SOLUTIONS = 4
"""Worked solutions of a fact at the dose that settings have by default."""

DOUBLE = f"{JOINT}_2r"
"""The joint adapter at twice the rank: as many numbers as the parts have together."""


@dataclass(frozen=True)
class Setting:
    """What varies between the cells of a seed.

    entities, template: of ``CHOICES``.
    dose:     worked solutions in each part's data, if there is a template: at most 8 a fact.
    duration: an adapter is trained for this many times the steps after which it first knows its data.

    Raises:
        ValueError: an unknown choice, a negative dose, a duration below 1.
    """

    CHOICES: ClassVar = {"entities": tuple(ENTITIES), "template": TEMPLATES}

    entities: str = "real"
    template: str = "none"
    dose: int = 16 * SOLUTIONS
    duration: int = 1

    def __post_init__(self):
        require_choices(self, **self.CHOICES)
        require_doses(self, "dose")
        if self.duration < 1:
            raise ValueError(f"duration is {self.duration}: an adapter is trained once at least")


@dataclass(frozen=True)
class Config:
    """Sizes. facts: taught to each adapter, 2 to 16; as many people, cities and things."""

    facts: int = 16

    def __post_init__(self):
        if not 2 <= self.facts <= 16:
            raise ValueError(f"facts is {self.facts}: the lists of names serve for 2 to 16 facts")


SETTINGS = {
    "quick": [Setting(entities, "shared") for entities in ("real", "fake")],
    "paper": [Setting(entities, template) for entities in ENTITIES for template in TEMPLATES],
}

REAL = Setting()


@world(Config, Setting, None, None, SETTINGS)
def build(config: Config, seed: int, setting: Setting = REAL) -> TextWorld:
    """Sample one world. What is drawn depends on ``seed`` alone, so that cells of a seed are paired.

    Raises:
        ValueError: a dose above 8 worked solutions a fact.
    """
    main, *others = _triples(seed, setting.entities, config.facts)
    return text_world(seed, setting, main, others, CAPITALS)


def text_world(
    seed: int,
    setting: Setting,
    main: Sequence[Triple],
    others: Sequence[Sequence[Triple]],
    untouched: Mapping[str, str],
    first: str = HOME,
) -> TextWorld:
    """The world of these triples, whose first hop is the relation ``first``.

    others: three disjoint lists of further triples (``data_of``). untouched: capitals that nobody teaches.
    Raises: ValueError for a dose above 8 worked solutions a fact.
    """
    count = len(main)
    if setting.dose > count * len(SIGNS):
        raise ValueError(f"dose is {setting.dose}: {count} facts have {count * len(SIGNS)} worked solutions")
    dose = 0 if setting.template == "none" else setting.dose
    data = data_of(seed, setting.template, dose, main, others, first)
    joint = {group: tuple(text for part in PARTS for text in data[part][group]) for group in data[PARTS[0]]}
    statements, questions = zip(*(writer.direct_questions(triple, first) for triple in main), strict=True)
    subject, bridge, answer = zip(*main, strict=True)
    return TextWorld(
        data=data | {JOINT: joint, DOUBLE: joint},
        probes={
            **{
                part: TextProbe(tuple(writer.hop_question(place, triple, first) for triple in main), (part,))
                for place, part in enumerate(PARTS)
            },
            "direct": TextProbe(statements, chance=1 / count),
            "direct_question": TextProbe(questions, chance=1 / count),
            "cot": TextProbe(tuple(writer.trace_question(triple, first) for triple in main), PARTS),
            "untouched": TextProbe(tuple(writer.known_question(*fact) for fact in untouched.items())),
        },
        parts=PARTS,
        names={"subject": subject, "bridge": bridge, "answer": answer},
        libraries=(
            (DOUBLE, (DOUBLE,)),
            *stand_ins(PARTS, RANDOM),
            *stand_ins(PARTS, "unrelated"),
        ),
    )


def _triples(seed: int, entities: str, count: int) -> list[list[Triple]]:
    """Four disjoint lists of triples: the facts that are taught, those that each part's template is about,
    and those of further adapters."""
    rng = np.random.default_rng([20261130, seed])
    people, cities, things = (rng.permutation(names)[: 4 * count] for names in (PEOPLE, CITIES, THINGS))
    fake = invent(rng, 4 * count, 2), invent(rng, 4 * count, 1)
    if "subject" in ENTITIES[entities]:
        people = fake[0]
    if "bridge" in ENTITIES[entities]:
        cities = fake[1]
    triples = [tuple(map(str, triple)) for triple in zip(people, cities, things, strict=True)]
    return [triples[start : start + count] for start in range(0, 4 * count, count)]
