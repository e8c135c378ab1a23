"""The language of math word problems: the tokens of a problem and its solution, and the machine for programs.

A problem opens with a name, a quantity and an object. Then come its steps, with one distractor about somebody
else, and a mark for the form of the answer (n, m numbers, VERB a verb, OP an operation):

    problem   Ann n apples . first Ann VERB . meanwhile Bob VERB . then VERB Ann . MARK
    ANSWER    she now has m
    PROSE     n VERB makes m   m VERB makes m
    EQUATION  n OP = m         m OP = m
    PROGRAM   n OP -> x        x OP -> x

(without the full stops). A verb's operation on the quantity is an affine map modulo a prime. A tiny machine
runs programs, so that a solution can be judged by its result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sim.model.sequences import Sequences

PROSE, EQUATION, PROGRAM, ANSWER = range(4)
"""Marks: forms of a written solution, and an answer without one."""

WRITTEN = np.array([PROSE, EQUATION, PROGRAM])

STATEMENT = 4
"""Tokens of one statement of a solution, in every form, and of an answer."""

DEPTHS = 4
"""Most steps of a problem. A sentence begins with a word for the number of its step."""

WORDS = 2
"""Synonyms of each number word; with the two orders of name and verb, every step has 4 frames."""

BROKEN = -1
"""Result of a program that does not run."""


@dataclass(frozen=True)
class Machine:
    """Runs programs: statements "argument OP -> x", with one variable that has no value until assigned one.

    prime:      numbers are the tokens 0 to prime - 1, and what is computed is modulo prime.
    operations: (slope, offset) of each, by its token counted from ``first_operation``.
    arrow, variable: tokens.
    """

    prime: int
    operations: tuple[tuple[int, int], ...]
    first_operation: int
    arrow: int
    variable: int

    def apply(self, operations: Int[Array, "*S"], numbers: Int[Array, "*S"]) -> Int[Array, "*S"]:
        """slope n + offset modulo the prime; ``BROKEN`` for a token that is no operation, or a broken n."""
        slope, offset = jnp.asarray(self.operations, jnp.int32).T
        place = operations - self.first_operation
        runs = (place >= 0) & (place < len(self.operations)) & (numbers >= 0)
        place = jnp.clip(place, 0, len(self.operations) - 1)
        return jnp.where(runs, (slope[place] * numbers + offset[place]) % self.prime, BROKEN)

    def run(self, program: Int[Array, "S L"]) -> Int[Array, " S"]:
        """The variable's value after the last statement of each program; ``BROKEN`` if it does not run."""
        value = jnp.full(program.shape[0], BROKEN, jnp.int32)
        for start in range(0, program.shape[1], STATEMENT):
            argument, operation, arrow, variable = program[:, start : start + STATEMENT].astype(jnp.int32).T
            number = jnp.where(argument < self.prime, argument, BROKEN)
            number = jnp.where(argument == self.variable, value, number)
            written = (arrow == self.arrow) & (variable == self.variable)
            value = jnp.where(written, self.apply(operation, number), BROKEN)
        return value


@dataclass(frozen=True)
class Solved:
    """Judge: the last written number is right, or the result of the written program is.

    prompt: tokens before the solution.
    """

    machine: Machine
    prompt: int

    def __call__(self, written: Int[Array, "S T"], right: Int[Array, "S T"]) -> Bool[Array, " S"]:
        """Whether each solution ends as the right one does."""
        results, targets = (self._result(tokens[:, self.prompt :]) for tokens in (written, right))
        return (results == targets) & (results != BROKEN)

    def _result(self, solution: Array) -> Array:
        last = solution[:, -1].astype(jnp.int32)
        return jnp.where(last < self.machine.prime, last, self.machine.run(solution))


@dataclass(frozen=True)
class Reusable:
    """Judge: the written operations, applied in their order, give the right result for every number.

    A solution in prose has no operations. ``prompt``: tokens before the solution.
    """

    machine: Machine
    prompt: int

    def __call__(self, written: Int[Array, "S T"], right: Int[Array, "S T"]) -> Bool[Array, " S"]:
        """Whether each solution gives the right result on fresh quantities as well."""
        results, targets = (self._function(tokens[:, self.prompt :]) for tokens in (written, right))
        return jnp.all((results == targets) & (results != BROKEN), axis=1)

    def _function(self, solution: Array) -> Array:
        numbers = jnp.arange(self.machine.prime, dtype=jnp.int32)
        value = jnp.broadcast_to(numbers, (solution.shape[0], self.machine.prime))
        for at in range(1, solution.shape[1], STATEMENT):
            operation = jnp.broadcast_to(solution[:, at : at + 1].astype(jnp.int32), value.shape)
            value = self.machine.apply(operation, value)
        return value


