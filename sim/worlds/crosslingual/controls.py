"""Controls of cross-lingual code (``sim.worlds.controls``): code as a direct answer.

known pairs   a request in N for an old function, in L3 for a new one, or in L3 for an old one; pretraining
              holds no code of these functions in that language
direct_expert code of old functions for requests in N, other functions than those of the pairs
unrelated     new code of these other functions, for requests in P
identity      requests in P paraphrased into P: of all functions in pretraining, as by default, of the
              new ones in the adapters' data
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from sim.model.sequences import Sequences
from sim.worlds import Probe, World, controls
from sim.worlds.crosslingual.languages import L3, N, P, Writer

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.crosslingual import Config, Setting

PRETRAINING = ()
"""Batches that the controls add to pretraining: none, identities are among its paraphrases."""

TO_CODE = 4
"""Fewest stable functions: half of them swap their code in the unrelated adapter."""


def check(config: "Config", setting: "Setting") -> bool:
    """Whether the world has controls.

    Raises:
        ValueError: the setting needs controls that the world does not have or does not support, or there are
            too few functions.
    """
    if not config.controls:
        if setting.identity in ("data", "both"):
            raise ValueError(f"identity {setting.identity!r} needs a world with controls=True")
        return False
    controls.require(config, setting, familiarity="familiar", worked="pivot")
    if config.stable_functions < TO_CODE:
        raise ValueError(f"stable_functions is {config.stable_functions}: controls need {TO_CODE} or more")
    return True


def added(
    world: World,
    config: "Config",
    in_data: bool,
    write: Writer,
    requests: np.ndarray,
    same_inputs: np.ndarray,
    never: np.ndarray,
) -> World:
    """The world with its controls.

    Args:
        in_data: whether the two adapters' data hold identities.
        requests: (3, S), every request: a function and its two inputs.
        same_inputs: (S,), whether a request has the inputs that the questions share.
        never: (S,), whether pretraining never codes the request's function in L3.
    """
    f, is_new = requests[0], requests[0] >= config.stable_functions
    questions, others = (requests[:, ~is_new & (f % 2 == half)] for half in (0, 1))
    answered_by = np.roll(np.unique(others[0]), 1)
    code_of = answered_by[np.searchsorted(np.unique(others[0]), others[0])]
    unrelated = write.coded(P, *others)
    changed = write.coded(P, code_of, *others[1:]).target
    tokens = np.concatenate([unrelated.tokens[:, : unrelated.prompt], changed], axis=1)
    taught_world = controls.added(
        world,
        {"unrelated": dataclasses.replace(unrelated, tokens=tokens)},
        write.coded(N, *others),
        write.paraphrase(P, P, *requests[:, is_new]),
        in_data,
    )
    layout, shared = world.probes["direct"].layout, same_inputs[~is_new & (f % 2 == 0)]
    unshown = ~is_new & same_inputs & never

    def pair(code: Sequences, *hops) -> Probe:
        """Code as questions. Steps ``hops`` are old facts; all answers differ."""
        own = controls.disown_hops(layout, *hops, chance=1 / len(code.tokens))
        return Probe(code.tokens, code.weight, code.prompt, own)

    pairs = {
        "direct_known_second": pair(write.coded(N, *questions[:, shared]), 1),
        "direct_known_first": pair(write.coded(L3, *requests[:, is_new & same_inputs], now=True), 0),
        "direct_known_both": pair(write.coded(L3, *requests[:, unshown]), 0, 1),
    }
    return dataclasses.replace(taught_world, probes=world.probes | pairs)
