"""The benchmark command on a small case: its columns mean what they say, its errors are one line."""

import importlib.util
import json
import sys

import numpy as np
import pandas as pd
import pytest

from sim.bench import BENCHMARKS, diagnose, language, merge, scale, sweep, ties, train
from sim.bench.clock import random_adapters
from theory.lowrank import LowRank


@pytest.mark.slow
def test_a_small_run_is_exact_and_written(tmp_path, monkeypatch, command):
    monkeypatch.setattr(merge, "SIZES", {32: 3})
    find = importlib.util.find_spec  # ours alone: PEFT is not found
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest)
    )
    code, _, _ = command("sim.bench", "merge", "--out", tmp_path)
    assert code == 0
    table = pd.read_csv(tmp_path / "merge.csv")
    assert list(table.method) == ["sum", "svd", "linear_factors"] and set(table.modules) == {3}
    assert (table.seconds > 0).all() and (table.first >= 0).all() and (table.floor_seconds > 0).all()
    assert (table.error[table.method != "linear_factors"] < 1e-6).all()
    report = json.loads((tmp_path / "merge.json").read_text())
    assert report["machine"]["jax"] and len(report["rows"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merge.csv", "merge.json"]


def test_the_floor_counts_every_factor_once():
    moved, _ = merge.floor("sum", 100, 2)
    assert moved == 2 * 4 * (2 * 2 * 100 * 16 + 2 * 100 * 32)  # two adapters in, rank 32 out, both factors
    assert merge.floor("svd", 100, 2)[0] < moved


def test_error_is_zero_for_the_exact_answer_and_one_for_nothing():
    adapters = random_adapters(20, 20, merge.RANK)
    exact = sum(
        2.0 * u.b.astype(float) @ u.a.astype(float) for u in (a.modules["layers.0"] for a in adapters)
    )
    assert merge.error(adapters, "sum", exact) == 0
    assert merge.error(adapters, "sum", np.zeros((20, 20))) == 1


def test_ties_against_plain_numpy(monkeypatch, tmp_path, command):
    for name, size in (("OUT", 60), ("IN", 90), ("RANK", 4)):
        monkeypatch.setattr(ties, name, size)
    code, _, err = command("sim.bench", "ties", "--out", tmp_path)
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "ties.csv").set_index(["step", "tool"])
    assert list(rows.index) == [(step, tool) for step, peer in PEERS for tool in ("ours", peer)]
    assert (rows["seconds"] > 0).all() and (rows["first"].dropna() > 0).all()
    assert abs(rows["error"]["merge", "ours"]) < 1e-6 and abs(rows["error"]["truncate", "ours"]) < 1e-5
    # Two products of 60 x 90 at inner length 4, or one of rank 8 with the matrix on either side.
    assert list(rows["floor_operations"]) == [2 * 2 * 5400 * 4] * 2 + [2 * 2 * 5400 * 8] * 2


PEERS = (("merge", "numpy"), ("truncate", "scipy svds"))


def test_plain_ties_by_hand():
    """Ten entries, two kept: the two agree on one sign of four places, and the mean is of those that do."""
    first = [[9.0, -8.0, 1.0, 1.0, 0, 0, 0, 0, 0, 0]]
    second = [[5.0, 1.0, -7.0, 1.0, 0, 0, 0, 0, 0, 0]]
    updates = [LowRank(np.ones((1, 1), np.float32), np.array(a, np.float32), 1.0) for a in (first, second)]
    np.testing.assert_array_equal(ties.dense_ties(updates), [[7.0, -8.0, -7.0, 0, 0, 0, 0, 0, 0, 0]])


@pytest.mark.slow
def test_diagnosis_is_timed_for_every_shape(monkeypatch, tmp_path, command):
    monkeypatch.setattr(diagnose, "SHAPES", {(40, 70): 3, (70, 40): 2})
    code, _, err = command("sim.bench", "diagnose", "--out", tmp_path)
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "diagnose.csv").set_index(["tool", "out"])
    assert list(rows.index) == [(tool, out) for out in (40, 70) for tool in ("ours", "whole factors")]
    assert (rows["seconds"] > 0).all() and (rows["first"] > 0).all()
    assert (rows.loc["ours"]["error"] < 1e-12).all()
    assert rows["a_module"]["ours", 40] == pytest.approx(rows["seconds"]["ours", 40] / 3)
    assert rows["floor_operations"]["ours", 40] == 3 * 2 * (40 + 70) * 32**2


