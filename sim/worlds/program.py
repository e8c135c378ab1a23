"""A tiny machine: programs of statements "argument OPERATION -> x" on numbers modulo a prime.

An operation is an affine map n -> a n + b. The machine reads tokens as they were written, so that a solution
can be judged by what it does when run.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

STATEMENT = 4
"""Tokens of a statement: argument, operation, arrow, variable."""

BROKEN = -1
"""Result of a program that does not run."""


@dataclass(frozen=True)
class Machine:
    """Which tokens mean what.

    prime:      numbers are the tokens 0 to prime - 1, and what is computed is modulo prime.
    operations: (slope, offset) of each operation, by its token counted from ``first_operation``.
    arrow, variable: tokens. There is one variable; it has no value before it is assigned one.
    """

    prime: int
    operations: tuple[tuple[int, int], ...]
    first_operation: int
    arrow: int
    variable: int

    def apply(self, operations: Int[Array, "*S"], numbers: Int[Array, "*S"]) -> Int[Array, "*S"]:
        """a n + b modulo the prime; ``BROKEN`` for a token that is no operation, or a broken number."""
        slope, offset = jnp.asarray(self.operations, jnp.int32).T
        place = operations - self.first_operation
        known = (place >= 0) & (place < len(self.operations))
        place = jnp.clip(place, 0, len(self.operations) - 1)
        return jnp.where(known & (numbers >= 0), (slope[place] * numbers + offset[place]) % self.prime, BROKEN)

    def run(self, program: Int[Array, "S L"]) -> Int[Array, " S"]:
        """The variable's value at the end of each program of L / 4 statements, ``BROKEN`` if it does not run."""
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
    """Judge: the last number that is written is the right one, or what the written program computes is.

    prompt: tokens before the solution.
    """

    machine: Machine
    prompt: int

    def __call__(self, written: Int[Array, "S T"], right: Int[Array, "S T"]) -> Bool[Array, " S"]:
        found, wanted = (self._result(tokens[:, self.prompt :]) for tokens in (written, right))
        return (found == wanted) & (found != BROKEN)

    def _result(self, solution: Array) -> Array:
        last = solution[:, -1].astype(jnp.int32)
        return jnp.where(last < self.machine.prime, last, self.machine.run(solution))


@dataclass(frozen=True)
class Reusable:
    """Judge: the operations that are named, applied in their order, are right for every number there is.

    A solution in prose names none. ``prompt``: tokens before the solution.
    """

    machine: Machine
    prompt: int

    def __call__(self, written: Int[Array, "S T"], right: Int[Array, "S T"]) -> Bool[Array, " S"]:
        found, wanted = (self._function(tokens[:, self.prompt :]) for tokens in (written, right))
        return jnp.all((found == wanted) & (found != BROKEN), axis=1)

    def _function(self, solution: Array) -> Array:
        numbers = jnp.arange(self.machine.prime, dtype=jnp.int32)
        value = jnp.broadcast_to(numbers, (solution.shape[0], self.machine.prime))
        for at in range(1, solution.shape[1], STATEMENT):
            operation = jnp.broadcast_to(solution[:, at : at + 1].astype(jnp.int32), value.shape)
            value = self.machine.apply(operation, value)
        return value
