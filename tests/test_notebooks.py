"""The notebooks: committed without outputs, show committed pictures, define nothing, import the packages
alone, run top to bottom.
The example of the README runs as well.
"""

import ast
import re
import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib
import nbformat
import pytest
from jupyter_core.utils import run_sync

from sim import tour
from sim.site import _notebooks
from theory import crosstalk, model

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: int(path.stem.partition("_")[0]))
ALLOWED = {"numpy", "pandas", "matplotlib", "jax", "IPython", "theory", "sim"} | set(sys.stdlib_module_names)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
SECONDS, LINES, WIDTH = 120, 30, 88
PICTURE = re.compile(r"^!\[[^\]]+\]\((\.\./figures/\w+\.png)\)$", re.M)
NUMBER, DECIMAL = re.compile(r"(?<![\w.])\d*\.?\d+"), re.compile(r"(?<![\w.])\d*\.\d+")

READS = re.compile("^(6|7|8|9|11)_")
"""Notebooks that read committed tables; their pictures stand in their text."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_they_are_numbered_from_one():
    assert [int(path.stem.partition("_")[0]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))
    assert len(NOTEBOOKS) >= 6


@every_notebook
def test_is_valid_and_has_no_outputs(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in code_of(path):
        assert cell.outputs == [] and cell.execution_count is None
        assert "execution" not in cell.metadata


@every_notebook
def test_defines_nothing_and_imports_only_the_packages(path):
    for cell in code_of(path):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, DEFINITIONS), f"{path.stem} defines something:\n{cell.source}"
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module.split(".")[0] in ALLOWED


@every_notebook
def test_no_cell_is_long_and_the_end_is_an_exercise(path):
    cells = nbformat.read(path, as_version=4).cells
    assert max(len(cell.source.splitlines()) for cell in code_of(path)) <= LINES
    assert cells[-1].source.startswith("**Try this.** ") and cells[-1].source.count("?") >= 2
    head, *bullets = cells[-2].source.split("\n* ")
    assert head == "**What to keep.**\n" and len(bullets) == 3


@every_notebook
def test_it_shows_committed_pictures_and_fits_a_page(path):
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    shown = [picture for text in texts for picture in PICTURE.findall(text)]
    assert shown and all((FOLDER / picture).exists() for picture in shown) and len(set(shown)) == len(shown)
    assert sum(text.count("](../figures/") for text in texts) == len(shown)
    lines = [line for cell in cells for line in cell.source.split("\n")]
    assert [line for line in lines if len(line) > WIDTH and not line.startswith(("$$", "|", "!["))] == []


def anchors() -> set[str]:
    """Numbers that theory proves and the text may name: kernels of notebook 1, to three digits."""
    config, entity = model.ModelConfig(entities=3, dim=20, features=1), jnp.arange(2)
    stored, other = model.prompt1(config, entity)
    question = model.prompt12(config, entity)[0]
    overlaps = [crosstalk.prompt_kappa(config, stored, prompt) for prompt in (other, question)]
    return {f"{float(value):.3f}" for value in (*overlaps, crosstalk.arc_cosine(0.0))}


@every_notebook
def test_no_measurement_is_typed_into_the_text(path):
    """A number with decimals is a setting, which stands in the code as well, or one that theory proves."""
    cells = nbformat.read(path, as_version=4).cells
    settings = {float(word) for cell in code_of(path) for word in NUMBER.findall(cell.source)}
    for cell in cells:
        if cell.cell_type == "markdown" and not cell.source.startswith("**Try this.**"):
            numbers = {word for word in DECIMAL.findall(cell.source) if float(word) not in settings}
            assert numbers <= anchors(), cell.source


def test_tables_load_from_any_folder(monkeypatch, tmp_path):
    """The line that every notebook starts with gives the same folder wherever it is run."""
    for path in NOTEBOOKS:
        assert re.search(r"^(figures = )?tour\.start\(\)$", code_of(path)[0].source, re.M)
    for start in (FOLDER, FOLDER.parent, tmp_path):
        monkeypatch.chdir(start)
        with matplotlib.rc_context():
            assert tour.start().resolve() == FOLDER.parent / "figures"


def test_the_example_of_the_readme_runs(monkeypatch, tmp_path):
    _, code = re.findall(r"```python\n(.*?)```", (FOLDER.parent / "README.md").read_text(), re.S)
    adapters = FOLDER.parent / "tests" / "merge" / "data" / "equal_rank"
    for name, folder in (("A", "first"), ("B", "second")):
        (tmp_path / name).symlink_to(adapters / folder)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(code, namespace)
    assert set(namespace["first"].modules) == set(namespace["second"].modules) != set()


PRELUDE = f"""
import gc, sys
sys.path.append({str(Path(__file__).parent)!r})
import speed
from sim import tour
gc.freeze()
"""
"""As in conftest."""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One of this very interpreter, with an empty cache, for all notebooks: it imports JAX once."""
    folder, before = tmp_path_factory.mktemp("kernel"), nbformat.v4.new_code_cell(PRELUDE)
    nbformat.write(nbformat.v4.new_notebook(cells=[before]), folder / "prelude.ipynb")
    manager = _notebooks.new_kernel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        run_sync(manager.start_kernel)(cwd=str(FOLDER))
    _notebooks.executed(folder / "prelude.ipynb", SECONDS, manager)
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.slow(10)
@every_notebook
def test_runs_top_to_bottom(path, kernel):
    """No cell may take two minutes."""
    notebook = _notebooks.executed(path, SECONDS, kernel)
    assert len(notebook.cells) == len(nbformat.read(path, as_version=4).cells)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    kind = "text/html" if READS.search(path.stem) else "image/png"
    assert any(kind in output.get("data", {}) for output in shown)
