"""What taught verbs meant and what they come to mean, and what they might as well have come to mean."""

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the world imports its meanings
    from sim.worlds.math_word import Config

DRAWS = 10_000
"""How often meanings are drawn anew before they are given up."""


@functools.cache
def slopes(config: "Config") -> np.ndarray:
    """Slope of every operation."""
    return np.array(config.grammar.machine.operations)[:, 0]


def meanings(rng, config: "Config") -> tuple[np.ndarray, np.ndarray]:
    """(old, new) operations of the taught verbs, trade's first.

    Drawn until no answer to a two-step question that leaves out steps, or takes one family's or both
    families' old meanings for the new ones, is right for more than one number: the slopes differ. So who
    knows a part of the solution is right as often as who guesses.

    Raises:
        ValueError: no such draw is found; there are too few operations.
    """
    half, each = config.operations // 2, config.verbs
    for _ in range(DRAWS):
        old = rng.permutation(config.operations)[: 2 * each]
        trade, craft = rng.permutation(half)[:each], half + rng.permutation(config.operations - half)[:each]
        new = np.append(trade, craft)
        if _distinguishable(config, old, new):
            return old, new
    raise ValueError(f"operations {config.operations} are too few for {each} verbs an adapter: use more")


def _distinguishable(config: "Config", old: np.ndarray, new: np.ndarray) -> bool:
    """Whether new operations are told apart from old ones, and from none, by their slopes."""
    slope, each = slopes(config), config.verbs
    before, after = (np.outer(slope[m[:each]], slope[m[each:]]) % config.prime for m in (old, new))
    return bool(np.all((after != 1) & (after != before)) and np.all(slope[old] != slope[new]))


def alternatives(config: "Config", old: np.ndarray, new: np.ndarray, family: int) -> np.ndarray:
    """(draws, verbs of both families): everything that ``meanings`` might as well have drawn for the new ones
    of one family, with the other's and all old ones as they are. The true ones are among them."""
    half, each = config.operations // 2, config.verbs
    operations = (range(half), range(half, config.operations))[family]
    drawn = np.array(list(itertools.permutations(operations, each)))
    candidates = np.tile(new, (len(drawn), 1))
    candidates[:, family * each : (family + 1) * each] = drawn
    return candidates[[_distinguishable(config, old, candidate) for candidate in candidates]]
