"""Table, verdict and page of a run, on a summary whose every number is planted."""

import json

import pandas as pd
import pytest
from browser import needs_browser, run_script

from sim.sweep import page as page_of_a_run
from sim.sweep import report, table
from sim.sweep.verdict import verdict

NAN = float("nan")
COLUMNS = (
    *("world", "label", "adapter", "library", "method", "lam", "metric"),
    *("predictor", "predicted", "measured", "low", "high", "seeds"),
)
GIVEN = "direct_given_among_answers"

ROWS = [
    ("one_layer", "rank4", "", "", "sum", 1.0, "direct", "law", 0.05, 0.051, 0.04, 0.06, 64),
    ("one_layer", "rank4", "", "", "adapter1", 1.0, "hop1", "law", 1.0, 0.9, 0.85, 0.95, 64),
    ("two_hop", "real", "lora", "parts", "average", 0.5, "cot_answer", "", NAN, 0.1, 0.0, 0.3, 3),
    ("two_hop", "real", "lora", "parts", "average", 0.5, "hop1", "base", 0.0, 0.2, 0.1, 0.3, 3),
    ("two_hop", "real", "lora", "parts", "average", 0.5, "hop1", "disentangled", 0.25, 0.2, 0.1, 0.3, 3),
    ("two_hop", "real", "lora", "parts", "average", 0.5, GIVEN, "chance", 0.0625, 0.2, 0.1, 0.4, 3),
    ("two_hop", "real", "lora", "parts", "average", 0.5, GIVEN, "bound", 0.0711, 0.2, 0.1, 0.4, 3),
    ("two_hop", "real", "lora", "parts", "ties", NAN, GIVEN, "chance", 0.0625, 0.1, 0.065, 0.15, 3),
    ("two_hop", "real", "lora", "parts", "ties", NAN, GIVEN, "bound", 0.0711, 0.1, 0.065, 0.15, 3),
    ("two_hop", "real", "lora", "parts", "concat", 1.0, "cot_answer", "", NAN, 0.8, 0.7, 0.9, 3),
    ("two_hop", "real", "lora", "parts", "sum", 1.0, "cot_answer", "", NAN, 0.8, 0.7, 0.9, 3),
    ("two_hop", "real", "lora", "parts", "lambda=1", 1.0, "cot_answer", "", NAN, 0.8, 0.7, 0.9, 3),
    ("two_hop", "real", "lora", "parts", "sum", 1.0, "hop1", "disentangled", 0.9, 1.0, 0.95, 1.0, 3),
    ("two_hop", "real", "lora", "parts", "sum", 1.0, "hop1", "chance", 0.99, 1.0, 0.95, 1.0, 3),
    ("two_hop", "real", "lora", "parts", "sum", 1.0, GIVEN, "chance", 0.0625, 0.07, 0.0, 0.3, 3),
    ("two_hop", "real", "lora", "parts", "oracle", NAN, GIVEN, "chance", 0.0625, 0.5, 0.4, 0.6, 3),
    ("two_hop", "real", "lora", "parts", "oracle", NAN, "cot_answer", "", NAN, 0.99, 0.9, 1.0, 3),
    ("two_hop", "real", "lora", "bridge", "sum", NAN, "cot_answer", "", NAN, 0.7, 0.6, 0.8, 3),
    ("two_hop", "real", "lora", "single", "joint", NAN, "cot_answer", "", NAN, 0.9, 0.8, 1.0, 3),
    ("two_hop", "real", "lora", "single", "hop1", NAN, "hop1", "", NAN, 1.0, 0.9, 1.0, 3),
    ("two_hop", "real", "lora_last", "parts", "sum", 1.0, "cot_answer", "", NAN, 1.0, 0.9, 1.0, 3),
    ("two_hop", "fake", "lora", "parts", "sum", 1.0, "hop1", "base", 0.0, 0.6, 0.5, 0.7, 3),
    ("two_hop", "fake", "lora", "parts", "sum", 1.0, "cot_answer", "", NAN, 0.02, 0.0, 0.1, 3),
]
SUMMARY = pd.DataFrame(ROWS, columns=COLUMNS)
SUMMARY = SUMMARY.assign(experiment="main", error=(SUMMARY["predicted"] - SUMMARY["measured"]).abs())


