"""Results on disk: resumable, whole, never overwritten; and their summary over seeds."""

import json

import numpy as np
import pandas as pd
import pytest

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
        np.testing.assert_allclose(summary[["measured", "low", "high"]].iloc[0].astype(float), expected)
        assert summary["seeds"].iloc[0] == 2
        written = store.read_table(tmp_path / "summary.csv")
        np.testing.assert_allclose(written["measured"], summary["measured"], rtol=1e-3)

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

    def test_every_unit_on_disk_is_done_and_no_other(self, tmp_path):
        opened = self.open(tmp_path)
        assert opened.done == set()
        opened.add({"a": [row(0, 0.1), row(0, 0.2, method="average")], "b": [row(1, 0.3)]})
        assert opened.done == self.open(tmp_path).done == {"a", "b"}
        opened.add({"c": [row(2, 0.4)]})
        assert opened.done == self.open(tmp_path).done == {"a", "b", "c"}
        assert store.read_table(tmp_path / "results.csv")["unit"].tolist() == ["a", "a", "b", "c"]

    def test_a_run_is_finished_when_it_says_so(self, tmp_path):
        def finished():
            return json.loads((tmp_path / "manifest.json").read_text())["finished"]

        opened = self.open(tmp_path)
        opened.add({"a": [row(0, 0.1)]})
        assert finished() is False
        opened.finish()
        assert finished() is True
        assert self.open(tmp_path).done == {"a"} and finished() is True
        self.open(tmp_path).add({"b": [row(1, 0.1)]})  # more seeds, say
        assert finished() is False

    def test_seconds_of_all_sittings_add_up(self, tmp_path, monkeypatch):
        clock = iter(range(0, 1000, 10))
        monkeypatch.setattr(store.time, "monotonic", lambda: next(clock))
        self.open(tmp_path)
        self.open(tmp_path)
        assert json.loads((tmp_path / "manifest.json").read_text())["seconds"] == 20

    def test_a_crash_while_writing_keeps_what_was_there(self, tmp_path, monkeypatch):
        opened = self.open(tmp_path)
        opened.add({"a": [row(0, 0.1)]})

        def stopped(path):
            raise KeyboardInterrupt

        monkeypatch.setattr(store.files, "_to_disk", stopped)
        with pytest.raises(KeyboardInterrupt):
            opened.add({"b": [row(1, 0.3)]})
        monkeypatch.undo()
        assert self.open(tmp_path).done == {"a"}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "results.csv"]


class TestSummary:
    def rows(self, *rows):
        return pd.DataFrame(rows, columns=["unit", *COLUMNS])

    def test_values_by_hand(self):
        """Two methods of two seeds; predictions 0.2, 0.6 and measurements 0.5, 0.4 of 10 and 30 trials."""
        rows = self.rows(
            ("u0", 0, "sum", "recall", 0.2, 0.5, 10),
            ("u0", 0, "average", "recall", 0.9, 0.9, 10),
            ("u1", 1, "sum", "recall", 0.6, 0.4, 30),
            ("u1", 1, "average", "recall", 0.9, 0.7, 10),
        )
        summary = store.summarise(rows).set_index("method")
        assert list(summary.index) == ["sum", "average"]
        found = summary.loc["sum"]
        assert found["predicted"] == pytest.approx(0.4)  # the mean, not a seed's
        assert found["error"] == pytest.approx((0.3 + 0.2) / 2)  # absolute: signed errors would give 0.05
        assert found["measured"] == pytest.approx(17 / 40)
        expected = intervals.proportion([5, 12], [10, 30])
        np.testing.assert_allclose(found[["measured", "low", "high"]].astype(float), expected)
        assert found["seeds"] == 2
        assert summary.loc["average", "error"] == pytest.approx(0.1)

    def test_real_values_have_students_interval(self):
        rows = self.rows(*[(f"u{s}", s, "sum", "margin", np.nan, 1.5 * s, np.nan) for s in range(3)])
        found = store.summarise(rows).iloc[0]
        expected = intervals.mean([0.0, 1.5, 3.0])
        np.testing.assert_allclose(found[["measured", "low", "high"]].astype(float), expected)
        assert np.isnan(found["predicted"]) and np.isnan(found["error"])

    def test_cells_with_missing_settings_stay_apart(self):
        rows = self.rows(
            ("u0", 0, "sum", "recall", np.nan, 0.5, 10),
            ("u0", 0, None, "recall", np.nan, 0.1, 10),
            ("u1", 1, None, "recall", np.nan, 0.3, 10),
        )
        summary = store.summarise(rows)
        np.testing.assert_allclose(summary["measured"], [0.5, 0.2])
        assert summary["seeds"].tolist() == [1, 2]


def test_digest_depends_on_values_not_on_order():
    assert store.digest({"a": 1, "b": (2, 3)}) == store.digest({"b": [2, 3], "a": 1})
    assert store.digest({"a": 1}) != store.digest({"a": 2})
