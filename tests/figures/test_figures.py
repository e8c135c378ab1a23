"""The committed tables of the figures, and the fidelity of theory to experiment they hold."""

import io

import numpy as np
import pandas as pd
import pytest

from sim.figures import FIGURES, gallery
from sim.figures.fidelity import off, r_squared, summary
from sim.lab.figure import COMMON, Source, committed
from theory import composition, coverage, crosstalk, starvation


def table(name):
    return pd.read_csv(committed() / f"{name}.csv")


def test_every_figure_says_claim_setting_and_section():
    assert len(FIGURES) >= 14
    for name, item in FIGURES.items():
        assert item.name == name and item.draw.__name__ == name
        assert item.claim.endswith(".") and item.setting and item.section, name


COMMITTED = [item.name for item in gallery.chosen(())[0]]
"""All figures but those of experiments that have no committed run."""


def test_most_figures_are_committed():
    assert len(COMMITTED) >= 28


@pytest.mark.parametrize("name", COMMITTED)
def test_every_committed_table_has_the_common_columns(name):
    rows = table(name)
    assert len(rows) > 3 and set(COMMON) <= set(rows.columns)


# Those of mergeability count operations by compiling, for most of a minute.
OF_RUNS = [name for name in COMMITTED if FIGURES[name].experiments not in ((), ("mergeability",))]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_RUNS)
def test_a_committed_table_is_that_of_the_committed_runs(name):
    rows = FIGURES[name].collect(Source(committed() / "experiments"))
    rows = pd.read_csv(io.StringIO(rows.to_csv(index=False, float_format="%.5g")))
    pd.testing.assert_frame_equal(table(name), rows, check_dtype=False, rtol=1e-4)


def test_theory_columns_are_the_closed_forms():
    rows = table("no_latent_composition")
    direct = rows[~rows["method"].str.contains("CoT")]
    assert {"law", "arrow"} < set(direct["method"])
    law = [composition.two_hop_accuracy(int(n)) for n in direct["entities"]]
    np.testing.assert_allclose(direct["predicted"], law, rtol=1e-4)
    rows = table("rank_starvation")
    for row in rows.iloc[::5].itertuples():
        law = getattr(starvation, row.kind)(row.facts, row.rank)
        np.testing.assert_allclose(row.predicted, law, rtol=1e-4, atol=1e-6)
    rows = table("retention")
    exact = rows[(rows["panel"] == "lambda") & (rows["rank_share"] == 1)]
    off = np.abs(exact["x"] - 0.5) > 1e-4  # the two ends of the step are 1e-6 from it, and rounded
    np.testing.assert_array_equal(exact["predicted"][off], coverage.retention(exact["x"][off].to_numpy()))
    rows = table("coverage_phase").dropna(subset="measured")
    for row in rows.iloc[::31].itertuples():
        law = starvation.overwrite_recall(16, round(16 * row.rho), row.lam * row.kappa)
        np.testing.assert_allclose(row.predicted, law, rtol=1e-3, atol=1e-4)


def test_the_direct_answer_is_chance_and_the_written_one_is_not():
    rows = table("no_latent_composition")
    rows = rows.dropna(subset="measured")
    written = rows["method"].str.contains("CoT")
    rowwise = rows[rows["method"].isin(["average", "sum", "concat", "ties"])]
    np.testing.assert_allclose(rowwise["measured"] * rowwise["entities"], 1.0, rtol=1e-4)
    assert (rows["low"] <= rows["predicted"] * 1.0001).all() and rows[written]["measured"].min() > 0.95


def test_recall_of_exact_overwrites_follows_its_law_in_every_library():
    rows = table("retention").dropna(subset="measured")
    rows = rows[rows["panel"] == "K"]
    assert set(rows["x"]) >= {2, 3, 4} and set(rows["method"]) == {"average", "sum"}
    np.testing.assert_array_equal(rows["measured"], rows["predicted"])


def test_the_phase_boundary_separates_new_from_old_answers():
    rows = table("coverage_phase")
    rows = rows[rows["panel"] == "lambda"]
    strength = 2 * rows["lam"] * rows["kappa"] * rows["rho"]
    assert rows[strength > 1.2]["measured"].min() > 0.9
    assert rows[strength < 0.8]["measured"].max() < 0.1


