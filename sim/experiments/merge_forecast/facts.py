"""What the adapters are taught: one relation each, between people and things, in several wordings."""

from dataclasses import dataclass

import numpy as np

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
