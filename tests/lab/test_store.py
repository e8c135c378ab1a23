"""Results on disk and their intervals."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.lab import intervals, store
from sim.lab.store import Store

COLUMNS = ("seed", "method", "metric", "predicted", "measured", "trials")
CONFIG = {"rank": [4], "deep": {"width": 64}}


def row(seed, value, trials=10, method="sum"):
    return {
        "seed": seed,
        "method": method,
        "metric": "recall",
        "predicted": 0.1 + 0.2,
        "measured": value,
        "trials": trials,
    }


class TestIntervals:
    def test_single_seed_is_wilson(self):
        mean, low, high = intervals.proportion([7], [20])
        wilson = stats.binomtest(7, 20).proportion_ci(method="wilson")
        np.testing.assert_allclose([mean, low, high], [0.35, wilson.low, wilson.high], atol=1e-12)

    def test_agreeing_seeds_pool_and_disagreeing_seeds_widen(self):
        pooled = intervals.proportion([5, 5, 5, 5], [10] * 4)
        apart = intervals.proportion([0, 10, 0, 10], [10] * 4)
        wilson = stats.binomtest(20, 40).proportion_ci(method="wilson")
        np.testing.assert_allclose(pooled[1:], [wilson.low, wilson.high], atol=1e-12)
        assert apart[0] == pooled[0]
        assert apart[2] - apart[1] > 2 * (pooled[2] - pooled[1])

    def test_clustered_coverage(self):
        # Seeds that differ (success rates Beta(2, 2)) and 20 queries each: the interval still covers.
        rng = np.random.default_rng(0)
        hits = 0
        for _ in range(500):
            right = rng.binomial(20, rng.beta(2, 2, size=20))
            _, low, high = intervals.proportion(right, [20] * 20)
            hits += low <= 0.5 <= high
        assert hits / 500 > 0.9

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8))
    def test_the_interval_holds_the_mean_and_stays_in_range(self, pairs):
        right, asked = zip(*[(min(a, b), b) for a, b in pairs], strict=True)
        mean, low, high = intervals.proportion(right, asked)
        assert 0 <= low <= mean <= high <= 1

    def test_no_trials_is_an_error(self):
        with pytest.raises(ValueError, match="at least one trial"):
            intervals.proportion([0], [0])

    def test_mean_is_student(self):
        values = [1.0, 2.0, 4.0]
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        np.testing.assert_allclose(intervals.mean(values)[1:], expected)
        assert intervals.mean([3.0]) == (3.0, -np.inf, np.inf)


class TestStore:
    def open(self, folder, config=CONFIG):
        return Store(folder, config, COLUMNS, "python -m sim.sweep")

    def test_rows_survive_reopening_exactly(self, tmp_path):
        first = self.open(tmp_path)
        first.add({"b/1": [row(1, 1 / 3)], "b/2": [row(2, np.pi / 4), row(2, 0.0, method="average")]})
        second = self.open(tmp_path)
        assert second.done == {"b/1", "b/2"}
        pd.testing.assert_frame_equal(second.rows, first.rows, check_dtype=False)
        assert second.rows["measured"].tolist() == [1 / 3, np.pi / 4, 0.0]

    def test_order_of_work_does_not_show(self, tmp_path):
        texts = []
        for name, order in (("one", "abc"), ("two", "cab")):
            opened = self.open(tmp_path / name)
            for index, unit in enumerate(order):
                opened.add({unit: [row("abc".index(unit), ord(unit) / 100)]})
                if index == 1:  # as if stopped and resumed
                    opened = self.open(tmp_path / name)
            opened.finish()
            texts.append((tmp_path / name / "results.csv").read_bytes())
        assert texts[0] == texts[1]

    def test_summary_is_the_interval_over_seeds(self, tmp_path):
        opened = self.open(tmp_path)
        opened.add({f"u{s}": [row(s, value)] for s, value in enumerate([0.2, 0.4])})
        summary = opened.finish()
        assert len(summary) == 1
        expected = intervals.proportion([2, 4], [10, 10])
        np.testing.assert_allclose(summary[["mean", "low", "high"]].iloc[0].astype(float), expected)
        assert summary["seeds"].iloc[0] == 2
        written = store.read_table(tmp_path / "summary.csv")
        np.testing.assert_allclose(written["mean"], summary["mean"], rtol=1e-3)

    def test_manifest_tells_how_to_repeat(self, tmp_path):
        self.open(tmp_path).finish()
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["config"] == CONFIG
        assert manifest["finished"] is True
        assert {"jax", "numpy", "optax"} <= manifest["versions"].keys()
        assert manifest["command"] == "python -m sim.sweep"

    def test_results_of_another_configuration_are_kept(self, tmp_path):
        self.open(tmp_path).add({"u": [row(0, 0.5)]})
        before = (tmp_path / "results.csv").read_bytes()
        with pytest.raises(ValueError, match=r"another configuration \(deep.width: 64 there, 32 here\)"):
            self.open(tmp_path, {"rank": [4], "deep": {"width": 32}})
        assert (tmp_path / "results.csv").read_bytes() == before

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("manifest.json", "{", "manifest.json is damaged"),
            ("results.csv", "unit,seed\nx,1\n", "results.csv has other columns"),
            ("results.csv", "", "results.csv is damaged"),
        ],
    )
    def test_damaged_files_are_named_and_kept(self, tmp_path, name, text, message):
        self.open(tmp_path)
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            self.open(tmp_path)
        assert (tmp_path / name).read_text() == text

    def test_results_without_a_manifest_are_not_adopted(self, tmp_path):
        (tmp_path / "results.csv").write_text("mine\n")
        with pytest.raises(ValueError, match=r"no manifest\.json beside it; choose another --out"):
            self.open(tmp_path)

    def test_a_full_disk_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "results.csv"
        path.write_text("old")

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.write_atomically(path, "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["results.csv"]


def test_digest_depends_on_values_not_on_order():
    assert store.digest({"a": 1, "b": (2, 3)}) == store.digest({"b": [2, 3], "a": 1})
    assert store.digest({"a": 1}) != store.digest({"a": 2})
