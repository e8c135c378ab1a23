"""Table, verdict and page of a run, on a summary whose every number is planted."""

import json

import pandas as pd
import pytest
from browser import needs_browser, run_script

from sim.experiments.common.claim import NOTHING
from sim.lab import intervals
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
SUMMARY = SUMMARY.assign(
    experiment="main", rank=4, error=(SUMMARY["predicted"] - SUMMARY["measured"]).abs(), entities="real"
)
SUMMARY.loc[SUMMARY["label"] == "fake", "entities"] = "fake"


def guesses(*rows):
    """Answers as a run counts them, from (seed, library, method, right, asked)."""
    counts = pd.DataFrame(rows, columns=["seed", "library", "method", "right", "asked"])
    return counts.assign(world="two_hop", adapter="lora", metric=GIVEN, predicted=0.0625, bound=0.0711)


GUESSES = guesses(
    *((seed, "parts", method, 6, 100) for seed in range(8) for method in ("sum", "average")),
    *((seed, "parts", "oracle", 90, 100) for seed in range(8)),
    *((seed, "single", "joint", 90, 100) for seed in range(8)),
)


def test_a_line_a_model_with_interval_and_prediction():
    cells = table.table(SUMMARY)
    assert [name for name, _ in cells.columns] == ["seeds", *["direct"] * 2, "cot_answer", *["hop1"] * 4]
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
    average, total = real.loc["average", "hop1"], real.loc["sum = concat = lambda=1", "hop1"]
    assert tuple(average[["measured", "law", "guess", "parts"]]) == (
        *("0.20 [0.10, 0.30]", "", "", "0.25"),  # not what the base predicts
    )
    assert tuple(total[["measured", "law", "guess", "parts"]]) == (
        *("1.00 [0.95, 1.00]", "", "0.99", ""),  # a guess before single adapters
    )
    assert real.loc["average", ("cot_answer", "measured")] == "0.10 [0.00, 0.30]"
    assert real.loc["bridge: sum", ("cot_answer", "measured")] == "0.70 [0.60, 0.80]"  # not the parts'
    assert fake.loc["sum", ("hop1", "measured")] == "0.60 [0.50, 0.70]"
    assert fake.loc["sum", ("hop1", "parts")] == ""  # what the base does is no prediction
    assert list(rank4.index) == ["sum", "adapter1"] and rank4.loc["sum", ("seeds", "")] == 64
    assert rank4.loc["adapter1", ("hop1", "law")] == "1.00"


def test_what_is_printed_has_a_block_a_setting_without_empty_columns():
    blocks = table.printed(SUMMARY).split("\n\n")
    assert [block.split("\n")[0] for block in blocks[:3]] == [
        "rank4, 64 seeds", "real, 3 seeds", "fake, 3 seeds",
    ]  # fmt: skip
    assert "direct" in blocks[0] and "cot_answer" not in blocks[0]
    assert "law" in blocks[0] and "law" not in blocks[1] and "parts" not in blocks[2]


def test_every_column_has_a_line_that_says_what_should_hold_it():
    """Of the rows in the table alone: a law in one of its two intervals, a guess in its one."""
    assert table.agreement(SUMMARY) == {"law": (1, 2), "guess": (1, 1), "parts": (1, 1)}
    measured, law, guess, parts = table.printed(SUMMARY).split("\n\n")[-1].split("\n")
    assert measured.startswith("measured: ")
    assert law.startswith("law: ") and law.endswith("(in 1 of 2 intervals; 95% should)")
    assert guess.endswith("(in 1 of 1 intervals; 95% should where nothing is composed)")
    assert parts.endswith("(in 1 of 1 intervals)")


def test_the_verdict_is_three_lines_from_the_intervals():
    first, second, third = verdict(SUMMARY, GUESSES)
    assert first == (
        "Predicted: law in 1 of 2, guess in 1 of 1, parts in 1 of 1 intervals; 95% hold a prediction that is "
        "exact."
    )
    _, low, high = intervals.proportion([12] * 8, [200] * 8)
    assert high < 0.0711 + NOTHING
    assert second == (
        f"At once: no merge composes: 0.06 [{low:.2f}, {high:.2f}] of 1600 answers among the taught ones are "
        "right (sum, average), a guess in 0.0625, who lacks a step in 0.0711 at most."
    )
    assert third == (
        "Step by step: sum has 0.80 [0.70, 0.90] where the joint adapter has 0.90 [0.80, 1.00] (real); that "
        "needs entities real (fake: 0.02 [0.00, 0.10])."
    )