def test_crosstalk_error_is_the_delta_method():
    rows = table("crosstalk")
    rows = rows[rows["panel"] == "error"]
    variance = crosstalk.kappa_variance(np.pi / 3)
    np.testing.assert_allclose(rows["predicted"] * rows["features"], variance, rtol=1e-3)
    rows = rows.dropna(subset="measured")
    assert ((rows["low"] < rows["predicted"]) & (rows["predicted"] < rows["high"])).mean() >= 0.75


def test_r_squared():
    assert r_squared([0.0, 1.0], [0.0, 1.0]) == 1.0
    assert r_squared([0.5, 0.5], [0.0, 1.0]) == 0.0
    assert r_squared([0.2, 0.2], [0.2, 0.2]) == 1.0 and np.isnan(r_squared([0.2, 0.2], [0.3, 0.3]))


def test_a_prediction_is_inside_if_it_is_off_by_at_most_a_bar():
    rows = table("fidelity")
    sampled = rows[rows["tag"] != "exact"]  # the table keeps five digits, of a tolerance of 1e-12 none
    far = off(sampled).abs()
    clear = (far - 1).abs() > 0.02
    assert clear.mean() > 0.95 and ((far <= 1) == sampled["inside"])[clear].all()
    columns = {
        "predicted": [1.0, 0.5, 2.0, 2.0],
        "measured": [0.6, 0.6, 2.0, 1.0],
        "slack": [0.0, 0.0, 0.0, 0.3],
    }
    columns |= {"low": [0.4, 0.4, 2.0, 1.0], "high": [0.7, 0.9, 2.0, 1.2]}
    np.testing.assert_allclose(off(pd.DataFrame(columns)), [4.0, -0.5, 0.0, 2.0])


def test_fidelity_covers_every_section_and_its_flags_are_its_intervals():
    rows = table("fidelity")
    sections = set(rows["section"].astype(str).str.extract(r"(\d+)")[0].astype(int))
    assert sections == set(range(1, 13))
    sampled = rows[rows["tag"] != "exact"]
    slack = sampled["slack"] + 1e-4 * sampled["measured"].abs() + 1e-9  # the table keeps five digits
    within = (sampled["low"] - slack <= sampled["predicted"]) & (
        sampled["predicted"] <= sampled["high"] + slack
    )
    assert (within | ~sampled["inside"]).all()


@pytest.mark.parametrize("tag", ["exact", "law", "asymptotic", "model"])
def test_results_hold(tag):
    """At least 8 rows a result, 95% of a tag's inside, exact all; R^2 >= 0.99, or 0.95 in a limit."""
    results = summary(table("fidelity"))
    results = results[results["tag"] == tag]
    assert results["inside"].sum() >= 0.95 * results["rows"].sum()
    assert (results["rows"] >= 8).all() and not results.empty
    assert (results["r2"] >= (0.99 if tag in ("exact", "law") else 0.95)).all(), results[["result", "r2"]]
    if tag == "exact":
        assert (results["inside"] == results["rows"]).all(), results


def gaps(rows, result, size):
    """|measured - predicted| of a result's rows whose setting starts with or holds ``size``."""
    chosen = rows[(rows["result"] == result) & rows["setting"].str.contains(size)]
    return (chosen["measured"] - chosen["predicted"]).abs().mean()


@pytest.mark.parametrize(
    ("result", "small", "large"),
    [
        ("capacity: recall of a truncated memory", "d=16,", "d=128, r=16"),
        ("depth: direct two-hop accuracy", "d=16,", "d=128,"),
        ("kappa, arc-cosine kernel", "m=64,", "m=4096,"),
        ("whitened overlap", "m=64,", "m=512,"),
        ("Arrow: alignment of the prototype", "m=16", "m=128"),
        ("LoRA flow: early law", "=0.1,", "=0.001,"),
        ("LoRA flow: half-times of the modes", "=0.1,", "=1e-06,"),
    ],
)
def test_the_gap_of_an_asymptotic_result_shrinks_with_size(result, small, large):
    rows = table("fidelity")
    assert gaps(rows, result, large) < gaps(rows, result, small)
