"""The board: its rule by hand, and that every way is asked of a language model too."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from sim.experiments import EXPERIMENTS, board
from sim.experiments.board import PLACES, WAYS
from sim.lab.figure import Source
from sim.lab.parallel import THIS_PROCESS
from sim.sweep.run import run

SHARES = {
    ("parts", "sum"): (0.5, 0.75, 1.0),
    ("random", "sum"): (0.25, 0.25, 0.5),
    ("spectrum", "sum"): (0.0, 0.25, 0.25),
    ("single", "hop1"): (0.0, 0.25, 0.25),
    ("single", "hop2"): (0.0, 0.0, 0.0),
}
"""Questions of three seeds that each model answers."""


@pytest.fixture
def source(tmp_path):
    rows = [
        {"label": "two_hop", "library": library, "method": method, "metric": metric, "seed": seed,
         "right": round(value * 4), "trials": 4}
        for metric in ("cot_answer", "hop1", "hop2", "untouched")
        for (library, method), values in SHARES.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    (tmp_path / "board").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "board" / "counts.csv", index=False)
    return Source(tmp_path)


def test_a_gain_is_paired_with_the_best_reference(source):
    table = board.collect(source)
    assert set(table["method"]) == {"sum"} and list(table["panel"]) == [
        "questions",
        "facts",
        "untouched",
        "gain",
    ]
    gain = table[table["panel"] == "gain"].iloc[0]
    assert gain["reference"] == "random adapters" and gain["seeds"] == 3
    values = np.array([0.25, 0.5, 0.5])  # seed by seed, less those of the random adapters
    half = 4.302653 * values.std(ddof=1) / 3**0.5
    np.testing.assert_allclose(
        [gain["measured"], gain["low"], gain["high"]],
        [values.mean(), values.mean() - half, values.mean() + half],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.06, 0.2, "better"), (0.05, 0.2, "open"), (-0.2, 0.06, "open"), (-0.2, 0.04, "no better")],
)
def test_the_rule_reads_the_ends_of_the_interval(low, high, word):
    assert board.verdict(pd.Series({"low": low, "high": high})) == word


@pytest.mark.slow(200)
def test_every_way_is_asked_of_a_language_model(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (part,) = EXPERIMENTS["board_people"].parts("quick")
    part = dataclasses.replace(part, cells=part.cells[:1]).on(tiny_llama)
    run("board_people", [part], lambda part: 1, {"experiment": "board_people"}, tmp_path / "board_people",
        "a test", THIS_PROCESS)  # fmt: skip
    counts = pd.read_csv(tmp_path / "board_people" / "counts.csv")
    asked = set(zip(counts["library"], counts["method"], strict=True))
    assert asked >= {(way.library, way.method) for way in WAYS}
    assert asked >= {("random", way.method) for way in WAYS if way.data_free}
    table = board.collect(Source(tmp_path))
    assert set(table["place"]) == {PLACES[4].name} and set(table["method"]) == {way.method for way in WAYS}
