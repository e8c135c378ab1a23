"""Results on disk: resumable, whole, never overwritten; and their summary over seeds."""

import itertools
import json
import sqlite3

import numpy as np
import pandas as pd
import pytest

from sim.lab import intervals
from sim.lab.store import Failure, Store, digest, folder, identity, is_unfinished, read_table, summarise
from sim.lab.store.database import Database

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


def opened(folder, config=CONFIG):
    return Store(folder, config, COLUMNS, "python -m sim.sweep")


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


class TestStore:
    def test_rows_survive_reopening_exactly(self, tmp_path):
        """To the last bit, the sign of zero and the kind of number; missing, empty and odd text."""
        values = [1 / 3, -0.0, 5e-324, float("inf"), float("nan"), 2**53 + 1, True, None, "", 'é, "NA"\n']
        numpy = [np.float64(np.pi / 4), np.float32(0.1), np.int64(7), np.bool_(False)]
        with opened(tmp_path) as store:
            store.add({"b/1": [row(1, value) for value in values], "b/2": [row(2, v) for v in numpy]})
        with opened(tmp_path) as store:
            assert store.done == {"b/1", "b/2"}
            values_read = [cells[5] for cells in store._database.rows()]
        wanted = [*values, np.pi / 4, float(np.float32(0.1)), 7, False]
        assert list(map(repr, values_read)) == list(map(repr, wanted))

    @pytest.mark.parametrize("size", [1, 2, 5])
    @pytest.mark.parametrize("order", ["abcde", "dbeca"])
    def test_neither_chunks_nor_order_nor_stops_show(self, tmp_path, size, order):
        """The table is that of all rows at once, sorted by unit."""
        units = {
            "a": [row(0, 0.5, trials=4), row(0, 0.25, trials=4, method="average")],
            "b": [
                {"seed": 1, "metric": "margin", "measured": 1e-17, "predicted": 1 / 3}
            ],  # no method, no trials
            "c": [row(2, 1, method=""), row(2, 0)],
            "d": [],
            "e": [row(10, 0.1 + 0.2, trials=float("nan"), method='x, "y"')],
        }
        for start in range(0, 5, size):
            with opened(tmp_path) as store:  # as if stopped and resumed
                store.add({unit: units[unit] for unit in order[start : start + size]})
        with opened(tmp_path) as store:
            assert store.done == set(units)
            store.finish()
        assert (tmp_path / "results.csv").read_text() == (
            "unit,seed,method,metric,predicted,measured,trials\n"
            "a,0,sum,recall,0.30000000000000004,0.5,4.0\n"
            "a,0,average,recall,0.30000000000000004,0.25,4.0\n"
            "b,1,,margin,0.3333333333333333,1e-17,\n"
            "c,2,,recall,0.30000000000000004,1.0,10.0\n"
            "c,2,sum,recall,0.30000000000000004,0.0,10.0\n"
            'e,10,"x, ""y""",recall,0.30000000000000004,0.30000000000000004,\n'
        )
        flat = [{"unit": unit, **cells} for unit, rows in units.items() for cells in rows]
        at_once = pd.DataFrame(flat, columns=["unit", *COLUMNS])
        assert (tmp_path / "results.csv").read_text() == at_once.to_csv(index=False)
        summary = summarise(at_once).to_csv(index=False, float_format="%.4g")
        assert (tmp_path / "summary.csv").read_text() == summary

    def test_whole_numbers_stay_whole(self, tmp_path):
        with opened(tmp_path) as store:
            store.add({"a": [row(3, 1, trials=8)]})
            store.finish()
        assert (tmp_path / "results.csv").read_text().splitlines()[
            1
        ] == "a,3,sum,recall,0.30000000000000004,1,8"

    def test_summary_is_the_interval_over_seeds(self, tmp_path):
        with opened(tmp_path) as store:
            store.add({f"u{s}": [row(s, value)] for s, value in enumerate([0.2, 0.4])})
            summary, _ = store.finish()
        assert len(summary) == 1
        expected = intervals.proportion([2, 4], [10, 10])
        np.testing.assert_allclose(summary[["measured", "low", "high"]].iloc[0].astype(float), expected)
        assert summary["seeds"].iloc[0] == 2
        written = read_table(tmp_path / "summary.csv")
        np.testing.assert_allclose(written["measured"], summary["measured"], rtol=1e-3)

    def test_manifest_tells_how_to_repeat(self, tmp_path):
        with opened(tmp_path) as store:
            store.finish()
        content = manifest(tmp_path)
        assert content["config"] == CONFIG
        assert content["finished"] is True and content["failed"] == {}
        assert {"jax", "numpy", "optax"} <= content["versions"].keys()
        assert content["command"] == "python -m sim.sweep"

    def test_results_of_another_configuration_are_kept(self, tmp_path):
        with opened(tmp_path) as store:
            store.add({"u": [row(0, 0.5)]})
            store.finish()
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ValueError, match=r"another configuration \(deep.width: 64 there, 32 here\)"):
            opened(tmp_path, {"rank": [4], "deep": {"width": 32}})
        with pytest.raises(ValueError, match=r"results.sqlite has other columns; move it away or choose"):
            Store(tmp_path, CONFIG, COLUMNS[1:], "python -m sim.sweep")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_refusal_is_one_short_line(self, tmp_path):
        """What was typed, and not what follows from it in every part; long values are cut."""
        there = {"rank": [2], "seeds": None, "parts": [{"rank": 2, "world": {"edits": 16}}]}
        here = {"rank": [3, 4], "seeds": 5, "parts": [{"rank": 3}, {"rank": 4}]}
        with pytest.raises(ValueError) as refused:
            identity.require_same(there, here, tmp_path)
        differences = "(rank: 2 there, 3 4 here, seeds: default there, 5 here); choose another --out"
        assert str(refused.value) == f"{tmp_path} has another configuration {differences}"
        edited = there | {"parts": [{"rank": 2, "world": {"edits": 8}}]}
        with pytest.raises(ValueError, match=r"\(parts.world.edits: 16 there, 8 here\)"):
            identity.require_same(there, edited, tmp_path)
        with pytest.raises(ValueError, match=r"\(parts: 1 of them there, 2 of them here\)"):
            identity.require_same(there, there | {"parts": here["parts"]}, tmp_path)
        with pytest.raises(ValueError) as refused:
            identity.require_same({"cells": ["label"] * 50}, {"cells": ["label"] * 51}, tmp_path)
        assert len(str(refused.value)) < 200 + len(str(tmp_path))

    def test_every_unit_on_disk_is_done_and_no_other(self, tmp_path):
        with opened(tmp_path) as store:
            assert store.done == set()
            store.add({"a": [row(0, 0.1), row(0, 0.2, method="average")], "b": [row(1, 0.3)]})
            assert store.done == {"a", "b"}
        with opened(tmp_path) as store:
            assert store.done == {"a", "b"}
            store.add({"c": [row(2, 0.4)]})
        with opened(tmp_path) as store:
            assert store.done == {"a", "b", "c"}
            assert store.rows["unit"].tolist() == ["a", "a", "b", "c"]

    def test_a_unit_is_written_once(self, tmp_path):
        with opened(tmp_path) as store:
            store.add({"a": [row(0, 0.1)]})
            with pytest.raises(sqlite3.IntegrityError):
                store.add({"b": [row(1, 0.1)], "a": [row(0, 0.9)]})
            assert store.done == {"a"} and store.rows["measured"].tolist() == [0.1]

    def test_a_run_is_finished_when_it_says_so(self, tmp_path):
        with opened(tmp_path) as store:
            store.add({"a": [row(0, 0.1)]})
            assert manifest(tmp_path)["finished"] is False and is_unfinished(tmp_path)
            store.finish()
            assert manifest(tmp_path)["finished"] is True and not is_unfinished(tmp_path)
        with opened(tmp_path) as store:
            assert store.done == {"a"} and manifest(tmp_path)["finished"] is True
            store.add({"b": [row(1, 0.1)]})  # units that a newer version added, say
            assert manifest(tmp_path)["finished"] is False
        with opened(tmp_path):
            assert manifest(tmp_path)["finished"] is False

    def test_seconds_of_all_sittings_add_up(self, tmp_path, monkeypatch):
        clock = iter(range(0, 1000, 10))
        monkeypatch.setattr(folder.time, "monotonic", lambda: next(clock))
        with opened(tmp_path) as store:
            store.add({"a": [row(0, 0.1)]})  # and is killed: the manifest does not know of this
        assert manifest(tmp_path)["seconds"] == 10
        with opened(tmp_path):
            assert manifest(tmp_path)["seconds"] == 30

    def test_a_failed_unit_is_reported_left_out_and_tried_again(self, tmp_path):
        with opened(tmp_path) as store:
            store.add({"a": [row(0, 0.1)], "b": Failure("NaN at step 3"), "c": Failure("NaN")})
            assert store.done == {"a"} and store.failed == {"b": "NaN at step 3", "c": "NaN"}
            assert len(store.finish()[0]) == 1
        assert read_table(tmp_path / "results.csv")["unit"].tolist() == ["a"]
        assert manifest(tmp_path)["failed"] == {"b": "NaN at step 3", "c": "NaN"}
        assert manifest(tmp_path)["finished"] is False
        with opened(tmp_path) as store:
            assert store.done == {"a"}
            store.add({"b": [row(1, 0.2)], "c": Failure("again")})
            assert store.failed == {"c": "again"}
            store.add({"c": [row(2, 0.3)]})
            store.finish()
        assert read_table(tmp_path / "results.csv")["unit"].tolist() == ["a", "b", "c"]
        assert manifest(tmp_path)["failed"] == {} and manifest(tmp_path)["finished"] is True

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
    def test_whatever_stops_a_run_what_was_finished_can_be_read(self, tmp_path, error):
        with pytest.raises(error), opened(tmp_path) as store:
            store.add({"b": [row(1, 0.25)], "c": Failure("NaN")})
            store.add({"a": [row(0, 0.75)]})
            assert not (tmp_path / "results.csv").exists()  # a chunk costs no more for what is there
            raise error
        assert read_table(tmp_path / "results.csv")["unit"].tolist() == ["a", "b"]
        assert read_table(tmp_path / "summary.csv")["seeds"].tolist() == [2]
        assert manifest(tmp_path)["finished"] is False and manifest(tmp_path)["failed"] == {"c": "NaN"}

    def test_a_chunk_that_is_interrupted_is_undone(self, tmp_path):
        class Stops(dict):
            def get(self, *_):
                raise KeyboardInterrupt

        with opened(tmp_path) as store:
            store.add({"a": [row(0, 0.1)]})
            with pytest.raises(KeyboardInterrupt):
                store.add({"b": [row(1, 0.3)], "c": [Stops()]})
            assert store.done == {"a"}


