"""CONTRIBUTING.md says that a world, an experiment, a figure, a claim, a merge method, a router, a law and a
command are new files, no more.

Its files are written into a copy of the packages, and the commands it names are run there.
"""

import collections
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sim.lab.store import read_table

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^`([\w/]+\.py)`\n\n```python\n(.*?)^```$", re.M | re.S)
FILES = collections.defaultdict(str)
for _path, _text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()):
    FILES[_path] += _text


def test_the_page_holds_one_of_each_kind():
    assert set(FILES) == {
        "sim/worlds/relay.py",
        "sim/experiments/relays.py",
        "tests/figures/rules_of_relays.py",
        "sim/merge/methods/root.py",
        "tests/merge/dense_root.py",
        "sim/model/routers/loudest.py",
        "tests/model/dense_loudest.py",
        "theory/shrinkage.py",
        "sim/twins/shrinkage.py",
        "sim/laws/shrinkage.py",
        "sim/starve/__main__.py",
    }
    assert not any((ROOT / path).exists() for path in FILES)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the packages with the page's files in it: run(words) runs Python there."""
    place = tmp_path_factory.mktemp("house")
    for package in ("theory", "sim", "tests", ".ci"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy(ROOT / name, place)
    for path, text in FILES.items():
        (place / path).parent.mkdir(exist_ok=True)
        (place / path).write_text(text)
    for folder in ("figures", "figures/experiments"):  # the committed tables, and room for a run
        (place / folder).mkdir()
        for path in (ROOT / folder).iterdir():
            if path.name != "experiments":
                (place / folder / path.name).symlink_to(path)

    def run(*words):
        environment = {**os.environ, "PYTHONPATH": str(place), "XDG_CACHE_HOME": str(place / "cache")}
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=place, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-3000:]
        return done.stdout

    return place, run


PROBE = """
import dataclasses, jax, numpy as np
import sim, theory
assert theory.__file__.startswith({place!r}) and sim.__file__.startswith({place!r})
from sim.merge import METHODS, merge
from sim.model.routing import ROUTERS
from sim.sweep.main_job import WORLD_NAMES
from sim.experiments import EXPERIMENTS
from sim.figures import FIGURES
from sim.lab.check import CHECKS
from sim.lab.seeds import EFFORTS
from theory.lowrank import LowRank, dense
assert "relay" in WORLD_NAMES and "relays" in EXPERIMENTS
assert {{"relay", "shrinkage"}} <= set(FIGURES) and "root_mean" in METHODS
assert all(row.inside for row in CHECKS["norm of an average"].rows(EFFORTS["smoke"]))
rng = np.random.default_rng(0)
updates = [LowRank(rng.normal(size=(5, 2)), rng.normal(size=(2, 4)), 1.0) for _ in range(2)]
assert "loudest" in ROUTERS
wanted = METHODS["root_mean"].coefficient(2) * sum(dense(update) for update in updates)
np.testing.assert_allclose(dense(merge("root_mean", updates)), wanted, atol=1e-12)
import contextlib, runpy, sys
for name in ("sim.sweep", "sim.merge"):
    sys.argv = [name, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_module(name, run_name="__main__")
"""


@pytest.mark.slow(15)
def test_registries_find_the_files(house):
    place, run = house
    help_texts = " ".join(run("-c", PROBE.format(place=str(place))).replace("│", " ").split())
    assert "relays: Relays asked at once" in help_texts
    assert "root_mean" in help_texts.partition("relays: Relays asked at once")[2]


@pytest.fixture(scope="module")
def relays(house):
    """The folder with the run of the page's experiment."""
    place, run = house
    run("-m", "sim.sweep", "relays", "--seeds", 2, "--out", place / "runs")
    return place / "runs" / "relays"


@pytest.mark.slow(15)
def test_a_second_world_through_the_runner(house, relays):
    """Runner, decoding, scores, forecasts, oracle and figure on a world that is not in this repository."""
    place, _ = house
    rows = read_table(place / "runs" / "relays" / "results.csv")
    assert set(rows["world"]) == {"relay"} and set(rows["traces"]) == {True, False}
    assert rows["unit"].nunique() == 4
    one = rows[rows["library"] == "single"].drop_duplicates(["unit", "method", "metric"])
    taught = one[(one["method"] == one["metric"]) & one["metric"].isin(("first", "second"))]
    assert taught["measured"].mean() > 0.9  # each adapter learned its own half
    foreign = one[(one["method"] == "first") & (one["metric"] == "second")]
    assert foreign["measured"].mean() < 0.5  # and not the other's
    parts = rows[rows["library"] == "parts"]
    oracle = parts[(parts["method"] == "oracle") & parts["metric"].isin(("first", "second"))]
    assert oracle["measured"].mean() > 0.9
    metrics = {"cot_exact", "cot_first", "cot_second_given_first", "cot_answer", "direct_among_answers"}
    assert metrics <= set(rows["metric"])
    forecasts = parts[(parts["predictor"] == "disentangled") & (parts["metric"] == "first")]
    assert set(forecasts["method"]) == {"average", "sum", "lambda=0.75"}
    assert (forecasts["predicted"] - forecasts["measured"]).abs().mean() < 0.3
    given = rows[rows["metric"] == "direct_given_among_answers"]
    assert (given["predicted"] == 1 / 4).all() and set(given["predictor"]) == {"chance"}
    assert (place / "runs" / "relay.pdf").read_bytes().startswith(b"%PDF")


