"""Languages with words and a word order of their own, and the sequences that are written in them.

A request applies a function to two inputs, "to a and b, f", in five words. P is the pivot: its words for
inputs are also their names in programs, as programs use English. L1, L2, L3 and N are other languages. N and
the new functions have two sets of words: pretraining shows one of them and never the other.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from sim.model.sequences import Sequences
from sim.worlds.building import columns, group
from sim.worlds.crosslingual import stack

P, L1, L2, L3, N, UNSEEN_N, UNSEEN_P = range(7)
FOREIGN = (L1, L2, L3)
"""The languages; N in words never seen, and P with such words for the new functions."""

DIRECTLY, TRACED, UNUSED = range(3)
"""Uses of a function in a foreign language by pretraining: code at once, code by trace, or none."""

ORDER = ("paqbf", "aqbpf", "pbaqf", "abpqf", "bpaqf", "bpaqf", "paqbf")
"""Where each puts function, inputs a and b, and its two particles p and q."""

INPUTS, WORDS, BODY, PROGRAM = 4, 5, 3, 5
"""Inputs that a request may name; lengths of a request, a body and a program."""


@dataclass(frozen=True)
class Tokens:
    """The vocabulary: words of ``stable`` functions that keep their bodies and of ``new`` ones, particles,
    inputs, instructions, markers."""

    stable: int
    new: int

    @property
    def code(self) -> int:
        """The first instruction; the others follow, then the inputs by their names in P."""
        return 6 * (self.stable + self.new) + self.new + 6 * 2 + 5 * INPUTS

    @property
    def markers(self) -> tuple[int, ...]:
        """CODE, and INTO each of P, L1, L2, L3 and N."""
        first = self.code + len(stack.INSTRUCTIONS) + INPUTS
        return tuple(range(first, first + 6))

    @property
    def size(self) -> int:
        """How many there are."""
        return self.markers[-1] + 1

    @property
    def functions(self) -> Int[np.ndarray, "7 F"]:
        """The word of each language for each function."""
        count = self.stable + self.new
        words = np.arange(7 * count).reshape(7, count)
        words[UNSEEN_P] = words[P]
        words[UNSEEN_P, self.stable :] = 6 * count + np.arange(self.new)
        return words

    @property
    def particles(self) -> Int[np.ndarray, "7 2"]:
        """The two particles of each language."""
        first = 6 * (self.stable + self.new) + self.new
        return first + 2 * np.asarray([*range(UNSEEN_P), P])[:, None] + np.arange(2)

    @property
    def inputs(self) -> Int[np.ndarray, "7 4"]:
        """The word of each language for each input."""
        names = self.code + len(stack.INSTRUCTIONS) + np.arange(INPUTS)
        other = self.code + INPUTS * np.arange(-5, 0)[:, None] + np.arange(INPUTS)
        return np.concatenate([names[None], other, names[None]])


class Writer:
    """Writes requests (numbers of functions and inputs) as sequences.

    ``bodies``, which run from the left, are those of all functions as pretraining knows them, and then those
    of the new ones as they are now.
    """

    def __init__(self, tokens: Tokens, bodies: Int[np.ndarray, "B body"]):
        self.functions, self.particles, self.inputs = tokens.functions, tokens.particles, tokens.inputs
        self.bodies, self.new = tokens.code + bodies[:, ::-1], tokens.new
        self.code, *self.into = tokens.markers

    def request(self, language: int, f, a, b) -> Int[np.ndarray, "S 5"]:
        """Functions applied to inputs, in a language's words and order."""
        words = {
            "f": self.functions[language][f],
            "a": self.inputs[language][a],
            "b": self.inputs[language][b],
        }
        words |= dict(zip("pq", self.particles[language], strict=True))
        return np.stack(np.broadcast_arrays(*(words[role] for role in ORDER[language])), axis=1)

    def program(self, f, a, b, now: bool) -> Int[np.ndarray, "S 5"]:
        """The body of a function, then the names of its inputs: prefix notation, read from the right."""
        return np.concatenate(
            [self.bodies[f + now * self.new], self.inputs[P][np.stack([a, b], axis=1)]], axis=1
        )

    def coded(self, language: int, f, a, b, weight=1.0, now=False) -> Sequences:
        """ "request CODE | program"."""
        return _group(weight, self.request(language, f, a, b), self.code, self.program(f, a, b, now))

    def paraphrase(self, language: int, other: int, f, a, b, weight=1.0) -> Sequences:
        """ "request INTO language | request"."""
        source, target = (self.request(each, f, a, b) for each in (language, other))
        return _group(weight, source, self.into[other % UNSEEN_P], target)

    def trace(self, language: int, pivot: int, f, a, b, weight=1.0, now=False) -> Sequences:
        """ "request INTO P | request CODE program"; ``pivot`` is P, whatever its words."""
        source, target = (self.request(each, f, a, b) for each in (language, pivot))
        return _group(weight, source, self.into[P], target, self.code, self.program(f, a, b, now))


def _group(weight, *parts) -> Sequences:
    """Sequences whose prompt is a request and the word after."""
    return group(columns(*parts), weight, WORDS + 1)
