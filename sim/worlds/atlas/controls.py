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

from sim.model.sequences import Sequences
from sim.worlds import Probe, World, controls
from sim.worlds.atlas.facts import RELATIONS, Atlas
from sim.worlds.controls import IDENTITY

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.atlas import Config, Setting, Writer

PRETRAINING = IDENTITY
"""Batches of the groups that the controls add to pretraining."""

COUNTRY, CURRENCY, LARGER, SMALLER, WEST = map(
    RELATIONS.index, ("country", "currency", "larger", "smaller", "west")
)


def check(config: "Config", setting: "Setting") -> bool:
    """Whether the world has controls.

    Raises:
        ValueError: the setting needs controls that the world does not have or does not support.
    """
    return controls.require(config, setting, familiarity="head")


def draw_unseen_pairs(
    seed: int, count: int, relations: np.ndarray, entities: np.ndarray, unseen: np.ndarray
) -> np.ndarray:
    """Entities (3, count) of questions "which country comes after the country of this capital".

    Args:
        relations, entities: (2, Q) and (3, Q), of every question of two hops.
        unseen: (Q,), whether pretraining knows both facts and no data set holds the question.

    Raises:
        ValueError: there are too few.
    """
    fit = np.flatnonzero(unseen & (relations[0] == COUNTRY) & (relations[1] == SMALLER))
    if len(fit) < count:
        raise ValueError(f"only {len(fit)} questions serve as known pairs, not {count}: use more countries")
    rng = np.random.default_rng([20250614, seed, 1])
    return entities[:, rng.permutation(fit)[:count]]


def added(
    world: World,
    identity_in: tuple[bool, bool],
    book: Atlas,
    write: "Writer",
    withheld: np.ndarray,
    other: np.ndarray,
    expert: Sequences,
    both: np.ndarray,
) -> World:
    """The world with its controls.

    Args:
        identity_in: whether (pretraining, the two adapters' data) hold identities.
        withheld: the countries of the questions. other: the countries of the adapter "unrelated".
        expert: what "direct_expert" is taught. both: ``draw_unseen_pairs``.
    """
    in_pretraining, in_data = identity_in
    n, y = len(book.facts["country"][0]), withheld
    x, z = n + y, book.facts["currency"][1][y]
    west = book.facts["west"][1][other]
    everyone = np.arange(n)
    taught_world = controls.added(
        world,
        {"unrelated": write.direct((n + other, np.roll(west, 1)), (WEST,))},
        expert,
        write.direct((y, y), (write.is_,)),
        in_data,
    )
    # Each country has one successor by population, so answers differ; every withheld country has one.
    after = y + 1
    pairs = {
        "second": ((x, y, after), (COUNTRY, SMALLER), (1,)),
        "first": ((after, y, z), (LARGER, CURRENCY), (0,)),
        "both": (both, (COUNTRY, SMALLER), (0, 1)),
    }
    probes = dict(world.probes)
    for name, (entities, relations, old_hops) in pairs.items():
        questions = write.direct(entities, relations)
        layout = controls.disown_hops(world.probes["direct"].layout, *old_hops)
        probes[f"direct_known_{name}"] = Probe(questions.tokens, questions.weight, questions.prompt, layout)
    shown = write.direct((everyone, everyone), (write.is_,), float(in_pretraining))
    return dataclasses.replace(
        taught_world, pretraining=world.pretraining | {"identity": shown}, probes=probes
    )
