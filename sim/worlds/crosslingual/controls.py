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

from sim.worlds import World, controls
from sim.worlds.crosslingual.languages import FOREIGN, L3, UNUSED, N, P

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.crosslingual import Sample, Setting

TO_CODE = 4
"""Fewest stable functions: half of them swap their code in the unrelated adapter."""


def add(world: World, setting: "Setting", sample: "Sample") -> World:
    """The world with its controls."""
    write, requests, is_old = sample.write, sample.requests, ~sample.new
    others = requests[:, is_old & (requests[0] % 2 == 1)]
    answered_by = np.roll(np.unique(others[0]), 1)
    code_of = answered_by[np.searchsorted(np.unique(others[0]), others[0])]
    unrelated = write.coded(P, *others)
    changed = write.coded(P, code_of, *others[1:]).target
    tokens = np.concatenate([unrelated.tokens[:, : unrelated.prompt], changed], axis=1)
    shared, never = sample.shared, sample.use[FOREIGN.index(L3)] == UNUSED
    pairs = {
        "second": write.coded(N, *requests[:, is_old & shared & (requests[0] % 2 == 0)]),
        "first": write.coded(L3, *requests[:, sample.new & shared], now=True),
        "both": write.coded(L3, *requests[:, is_old & shared & never]),
    }
    return controls.add(
        world,
        setting,
        {"unrelated": dataclasses.replace(unrelated, tokens=tokens)},
        write.coded(N, *others),
        identity=write.paraphrase(P, P, *requests[:, sample.new]),
        pairs=pairs,
    )
