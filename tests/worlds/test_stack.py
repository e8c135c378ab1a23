"""The stack machine against known programs and a machine written with lists; what random programs do."""

import itertools

import jax
import numpy as np
import pytest

from sim.worlds.crosslingual import stack

CODES = {name: number for number, name in enumerate([*stack.INSTRUCTIONS, "a", "b"])}


def codes(text):
    return [CODES.get(word, -1) for word in text.split()]


@pytest.mark.parametrize(
    ("program", "result"),
    [
        ("a b ADD", 5 + 7),
        ("a b SUB", 5 - 7 + 97),
        ("a b MUL", 35),
        ("a b SWAP SUB", 7 - 5),
        ("a b DROP", 5),
        ("a b DUP MUL", 49),
        ("a b OVER", 5),
        ("a b OVER SUB", 7 - 5),
        ("a NEG INC DOUBLE", (-5 + 1) * 2 + 2 * 97 - 97),
        ("a b SWAP DROP", 7),
        ("a b DUP MUL MUL", 5 * 49 % 97),
        ("a b OVER ADD ADD", 5 + 7 + 5),
        ("a b DROP DROP a", 5),
    ],
)
def test_example_programs(program, result):
    results, runs = stack.run(np.asarray([codes(program)]), np.asarray([[5, 7]]), np)
    assert runs.tolist() == [True] and results.tolist() == [[result]]


@pytest.mark.parametrize(
    "program", ["ADD", "a ADD", "a SWAP", "a b ADD ADD", "a DROP DUP", "a b nonsense", "a OVER"]
)
def test_programs_that_crash_have_no_result(program):
    results, runs = stack.run(np.asarray([codes(program)]), np.asarray([[5, 7]]), np)
    assert runs.tolist() == [False] and results.tolist() == [[0]]


def by_hand(program, given):
    """The same machine with a list and no arrays: the top, or None where it crashes."""
    pile = []
    for code in program:
        name = stack.INSTRUCTIONS[code] if 0 <= code < 10 else code
        if code < 0 or code >= 10 + len(given):
            return None
        if code >= 10:
            pile.append(given[code - 10])
            continue
        wanted = 2 if name in ("SWAP", "OVER", "ADD", "SUB", "MUL") else 1
        if len(pile) < wanted:
            return None
        top = pile.pop()
        if name in ("DUP", "NEG", "INC", "DOUBLE", "DROP"):
            pile += {"DUP": [top, top], "NEG": [-top], "INC": [top + 1], "DOUBLE": [2 * top], "DROP": []}[
                name
            ]
            continue
        low = pile.pop()
        two = {"SWAP": [top, low], "OVER": [low, top, low]}
        two |= {"ADD": [low + top], "SUB": [low - top], "MUL": [low * top]}
        pile += two[name]
    return pile[-1] % stack.MODULUS if pile else None


def test_random_programs_by_list_and_by_array():
    """NumPy and JAX, programs of every kind, against the list."""
    rng = np.random.default_rng(0)
    programs, given = rng.integers(-1, 15, (400, 5)).astype(np.int32), stack.fresh(3, 4)
    programs[:200, :2] = [10, 12]
    programs[:200, 2:] = rng.integers(0, 10, (200, 3))
    expected = [[by_hand(program, list(row)) for row in given] for program in programs.tolist()]
    ran = 0
    for xp_run in (lambda: stack.run(programs, given, np), lambda: jax.jit(stack.run)(programs, given)):
        results, runs = (np.asarray(value) for value in xp_run())
        for result, ok, right in zip(results.tolist(), runs.tolist(), expected, strict=True):
            if right[0] is None:
                assert not ok or right == [None] * 3
            else:
                ran += 1
                assert ok and result == right
    assert ran > 200


def test_what_a_random_program_agrees_with_by_enumeration():
    """Every body against every function on inputs of the test's own: the null of scoring by execution."""
    rng = np.random.default_rng(1)
    bodies = list(itertools.product(range(10), repeat=3))
    given = rng.integers(0, stack.MODULUS, (12, 2)).tolist()
    meaning = [tuple(by_hand([10, 11, *body], row) for row in given) for body in bodies]
    valid = [each for each in meaning if None not in each]
    share = np.mean([meaning.count(each) / len(bodies) for each in set(valid)])
    agreement, runs = stack.agreement(3, 16)
    assert agreement == pytest.approx(share, rel=1e-12) and runs == len(valid) / len(bodies)


def test_an_empty_stack_has_no_result():
    """A program that runs to its end and leaves nothing."""
    _, runs = stack.run(np.asarray([codes("a DROP")]), np.asarray([[5, 7]]), np)
    assert runs.tolist() == [False]
