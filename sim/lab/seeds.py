"""Randomness and its amount: keys by ``fold_in`` from a root, never carried; draws by profile."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp

Place = TypeVar("Place")


def key(*path: int, root: int = 0) -> jax.Array:
    """The key at a path of numbers below the root, by repeated fold_in: one for each place in a table."""
    return functools.reduce(jax.random.fold_in, path, jax.random.key(root))


def keys(root: jax.Array, count: int) -> jax.Array:
    """``count`` keys below a key, number i being fold_in(root, i)."""
    return jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(count))


@dataclass(frozen=True)
class Effort:
    """How many draws a measurement takes, as a multiple of the quick profile's."""

    name: str
    factor: float

    def __call__(self, quick: int, paper: int | None = None) -> int:
        """Draws where the quick profile takes ``quick``, and at least 8 of them; ``paper`` in the paper's."""
        if self.name == "paper" and paper is not None:
            return paper
        return max(min(8, quick), round(self.factor * quick))

    def some(self, places: Sequence[Place]) -> Sequence[Place]:
        """Where to measure: at all places, or for smoke, where programs take longest to compile, at two."""
        return places if self.factor >= 1 else [places[0], places[len(places) // 2]]


EFFORTS = {
    effort.name: effort for effort in (Effort("smoke", 1 / 16), Effort("quick", 1), Effort("paper", 8))
}
"""``smoke`` is for tests: it shows that a computation runs and no sign is wrong, not how sharp a law is."""
