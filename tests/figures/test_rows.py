"""Rows of figures: sorted by what is measured, called by names, each drawn where its name stands."""

import numpy as np
import pandas as pd
import pytest

from sim.experiments.common.pictures import across, questions
from sim.experiments.controls import LINES
from sim.experiments.controls.lines import order
from sim.experiments.mergeability import ALL, BEST, NULL, OURS, PUBLISHED, ordered
from sim.figures import FIGURES
from sim.lab import style
from sim.lab.figure import committed

CODES = ("p1", "p2", "p12", "the same", "base", "coverage", "product", "second_order", "/")
"""What no row may be called, or begin with."""

SORTED = {
    "referee": (1, "sum", -1),
    "word_problems": (1, "sum", -1),
    "crosslingual_reuse": (1, "sum", -1),
    "crosslingual_parts": (0, "sum", -1),
    "atlas_prediction": (0, "sum", -1),
    "word_problem_depth": (3, "open outcomes", 1),
    "arrow": (1, "sighted (τ = 1)", -1),
}
"""figure: (panel, series, 1 where the least stands first)."""


def panels(name):
    return FIGURES[name].draw(pd.read_csv(committed() / f"{name}.csv")).axes


def drawn(axes, label):
    """(value, place) of a series, from the top."""
    line = next(line for line in axes.lines if line.get_label() == label)
    return np.column_stack(line.get_data()).astype(float)[np.argsort(line.get_ydata())]


@pytest.mark.parametrize("name", [*SORTED, "referee_worlds", "mergeability_metrics"])
def test_rows_have_names(name):
    axes = panels(name)
    assert len(axes) <= 4
    texts = [text.get_text() for panel in axes for text in panel.get_yticklabels()]
    rows = [text for text in texts if text and not text.replace(".", "").replace("−", "").isdigit()]
    assert len(rows) >= 5 and not [text for text in rows if text.startswith("the same") or text in CODES]
    assert not [text for text in rows if "_" in text or "/" in text]


def test_no_control_refers_to_the_row_above_it():
    """Rows are sorted: a name stands alone, and once."""
    names = [line.name for line in LINES]
    assert len(set(names)) == len(names) and not [name for name in names if "same" in name or ";" in name]


@pytest.mark.parametrize("name", SORTED)
def test_rows_are_sorted_by_what_is_drawn(name):
    panel, series, sign = SORTED[name]
    values = sign * drawn(panels(name)[panel], series)[:, 0]
    assert len(values) >= 5 and (np.diff(values) >= 0).all()


def planted(*rows):
    return pd.DataFrame(rows, columns=["row", "measured"]).assign(
        low=lambda table: table["measured"] - 0.1, high=lambda table: table["measured"] + 0.1, predicted=0.5
    )


def test_a_series_stands_in_its_own_rows():
    """By the second series; a row that it lacks comes last, and one that nobody has is left out."""
    _, axes = style.figure()
    first = planted(("a", 0.9), ("b", 0.2), ("c", 0.4)).set_index("row")
    second = planted(("a", 0.1), ("c", 0.8)).set_index("row")
    names = {row: f"row {row}" for row in "abcd"}
    rows = across(axes, {"one": first, "two": second}, style.levels(2), names, by=1, forecasts=True)
    assert rows == ["c", "a", "b"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["row c", "row a", "row b"]
    np.testing.assert_allclose(drawn(axes, "one"), [[0.4, -0.15], [0.9, 0.85], [0.2, 1.85]])
    np.testing.assert_allclose(drawn(axes, "two"), [[0.8, 0.15], [0.1, 1.15]])
    strokes = [line for line in axes.lines if line.get_marker() == "|" and line.get_markersize() == 8]
    np.testing.assert_allclose(strokes[0].get_xdata().astype(float), [0.5] * 3)


def test_a_question_has_the_disentangled_forecast_of_its_merge():
    keys = {"label": "here", "library": "parts", "method": "sum", "metric": "direct", "measured": 0.3}
    keys |= {"low": 0.2, "high": 0.4, "seeds": 3}
    forecasts = (("tangent", 0.9), ("disentangled", 0.6), ("base", 0.1))
    rows = pd.DataFrame([keys | {"predictor": name, "predicted": value} for name, value in forecasts])
    joint = rows[:1].assign(library="single", method="joint")
    summary = pd.concat([rows, joint, rows.assign(label="there")], ignore_index=True)
    methods = (("parts", "sum", "sum"), ("single", "joint", "joint adapter"))
    table = questions(summary, "here", {"direct": "at once"}, methods)
    assert list(table["method"]) == ["sum", "joint"] and table["predicted"].iloc[0] == 0.6
    assert np.isnan(table["predicted"].iloc[1]) and list(table["measured"]) == [0.3, 0.3]


def test_controls_are_sorted_by_the_mean_gain_of_the_sum():
    rows = [
        ("a", "sum", 0.2),
        ("a", "sum", 0.4),
        ("b", "sum", 0.5),
        ("b", "sum", 0.0),
        ("a", "average", -9.0),
    ]
    rows = pd.DataFrame(rows, columns=["control", "series", "measured"]).assign(panel="gain")
    other = rows.assign(panel="accuracy", measured=-rows["measured"])
    assert order(pd.concat([rows, other])) == ["a", "b"]


def test_the_best_published_metrics_stand_among_the_forecasts():
    table = pd.read_csv(committed() / "mergeability_metrics.csv")
    names = ordered(table)
    errors = table[table["quantity"] == "error, ½ < λ ≤ 1"].set_index("predictor")["measured"]
    assert (np.diff(errors[names]) >= 0).all()
    assert {*OURS, ALL, NULL} <= set(names)
    metrics = [name for name in names if name in PUBLISHED]
    assert len(metrics) == BEST and len(names) == BEST + len(OURS) + 2
    assert errors[metrics].max() <= errors[[name for name in PUBLISHED if name not in metrics]].min()
