"""The one-way street: theory <- sim <- notebooks, tests; and simulators never see a prediction."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
THEORY = sorted((ROOT / "theory").rglob("*.py"))
SIM = sorted((ROOT / "sim").rglob("*.py"))
LIBRARIES = {"jax", "numpy", "scipy", "jaxtyping", "theory"}

ALGEBRA = {"theory", "theory.lowrank", "theory.model", "theory.edits"}
"""Not predictions: the algebra, the model itself, and the closed-form adapter it is given."""

SIMULATORS = ("one_layer", "merging", "worlds", "transformer", "lora", "training", "decoding", "routing")
"""Simulators and merge operators, as files or packages of sim."""


def imported(path: Path) -> set[str]:
    """Every module a file imports, as dotted names; ``from theory import model`` gives theory.model."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            package = ROOT / node.module.replace(".", "/")
            found |= {
                f"{node.module}.{alias.name}"
                if (package / f"{alias.name}.py").exists() or (package / alias.name).is_dir()
                else node.module
                for alias in node.names
            }
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", THEORY, ids=name)
def test_theory_imports_only_its_libraries(path):
    allowed = LIBRARIES | sys.stdlib_module_names
    assert {module.split(".")[0] for module in imported(path)} <= allowed


@pytest.mark.parametrize("path", SIM, ids=name)
def test_sim_never_imports_what_stands_on_it(path):
    assert not {module.split(".")[0] for module in imported(path)} & {"notebooks", "tests", "figures"}


def _simulators() -> list[Path]:
    places = [ROOT / "sim" / part for part in SIMULATORS]
    return [
        path for place in places for path in (*place.rglob("*.py"), place.with_suffix(".py")) if path.exists()
    ]


@pytest.mark.parametrize("path", _simulators(), ids=name)
def test_simulators_never_import_predictions(path):
    modules = {module for module in imported(path) if module.split(".")[0] == "theory"}
    assert modules <= ALGEBRA, sorted(modules - ALGEBRA)
    predictions = {module for module in imported(path) if "predict" in module}
    assert not predictions


def test_the_rule_sees_every_form_of_import(tmp_path):
    path = tmp_path / "probe.py"
    path.write_text(
        "import theory.coverage\nfrom theory import starvation\nfrom theory.edits import shares\n"
    )
    assert imported(path) == {"theory.coverage", "theory.starvation", "theory.edits"}


def test_simulators_are_found():
    assert {"sim/one_layer/two_hop.py", "sim/merging/linear.py"} <= {name(path) for path in _simulators()}