def test_list_and_unknown_name(tmp_path, command):
    code, out, _ = command("sim.bench")
    assert code == 0 and all(name in out for name in BENCHMARKS)
    code, _, err = command("sim.bench", "merg", "--out", tmp_path / "out")
    assert code == 2 and "unknown benchmark 'merg'; did you mean merge?" in err
    assert not (tmp_path / "out").exists()


def test_peft_agrees_where_it_is_installed():
    pytest.importorskip("peft", reason="needs the extra bench (torch, peft): pip install -e '.[bench]'")
    adapters = random_adapters(40, 40, merge.RANK, 2)
    for method in ("sum", "svd"):
        elapsed, delta = merge.peft_seconds(adapters, method, 1)
        assert elapsed > 0 and merge.error(adapters, method, delta) < 1e-5


@pytest.mark.slow
def test_training_starts_from_one_loss_whoever_trains(monkeypatch, tmp_path, command):
    monkeypatch.setattr(train, "WIDTHS", (8,))
    monkeypatch.setattr(train, "sizes", lambda: (2, 25))
    code, _, err = command("sim.bench", "train", "--out", tmp_path)
    assert code == 0, err
    rows = pd.read_csv(tmp_path / "train.csv")
    assert rows["tool"][0] == "ours" and rows["ratio_to_ours"][0] == 1
    assert (rows["microseconds"] > 0).all()
    np.testing.assert_allclose(rows["loss"], rows["loss"][0], rtol=1e-5)
    assert len(rows) == (3 if importlib.util.find_spec("peft") and importlib.util.find_spec("torch") else 1)


def test_the_floor_of_a_step_by_hand():
    """Width 1, one layer: keys and values everywhere, the rest and the readout at the completion."""
    moved, operations = train.floor(1, layers=1)
    every, last, factors = 64 * 13, 64 * 9, 4 * (4 * 2 + 2 * 5)
    assert moved == 4 * 8 * factors
    assert operations == 4 * (every * 2 + last * (2 + 8 + train.VOCAB)) + 6 * every * factors


def test_scaling_counts_configurations_and_devices(monkeypatch):
    calls = []

    def timed(count):
        calls.append(("all", count))
        return {"microseconds": 100.0 / count, "first": 0.0}

    monkeypatch.setattr(scale, "timed", timed)
    monkeypatch.setattr(scale, "counts", lambda: (1, 10))
    monkeypatch.setattr(
        scale, "on_devices", lambda devices, name, count: timed(count) | {"microseconds": 15.0}
    )
    rows = scale.scale()
    assert calls == [("all", 1), ("all", 10), ("all", 10)]
    assert rows["devices"].tolist() == [2, 2, 1] and rows["ratio_to_ours"].tolist() == [10.0, 1.0, 1.5]


def test_strong_scaling_is_against_one_device(monkeypatch):
    def on_devices(devices, function, *arguments):
        return {"seconds": {1: 8.0, 2: 5.0}[devices]}

    monkeypatch.setattr(scale, "on_devices", on_devices)
    monkeypatch.setattr(scale, "device_counts", lambda: [1, 2])
    rows = scale.strong()
    assert rows["devices"].tolist() == [1, 2] * len(scale.cases())
    assert rows["speedup"].tolist()[:2] == [1.0, 1.6] and rows["efficiency"].tolist()[:2] == [1.0, 0.8]


def test_a_job_that_fails_is_not_timed(tmp_path):
    with pytest.raises(RuntimeError, match="ended with 3: gone"):
        sweep.spent(
            [sys.executable, "-c", "import sys; print('gone', file=sys.stderr); sys.exit(3)"], tmp_path
        )
    costs = sweep.spent([sys.executable, "-c", "sum(range(10**7)); b'x' * 10**9"], tmp_path)
    assert costs["peak_mb"] > 1000  # until the command begins it is what started it, which may be more
    assert 0.02 < costs["processor_seconds"] < 2 * costs["seconds"] + 0.1


def test_a_step_of_the_language_model_counts_every_product_once():
    model = language.TINY
    weights = model.layers * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    factors = model.layers * 8 * (4 * 64 + 2 * (64 + 32) + 3 * (64 + 128))
    tokens, answers = 32 * 48, 32 * 24
    assert language.floor(model) == 4 * weights * tokens + 6 * factors * tokens + 4 * 512 * 64 * answers


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT asks transformers
def test_a_step_of_the_language_model_is_the_peers_step():
    """Fresh adapters of the same sizes lose as much on the same random tokens: log of the vocabulary."""
    _, _, loss = language.ours(language.TINY, 2, steps=1, repeats=1)
    assert loss == pytest.approx(np.log(512), rel=0.02)
    if importlib.util.find_spec("peft"):
        assert language.peft_step(language.TINY)[2] == pytest.approx(np.log(512), rel=0.02)
