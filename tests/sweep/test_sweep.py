"""The runner as a user meets it: one line for every mistake, nothing lost, predictions that hold."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import tiny, units_on_disk

from sim.experiments import EXPERIMENTS
from sim.lab import parallel, store
from sim.lab.store.database import Database
from sim.sweep import main_job
from sim.sweep.run import CORE, VALUES
from sim.worlds import two_hop


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rank", 0], "rank is 0; give a whole number of at least 1"),
        (["--rank", 65], "rank 65"),
        (["--method", "alchemy"], "unknown merge method 'alchemy'; did you mean ace?"),
        (["--method", "regmean"], "'regmean' needs data"),
        (["--world", "nowhere"], "unknown world 'nowhere'; known: one_layer, "),
        (["--seeds", 0], "--seeds is 0; give at least 1"),
        (["--out", "/proc/none/here"], "/proc/none"),
        (["nonsense"], "unknown experiment 'nonsense'; known: "),
        (["rank", "--seeds", "0"], "--seeds is 0; give at least 1"),
        (["rank", "--rank", "8"], "--rank, --method and --world belong to the main job"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(command, arguments, message):
    code, out, err = command("sim.sweep", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1 and err.startswith("error: ")


def test_words_that_cannot_be_parsed_exit_2(command):
    code, _, err = command("sim.sweep", "--rank", "four")
    assert code == 2
    assert "rank" in err and "Traceback" not in err


def test_labels_are_what_tells_settings_apart():
    from sim.worlds.two_hop import Setting

    labels = main_job.labels([Setting("real", "none"), Setting("fake", "none")])
    assert list(labels) == ["real", "fake"] and labels["fake"].entities == "fake"
    assert list(main_job.labels([Setting("real", "none")])) == ["only"]


def test_batches_have_room_for_what_the_data_hold_and_no_more():
    few = [two_hop.Setting("real", template, bridges=4) for template in ("both", "none")]
    of = tiny(two_hop.Config(), finetuning=two_hop.FINETUNING)
    assert main_job.fitting(of, few).batch == (("facts", 32), ("traces", 4))  # the joint adapter has 32 facts
    assert main_job.fitting(of, few[1:]).batch == (("facts", 32), ("traces", 1))
    assert main_job.fitting(of, [two_hop.Setting("real", "both")]) == two_hop.FINETUNING


def test_the_paper_profile_trains_by_the_schedules_of_its_world():
    quick, paper = (next(main_job.parts([4], name, ("sum",), ("two_hop",))) for name in ("quick", "paper"))
    assert paper.config.finetuning == two_hop.FINETUNING
    assert paper.config.pretraining == two_hop.PRETRAINING
    assert quick.config.pretraining == dataclasses.replace(two_hop.PRETRAINING, tile=192)
    assert len({setting.pretraining for _, setting, _ in quick.cells}) == 2


@pytest.mark.slow
def test_end_to_end_resume_and_refusal(tiny_main_job, command, monkeypatch, tmp_path):
    """One tiny main job, looked at from all sides."""
    out = tmp_path / "run"
    whole = ["sim.sweep", "--rank", 2, "--world", "two_hop", "--out", out]

    # Interrupted after the first chunk of cells: what was finished is on disk.
    original = store.Store.add
    calls = []

    def interrupted(self, units):
        original(self, units)
        calls.append(set(units))
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.Store, "add", interrupted)
    code, _, err = command(*whole)
    assert code == 130
    assert err.splitlines()[-1].startswith("interrupted: what was finished is kept; run the same")
    part = store.read_table(out / "results.csv")
    assert set(part["unit"]) == calls[0]

    # The same command again goes on: no unit twice, no unit skipped, no row lost or doubled.
    code, printed, _ = command(*whole)
    assert code == 0 and "cot_answer" in printed
    units = {
        f"main/two_hop/rank2/{e}/{t}/seed{s:03d}"
        for e in ("real", "fake") for t in ("pretraining", "none") for s in range(2)
    }  # fmt: skip
    assert sum(len(units) for units in calls) == len(set.union(*calls)) == 2 * 2 * 2
    rows = store.read_table(out / "results.csv")
    assert set(rows["unit"]) == units
    keys = ["unit", "adapter", "library", "method", "metric", "predictor"]
    assert not rows.duplicated(keys).any()
    merged = rows.merge(part, on=keys, suffixes=("", "_before"))
    assert len(merged) == len(part)
    np.testing.assert_array_equal(merged["measured"], merged["measured_before"])

    # A third time computes nothing and prints the same table.
    before = (out / "results.csv").read_bytes()
    code, again, _ = command(*whole)
    assert (code, again) == (0, printed) and len(calls) == 4
    assert (out / "results.csv").read_bytes() == before

    # Resumed results equal those of a run in one go with no cache.
    fresh = tmp_path / "fresh"
    code, _, _ = command(*whole[:-1], fresh, "--no-cache")
    assert code == 0 and (fresh / "results.csv").read_bytes() == before

    # Another configuration is refused and nothing is overwritten.
    code, _, err = command(*whole, "--seeds", 1)
    assert code == 2 and "another configuration (seeds: default there, 1 here)" in err
    assert "choose another --out" in err
    assert (out / "results.csv").read_bytes() == before
    check_rows(rows, store.read_table(out / "summary.csv"), out)


def check_rows(rows, summary, out):
    settings = tuple(field.name for field in dataclasses.fields(two_hop.Setting))
    assert tuple(rows.columns) == ("unit", *CORE, *settings, *VALUES)
    # Section 12: adapters on the last MLP output are predicted exactly from single adapters.
    exact = rows[(rows["predictor"] == "tangent") & rows["adapter"].isin(("lora_last", "closed_form"))]
    exact = exact[exact["metric"].isin(("hop1", "hop2"))]
    assert set(exact["method"]) == {"hop1", "hop2", "average", "sum", "concat"}
    np.testing.assert_allclose(exact["predicted"], exact["measured"], atol=1e-12)
    # The disentangled prediction stands beside the merged transformers.
    forecasts = rows[(rows["predictor"] == "disentangled") & (rows["metric"] == "hop1")]
    assert set(forecasts["method"]) == {"average", "sum", "concat"} and set(forecasts["adapter"]) == {"lora"}
    given = rows[(rows["metric"] == "direct_given_among_answers") & (rows["predictor"] == "chance")]
    assert (given["predicted"] == 1 / 6).all() and len(given) > 10
    # sum and concat are the same update: the same answers, to the last one
    wide = rows[rows["library"] == "parts"].pivot_table(
        index=["unit", "adapter", "metric", "predictor"], columns="method", values="measured"
    )
    both = wide[["sum", "concat"]].dropna()
    np.testing.assert_array_equal(both["sum"], both["concat"])
    assert len(both) > 100
    assert (summary["low"] <= summary["measured"]).all() and (summary["measured"] <= summary["high"]).all()
    assert set(summary["seeds"]) <= {1, 2}
    for name in ("sweep.pdf", "sweep.png", "manifest.json", "report.html"):
        assert (out / name).stat().st_size > 500


def diverging(monkeypatch, spoil):
    """Let losses be NaN: ``spoil(index, job, result)`` writes it into the result of a job."""
    original = parallel.map_runs

    def spoilt(stages, inputs):
        for positions, results in original(stages, inputs):
            results = jax.tree.map(np.array, results)
            for position, result in zip(positions, results, strict=True):
                spoil(position, inputs[position], result)
            yield positions, results

    monkeypatch.setattr(parallel, "map_runs", spoilt)


@pytest.mark.slow
def test_a_run_with_divergence_finishes_the_rest(tiny_main_job, command, monkeypatch, tmp_path):
    """One base and one adapter diverge: their units are reported and left out, and done when run again."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    words = ["sim.sweep", "--rank", 2, "--world", "two_hop", "--no-cache", "--out"]
    assert command(*words, whole)[0] == 0
    expected = store.read_table(whole / "results.csv")
    with monkeypatch.context() as bad:

        def spoil(position, job, result):
            if "base" not in job and position == 0:  # seed 0, with the template in pretraining: two cells
                result[1][3] = np.nan
            if "base" in job and position == 5:  # of six cells left, the last
                result["training"]["lora"]["hop2"].losses[2] = np.inf

        diverging(bad, spoil)
        code, printed, err = command(*words, out)
    lost = [f"main/two_hop/rank2/{e}/pretraining/seed000" for e in ("fake", "real")]
    lost.append("main/two_hop/rank2/fake/none/seed001")
    content = json.loads((out / "manifest.json").read_text())
    assert sorted(content["failed"]) == sorted(lost) and content["finished"] is False
    assert content["failed"][lost[0]].startswith("base of Setting(")
    assert content["failed"][lost[2]].startswith(
        f"lora adapter hop2 of {lost[2]}: the loss is not finite at step 2"
    )
    rows = store.read_table(out / "results.csv")
    pd.testing.assert_frame_equal(
        rows, expected[~expected["unit"].isin(lost)].reset_index(drop=True), check_exact=True
    )
    line = err.splitlines()[-1]
    assert code == 1 and line.startswith(f"error: 3 units failed, listed in {out}/manifest.json, the first ")
    assert "the loss is not finite at step" in line and "lower the learning rate" in line
    assert line.endswith("the others are finished, and the same command tries these again")
    assert "cot_answer" in printed  # the others are in the table

    assert command(*words, out)[0] == 0
    for name in ("results.csv", "summary.csv", "predictions.csv", "guesses.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    content = json.loads((out / "manifest.json").read_text())
    assert content["failed"] == {} and content["finished"] is True


def test_nothing_but_failures_is_one_line(command, monkeypatch, tmp_path):
    """No table, no figure: there is nothing to show. The same of an experiment."""

    @dataclasses.dataclass(frozen=True)
    class Part:
        config: str = "toy"
        setting: type = two_hop.Setting

        def precompile(self, *arguments):
            pass

        def stages(self, context, experiment, count, done):
            yield "toy", 1, iter([({f"{experiment}/toy": store.Failure("NaN; lower the rate")}, 1)])

    monkeypatch.setattr(main_job, "parts", lambda *options: [Part()])
    monkeypatch.setattr(main_job, "seeds", lambda *options: 1)
    monkeypatch.setattr(type(EXPERIMENTS["rank"]), "parts", lambda self, profile: [Part()])
    monkeypatch.setattr(parallel, "use_all_cores", lambda: None)
    for words, folder, name in (((), "", "main"), (("rank", "damage"), "rank", "rank")):
        code, out, err = command("sim.sweep", *words, "--out", tmp_path / "run")
        manifest = tmp_path / "run" / folder / "manifest.json"
        assert code == 1 and "drew" not in out and "table" not in out
        assert f"failed, listed in {manifest}" in err.splitlines()[-1]
        assert f"the first {name}/toy: NaN; lower the rate; the others are finished" in err.splitlines()[-1]
        assert store.read_table(manifest.parent / "results.csv").empty
        assert not list(tmp_path.rglob("*.png"))
    assert "error: 2 units failed, " in err and "damage/manifest.json" in err


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again(tmp_path):
    """The real command, killed with SIGKILL once rows are on disk, then finished."""
    out = tmp_path / "run"
    words = [sys.executable, "-m", "sim.sweep", "--rank", "2", "--world", "one_layer", "--out", str(out)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not units_on_disk(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    def units():
        database = Database(out / "results.sqlite")
        rows = database.rows()
        database.close()
        return {unit: [repr(row) for row in rows if row[0] == unit] for unit in {row[0] for row in rows}}

    before = units()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = units()
    assert before and {unit: after[unit] for unit in before} == before
    assert len(after) == main_job.SEEDS["quick"]["one_layer"]
    assert len({len(rows) for rows in after.values()}) == 1
    rows = store.read_table(out / "results.csv")
    assert rows["unit"].tolist() == [unit for unit in sorted(after) for _ in after[unit]]


def test_the_next_experiment_is_precompiled_unless_it_was_begun(command, monkeypatch, tmp_path):
    events = []

    @dataclasses.dataclass(frozen=True)
    class Part:
        config: str
        setting: type = two_hop.Setting

        def stages(self, context, experiment, count, done):
            events.append(f"run {self.config}")
            yield "toy", 1, iter([({f"{experiment}/toy": store.Failure("NaN; lower the rate")}, 1)])

        def precompile(self, context, experiment, count, done):
            events.append(f"precompile {self.config} as {experiment}, {count} seeds, {sorted(done)}")

    monkeypatch.setattr(type(EXPERIMENTS["rank"]), "parts", lambda self, profile: [Part(self.name)])
    monkeypatch.setattr(parallel, "use_all_cores", lambda: None)
    (tmp_path / "run" / "damage").mkdir(parents=True)
    command("sim.sweep", "rank", "damage", "names", "--seeds", "3", "--out", tmp_path / "run")
    first, *others, again = [
        f"precompile {name} as {name}, 3 seeds, []" for name in ("rank", "damage", "names", "names")
    ]
    assert events == [first, "run rank", others[0], others[1], "run damage", again, "run names"]