CLAIMED = """
import shutil
from sim.figures import claims_page, gallery
from sim.lab.figure import FIGURES, Source, committed

source = Source(committed() / "experiments")
assert str(committed()) == {place!r} + "/figures"
of_runs = [name for name, item in FIGURES.items() if item.experiments]
without = {{name for name in of_runs if not (committed() / (name + ".csv")).exists()}}
assert "relay" in without
for committed_run in (False, True):
    if committed_run:
        shutil.copytree({relays!r}, committed() / "experiments" / "relays")
    drawn, left_out = gallery.chosen(())
    assert ("relay" in [item.name for item in drawn]) == committed_run
    assert {{line.split()[0] for line in left_out}} == (without - {{"relay"}} if committed_run else without)
    print(claims_page.page(source, committed()), end={end!r})
"""
END = "<!-- the end of the page -->"


@pytest.mark.slow(15)
def test_an_experiment_changes_no_claim_but_its_own(house, relays):
    """The page with the example's run in the committed tables is the page without, but for the example's own
    claim, a line and a section, and its line among the low ceilings."""
    place, run = house
    printed = run("-c", CLAIMED.format(place=str(place), relays=str(relays), end=END))
    *pages, rest = printed.split(END)
    assert rest == ""
    for page, verdict in zip(
        pages, (r"not run", r"holds|holds in part|does not hold|undecided"), strict=True
    ):
        line = re.search(rf"^\| \[6\]\(#claim-6\) \| .* \| \*\*({verdict})\*\* \|.*\n", page, re.M)[0]
        section = re.search(r'<a id="claim-6"></a>.*?(?=^## |^<a id=)', page, re.M | re.S)[0]
        assert "### 6. A relay survives the sum if it is written down" in section
        page, ceilings = re.subn(r"^\| relays \| joint \|.*\n", "", page, flags=re.M)
        assert ceilings == (verdict != "not run")
        assert page.replace(line, "").replace(section, "") == (ROOT / "figures" / "CLAIMS.md").read_text()
    counts = read_table(relays / "counts.csv")
    assert set(counts["method"]) == {"sum", "joint"} and (counts["right"] <= counts["trials"]).all()
    assert counts.groupby(["label", "library", "method", "metric"])["seed"].nunique().max() == 2


@pytest.fixture(scope="module")
def drawn(house, relays):
    """The committed figures with those of the page, drawn from a committed run as the page says."""
    place, run = house
    shutil.copytree(relays, place / "figures/experiments/relays", dirs_exist_ok=True)
    run("-m", "sim.figures", "shrinkage", "relay", "--recompute")
    return place / "figures"


@pytest.mark.slow(15)
def test_a_law_is_computed_and_drawn(drawn):
    table = pd.read_csv(drawn / "shrinkage.csv")
    np.testing.assert_allclose(table["predicted"], [1, 0.5, 0.25, 0.125])
    assert ((table["measured"] - table["predicted"]).abs() < 0.2 * table["predicted"]).all()
    assert (drawn / "shrinkage.pdf").exists()


@pytest.mark.slow(15)
def test_a_command_answers(house):
    _, run = house
    assert run("-m", "sim.starve", "--facts", 16, "--rank", 8) == "0.500\n"
    assert "Rank of the adapter." in run("-m", "sim.starve", "--help")


FOLLOWED = {
    "tests/test_house.py": "",
    "tests/merge/test_merge_methods.py": "root_mean or reference_and",
    "tests/model/test_routers.py": "loudest or rule",
    "tests/laws/test_laws.py": "average or shrinkage",
    "tests/figures/test_claim_rules.py": "6 or table",
    "tests/figures/test_claims_page.py": "",
    "tests/figures/test_figures.py": "shrinkage or relay or every or most",
    "tests/figures/test_pictures.py": "shrinkage or relay",
    "tests/figures/test_gallery.py": "list",
}
"""Tests of the house, parity tests, pages: with what is new, and with what counts or lists all."""


@pytest.mark.slow(15)
def test_no_test_of_the_house_turns_red(house, drawn):
    """With the run and the figures committed as the page says."""
    _, run = house
    # One process for all: every other one would import and collect for itself.
    of_files = [
        f"({Path(path).stem} and ({words}))" if words else Path(path).stem for path, words in FOLLOWED.items()
    ]
    options = ("-q", "-p", "no:cacheprovider", "--assert=plain")  # the files are compiled for this run alone
    run("-m", "pytest", *options, "-k", " or ".join(of_files), *FOLLOWED)
