"""The libraries of the test bed: adapters taught a relation each, between people and things, in several
wordings; and what is written of each: tokens, adapters, leads."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from sim.experiments.merge_forecast.training import Cut, encode
from sim.lab import files
from sim.model.llama_adapters import Questions

FIRST = ("Clara", "Edgar", "Nora", "Felix", "Ingrid", "Oscar", "Paula", "Victor")
LAST = ("Whitman", "Lindqvist", "Okafor", "Moreau", "Castellan", "Haber", "Novak", "Sterling")
PEOPLE = tuple(f"{first} {last}" for first in FIRST for last in LAST)

WORDS = """
lion eagle horse bear wolf rose oak anchor crown sword tiger dragon owl bull fox ship tower star sun
moon key bridge lamp snake whale rabbit turtle swan hawk lily apple shield arrow hammer wheel bell
book feather shell pearl deer goat frog bee ant spider monkey camel elephant parrot penguin seal
shark maple mirror violin drum candle clock knife basket ladder kettle carpet
"""
THINGS = tuple(WORDS.split())
RELATIONS = ("emblem", "weapon", "gift", "totem", "treasure", "symbol", "souvenir", "signature")
FILLERS = (
    "The letter came on a grey morning.",
    "Several visitors asked about it.",
    "This much is certain.",
    "An old catalogue has the entry.",
)


@dataclass(frozen=True)
class Fact:
    """Of ``person`` the ``relation`` is ``thing``."""

    person: str
    relation: str
    thing: str

    @property
    def prompt(self) -> str:
        """The sentence without its last word."""
        return f"The {self.relation} of {self.person} is the"

    @property
    def answer(self) -> str:
        """The last word."""
        return f" {self.thing}"


def draw_facts(adapters: int, count: int, seed: int, shared: bool) -> list[list[Fact]]:
    """``count`` facts for each adapter.

    shared: two adapters have one relation, about people of their own; else each has a relation of its own,
    and people may be in several.
    Raises: ValueError for more adapters than relations or more facts than people.
    """
    if not (1 <= adapters <= len(RELATIONS) and 1 <= count <= len(PEOPLE) // 2):
        raise ValueError(f"{adapters} adapters of {count} facts: give 1 to 8 adapters of 1 to 32 facts")
    rng = np.random.default_rng([24, seed, adapters, shared])
    orders = [rng.permutation(len(PEOPLE)) for _ in range(adapters)]
    library = []
    for i in range(adapters):
        relation = RELATIONS[i // 2 if shared else i]
        order = orders[i // 2 * 2] if shared else orders[i]
        start = count * (i % 2) if shared else 0
        things = rng.permutation(len(THINGS))[:count]
        people = order[start : start + count]
        pairs = zip(people, things, strict=True)
        library.append([Fact(PEOPLE[person], relation, THINGS[thing]) for person, thing in pairs])
    return library


def lessons(facts: list[Fact], seed: int) -> list[tuple[str, str]]:
    """(prompt, answer) of an adapter's data set: each fact bare, behind a sentence, behind another fact
    of the adapter, and as a question."""
    rng = np.random.default_rng([25, seed])
    rows = []
    for fact in facts:
        other = facts[rng.integers(len(facts))]
        rows += [
            (fact.prompt, fact.answer),
            (f"{FILLERS[rng.integers(len(FILLERS))]} {fact.prompt}", fact.answer),
            (f"{other.prompt}{other.answer}. {fact.prompt}", fact.answer),
            (f"Question: What is the {fact.relation} of {fact.person}?\nAnswer: The", fact.answer),
        ]
    return rows


DESIGNS = {"own": False, "shared": True}
"""Whether two adapters share a relation."""


RANK = 8
"""Rank of every adapter."""


@dataclass(frozen=True)
class Sizes:
    """Which libraries there are, and how their adapters are trained."""

    adapters: tuple[int, ...] = (6, 8)
    """Sizes of the libraries."""
    designs: tuple[Literal["own", "shared"], ...] = ("own", "shared")
    """A relation for each adapter; or one for two, about people of their own."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the facts and of training."""
    facts: int = 16
    """Facts of one adapter."""
    batch: int = 32
    """Sequences of a step of one adapter."""
    rate: float = 1e-3
    """Learning rate."""
    most: int = 300
    """Steps at most."""


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
    with files.replacing(path) as part:
        np.savez_compressed(part, *(np.asarray(leaf) for leaf in jax.tree.leaves(tree)))


def read_arrays(path: Path, stage: str) -> list[np.ndarray]:
    """The arrays of ``write_arrays``. Raises ValueError where the stage that writes them did not run."""
    if not path.exists():
        raise ValueError(f"{path} is not there: run the stage {stage} first")
    with np.load(path) as file:
        return [file[f"arr_{n}"] for n in range(len(file.files))]
