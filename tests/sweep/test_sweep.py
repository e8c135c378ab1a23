"""The main job as a user meets it: one line for every mistake, nothing lost, predictions that hold."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sim.lab import cli, store
from sim.model.training import Schedule
from sim.reuse import cell as reuse
from sim.sweep import __main__ as sweep
from sim.worlds.two_hop import TwoHopConfig

TINY = sweep.Profile(
    seeds=2,
    one_layer_seeds=3,
    entities=("real", "fake"),
    templates=("pretraining", "none"),
    reuse=reuse.ReuseConfig(
        world=TwoHopConfig(entities=24, relations=4, edits=6, bridges=8),
        layers=1,
        width=16,
        heads=2,
        hidden=32,
        pretraining=Schedule(30, 1e-2, (("facts", 16), ("direct", 8), ("traces", 8))),
        finetuning=Schedule(10, 1e-2, (("facts", 8), ("traces", 4))),
    ),
)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setitem(sweep.PROFILES, "quick", TINY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def command(monkeypatch, capsys, *arguments):
    """(exit code, stdout, stderr) of ``python -m sim.sweep`` in this process."""
    monkeypatch.setattr(sys, "argv", ["sim.sweep", *map(str, arguments)])
    try:
        cli.run_command(sweep.Sweep, sweep.main, "sim.sweep", cli.RESUME)
        code = 0
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rank", 0], "rank 0"),
        (["--rank", 65], "rank 65"),
        (["--method", "alchemy"], "unknown merge method 'alchemy'; known: "),
        (["--method", "regmean"], "'regmean' needs data"),
        (["--world", "nowhere"], "unknown world 'nowhere'; use one or more of: one_layer, two_hop"),
        (["--seeds", 0], "--seeds is 0; give at least 1"),
        (["--out", "/proc/none/here"], "/proc/none"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(monkeypatch, capsys, arguments, message):
    code, out, err = command(monkeypatch, capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1 and err.startswith("error: ")


def test_words_that_cannot_be_parsed_exit_2(monkeypatch, capsys):
    code, _, err = command(monkeypatch, capsys, "--rank", "four")
    assert code == 2
    assert "rank" in err and "Traceback" not in err


@pytest.mark.slow
class TestTinyRun:
    """One tiny sweep, looked at from all sides."""

    def test_end_to_end_resume_and_refusal(self, tiny, monkeypatch, capsys, tmp_path):
        out = tmp_path / "run"
        whole = ["--rank", 2, "--world", "two_hop", "--out", out]

        # Interrupted after the first chunk of cells: what was finished is on disk.
        original = store.Store.add
        calls = []

        def interrupted(self, units):
            original(self, units)
            calls.append(set(units))
            if len(calls) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(store.Store, "add", interrupted)
        code, _, err = command(monkeypatch, capsys, *whole)
        assert code == 130
        assert err.splitlines()[-1].startswith("interrupted: what was finished is kept; run the same")
        part = store.read_table(out / "results.csv")
        assert set(part["unit"]) == calls[0]

        # The same command again goes on: no unit twice, no row lost or doubled.
        code, printed, _ = command(monkeypatch, capsys, *whole)
        assert code == 0 and "two_hop_cot" in printed
        assert sum(len(units) for units in calls) == len(set.union(*calls)) == 2 * 2 * 2
        rows = store.read_table(out / "results.csv")
        keys = ["unit", "adapter", "method", "metric"]
        assert not rows.duplicated(keys).any()
        merged = rows.merge(part, on=keys, suffixes=("", "_before"))
        np.testing.assert_array_equal(merged["measured"], merged["measured_before"])

        # A third time computes nothing and prints the same table.
        before = (out / "results.csv").read_bytes()
        code, again, _ = command(monkeypatch, capsys, *whole)
        assert (code, again) == (0, printed) and len(calls) == 4
        assert (out / "results.csv").read_bytes() == before

        # Resumed results equal those of a run in one go with no cache.
        fresh = tmp_path / "fresh"
        code, _, _ = command(monkeypatch, capsys, *whole[:-1], fresh, "--no-cache")
        assert code == 0 and (fresh / "results.csv").read_bytes() == before

        # Another configuration is refused and nothing is overwritten.
        code, _, err = command(monkeypatch, capsys, *whole, "--seeds", 1)
        assert code == 2 and "another configuration" in err and "choose another --out" in err
        assert (out / "results.csv").read_bytes() == before
        self.check_rows(rows, store.read_table(out / "summary.csv"), out)

    def check_rows(self, rows, summary, out):
        assert tuple(rows.columns) == ("unit", *sweep.COLUMNS)
        # Section 12: adapters on the last MLP output are predicted exactly from single adapters.
        exact = rows[rows["predicted"].notna() & rows["metric"].isin(("hop1_recall", "hop2_recall"))]
        assert set(exact["method"]) == {"hop1", "hop2", "average", "sum", "concat"}
        np.testing.assert_allclose(exact["predicted"], exact["measured"], atol=1e-12)
        direct = rows[rows["metric"] == "two_hop_direct"]
        assert (direct["predicted"] == 1 / 6).all()
        # sum and concat are the same update
        wide = rows.pivot_table(index=["unit", "adapter", "metric"], columns="method", values="measured")
        both = wide[["sum", "concat"]].dropna()
        assert (both["sum"] - both["concat"]).abs().max() < 0.35 and len(both) > 100
        assert (summary["low"] <= summary["mean"]).all() and (summary["mean"] <= summary["high"]).all()
        assert set(summary["seeds"]) <= {1, 2}
        for name in ("sweep.pdf", "sweep.png", "manifest.json"):
            assert (out / name).stat().st_size > 500


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again(tmp_path):
    """The real command, killed with SIGKILL once rows are on disk, then finished."""
    out = tmp_path / "run"
    words = [sys.executable, "-m", "sim.sweep", "--rank", "2", "--world", "one_layer", "--out", str(out)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "results.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = store.read_table(out / "results.csv")
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    rows = store.read_table(out / "results.csv")
    assert len(before) and set(before["unit"]) <= set(rows["unit"])
    assert rows["unit"].nunique() == sweep.PROFILES["quick"].one_layer_seeds
    assert (rows.groupby("unit").size() == rows.groupby("unit").size().iloc[0]).all()
