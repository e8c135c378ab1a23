"""The libraries of the test bed, and what is written of each: tokens, adapters, leads."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from sim.experiments.merge_forecast.facts import draw_facts, lessons
from sim.experiments.merge_forecast.training import Cut, encode
from sim.model.llama_adapters import Questions

DESIGNS = {"own": False, "shared": True}
"""Whether two adapters share a relation."""


@dataclass(frozen=True)
class Sizes:
    """adapters: K of the libraries. facts: of one adapter. rank, rate, batch, most: of training."""

    adapters: tuple[int, ...] = (6, 8)
    designs: tuple[str, ...] = tuple(DESIGNS)
    seeds: tuple[int, ...] = (0, 1, 2)
    facts: int = 16
    rank: int = 8
    rate: float = 1e-3
    batch: int = 32
    most: int = 300


@dataclass(frozen=True)
class Library:
    """One library: its number of adapters, its design, its seed."""

    adapters: int
    design: str
    seed: int

    def __str__(self) -> str:
        return f"{self.adapters}_{self.design}_{self.seed}"


def groups(sizes: Sizes) -> Iterator[list[Library]]:
    """Libraries that are trained in one program: all seeds of a size and design."""
    for adapters, design in itertools.product(sizes.adapters, sizes.designs):
        yield [Library(adapters, design, seed) for seed in sizes.seeds]


def libraries(sizes: Sizes) -> list[Library]:
    """All of them, group by group."""
    return [library for group in groups(sizes) for library in group]


def tokens(library: Library, sizes: Sizes, cut: Cut) -> tuple[Questions, Questions]:
    """(the data sets, the facts in their plain wording) of a library, leaves (K, S, ...)."""
    facts = draw_facts(library.adapters, sizes.facts, library.seed, DESIGNS[library.design])
    data = [encode(cut, lessons(each, 100 * library.seed + i)) for i, each in enumerate(facts)]
    plain = [encode(cut, [(fact.prompt, fact.answer) for fact in each]) for each in facts]
    return stacked(data), stacked(plain)


def alike(sets: Sequence[Questions], multiple: int = 1) -> list[Questions]:
    """The sets, padded behind to one length, so that one compiled program serves all.

    multiple: of which the number of tokens is one; a GPU's fast attention asks for an even number.
    """
    length, most = max(one.tokens.shape[-1] for one in sets), max(one.target.shape[-1] for one in sets)
    length = -(-length // multiple) * multiple

    def padded(values: np.ndarray, size: int) -> np.ndarray:
        return np.pad(values, (*[(0, 0)] * (values.ndim - 1), (0, size - values.shape[-1])))

    return [Questions(padded(one.tokens, length), *(padded(part, most) for part in one[1:])) for one in sets]


def stacked(sets: Sequence[Questions]) -> Questions:
    """Sets of equally many questions in one array each."""
    wide = alike(sets)
    return Questions(*(np.stack(parts) for parts in zip(*wide, strict=True)))


def flat(questions: Questions) -> Questions:
    """The questions of several sets in one list."""
    return Questions(*(part.reshape(-1, *part.shape[2:]) for part in questions))


def write_arrays(path: Path, tree) -> None:
    """The leaves of a tree, in order, as one compressed file: whole, or not there."""
    scratch = path.with_suffix(".part.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(scratch, *(np.asarray(leaf) for leaf in jax.tree.leaves(tree)))
    scratch.replace(path)


def read_arrays(path: Path, stage: str) -> list[np.ndarray]:
    """The arrays of ``write_arrays``. Raises ValueError where the stage that writes them did not run."""
    if not path.exists():
        raise ValueError(f"{path} is not there: run the stage {stage} first")
    with np.load(path) as file:
        return [file[f"arr_{n}"] for n in range(len(file.files))]
