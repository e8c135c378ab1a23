"""Two runs compared: the rows whose intervals do not meet, and what is refused."""

import json

import pandas as pd
import pytest

from sim.sweep.compare import KEYS, compare

NAN = float("nan")
COLUMNS = ["experiment", *KEYS, "predictor", "predicted", "measured", "low", "high", "seeds"]


def row(label, method, metric, three, lam=1.0, library="parts", adapter="lora", predictor=""):
    return ("main", "two_hop", label, adapter, library, method, lam, metric, predictor, NAN, *three, 3)


FIRST = [
    row("real", "sum", "cot_answer", (0.5, 0.4, 0.6)),
    row("real", "sum", "cot_answer", (0.5, 0.4, 0.6), predictor="base"),  # the same measurement
    row("real", "average", "cot_answer", (0.5, 0.4, 0.6), 0.5),
    row("real", "ties", "cot_answer", (0.9, 0.8, 1.0), NAN),
    row("real", "sum", "hop1", (0.1, 0.0, 0.2), NAN, "bridge"),
    row("fake", "sum", "hop1", (0.3, NAN, NAN)),
    row("fake", "svd", "hop1", (0.3, 0.2, 0.4)),
    row("real", "dare", "hop1", (0.5, 0.4, 0.6)),
    row("real", "dare", "hop2", (0.4, 0.3, 0.5)),
]
SECOND = [
    row("real", "sum", "cot_answer", (0.7, 0.61, 0.8)),
    row("real", "average", "cot_answer", (0.7, 0.59, 0.8), 0.5),
    row("real", "ties", "cot_answer", (0.1, 0.0, 0.2), NAN),
    row("real", "sum", "hop1", (0.6, 0.5, 0.7), NAN, "bridge"),
    row("fake", "sum", "hop1", (0.9, 0.8, 1.0)),
    row("real", "dare", "hop1", (0.4, 0.3, 0.5)),
    row("real", "dare", "hop2", (0.5, 0.4, 0.6)),
]


@pytest.fixture
def runs(tmp_path):
    folders = tmp_path / "one", tmp_path / "two"
    for folder, rows in zip(folders, (FIRST, SECOND), strict=True):
        folder.mkdir()
        pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "summary.csv", index=False)
    (folders[0] / "manifest.json").write_text(json.dumps({"command": "python -m sim.sweep", "commit": "abc"}))
    return folders


def test_rows_differ_whose_intervals_do_not_meet_the_largest_change_first(runs):
    lines = compare(*runs).split("\n")
    assert lines[0] == f"A: {runs[0]} (python -m sim.sweep, commit abc)" and lines[1] == f"B: {runs[1]}"
    assert [line.split() for line in lines[3:7]] == [
        ["setting", "model", "metric", "A", "B", "B", "-", "A"],
        ["real", "ties", "cot_answer", "0.90", "[0.80,", "1.00]", "0.10", "[0.00,", "0.20]", "-0.80"],
        ["real", "bridge:", "sum", "hop1", "0.10", "[0.00,", "0.20]", "0.60", "[0.50,", "0.70]", "+0.50"],
        ["real", "sum", "cot_answer", "0.50", "[0.40,", "0.60]", "0.70", "[0.61,", "0.80]", "+0.20"],
    ]
    assert lines[-1] == ("3 of 7 rows differ beyond their 95% intervals; 1 rows are in A alone, 0 in B alone")


def test_adapters_have_a_column_where_there_are_several(runs):
    for folder, three in zip(runs, ((0.1, 0.0, 0.2), (0.9, 0.8, 1.0)), strict=True):
        rows = [row("real", "sum", "hop1", three, adapter=kind) for kind in ("lora", "closed_form")]
        pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "summary.csv", index=False)
    text = compare(*runs)
    assert (
        "adapter" in text
        and "closed_form" in text
        and text.endswith("2 of 2 rows differ beyond their 95% intervals")
    )


def test_the_command_prints_it(runs, command):
    code, out, error = command("sim.sweep", "--compare", *runs)
    assert (code, out.strip()) == (0, compare(*runs)) and error == ""


def test_what_cannot_be_compared_is_one_line(runs, command, tmp_path):
    lone = tmp_path / "lone"
    lone.mkdir()
    pd.DataFrame([row("other", "sum", "hop1", (0.3, 0.2, 0.4))], columns=COLUMNS).to_csv(
        lone / "summary.csv", index=False
    )
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "summary.csv").write_text("a,b\n1,2\n")
    for words, line in (
        ((runs[0], runs[0]), f"--compare has {runs[0]} twice; which is the other run?"),
        ((runs[0], tmp_path / "no"), f"{tmp_path / 'no'}: no summary.csv there; give the folder of one run"),
        ((tmp_path, runs[0]), f"give the folder of one run; did you mean {foreign}?"),
        ((runs[0], foreign), f"--compare {foreign}: its summary.csv is none of python -m sim.sweep"),
        ((runs[0], lone), "no setting, model and metric is in both (main)"),
        ((*runs, "--seeds", 3), "--compare reads two finished runs; leave out the other options"),
    ):
        code, out, error = command("sim.sweep", "--compare", *words)
        assert (code, out) == (2, "") and error.startswith("error: ") and error.count("\n") == 1
        assert line in error
