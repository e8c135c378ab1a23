"""Controls of history and geography (``sim.worlds.controls``), about the most populous third.

    known pairs   the next country by population in place of the second hop or the first; or both hops old
                  facts, in questions that pretraining does not show
    direct_expert direct questions for the currency of other countries by their capitals
    unrelated     the capitals next westwards of the middle third's withheld ones, exchanged
    identity      "y IS ANSWER | y", of all countries in pretraining, of the withheld in the adapters' data

The controls have their own random generator, so that they leave the rest of the world as it is.
"""

from typing import TYPE_CHECKING

import numpy as np

from sim.worlds import World, controls
from sim.worlds.atlas.facts import RELATIONS
from sim.worlds.building import take
from sim.worlds.hops import Ways, ways

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.atlas import Config, Sample, Setting

COUNTRY, CURRENCY, LARGER, SMALLER, WEST = map(
    RELATIONS.index, ("country", "currency", "larger", "smaller", "west")
)
IS = len(RELATIONS) + 3
"""Number of the relation "is itself": its word is the last one of the vocabulary."""


def draw_old_pairs(seed: int, count: int, sample: "Sample") -> Ways:
    """``count`` questions "which country comes after the country of this capital" that no data set holds.

    Raises:
        ValueError: there are too few.
    """
    asks = (sample.double.relations == [[COUNTRY], [SMALLER]]).all(axis=0)
    drawn = np.random.default_rng([20250614, seed, 1]).permutation(np.flatnonzero(sample.unseen & asks))
    message = f"questions serve as known pairs, not {count}: use more countries"
    return sample.double.of(take(drawn, count, message))


def add(world: World, config: "Config", seed: int, setting: "Setting", sample: "Sample") -> World:
    """The world with its controls."""
    write, book = sample.write, sample.book
    n, (y, other, _) = len(book.facts["country"][0]), sample.withheld
    west, everyone = book.facts["west"][1][other], np.arange(n)
    pool = (sample.double.relations == [[COUNTRY], [CURRENCY]]).all(axis=0)
    # Each country has one successor by population, so answers differ; every withheld country has one.
    after = y + 1
    pairs = {
        "second": ways((n + y, y, after), (COUNTRY, SMALLER)),
        "first": ways((after, y, book.facts["currency"][1][y]), (LARGER, CURRENCY)),
        "both": draw_old_pairs(seed, config.edits, sample),
    }
    return controls.add(
        world,
        setting,
        {"unrelated": write.fact(n + other, WEST, np.roll(west, 1))},
        write.direct(sample.double.of(pool), sample.free[pool]),
        identity=write.fact(y, IS, y),
        pairs={name: write.direct(pair) for name, pair in pairs.items()},
        shown=write.fact(everyone, IS, everyone),
    )