class TestEarlierFolders:
    """Run folders of before the database."""

    TEXT = (
        "unit,seed,method,metric,predicted,measured,trials\n"
        "a,0,sum,recall,0.30000000000000004,0.5,10.0\n"
        'a,0,"x, y",recall,,0.1,10.0\n'
        "b,1,,margin,5e-324,1.7976931348623157e+308,\n"
    )

    def begun(self, place, config=CONFIG):
        (place / "results.csv").write_text(self.TEXT)
        content = {"command": "old", "finished": False, "seconds": 100.5, "config": config}
        (place / "manifest.json").write_text(json.dumps(content))

    def test_are_gone_on_from(self, tmp_path):
        self.begun(tmp_path)
        with opened(tmp_path) as store:
            assert store.done == {"a", "b"}
            store.add({"aa": [row(2, 0.25)]})
            store.finish()
        lines = self.TEXT.splitlines(keepends=True)
        new = "aa,2,sum,recall,0.30000000000000004,0.25,10.0\n"
        assert (tmp_path / "results.csv").read_text() == "".join([*lines[:3], new, lines[3]])
        assert manifest(tmp_path)["seconds"] >= 100.5
        (tmp_path / "results.csv").write_text("no longer read\n")
        with opened(tmp_path) as store:
            assert store.done == {"a", "aa", "b"}

    def test_are_gone_on_from_after_a_kill_while_they_were_read(self, tmp_path):
        self.begun(tmp_path)
        Database(tmp_path / "results.sqlite").close()  # there is a database, and nothing in it
        with opened(tmp_path) as store:
            assert store.done == {"a", "b"}

    def test_of_another_configuration_are_kept(self, tmp_path):
        self.begun(tmp_path, {"rank": [8], "deep": {"width": 64}})
        with pytest.raises(ValueError, match=r"another configuration \(rank: 8 there, 4 here\); choose"):
            opened(tmp_path)
        assert (tmp_path / "results.csv").read_text() == self.TEXT
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "results.csv"]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("manifest.json", "{", "manifest.json is damaged"),
            ("manifest.json", "[]", "manifest.json is damaged"),
            ("results.csv", "unit,seed\nx,1\n", "results.csv has other columns"),
            ("results.csv", "", "results.csv is damaged"),
        ],
    )
    def test_that_are_damaged_are_named_and_kept(self, tmp_path, name, text, message):
        self.begun(tmp_path)
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=f"{message}; move it away or choose another --out"):
            opened(tmp_path)
        assert (tmp_path / name).read_text() == text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "results.csv"]

    def test_results_without_a_manifest_are_not_adopted(self, tmp_path):
        (tmp_path / "results.csv").write_text("mine\n")
        with pytest.raises(ValueError, match=r"no manifest\.json beside it; choose another --out"):
            opened(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


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
        summary = summarise(rows).set_index("method")
        assert list(summary.index) == ["sum", "average"]
        cell = summary.loc["sum"]
        assert cell["predicted"] == pytest.approx(0.4)  # the mean, not a seed's
        assert cell["error"] == pytest.approx((0.3 + 0.2) / 2)  # absolute: signed errors would give 0.05
        assert cell["measured"] == pytest.approx(17 / 40)
        expected = intervals.proportion([5, 12], [10, 30])
        np.testing.assert_allclose(cell[["measured", "low", "high"]].astype(float), expected)
        assert cell["seeds"] == 2
        assert summary.loc["average", "error"] == pytest.approx(0.1)

    def test_real_values_have_students_interval(self):
        rows = self.rows(*[(f"u{s}", s, "sum", "margin", np.nan, 1.5 * s, np.nan) for s in range(3)])
        cell = summarise(rows).iloc[0]
        expected = intervals.mean([0.0, 1.5, 3.0])
        np.testing.assert_allclose(cell[["measured", "low", "high"]].astype(float), expected)
        assert np.isnan(cell["predicted"]) and np.isnan(cell["error"])

    def test_correlation_is_pooled_over_cells_of_a_metric_then_of_an_experiment(self):
        """Two metrics in eight settings of two methods and three seeds; where nothing is right the others say
        how far seeds differ."""
        rng, rows = np.random.default_rng(0), []
        for label, method, metric in itertools.product("abcdefgh", ("sum", "average"), ("recall", "direct")):
            for seed, right in enumerate(rng.binomial(16, 0.5 if metric == "recall" else 0.1, 3)):
                right = 0 if (label, metric) == ("a", "direct") else right
                values = (np.nan, right / 16, 16)
                rows.append(("u", "main", "two_hop", label, seed, method, metric, *values))
        columns = ["unit", "experiment", "world", "label", *COLUMNS]
        summary = summarise(pd.DataFrame(rows, columns=columns))
        counts = np.array([row[-2] * 16 for row in rows]).reshape(-1, 3)
        metric, setting = summary["metric"], summary["label"]
        pool = intervals.correlation(counts, 16, metric, np.zeros(len(summary)), setting=setting)
        expected = intervals.proportions(counts, 16, pool)
        np.testing.assert_allclose(summary[["measured", "low", "high"]].to_numpy().T, expected)
        none = summary[(summary["label"] == "a") & (summary["metric"] == "direct")]
        assert (none["measured"] == 0).all() and (none["high"] < 0.15).all()
        assert intervals.proportion([0] * 3, [16] * 3)[2] > 0.4

    def test_cells_with_missing_settings_stay_apart(self):
        rows = self.rows(
            ("u0", 0, "sum", "recall", np.nan, 0.5, 10),
            ("u0", 0, None, "recall", np.nan, 0.1, 10),
            ("u1", 1, None, "recall", np.nan, 0.3, 10),
        )
        summary = summarise(rows)
        np.testing.assert_allclose(summary["measured"], [0.5, 0.2])
        assert summary["seeds"].tolist() == [1, 2]


def test_digest_depends_on_values_not_on_order():
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
