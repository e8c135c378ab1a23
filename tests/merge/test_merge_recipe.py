"""The recipe beside a merge: made again it gives the same bytes; changed sources are refused."""

import shutil

import pytest
from folders import DATA, edit_tensors, failure

from sim.merge import merge_folders
from sim.merge.card import loading
from sim.merge.recipe import RECIPE, Recipe, read_recipe


@pytest.fixture
def sources(tmp_path):
    return [shutil.copytree(DATA / "plain" / name, tmp_path / name) for name in ("first", "second")]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


CASES = {
    "sum": ("--method", "sum", "--weight", "1", "-0.3", "--rank", "2"),
    "ties": ("--method", "ties", "--option", "density=0.4", "vote=count", "--dtype", "bfloat16"),
    "dare": ("--method", "dare", "--seed", "7", "--allow-rounding", "--rename", "layers=blocks"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_recipe_makes_the_same_bytes(case, sources, tmp_path, command):
    out = tmp_path / "out"
    code, _, err = command("sim.merge", *sources, *CASES[case], "--out", out)
    assert code == 0, err
    first = contents(out)
    assert set(first) == {"README.md", RECIPE, "adapter_config.json", "adapter_model.safetensors"}
    (recipe := tmp_path / "mine.yaml").write_bytes(first[RECIPE])
    shutil.rmtree(out)
    assert command("sim.merge", "--recipe", recipe, "--out", out)[0] == 0
    assert contents(out) == first


def test_python_and_the_command_write_one_recipe(sources, tmp_path, command):
    arguments = ("--method", "dare", "--seed", 3, "--option", "density=0.5")
    assert command("sim.merge", *sources, *arguments, "--out", tmp_path / "a")[0] == 0
    merge_folders(*sources, method="dare", seed=3, options={"density": 0.5}).write(tmp_path / "b")
    assert (tmp_path / "a" / RECIPE).read_text() == (tmp_path / "b" / RECIPE).read_text()
    recipe = read_recipe(tmp_path / "a" / RECIPE)
    assert (recipe.seed, recipe.options, recipe.weights) == (3, {"density": 0.5}, ())


def test_a_source_that_changed_is_refused(sources, tmp_path, command):
    assert command("sim.merge", *sources, "--method", "sum", "--out", tmp_path / "out")[0] == 0
    edit_tensors(sources[1], lambda tensors: [tensor.__imul__(2) for tensor in tensors.values()])
    line = failure(command, "--recipe", tmp_path / "out" / RECIPE, "--out", tmp_path / "again")
    assert f"{sources[1]} is not what" in line and "its files have changed" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("method: sum", "needs the fields adapters and method"),
        ("adapters: [a]\nmethod: sum\nwieght: 1", "has fields no recipe has: wieght"),
        ("adapters: a\nmethod: sum", "adapters must be a list"),
    ],
)
def test_what_is_no_recipe_is_one_line(text, message, tmp_path, command):
    (tmp_path / "x.yaml").write_text(text)
    assert message in failure(command, "--recipe", tmp_path / "x.yaml", "--out", tmp_path / "out")


def test_a_recipe_stands_by_itself(sources, tmp_path, command):
    (tmp_path / "x.yaml").write_text(Recipe(tuple(map(str, sources)), "sum").text())
    arguments = ("--recipe", tmp_path / "x.yaml", "--out", tmp_path / "out")
    assert "no other" in failure(command, *arguments, "--rank", 2)
    assert "give --method NAME, or --recipe FILE" in failure(command, *sources, "--out", tmp_path / "out")


def test_the_lines_that_load_it():
    lines = loading({"base_model_name_or_path": "a/b", "task_type": "CAUSAL_LM"})
    assert len(lines.splitlines()) == 3 and 'from_pretrained("a/b")' in lines
    assert (
        "load_lora_weights" in loading({"format": "kohya"}) and len(loading({"format": "x"}).split("\n")) == 3
    )
    compile(lines, "card", "exec")