@pytest.mark.parametrize(
    ("right", "seeds", "finding"),
    [
        (6, 2, "it is open whether merges compose"),
        (10, 8, "it is open whether merges compose"),
        (30, 8, "merges compose"),
    ],
)
def test_what_is_composed_at_once_is_judged_by_a_margin(right, seeds, finding):
    rows = guesses(*((seed, "parts", "sum", right // 2 + seed % 2 * right, 100) for seed in range(seeds)))
    assert verdict(SUMMARY, rows)[1].startswith(f"At once: {finding}: ")


def test_a_merge_is_not_chosen_for_its_outcome():
    """The methods that stand for reuse, whatever another one scores; that one only if there is no other."""
    rows = [(seed, "parts", "ties", 90, 100) for seed in range(8)]
    more = pd.concat([GUESSES, guesses(*rows)])
    assert verdict(SUMMARY, more)[1] == verdict(SUMMARY, GUESSES)[1]
    assert "merges compose: 0.90" in verdict(SUMMARY, guesses(*rows))[1]


def test_what_a_setting_needs_is_read_from_fields_that_differ_alone():
    both = SUMMARY.assign(template="both")
    both.loc[both["label"] == "fake", "template"] = "none"  # names and template: neither is told apart
    assert "needs" not in verdict(both, GUESSES)[2]
    third = SUMMARY[SUMMARY["label"] == "fake"].assign(label="half", entities="half_fake")
    several = verdict(pd.concat([SUMMARY, third]), GUESSES)[2]
    assert several.endswith(
        "; that needs entities real (fake: 0.02 [0.00, 0.10], half_fake: 0.02 [0.00, 0.10])."
    )
    near = SUMMARY.copy()
    near.loc[near["label"] == "fake", "high"] = 0.75  # reaches into the other interval
    assert "needs" not in verdict(near, GUESSES)[2]


def test_a_run_of_the_one_layer_model_has_a_verdict_too():
    lines = verdict(SUMMARY[SUMMARY["world"] == "one_layer"], GUESSES.iloc[:0])
    assert lines[1:] == [
        "At once: 0.05 [0.04, 0.06] at most (sum), predicted 0.050.",
        "Step by step: not asked in this run.",
    ]
    assert verdict(SUMMARY[SUMMARY["metric"] == "cot_answer"], GUESSES.iloc[:0])[:2] == [
        "Predicted: nothing in this run.",
        "At once: not asked in this run.",
    ]


@pytest.fixture
def page(tmp_path):
    manifest = {"command": "python -m sim.sweep", "failed": {"main/real/seed000": "NaN <here>"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return report.write(
        SUMMARY,
        GUESSES,
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
  heads: tables.map(table => [...table.tHead.rows].map(row => [...row.cells].map(cell => cell.textContent))),
  groups: tables.map(table =>
    [...table.tBodies].map(body => [body.rows[0].textContent, body.rows.length - 1])),
  picture: document.querySelector("img").naturalWidth > 0,
};"""


@needs_browser
def test_a_browser_shows_the_page(page, tmp_path):
    seen = run_script(page, SEEN, tmp_path)
    assert seen["doubts"] == "main/real/seed000 failed: NaN <here>"
    assert seen["verdict"] == verdict(SUMMARY, GUESSES)[::-1]  # step by step opens the page
    assert seen["heads"] == [
        [["model", "seeds", "direct", "hop1"], ["", "", *["measured", "law"] * 2]],
        [["model", "seeds", "cot_answer", "hop1"], ["", "", "measured", "measured", "guess", "parts"]],
    ]
    assert seen["groups"] == [[["rank4", 2]], [["fake", 1], ["real", 6]]] and seen["picture"]


def test_settings_stand_in_the_order_of_their_numbers():
    labels = ["rank16", "rank2", "rank2", "mlp", "a/4/rank8", "a/16/rank1"]
    keys = pd.MultiIndex.from_arrays([labels, list("fedcba")], names=["label", "model"])
    ordered = report._in_order(pd.DataFrame({"x": range(6)}, index=keys))
    assert list(ordered.index.get_level_values("model")) == ["b", "a", "c", "e", "d", "f"]


def test_a_page_opens_with_what_the_run_has_something_on():
    lines = ["Predicted: a.", "At once: b.", "Step by step: not asked in this run."]
    assert report.opening(lines) == ["At once: b.", "Predicted: a.", lines[2]]
