"""Controls of history and geography (``sim.worlds.controls``), about the most populous third.

    known pairs   the next country by population in place of the second hop or the first; or both hops old
                  facts, in questions that pretraining does not show
    direct_expert direct questions for the currency of other countries by their capitals
    unrelated     the capitals next westwards of the middle third's withheld ones, exchanged
    identity      "y IS ANSWER | y", of all countries in pretraining, of the withheld in the adapters' data

The controls have their own random generator, so that they leave the rest of the world as it is.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from sim.worlds import World, controls
from sim.worlds.atlas.facts import RELATIONS
from sim.worlds.building import TEMPLATES, ask, require_enough
from sim.worlds.controls import IDENTITY
from sim.worlds.hops import Ways, ways

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.atlas import Config, Sample, Setting

PRETRAINING = IDENTITY
"""Batches of the groups that the controls add to pretraining."""

COUNTRY, CURRENCY, LARGER, SMALLER, WEST = map(
    RELATIONS.index, ("country", "currency", "larger", "smaller", "west")
)
IS = len(RELATIONS) + 3
"""Number of the relation "is itself": its word is the last one of the vocabulary."""


def check(config: "Config", setting: "Setting") -> bool:
    """Whether the world has controls.

    Raises:
        ValueError: the setting needs controls that the world does not have or does not support.
    """
    return controls.require(config, setting, familiarity="head")


def draw_old_pairs(seed: int, count: int, sample: "Sample") -> Ways:
    """``count`` questions "which country comes after the country of this capital" that no data set holds.

    Raises:
        ValueError: there are too few.
    """
    asks = (sample.double.relations == [[COUNTRY], [SMALLER]]).all(axis=0)
    fit = np.flatnonzero(sample.unseen & asks)
    require_enough(len(fit), count, f"questions serve as known pairs, not {count}: use more countries")
    rng = np.random.default_rng([20250614, seed, 1])
    return sample.double.of(rng.permutation(fit)[:count])


def add(world: World, config: "Config", seed: int, setting: "Setting", sample: "Sample") -> World:
    """The world with its controls."""
    write, book, (in_pretraining, in_data) = sample.write, sample.book, TEMPLATES[setting.identity]
    n, (y, other, _) = len(book.facts["country"][0]), sample.withheld
    west, everyone = book.facts["west"][1][other], np.arange(n)
    pool = (sample.double.relations == [[COUNTRY], [CURRENCY]]).all(axis=0)
    new = controls.add(
        world,
        {"unrelated": write.fact(n + other, WEST, np.roll(west, 1))},
        write.direct(sample.double.of(pool), sample.free[pool]),
        write.fact(y, IS, y),
        in_data,
    )
    # Each country has one successor by population, so answers differ; every withheld country has one.
    after = y + 1
    pairs = {
        "second": (ways((n + y, y, after), (COUNTRY, SMALLER)), (1,)),
        "first": (ways((after, y, book.facts["currency"][1][y]), (LARGER, CURRENCY)), (0,)),
        "both": (draw_old_pairs(seed, config.edits, sample), (0, 1)),
    }
    layout = world.probes["direct"].layout
    probes = world.probes | {
        f"direct_known_{name}": ask(write.direct(pair), controls.disown_hops(layout, *old))
        for name, (pair, old) in pairs.items()
    }
    identity = write.fact(everyone, IS, everyone, in_pretraining)
    return dataclasses.replace(new, pretraining=world.pretraining | {"identity": identity}, probes=probes)
