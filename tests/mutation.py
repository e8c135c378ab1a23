"""Mutation score: a small fault is put into a copy of the project, and the module's own tests must turn red.

    python tests/mutation.py [theory/chain.py ...]

A fault's address: module, function, operator, which of the operator's places in the function. Modules, their
tests, the number of faults and accepted survivors stand in ``mutation.toml``, outcomes in ``mutation.csv``.
What was killed is not tried again until its module changes, a survivor is. Not part of the test run.
"""

import ast
import hashlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE, CONFIG = ROOT / "tests/mutation.csv", tomllib.loads((ROOT / "tests/mutation.toml").read_text())
PAIRS = ["Add Sub", "Mult Div", "BitAnd BitOr", "And Or", "Lt GtE", "Gt LtE", "Eq NotEq", "In NotIn"]
SWAPS = {getattr(ast, a): getattr(ast, b) for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
SWAPS |= {ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult}
EDGES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
NAMES = ["maximum minimum", "max min", "any all", "argmax argmin", "low high"]
NAMES = {a: b for pair in NAMES for a, b in (pair.split(), pair.split()[::-1])}


def faults(node: ast.AST):
    """(operator, what stands in the node's place) for every fault of one node of the syntax tree."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            yield "arithmetic", ast.BinOp(left, SWAPS[type(op)](), right)
            yield "left operand", left
        case ast.BoolOp(op, values):
            yield "and/or", ast.BoolOp(SWAPS[type(op)](), values)
        case ast.UnaryOp(_, operand):
            yield "sign or not", operand
        case ast.Compare(left, [op], right) if type(op) in SWAPS:
            yield "comparison", ast.Compare(left, [SWAPS[type(op)]()], right)
            if type(op) in EDGES:
                yield "edge", ast.Compare(left, [EDGES[type(op)]()], right)
        case ast.Constant(bool() | int() | float() as value):
            yield "constant", ast.Constant(not value if isinstance(value, bool) else value + max(value, 1))
        case ast.Subscript(value, ast.Name() | ast.Attribute(), ast.Load() as context):
            yield "index", ast.Subscript(value, ast.Constant(0), context)
        case ast.Call(function, [ast.Name() as first, ast.Name() as second, *rest], keywords):
            yield "arguments", ast.Call(function, [second, first, *rest], keywords)
        case ast.Attribute(value, name, context) if name in NAMES:
            yield "name", ast.Attribute(value, NAMES[name], context)


def mutants(text: str) -> dict[str, str]:
    """{"function,operator,place": the text with that fault}; none in annotations and strings."""
    texts, places, source = {}, Counter(), text.encode()
    lines = [0, *accumulate(map(len, source.splitlines(keepends=True)))]

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
        for operator, other in faults(node):
            at = [lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset]
            places[function, operator] += 1
            mutant = source[: at[0]] + f"({ast.unparse(other)})".encode() + source[at[1] :]
            texts[f"{function},{operator},{places[function, operator]}"] = mutant.decode()
        skip = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for child in ast.iter_child_nodes(node):
            guard = isinstance(child, ast.keyword) and child.arg == "strict"
            if child not in skip and not guard and not isinstance(child, ast.JoinedStr):
                visit(child, function)

    visit(ast.parse(text), "")
    return texts


def outcome(tests: list[str]) -> str:
    """What the tests say in the current folder, in a process of their own."""
    if not (child := os.fork()):
        signal.setitimer(signal.ITIMER_PROF, CONFIG["timeout"])
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(pytest.main(["-x", "-n0", "-pno:cacheprovider", *tests]))
    return {0: "survived", 256: "killed"}.get(os.waitpid(child, 0)[1], "crashed")


def score(module: str) -> None:
    """Try faults of a module, but those the table calls killed; write the table and print the score."""
    text, tests = (ROOT / module).read_text(), CONFIG["tests"][module]
    version, texts = hashlib.sha256(text.encode()).hexdigest()[:8], mutants(text)
    rows = dict(row.rsplit(",", 1) for row in TABLE.read_text().splitlines())
    rows = {row: rows[row] for row in rows if not row.startswith(f"{module},") or row.endswith(version)}
    if outcome(tests) != "survived":
        sys.exit(f"{module}: {' '.join(tests)} fails without a fault; mend that first")
    for address in random.Random(module).sample(list(texts), len(texts))[: CONFIG["count"]]:
        if rows.get(row := f"{module},{address},{version}") != "killed":
            Path(module).write_text(texts[address])
            rows[row] = outcome(tests)
            TABLE.write_text("".join(f"{row},{rows[row]}\n" for row in sorted(rows)))
    Path(module).write_text(text)
    judged = [row for row in rows if row.startswith(f"{module},") and row[:-9] not in CONFIG["accepted"]]
    alive = [row[:-9] for row in judged if rows[row] == "survived"]
    print(f"{module}: {len(judged) - len(alive)} of {len(judged)} killed", *alive, sep="\n    ", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        skip = shutil.ignore_patterns(".*", "__pycache__", "*.pdf", "*.png", "runs")
        os.chdir(shutil.copytree(ROOT, Path(scratch, "project"), ignore=skip))
        os.environ |= {"PYTHONPATH": os.getcwd(), "JAX_COMPILATION_CACHE_DIR": scratch} | CONFIG[
            "environment"
        ]
        sys.path[0], sys.dont_write_bytecode = os.getcwd(), True
        for library in ("jax", "pandas", "scipy.stats", "hypothesis.strategies"):
            importlib.import_module(library)  # once for all faults, which are tried in forks
        for module in sys.argv[1:] or CONFIG["tests"]:
            score(module)
