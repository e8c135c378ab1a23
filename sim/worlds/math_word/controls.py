"""Controls of math word problems (``sim.worlds.controls``), a problem of two steps asked at once throughout.

    known pairs   one step by a taught verb, the other by a plain one, or both by plain ones; pretraining
                  holds none of these pairs of verbs as a problem of two steps, for any number
    direct_expert answers to problems of two other plain verbs
    unrelated     what verbs do that pretraining only heard, and no question has
    identity      problems without a step: "Ann n apples . meanwhile Bob VERB . MARK she now has n"

Everything is drawn from a generator of its own, so that a world without controls is what it was.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sim.worlds import Probe, World, controls
from sim.worlds.controls import IDENTITY
from sim.worlds.math_word.problems import Writer, every_number

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.math_word import Config, Problems, Setting

PRETRAINING = IDENTITY
"""Batches of the groups that the controls add to pretraining."""

HOPS = {"second": (1,), "first": (0,), "both": (0, 1)}
"""Which steps are known, by the name of a pair."""


def generator(seed: int) -> np.random.Generator:
    """What the controls of a seed are drawn from."""
    return np.random.default_rng([20250731, seed, 1])


def check(config: "Config", setting: "Setting") -> bool:
    """Whether the world has controls.

    Raises:
        ValueError: controls are asked for that the world lacks, that do not know the setting, or that it has
            no room for.
    """
    if not controls.require(config, setting, verbs="real"):
        return False
    if 3 * config.verbs > config.operations:
        raise ValueError(f"operations {config.operations} leave none for controls: use {3 * config.verbs}")
    return True


def pairs(rng: np.random.Generator, config: "Config", meaning, old, new) -> dict[str, np.ndarray]:
    """{which step is known: (pairs, 2), the verbs of both steps}: a taught verb beside a plain one, or two
    plain ones.

    Plain verbs are drawn so that no answer that leaves a step out, or takes the taught verb's old meaning for
    the new one, is right for more than one number: the slopes of right and wrong answers differ.

    Args:
        meaning: the operation of every verb in pretraining. old, new: of the taught verbs, trade's first.

    Raises:
        ValueError: no plain verb will do.
    """
    slope, each = np.array(config.grammar.machine.operations)[:, 0], config.verbs
    plain = np.arange(config.operations)
    first = config.operations + np.arange(2 * each)

    def beside(steep, *wrong):
        """A plain verb whose slope times ``steep`` is none of the slopes that are ``wrong``."""
        fit = plain[~np.isin(steep * slope[meaning[plain]] % config.prime, wrong)]
        if not len(fit):
            raise ValueError(f"operations {config.operations} are too few for known pairs: use more")
        return rng.choice(fit)

    partner = [beside(slope[n], 1, slope[o]) for o, n in zip(old, new, strict=True)]
    starts = rng.permutation(plain)[:each]
    follows = [beside(slope[meaning[verb]], 1) for verb in starts]
    return {
        "second": np.stack([first[:each], partner[:each]], axis=1),
        "first": np.stack([partner[each:], first[each:]], axis=1),
        "both": np.stack([starts, follows], axis=1),
    }


def added(
    world: World,
    config: "Config",
    identity_in: tuple[bool, bool],
    write: Writer,
    known: Mapping[str, np.ndarray],
    expert: "Problems",
    new: np.ndarray,
) -> World:
    """The world with its controls.

    Args:
        identity_in: whether (pretraining, the two adapters' data) hold identities.
        write: knows what the taught verbs do now; draws from the controls' own generator.
        known: ``pairs``. expert: problems about plain verbs that "direct_expert" is taught.
        new: operations that taught verbs have, and unrelated ones do not.
    """
    in_pretraining, in_data = identity_in
    heard = config.known + np.arange(config.verbs)
    other = write.rng.permutation(np.setdiff1d(np.arange(config.operations), new))[: config.verbs]
    write.meaning[heard] = other
    unrelated = every_number(config.prime, heard[:, None], config.wordings)
    n, nothing = every_number(config.prime, np.zeros((1, 0), int), config.told)
    identity = write.answered(n, nothing)
    found = controls.added(
        world, {"unrelated": write.answered(*unrelated)}, write.answered(*expert), identity, in_data
    )
    probes = dict(world.probes)
    for name, verbs in known.items():
        asked = write.answered(*every_number(config.prime, verbs, config.asked), place=1)
        layout = controls.known(world.probes["direct"].layout, *HOPS[name])
        probes[f"direct_known_{name}"] = Probe(asked.tokens, asked.weight, asked.prompt, layout)
    shown = controls.weighed(identity, float(in_pretraining))
    return dataclasses.replace(found, pretraining=world.pretraining | {"identity": shown}, probes=probes)
