"""A stack machine: what a short program computes, so that programs are judged by what they do.

Numbers are residues modulo ``MODULUS``, so nothing overflows. A program's result is the top of its stack; one
that takes more than the stack holds, or holds what is no instruction, crashes and has no result.
"""

import functools
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

MODULUS = 97

INSTRUCTIONS = ("DUP", "SWAP", "OVER", "DROP", "ADD", "SUB", "MUL", "NEG", "INC", "DOUBLE")
"""Operation codes 0 to 9; those that follow push the inputs."""

NEEDS = np.asarray([1, 2, 2, 1, 2, 2, 2, 1, 1, 1], np.int32)
"""How much each instruction wants on the stack."""

GROWS = np.asarray([1, 0, 1, -1, -1, -1, -1, 0, 0, 0], np.int32)
"""By how much each makes the stack longer."""


def run(programs: Int[Array, "*S L"], inputs: Int[Array, "I K"], xp: Any = jnp) -> tuple[Array, Array]:
    """What programs leave on top of the stack for every input, and whether they run to the end.

    Args:
        programs: operation codes; ``len(INSTRUCTIONS) + k`` pushes input k, any other code crashes.
        inputs: I inputs of K numbers each, residues.
        xp: jax.numpy, or numpy to enumerate programs without a compiler.

    Returns:
        (results (*S, I), 0 where there is none; whether each program runs (*S)).
    """
    count, given = len(INSTRUCTIONS), inputs.shape[1]
    needs = xp.asarray(np.append(NEEDS, np.zeros(given, np.int32)))
    grows = xp.asarray(np.append(GROWS, np.ones(given, np.int32)))
    shape = (*programs.shape[:-1], inputs.shape[0])
    known = (programs >= 0) & (programs < count + given)
    codes = xp.where(known, programs, 0)
    pushed = [xp.broadcast_to(xp.asarray(inputs[:, k], xp.int32), shape) for k in range(given)]
    stack = [xp.zeros(shape, xp.int32)] * (programs.shape[-1] + 1)  # the top first
    depth = xp.zeros(shape[:-1], xp.int32)
    runs = xp.all(known, axis=-1)
    for at in range(programs.shape[-1]):
        code = codes[..., at]
        runs, depth = runs & (depth >= needs[code]), depth + grows[code]
        code, change = (xp.broadcast_to(value[..., None], shape) for value in (code, grows[code]))
        top, below = stack[0], stack[1]
        results = [top, below, below, below, below + top, below - top, below * top, -top, top + 1, 2 * top]
        conditions = [code == number for number in range(count + given)]
        first = xp.select(conditions, [value % MODULUS for value in results] + pushed, top)
        second = xp.select([change > 0, change < 0, code == 1], [top, stack[2], top], below)
        rest = [
            xp.select([change > 0, change < 0], [stack[i - 1], (stack + stack[-1:])[i + 1]], stack[i])
            for i in range(2, len(stack))
        ]
        stack = [first, second, *rest]
    return xp.where(xp.broadcast_to(runs[..., None], shape), stack[0], 0), runs


@functools.cache
def fresh(count: int, given: int) -> Int[np.ndarray, "count given"]:
    """The inputs on which programs are tried; no training sequence holds an input."""
    return np.random.default_rng([97, count, given]).integers(0, MODULUS, (count, given)).astype(np.int32)


def same(first: Int[Array, "S L"], second: Int[Array, "S L"], inputs, xp: Any = jnp) -> Bool[Array, " S"]:
    """Whether two programs both run and agree on all inputs."""
    (ours, ok), (theirs, good) = (run(programs, inputs, xp) for programs in (first, second))
    return xp.all(ours == theirs, axis=-1) & ok & good


@functools.cache
def meanings(length: int, trials: int) -> tuple[Int[np.ndarray, "B length"], Int[np.ndarray, " B"]]:
    """All bodies of a length over two numbers, and the number of what each computes; -1 where it crashes.

    Found by enumeration: bodies with equal results on ``trials`` fresh inputs have equal numbers. Two
    different polynomials of degree at most 8 agree there with probability below (8 / 97)^trials.
    """
    bodies = np.asarray(list(itertools.product(range(len(INSTRUCTIONS)), repeat=length)), np.int32)
    start = np.broadcast_to(len(INSTRUCTIONS) + np.arange(2, dtype=np.int32), (len(bodies), 2))
    results, runs = run(np.concatenate([start, bodies], axis=1), fresh(trials, 2), np)
    numbers = np.unique(results, axis=0, return_inverse=True)[1].reshape(-1)
    return bodies, np.where(runs, numbers, -1)


def agreement(length: int, trials: int) -> tuple[float, float]:
    """How often a body of random instructions computes what a function does that is drawn uniformly from
    the different ones, and how often random instructions run at all. By enumeration, exact."""
    _, number = meanings(length, trials)
    runs = number >= 0
    sizes = np.unique(number[runs], return_counts=True)[1]
    return float(np.mean(sizes) / len(number)), float(np.mean(runs))
