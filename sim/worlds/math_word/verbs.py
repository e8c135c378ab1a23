"""Old and new meanings of the taught verbs, and the other new meanings that were as likely."""

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the world imports its meanings
    from sim.worlds.math_word import Config

DRAWS = 10_000
"""Most draws of meanings before the error."""


@functools.cache
def slopes(config: "Config") -> np.ndarray:
    """Slope of every operation."""
    return np.array(config.grammar.machine.operations)[:, 0]


def meanings(rng, config: "Config") -> tuple[np.ndarray, np.ndarray]:
    """(old, new) operations of the taught verbs, trade's first.

    They are drawn until all slopes differ: an answer to a two-step question that leaves out a step, or uses
    old meanings of one or both families, is then right for one number at most. So a part of the solution is
    worth no more than a guess.

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
    """Whether the slopes of new operations differ from those of the old ones, and from no operation."""
    slope, each = slopes(config), config.verbs
    before, after = (np.outer(slope[m[:each]], slope[m[each:]]) % config.prime for m in (old, new))
    return bool(np.all((after != 1) & (after != before)) and np.all(slope[old] != slope[new]))


def alternatives(config: "Config", old: np.ndarray, new: np.ndarray, family: int) -> np.ndarray:
    """(draws, verbs of both families): all new meanings of one family that ``meanings`` could have drawn,
    given those of the other family and all old ones. The true ones are among them."""
    half, each = config.operations // 2, config.verbs
    operations = (range(half), range(half, config.operations))[family]
    drawn = np.array(list(itertools.permutations(operations, each)))
    candidates = np.tile(new, (len(drawn), 1))
    candidates[:, family * each : (family + 1) * each] = drawn
    return candidates[[_distinguishable(config, old, candidate) for candidate in candidates]]
