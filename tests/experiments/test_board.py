"""The board: its rule by hand, and that every way is asked of a language model too."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from sim.experiments import EXPERIMENTS, board
from sim.experiments.board import PLACES, WAYS
from sim.figures import board_page
from sim.lab import intervals
from sim.lab.figure import Source, committed
from sim.lab.parallel import THIS_PROCESS
from sim.sweep.run import run

RUNS = Source(committed() / "experiments")

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
    own, other = np.array(SHARES["parts", "sum"]), np.array(SHARES["random", "sum"])
    first, second = (intervals.proportion(shares * 4, [4] * 3) for shares in (own, other))
    r = np.corrcoef(own, other)[0, 1]
    below, above = first[0] - first[1], second[2] - second[0]
    low = (first[0] - second[0]) - (below**2 + above**2 - 2 * r * below * above) ** 0.5
    np.testing.assert_allclose([gain["measured"], gain["low"]], [0.75 - 1 / 3, low], rtol=1e-6)
    questions = table[table["panel"] == "questions"].iloc[0]
    np.testing.assert_allclose(questions[["measured", "low", "high"]].astype(float), first)


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
    run("board_people", [part], [1], {"experiment": "board_people"}, tmp_path / "board_people",
        "a test", THIS_PROCESS)  # fmt: skip
    counts = pd.read_csv(tmp_path / "board_people" / "counts.csv")
    models = set(zip(counts["library"], counts["method"], strict=True))
    assert models >= {(way.library, way.method) for way in WAYS}
    assert models >= {("random", way.method) for way in WAYS if way.data_free}
    table = board.collect(Source(tmp_path))
    assert set(table["place"]) == {PLACES[4].name} and set(table["method"]) == {way.method for way in WAYS}


def test_the_committed_page_is_written_by_the_script():
    assert (committed() / "BOARD.md").read_text() == board_page.page(RUNS, committed())


def test_the_page_names_the_ways_that_the_rule_finds_better():
    rows = [
        {"place": "here", "library": "parts", "method": method, "panel": panel, "reference": "hop1 alone",
         "measured": value, "low": value - 0.1, "high": value + 0.1, "seeds": 3}
        for method, value in (("sum", 0.3), ("average", -0.1), ("arrow", 0.4), ("joint", 0.9), ("svd", 0.1))
        for panel in ("questions", "facts", "untouched", "gain")
    ]  # fmt: skip
    lines = board_page._verdicts(pd.DataFrame(rows))
    assert lines[-2] == "| **best without data** | Arrow, sum |"
    assert "| average | -0.10 [-0.20, +0.00] (no better) |" in lines
    assert "| SVD | +0.10 [+0.00, +0.20] (open) |" in lines
    assert "| joint adapter (needs data) | **+0.90 [+0.80, +1.00]** |" in lines


def test_earlier_runs_are_held_against_the_best_adapter():
    rows = pd.read_csv(committed() / "experiments" / "math_word" / "summary.csv.gz")
    rows = rows[rows["label"].eq("real/both/prose") & rows["metric"].eq("cot_answer")]
    shares = rows.drop_duplicates(["library", "method"]).set_index(["library", "method"])["measured"]
    best = max("trade", "craft", key=lambda part: shares["single", part])
    table = board.earlier(RUNS).set_index(["place", "method"])
    gain = table.loc["math-word", "sum"]
    assert gain["reference"] == f"{best} alone" and gain["low"] < gain["measured"] < gain["high"]
    assert gain["measured"] == pytest.approx(shares["parts", "sum"] - shares["single", best])
    assert len(table) == 7 * len(PLACES)


@pytest.mark.slow
def test_the_sum_of_logits_is_the_one_way_without_data_that_is_better_everywhere():
    """What the figure and theory/README.md, section 12, say of the committed runs."""
    table = board.collect(RUNS)
    gains = table[table["panel"] == "gain"]
    words = pd.Series([board.verdict(row) for row in gains.itertuples()], index=gains["method"])
    everywhere = {way.method for way in WAYS if way.data_free and words[way.method].eq("better").all()}
    assert everywhere == {"logits_sum"} and len(words["logits_sum"]) == len(PLACES) == 6
    real = gains["place"].str.startswith("language model") & (gains["library"] == "parts")
    assert words[real.to_numpy()].eq("better").all() and real.sum() == 2 * 8
    measured = table.set_index(["panel", "method", "place"])["measured"].sort_index()
    for panel in ("facts", "questions"):
        assert (measured[panel, "logits_sum"] > measured[panel, "sum"]).all()
