"""The house: imports go one way, simulators see no prediction, files stay small, importing is quiet."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
THEORY = sorted((ROOT / "theory").rglob("*.py"))
SIM = sorted((ROOT / "sim").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LIBRARIES = {"jax", "numpy", "scipy", "jaxtyping", "theory"}

ALGEBRA = {"theory", "theory.lowrank", "theory.model", "theory.edits", "theory.checks", "theory.draws"}
"""Not predictions: the algebra, the model itself, the closed-form adapter it is given, the law of a draw."""

BELOW = {
    "lab": set(),
    "model": {"lab"},
    "worlds": {"lab", "model"},
    "merge": {"lab", "model"},
    "twins": {"lab", "model", "merge"},
    "one_layer": {"lab", "model", "merge", "twins"},
    "reuse": {"lab", "model", "worlds", "merge", "hf"},
    "laws": {"lab", "model", "merge", "twins", "one_layer"},
    "experiments": {
        *("lab", "model", "worlds", "merge", "one_layer", "reuse"),
        *("diagnose", "forecast", "hf"),  # the test bed of forecasts
    },
    "diagnose": {"lab", "model", "merge", "hf"},
    "hf": {"lab", "model", "merge"},
    "forecast": {"lab"},
    "predict": {"lab", "model", "worlds", "merge", "reuse", "hf", "forecast"},
    "record": {"lab", "merge", "hf"},
    "lm": {"lab", "model", "worlds", "merge", "hf", "reuse"},
    "explore": {"lab"},
    "bench": {"lab", "model", "merge", "reuse", "diagnose", "experiments", "worlds"},
    "figures": {"lab", "worlds", "reuse", "laws", "experiments"},
    "tour": {"lab", "twins", "one_layer"},
    "site": {"lab", "worlds", "explore", "experiments", "figures", "hf", "plan"},
    "sweep": {"lab", "model", "worlds", "merge", "one_layer", "reuse", "experiments", "figures"},
}
"""For each room of sim, the rooms it may import from. Any other room may import ``lab`` alone."""

PREDICTING = (
    *("reuse/forecast.py", "reuse/predictors.py", "reuse/rows.py", "reuse/cell.py"),
    *("reuse/interaction.py", "reuse/pairs.py", "reuse/margins.py"),
    *(f"reuse/language/{name}.py" for name in ("forecast", "cell", "jobs", "library")),
    *("one_layer/forecast.py", "one_layer/jobs.py"),
)
"""Files of rooms of simulators that hold predictions, or bring them together with measurements."""

SIMULATORS = ("one_layer", "merge", "worlds", "model", "twins", "reuse")
"""Rooms whose other files see no prediction."""


def imported(path: Path) -> set[str]:
    """Every module a file imports, as dotted names; ``from theory import model`` gives theory.model."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = path.parent.relative_to(ROOT) if path.is_relative_to(ROOT) else Path()
            above = base.parts[: len(base.parts) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            package = ROOT / module.replace(".", "/")
            modules |= {
                f"{module}.{alias.name}"
                if (package / f"{alias.name}.py").exists() or (package / alias.name).is_dir()
                else module
                for alias in node.names
            }
    return modules


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", THEORY, ids=name)
def test_theory_imports_only_its_libraries(path):
    allowed = LIBRARIES | sys.stdlib_module_names
    assert {module.split(".")[0] for module in imported(path)} <= allowed


def test_the_list_names_rooms_alone():
    assert set(BELOW) <= {path.parent.name for path in (ROOT / "sim").glob("*/__init__.py")}


@pytest.mark.parametrize("path", SIM, ids=name)
def test_rooms_are_left_only_downwards(path):
    modules = imported(path)
    assert not {module.split(".")[0] for module in modules} & {"notebooks", "tests", "figures"}
    parts = path.relative_to(ROOT / "sim").parts
    if len(parts) > 1:
        rooms = {module.split(".")[1] for module in modules if module.startswith("sim.")}
        allowed = BELOW.get(parts[0], {"lab"}) | {parts[0]}
        assert rooms <= allowed, rooms - allowed


def _simulators() -> list[Path]:
    predicting = {ROOT / "sim" / part for part in PREDICTING}
    paths = [path for room in SIMULATORS for path in sorted((ROOT / "sim" / room).rglob("*.py"))]
    return [path for path in paths if path not in predicting]


@pytest.mark.parametrize("path", _simulators(), ids=name)
def test_simulators_never_import_predictions(path):
    modules = imported(path)
    theory = {module for module in modules if module.split(".")[0] == "theory"}
    assert theory <= ALGEBRA, sorted(theory - ALGEBRA)
    if name(path) != "sim/reuse/jobs.py":  # jobs runs cells and hands their rows to the store
        assert not modules & {f"sim.{part.removesuffix('.py').replace('/', '.')}" for part in PREDICTING}


def test_the_rule_sees_every_form_of_import(tmp_path):
    path = tmp_path / "probe.py"
    path.write_text(
        "import theory.coverage\nfrom theory import starvation\nfrom theory.edits import shares\n"
    )
    assert imported(path) == {"theory.coverage", "theory.starvation", "theory.edits"}
    # relative imports count as well
    assert "sim.merge.registry" in imported(ROOT / "sim/merge/methods/linear.py")


def test_the_list_of_simulators_is_complete():
    names = {name(path) for path in _simulators()}
    assert {"sim/one_layer/two_hop.py", "sim/merge/methods/linear.py", "sim/reuse/library.py"} <= names


@pytest.mark.parametrize("path", [*THEORY, *SIM, *TESTS], ids=name)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_folder_is_crowded():
    """But for those where a new record of a registry is a new file, and the twins, a file a law."""
    inits = [path for path in SIM if path.name == "__init__.py"]
    exempt = {path.parent for path in inits if ".discover(" in path.read_text()} | {ROOT / "sim/twins"}
    folders = {path.parent for path in SIM} - exempt
    crowded = {name(folder): len(list(folder.glob("*.py"))) for folder in folders}
    dozen = 12 + 1  # and the __init__.py
    assert {folder: count for folder, count in crowded.items() if count > dozen} == {}


def test_ci_ends_with_the_test_command_of_the_readme():
    (command,) = re.findall(r"^python -m pytest.*$", (ROOT / "README.md").read_text(), re.M)
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == command


BANNED = {
    *("found", "told", "said", "held", "known", "kept", "made"),
    *("met", "asked", "alone", "beside", "apart", "over"),
}
"""Names that do not say what a thing is."""

PENDING: set[str] = set()
"""Rooms and files that still have banned names. Only to be shortened."""


def given_names(source: str) -> set[str]:
    """Every name that a file gives: variables, fields, arguments, functions, classes, aliases."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=text, ctx=ast.Store()) | ast.Attribute(attr=text, ctx=ast.Store()):
                names.add(text)
            case ast.arg(arg=text) | ast.alias(asname=str(text)) | ast.ExceptHandler(name=str(text)):
                names.add(text)
            case ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text) | ast.ClassDef(name=text):
                names.add(text)
            case ast.MatchAs(name=str(text)) | ast.MatchStar(name=str(text)):
                names.add(text)
    return names


def banned(source: str) -> set[str]:
    """The given names that are banned, whatever their case and the underscores around them."""
    return {text for text in given_names(source) if text.strip("_").lower() in BANNED}


@pytest.mark.parametrize("path", [*THEORY, *SIM, *TESTS], ids=name)
def test_no_name_is_banned(path):
    if not any(path.is_relative_to(ROOT / room) for room in PENDING):
        assert banned(path.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        *("found = 1", "x.kept = 1", "for told in x: pass", "def f(alone): pass", "lambda *, over: 0"),
        *("def _made(): pass", "class Held: pass", "class A:\n    asked: int", "import os as apart"),
        *("[met for met in x]", "(said := 1)", "with x as _known: pass", "BESIDE = 1"),
        *("try: pass\nexcept E as found: pass", "match x:\n    case [*kept]: pass", "async def told(): pass"),
    ],
)
def test_a_banned_name_is_seen(source):
    assert len(banned(source)) == 1


def test_a_name_that_is_only_used_is_not_seen():
    assert banned("found(x.kept, over=made)  # told") == set()


QUIET = """
import matplotlib
before = matplotlib.rcParams.copy()  # dict(...) would ask for the backend, and so load pyplot
import pkgutil, importlib, sys, sim
for module in pkgutil.walk_packages(sim.__path__, "sim."):
    if not module.name.rpartition(".")[2].startswith("_") or module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert matplotlib.rcParams.copy() == before, "importing sim changed matplotlib's settings"
assert "matplotlib.pyplot" not in sys.modules, "importing sim loads pyplot, which picks a backend"
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "importing sim starts a JAX backend"
import jax
assert jax.config.jax_enable_x64
"""


@pytest.mark.slow
def test_importing_everything_is_quiet():
    """No global state of matplotlib, no JAX backend; float64 is on, as the README says."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_tests_of_a_file_share_a_worker(request):
    """pytest-xdist writes the group into the name of a test."""
    assert request.node.nodeid.endswith("@test_house.py") == request.config.getoption("loadgroup", False)