def test_a_line_a_model_with_interval_and_prediction():
    cells = table.table(SUMMARY)
    assert list(cells.columns) == ["seeds", "direct", "cot_answer", "hop1"]
    rank4, real, fake = (
        cells.xs(label, level="label").droplevel("world") for label in ("rank4", "real", "fake")
    )
    assert list(real.index) == [
        "average",
        "sum = concat = lambda=1",
        "oracle",
        "bridge: sum",
        "joint",
        "hop1",
    ]
    assert real.loc["average", "hop1"] == "0.20 [0.10, 0.30] | 0.25"  # not what the base predicts
    assert real.loc["average", "cot_answer"] == "0.10 [0.00, 0.30]"
    assert (
        real.loc["sum = concat = lambda=1", "hop1"] == "1.00 [0.95, 1.00] | 0.99"
    )  # a guess before single adapters
    assert real.loc["bridge: sum", "cot_answer"] == "0.70 [0.60, 0.80]"  # not mixed with the parts'
    assert fake.loc["sum", "hop1"] == "0.60 [0.50, 0.70]"  # what the base does is no prediction
    assert list(rank4.index) == ["sum", "adapter1"] and rank4.loc["sum", "seeds"] == 64


def test_what_is_printed_has_a_block_a_setting_without_empty_columns():
    blocks = table.printed(table.table(SUMMARY)).split("\n\n")
    assert [block.split("\n")[0] for block in blocks[:3]] == [
        "rank4, 64 seeds", "real, 3 seeds", "fake, 3 seeds",
    ]  # fmt: skip
    assert "direct" in blocks[0] and "cot_answer" not in blocks[0]
    assert (
        blocks[3]
        == "measured [95% interval] | predicted: a law's, else a guess's, else that of single adapters"
    )


def test_the_verdict_is_three_lines_from_the_intervals():
    first, second, third = verdict(SUMMARY)
    assert first == (
        "Predicted: law in 1 of 2 intervals, off by 0.050; chance in 2 of 5 intervals, off by 0.126; "
        "disentangled in 1 of 2 intervals, off by 0.075 in the mean."
    )
    assert second == (
        "At once: 1 of 3 cells (setting and merge) beat who lacks a hop (by luck at most 0.1 would); among "
        "edited answers the best is right in 0.200 [0.100, 0.400] (average, real), who lacks a hop in 0.071 "
        "at most, a guess in 0.062."
    )
    assert third == (
        "Step by step: best real: concat 0.800 [0.700, 0.900], joint 0.900 [0.800, 1.000]; "
        "worst fake: sum 0.020 [0.000, 0.100]."
    )


def test_a_run_of_the_one_layer_model_has_a_verdict_too():
    lines = verdict(SUMMARY[SUMMARY["world"] == "one_layer"])
    assert lines[1:] == [
        "At once: 0.051 [0.040, 0.060] at most (sum), predicted 0.050.",
        "Step by step: not asked in this run.",
    ]
    assert verdict(SUMMARY[SUMMARY["metric"] == "cot_answer"])[:2] == [
        "Predicted: nothing in this run.",
        "At once: not asked in this run.",
    ]


@pytest.fixture
def page(tmp_path):
    manifest = {"command": "python -m sim.sweep", "failed": {"main/real/seed000": "NaN <here>"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return page_of_a_run.write(
        SUMMARY,
        tmp_path,
        {
            "Prediction and measurement": report.picture(
                SUMMARY[SUMMARY["library"] != "bridge"].assign(rank=4)
            )
        },
    )


SEEN = """
const tables = [...document.querySelectorAll("table")];
return {
  doubts: document.querySelector(".doubts").textContent,
  verdict: [...document.querySelectorAll(".verdict p")].map(line => line.textContent),
  heads: tables.map(table => [...table.tHead.rows[0].cells].map(cell => cell.textContent)),
  rows: tables.map(table => table.tBodies[0].rows.length),
  picture: document.querySelector("img").naturalWidth > 0,
};"""


@needs_browser
def test_a_browser_shows_the_page(page, tmp_path):
    seen = run_script(page, SEEN, tmp_path)
    assert seen["doubts"] == "main/real/seed000 failed: NaN <here>" and seen["verdict"] == verdict(SUMMARY)
    assert seen["heads"] == [
        ["label", "model", "seeds", "direct", "hop1"],
        ["label", "model", "seeds", "cot_answer", "hop1"],
    ]
    assert seen["rows"] == [2, 7] and seen["picture"]
