"""The comparison of forecasts and metrics: fits that see no outcome of their own setting, ranks, costs."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sim.experiments import mergeability
from sim.experiments.mergeability import fitted
from sim.experiments.mergeability.cost import STRENGTHS, cost, ingredients
from sim.lab import intervals
from sim.reuse import pairs
from sim.sweep.run import pairs as table_of_pairs


def cells(seed=0, settings=8, seeds=5):
    """Outcomes that are linear in one feature, with another slope in each stratum, and noise."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(settings):
        for s in range(seeds):
            x, other = rng.normal(size=2)
            for lam in (0.5, 1.0):
                y = 0.5 + (0.1 if lam < 1 else -0.05) * x
                where = {"label": f"s{number}", "seed": s, "lam": lam, "metric": "hop1"}
                rows.append(where | {"x": x, "other": other, "measured": y})
    return pd.DataFrame(rows)


def test_leave_one_out_recovers_a_linear_law_in_every_stratum():
    rows = cells()
    fits = fitted.leave_one_out(rows, ["x"])
    np.testing.assert_allclose(fits, rows["measured"], atol=0.02)  # what the penalty shrinks
    assert (fitted.leave_one_out(rows, ["other"]) - rows["measured"]).abs().mean() > 0.03


def test_a_fit_does_not_see_its_own_setting():
    rows = cells()
    own = rows["label"] == "s3"
    changed = rows.assign(measured=rows["measured"].where(~own, 0.9))
    before, after = (fitted.leave_one_out(table, ["x"]) for table in (rows, changed))
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).all()


def test_without_features_a_fit_is_the_mean_of_the_others():
    rows = cells()
    fits = fitted.leave_one_out(rows, [])
    others = rows[(rows["label"] != "s0") & (rows["lam"] == 0.5)]["measured"].mean()
    np.testing.assert_allclose(fits[(rows["label"] == "s0") & (rows["lam"] == 0.5)], others)
    assert fitted.leave_one_out(rows[rows["label"] == "s0"], []).isna().all()


@pytest.mark.parametrize("penalty", [1e-12, 3.0])
def test_ridge_is_least_squares_on_rows_that_hold_the_penalty(penalty):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 3)) * (1, 10, 0.1), rng.normal(size=20)
    a, b = fitted.ridge(x, y, penalty)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    design = np.r_[np.c_[np.ones(20), z], np.c_[np.zeros(3), np.sqrt(penalty) * np.eye(3)]]
    expected = np.linalg.lstsq(design, np.r_[y, np.zeros(3)], rcond=None)[0]
    np.testing.assert_allclose(a + x @ b, expected[0] + z @ expected[1:], atol=1e-9)


def test_a_feature_that_does_not_vary_is_left_out():
    a, b = fitted.ridge(np.c_[np.ones(4), np.arange(4.0)], np.arange(4.0), 1e-12)
    np.testing.assert_allclose((a, *b), (0, 0, 1), atol=1e-9)


def test_ranks_are_spearmans_and_know_no_difference_between_strata():
    rows = cells(2)
    one = rows[rows["lam"] == 1.0]
    value, low, high = fitted.rank_correlation(one, "other")
    assert value == pytest.approx(stats.spearmanr(one["other"], one["measured"]).statistic)
    assert low <= value <= high
    # ranks are of the whole sample; a seed that is redrawn twice counts twice
    ranks = one[["other", "measured"]].rank() - (len(one) + 1) / 2
    products = np.stack([ranks.prod(axis=1), ranks["other"] ** 2, ranks["measured"] ** 2], axis=1)
    sums = np.array([products[one["seed"].eq(seed)].sum(0) for seed in one["seed"].unique()])
    redrawn = np.random.default_rng(0).integers(0, len(sums), (intervals.RESAMPLES, len(sums)))
    xy, xx, yy = sums[redrawn].sum(1).T
    np.testing.assert_allclose([low, high], np.quantile(xy / np.sqrt(xx * yy), (0.025, 0.975)))
    assert low < value - 0.01 and value + 0.01 < high
    assert fitted.rank_correlation(one, "x") == pytest.approx((-1, -1, -1))
    # In one stratum the outcome rises with x, in the other it falls.
    assert fitted.rank_correlation(rows, "x")[0] == pytest.approx(0, abs=1e-9)
    assert fitted.rank_correlation(rows.assign(x=1.0), "x") == (0, 0, 0)


@pytest.mark.slow
def test_costs_are_counted():
    each = ingredients(mergeability.MERGES)
    # A derivative in one direction is about one more pass; last MLP and readout are small parts of one.
    assert 0.8 < each["tangent"] < 1.3 and 2 < each["bend"] < 4
    assert 0 < each["readout"] < each["last_mlp"] < 0.2
    passes = cost(mergeability.MERGES).pivot(index="strengths", columns="predictor", values="measured")
    assert list(passes.index) == list(STRENGTHS)
    np.testing.assert_allclose(passes["merge"], np.square(STRENGTHS))
    np.testing.assert_allclose(passes["disentangled"], 1 + 2 * np.asarray(STRENGTHS))
    assert passes.loc[2, "composed"] > passes.loc[2, "merge"]
    assert passes.loc[16, "composed"] < passes.loc[16, "merge"] / 2


def test_the_table_of_pairs_has_a_column_a_metric():
    keys = {"world": "two_hop", "label": "a", "seed": 1, "adapter": "lora", "library": "parts"}
    rows = [
        keys | {"method": "pair", "metric": f"pair_{name}", "measured": i}
        for i, name in enumerate(pairs.METRICS)
    ]
    rows.append(keys | {"method": "sum", "metric": "hop1", "measured": 0.5})
    table = table_of_pairs(pd.DataFrame(rows))
    assert len(table) == 1 and set(pairs.METRICS) == set(table.columns) - {
        "world",
        "label",
        "seed",
        "adapter",
    }
    assert table["activation_dot"].item() == pairs.METRICS.index("activation_dot")
    assert table_of_pairs(pd.DataFrame(rows[-1:])).empty


def test_a_metric_that_tells_the_outcome_beats_the_mean_and_one_that_does_not_is_not_helped():
    rows = cells(3).assign(undecided=True)
    rng = np.random.default_rng(5)
    rows = rows.assign(**{name: rng.normal(size=len(rows)) for name in pairs.METRICS})
    rows["cosine"] = rows["x"]
    rows = rows.assign(**{name: rows["measured"] + 0.01 for name in mergeability.OURS})
    table = mergeability.compared(rows).set_index(["quantity", "predictor"])["measured"]
    error = table["error, λ ≤ ½"]
    assert error["cosine"] < 0.02 < error[mergeability.NULL] <= error["dot"] + 0.01
    assert error["composed"] == pytest.approx(0.01)
    assert table["rank"]["composed"] == pytest.approx(1) and mergeability.NULL not in table["rank"]