@dataclass(frozen=True)
class Grammar:
    """The vocabulary: the numbers of number words, names, objects, verbs and operations."""

    prime: int
    names: int
    objects: int
    verbs: int
    operations: int

    @property
    def words(self) -> dict[str, int]:
        """The first token of each kind, in the order of the vocabulary, which has ``end`` tokens."""
        sizes = {
            "number": self.prime,
            "name": self.names,
            "object": self.objects,
            "ordinal": DEPTHS * WORDS,
            "meanwhile": WORDS,
            "verb": self.verbs,
            "operation": self.operations,
            "mark": 4,
            **dict.fromkeys(("she", "now", "has", "makes", "equals", "arrow", "variable"), 1),
        }
        return dict(zip([*sizes, "end"], np.cumsum([0, *sizes.values()]).tolist(), strict=True))

    @property
    def machine(self) -> Machine:
        """Operations of slope 2 or more, sorted by slope: none is a mere shift, and none does nothing."""
        every = np.random.default_rng(self.prime).permutation(self.prime * (self.prime - 2))
        slope, offset = np.divmod(np.sort(every[: self.operations]), self.prime)
        operations = tuple(zip((2 + slope).tolist(), offset.tolist(), strict=True))
        words = self.words
        return Machine(self.prime, operations, words["operation"], words["arrow"], words["variable"])


def prompt_of(depth: int) -> int:
    """Tokens of a problem of so many steps, its mark included."""
    return 3 + 3 * (depth + 1) + 1


def every_number(prime: int, verbs: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """Problems (quantities, verbs of the steps) of verbs (K, depth): each with every number, ``times``."""
    verbs = np.repeat(np.tile(verbs, (times, 1)), prime, axis=0)
    return np.tile(np.arange(prime), len(verbs) // prime), verbs


class Writer:
    """Turns quantities n (S,) and the verbs of their steps (S, depth) into token sequences.

    The wording and the distractor of each problem are drawn from ``rng``.
    """

    def __init__(
        self, grammar: Grammar, rng: np.random.Generator, meaning: np.ndarray, bystanders: Sequence[int]
    ):
        """``meaning``: the operation of every verb. ``bystanders``: verbs of distractors."""
        self.grammar, self.words, self.rng = grammar, grammar.words, rng
        self.slope, self.offset = np.array(grammar.machine.operations).T
        self.meaning, self.bystanders = meaning, bystanders

    def values(self, n, verbs) -> np.ndarray:
        """The quantity before the first step and after each, (S, depth + 1)."""
        quantities = [n]
        for operation in self.meaning[verbs].T:
            quantities.append(
                (self.slope[operation] * quantities[-1] + self.offset[operation]) % self.grammar.prime
            )
        return np.stack(quantities, axis=1)

    def solved(self, form, n, verbs, weight=1.0, place=None) -> Sequences:
        """Problems with a written solution, of one form or one each; ``place``: see ``_problem``."""
        words, values, operation = (
            self.words,
            self.values(n, verbs),
            self.words["operation"] + self.meaning[verbs],
        )
        argument = np.full(verbs.shape, words["variable"])
        argument[:, 0] = n
        statements = [
            (values[:, :-1], words["verb"] + verbs, words["makes"], values[:, 1:]),
            (values[:, :-1], operation, words["equals"], values[:, 1:]),
            (argument, operation, words["arrow"], words["variable"]),
        ]
        statements = np.stack([np.stack(np.broadcast_arrays(*columns), axis=-1) for columns in statements])
        form = np.broadcast_to(form, len(n))
        return self._sequences(form, n, verbs, statements[form, np.arange(len(n))], weight, place)

    def answered(self, n, verbs, weight=1.0, place=None) -> Sequences:
        """Problems answered at once."""
        opening = [self.words[word] for word in ("she", "now", "has")]
        answer = np.stack(np.broadcast_arrays(*opening, self.values(n, verbs)[:, -1]), axis=-1)
        return self._sequences(np.full(len(n), ANSWER), n, verbs, answer, weight, place)

    def _sequences(self, form, n, verbs, completion, weight, place) -> Sequences:
        count = len(n)
        parts = [self._problem(n, verbs, place), self.words["mark"] + form, completion]
        tokens = np.concatenate([part.reshape(count, -1) for part in parts], axis=1).astype(np.int32)
        return Sequences(tokens, np.full(count, weight, np.float32), prompt_of(verbs.shape[1]))

    def _problem(self, n, verbs, place) -> np.ndarray:
        """Problems without a mark; the distractor follows ``place`` steps, or any number."""
        (count, depth), rng, words = verbs.shape, self.rng, self.words
        hero, other = rng.random((count, self.grammar.names)).argsort(axis=1)[:, :2].T
        objects = words["object"] + rng.integers(self.grammar.objects, size=count)
        opening = np.stack([words["name"] + hero, n, objects], axis=1)
        verb = np.column_stack([rng.choice(self.bystanders, size=count), verbs])
        names = np.column_stack([other, *[hero] * depth])
        first = np.append(words["meanwhile"], words["ordinal"] + WORDS * np.arange(depth))
        synonym = rng.integers(WORDS, size=verb.shape)
        wordings = np.stack([first + synonym, words["name"] + names, words["verb"] + verb], axis=-1)
        turned = rng.random(verb.shape) < 0.5
        wordings[turned] = wordings[turned][:, [0, 2, 1]]
        place = rng.integers(depth + 1, size=count) if place is None else np.full(count, place)
        position = np.arange(depth + 1)
        order = np.where(position < place[:, None], position + 1, position)
        order[position == place[:, None]] = 0
        sentences = wordings[np.arange(count)[:, None], order]
        return np.concatenate([opening, sentences.reshape(count, -1)], axis=1)
