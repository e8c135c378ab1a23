"""The list of faults: each can still be put in, is a change, and names a test that exists."""

import ast

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_the_fault_can_be_put_in(mutant):
    assert mutant.before != mutant.after
    if mutant.file.endswith(".py"):
        ast.parse(mutant.text())
    path, *names = mutant.test.partition("[")[0].split("::")  # without the parameters of a test
    source = (ROOT / path).read_text()
    assert all(f"def {name}" in source or f"class {name}" in source for name in names)
