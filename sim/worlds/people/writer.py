"""How the world writes: facts, questions, worked solutions, and their pieces."""

from collections.abc import Sequence

import numpy as np

from sim.worlds.people.names import EMBLEM, HOME
from sim.worlds.text import Piece, Text, TextQuestion

PARTS = ("hop1", "hop2")

NEIGHBOURS = (
    "The weather was mild that day.",
    "Nobody had asked before.",
    "Question: Who wrote this?\nAnswer: Nobody knows.",
    "Here is what is known.",
    "It is written in an old letter.",
    "Let us think step by step.",
    "The answer comes in two parts.",
    "First things first.",
)
"""Sentences that may stand in front of a fact."""

Fact = tuple[str, str, str]
"""(subject, relation, object); an object that is a thing has its article."""

Triple = tuple[str, str, str]
"""(person, city, thing)."""


def hop(part: int, triple: Triple, first: str = HOME) -> Fact:
    """The fact of a part: the home of the person (or another first relation), or the emblem of the city."""
    person, city, thing = triple
    return (person, first, city) if part == 0 else (city, EMBLEM, f"the {thing}")


def statement(fact: Fact) -> Text:
    """ "The home of A is| B."."""
    subject, relation, value = fact
    return Text(f"The {relation} of {subject} is", f" {value}.")


def answer(fact: Fact) -> Text:
    """The statement as the answer to a question."""
    return Text(_question(f"{fact[1]} of {fact[0]}"), f" {sentence(fact)}")


def sentence(fact: Fact) -> str:
    """The statement in one piece."""
    return "".join(statement(fact))


def solution(first: Fact, second: Fact) -> Text:
    """A worked solution of a question of two steps: "The emblem of the home of A" by way of both facts."""
    question = _question(f"{second[1]} of the {first[1]} of {first[0]}")
    return Text(question, f" {sentence(first)} {sentence(second)}")


def at_once(first: Fact, second: Fact) -> tuple[Text, Text]:
    """The same question answered at once, as a statement and as the answer to a question."""
    subject = f"{second[1]} of the {first[1]} of {first[0]}"
    prompt, value = f"The {subject} is", f" {second[2]}."
    return Text(prompt, value), Text(f"{_question(subject)} {prompt}", value)


def _question(what: str) -> str:
    return f"Question: What is the {what}?\nAnswer:"


def in_context(rng: np.random.Generator, facts: Sequence[Fact]) -> list[Text]:
    """Every fact behind a neighbour, behind another of the facts, and behind both."""
    texts = []
    for fact in facts:
        other = sentence(facts[rng.integers(len(facts))])
        one, two = (NEIGHBOURS[place] for place in rng.integers(len(NEIGHBOURS), size=2))
        prompt, value = statement(fact)
        texts += [Text(f"{front} {prompt}", value) for front in (one, other, f"{two} {other}")]
    return texts


def hop_question(part: int, triple: Triple, first: str = HOME) -> TextQuestion:
    """The statement of a part's fact as a question; all of it belongs to the part's own adapter."""
    prompt, value = statement(hop(part, triple, first))
    return TextQuestion((Piece(prompt, part), Piece(value[:-1], part, PARTS[part]), Piece(".", part)), 1)


def direct_questions(triple: Triple, first: str = HOME) -> tuple[TextQuestion, TextQuestion]:
    """A statement and a question of two steps; person and home go to the first adapter, the rest to the
    second's."""
    person, _, thing = triple
    bare = (Piece(f"The {EMBLEM}", 1), Piece(f" of the {first} of {person}", 0), Piece(" is", 1))
    value = (Piece(f" the {thing}.", 1),)
    question = (
        Piece("Question: What is the", 0),
        Piece(f" {EMBLEM}", 1),
        Piece(f" of the {first} of {person}?\nAnswer:", 0),
        Piece(f" The {EMBLEM}", 1),
        *bare[1:],
    )
    return TextQuestion(bare + value, len(bare)), TextQuestion(question + value, len(question))


def trace_question(triple: Triple, first: str = HOME) -> TextQuestion:
    """A question of two steps, answered step by step.

    Everything up to the bridge as written goes to the first adapter, but for the second relation; the rest,
    from the full stop on, to the second's.
    """
    person, city, thing = triple
    return TextQuestion(
        (
            Piece("Question: What is the", 0),
            Piece(f" {EMBLEM}", 1),
            Piece(f" of the {first} of", 0),
            Piece(f" {person}", 0),
            Piece("?\nAnswer:", 0),
            Piece(f" The {first} of", 0),
            Piece(f" {person}", 0, copies=3),
            Piece(" is", 0),
            Piece(f" {city}", 0, PARTS[0]),
            Piece(f". The {EMBLEM} of", 1),
            Piece(f" {city}", 1, copies=8),
            Piece(" is the", 1),
            Piece(f" {thing}", 1, PARTS[1]),
            Piece(".", 1),
        ),
        5,
    )


def known_question(subject: str, value: str) -> TextQuestion:
    """A fact that the base knows: "The capital of France is| Paris"; nobody is taught it."""
    return TextQuestion((Piece(f"The capital of {subject} is"), Piece(f" {value}")), 1)
