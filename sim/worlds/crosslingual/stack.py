"""A stack machine: what a short program computes, so that programs are judged by what they do.

Numbers are residues modulo ``MODULUS``, so nothing overflows. A program's result is the top of its stack; one
that takes more than the stack holds, leaves nothing, or holds what is no instruction, has no result.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

MODULUS = 97

INSTRUCTIONS = ("DUP", "SWAP", "OVER", "DROP", "ADD", "SUB", "MUL", "NEG", "INC", "DOUBLE")
"""Operation codes 0 to 9; those that follow push the inputs."""

SWAP = INSTRUCTIONS.index("SWAP")

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
    pushed = [xp.broadcast_to(xp.asarray(inputs[:, k], xp.int32), shape) for k in range(given)]

    def step(state, code):
        stack, depth, runs = state  # the top of the stack first
        runs = runs & (code >= 0) & (code < count + given)
        code = xp.where(runs, code, 0)
        runs, depth = runs & (depth >= needs[code]), depth + grows[code]
        code, change = (xp.broadcast_to(value[..., None], shape) for value in (code, grows[code]))
        top, below, rest = stack[0], stack[1], stack[2:]
        results = [top, below, below, below, below + top, below - top, below * top, -top, top + 1, 2 * top]
        results = [value % MODULUS for value in results] + pushed
        first = xp.select([code == number for number in range(count + given)], results, top)
        second = xp.select([change > 0, change < 0, code == SWAP], [top, stack[2], top], below)
        longer, shorter = stack[1:-1], xp.concatenate([stack[3:], stack[-1:]])
        change = xp.broadcast_to(change[None], rest.shape)
        rest = xp.where(change > 0, longer, xp.where(change < 0, shorter, rest))
        return (xp.concatenate([first[None], second[None], rest]), depth, runs), None

    empty = xp.zeros((programs.shape[-1] + 2, *shape), xp.int32)
    state = empty, xp.zeros(shape[:-1], xp.int32), xp.ones(shape[:-1], bool)
    codes = xp.moveaxis(xp.asarray(programs, xp.int32), -1, 0)
    if xp is jnp:
        state, _ = jax.lax.scan(step, state, codes)
    else:
        for code in codes:
            state, _ = step(state, code)
    stack, depth, runs = state
    runs = runs & (depth > 0)
    return xp.where(xp.broadcast_to(runs[..., None], shape), stack[0], 0), runs


@functools.cache
def fresh(count: int, given: int) -> Int[np.ndarray, "count given"]:
    """The inputs on which programs are tried; no training sequence holds an input."""
    return np.random.default_rng([97, count, given]).integers(0, MODULUS, (count, given)).astype(np.int32)


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
