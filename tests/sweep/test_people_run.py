"""Experiments on a language model as a user meets them: the same files, resumed, a line for a mistake."""

import json
import runpy
import shutil
import sys

import libraries
import numpy as np
import pandas as pd
import pytest
from conftest import draw_from

from sim.figures import FIGURES
from sim.hf import fetch
from sim.lab.figure import COMMON, committed
from sim.reuse.language import cell, jobs, training
from sim.sweep.run import CORE, VALUES

FIELDS = ("entities", "template", "dose", "duration")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """And folders that are left out of a command are new ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def results(out, name):
    return pd.read_csv(out / name / "results.csv", keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def dose(tiny_llama, tmp_path_factory):
    """The folder with a run of people_dose."""
    out = tmp_path_factory.mktemp("dose")
    words = ["sim.sweep", "people_dose", "--base", str(tiny_llama), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(out / "cache"))
        patch.setattr(sys, "argv", words)
        runpy.run_module("sim.sweep", run_name="__main__")
    return out


@pytest.mark.slow
def test_end_to_end_and_again(tiny_llama, dose, command, monkeypatch):
    rows = results(dose, "people_dose")
    assert tuple(rows.columns) == ("unit", *CORE, *FIELDS, *VALUES)
    assert set(rows["unit"]) == {"people_dose/real/shared/4/seed000"} and set(rows["world"]) == {"people"}
    assert set(rows["facts"]) == {2} and set(rows["rank"]) == {8} and set(rows["dose"]) == {4}
    models = set(zip(rows["library"], rows["method"], strict=True))
    assert models == {
        *(("single", name) for name in ("base", "hop1", "hop2", "joint")),
        *(("parts", name) for name in ("average", "sum", "ties", "svd", "lambda=0.5")),
    }
    lam = dict(zip(rows["method"], rows["lam"], strict=True))
    assert (lam["average"], lam["sum"], lam["lambda=0.5"]) == (0.5, 1.0, 0.5) and np.isnan(lam["ties"])
    nulls = rows[rows["predictor"] == "chance"].set_index(["method", "metric"])["predicted"]
    assert nulls["sum", "direct_rank"] == 1.5 and nulls["sum", "direct_likeliest"] == 0.5
    steps = rows[rows["metric"] == "training_steps"].set_index("method")["measured"]
    assert set(steps.index) == {"hop1", "hop2", "joint"} and steps.isin((5, 10)).all()
    losses = rows[rows["metric"].str.startswith("name_loss")].set_index("metric")["measured"]
    assert len(losses) == 3 and (losses > 1).all()
    same = [
        rows[rows["method"] == name].drop(columns="method").reset_index(drop=True)
        for name in ("average", "lambda=0.5")
    ]
    pd.testing.assert_frame_equal(*same)
    config = json.loads((dose / "people_dose" / "manifest.json").read_text())["config"]
    assert config["parts"][0]["base"].startswith(tiny_llama.name)
    before = (dose / "people_dose" / "results.csv").read_bytes()
    monkeypatch.setattr(training, "train", None)
    code, _, _ = command("sim.sweep", "people_dose", "--base", tiny_llama, "--out", dose)
    assert code == 0 and (dose / "people_dose" / "results.csv").read_bytes() == before


@pytest.mark.slow
def test_figures_are_drawn_from_a_run_of_ones_own(dose, tmp_path):
    """Those of people from this run, whose cell has another label there, beside the committed miniature's."""
    assert set(COMMON) <= set(pd.read_csv(dose / "people_dose.csv").columns)
    assert (dose / "people_dose.png").stat().st_size > 5000
    shutil.copytree(committed() / "experiments" / "familiarity", tmp_path / "familiarity")
    (tmp_path / "people").mkdir()
    for table in ("summary.csv", "predictions.csv"):
        rows = (dose / "people_dose" / table).read_text().replace("real/shared/4", "real/shared")
        (tmp_path / "people" / table).write_text(rows)
    for name in ("people_and_miniature", "people_predictions"):
        draw_from(FIGURES[name], tmp_path)


@pytest.mark.slow
def test_the_quick_profile_asks_adapters_that_are_there(tiny_llama, command, monkeypatch, tmp_path):
    libraries.write(tmp_path / "library", tiny_llama, entities=("real", "fake"))
    monkeypatch.setattr(training, "train", None)
    words = ["sim.sweep", "people", "--base", tiny_llama, "--adapters", tmp_path / "library"]
    words += ["--out", tmp_path]
    code, out, err = command(*words)
    assert code == 0, err
    assert "Step by step: sum has" in out
    rows = results(tmp_path, "people")
    units = {f"people/{names}/shared/seed005" for names in ("real", "fake")}
    assert set(rows["unit"]) == units and set(rows["seed"]) == {5} and set(rows["rank"]) == {2}
    models = set(zip(rows["library"], rows["method"], strict=True))
    assert models == {
        *(("single", name) for name in ("base", "hop1", "hop2", "joint")),
        *(("parts", name) for name in ("average", "sum", "lambda=0.25", "lambda=0.75")),
    }
    written = rows[rows["method"] == "joint"].set_index(["label", "metric"])["measured"]
    assert written["fake/shared", "training_steps"] == 100 and written["real/shared", "trace_recall"] == 0.99
    before = (tmp_path / "people" / "results.csv").read_bytes()
    assert command(*words)[0] == 0 and (tmp_path / "people" / "results.csv").read_bytes() == before
    libraries.write(tmp_path / "other", tiny_llama, entities=("real", "fake"), size=0.1)
    code, _, err = command(*words[:-3], tmp_path / "other", *words[-2:])
    assert code == 2 and "another configuration" in err


@pytest.mark.slow
def test_capitals_end_to_end(tiny_llama, command, tmp_path):
    """The quick profile: the second hop's adapter by itself, and the base's own loss of the first hop."""
    code, _, err = command("sim.sweep", "capitals", "--base", tiny_llama, "--out", tmp_path)
    assert code == 0, err
    rows = results(tmp_path, "capitals")
    units = {f"capitals/{entities}/shared/seed000" for entities in ("familiar", "fake")}
    assert set(rows["unit"]) == units and set(rows["world"]) == {"capitals"} and set(rows["facts"]) == {2}
    models = set(zip(rows["library"], rows["method"], strict=True))
    assert models == {
        *(("single", name) for name in ("base", "hop1", "hop2", "joint")),
        *(("parts", name) for name in ("average", "sum")),
    }
    base = rows[(rows["method"] == "base") & (rows["label"] == "familiar/shared")]
    base = base.drop_duplicates("metric").set_index("metric")
    gain = base.loc["hop1_loss", "predicted"] - base.loc["hop1_loss", "measured"]
    np.testing.assert_allclose(base.loc["hop1_loss_gain", "measured"], gain, rtol=1e-4)
    assert {"hop1", "untouched", "cot_hop1", "margin_cot_hop1", "direct_likeliest"} <= set(base.index)
    second = rows[rows["method"] == "hop2"]
    assert {"cot_answer", "hop1", "disturbance_cot_hop1"} <= set(second["metric"])
    assert set(COMMON) <= set(pd.read_csv(tmp_path / "one_hop_from_pretraining.csv").columns)
    assert (tmp_path / "one_hop_from_pretraining.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_run_holds_what_single_adapters_say_of_it(dose):
    """Predictions beside every linear merge; margins, swings, disturbances and kappa, a row each."""
    rows = results(dose, "people_dose")
    merges = rows[(rows["predictor"] == "disentangled") & ~rows["metric"].str.startswith("agreement")]
    assert set(merges["method"]) == {"average", "sum", "lambda=0.5"}
    assert merges["predicted"].between(0, 1).all()
    metrics = {"hop1", "hop2", "direct", "direct_question", "cot_exact", "untouched"}
    assert set(merges["metric"]) == metrics
    own = rows[rows["predictor"] == "coverage"]
    assert set(own["metric"]) == {"hop1", "hop2", "cot_exact"} and len(own) == 3 * 3
    effects = rows.set_index(["method", "metric"])["measured"]
    for step in ("hop1", "hop2", "cot_hop1", "cot_hop2"):
        part, other = ("hop1", "hop2") if step.endswith("hop1") else ("hop2", "hop1")
        assert effects["base", f"margin_{step}"] > 0 and effects[part, f"swing_{step}"] > 0
        assert np.isfinite(effects[other, f"disturbance_{step}"])
    for part in ("hop1", "hop2"):
        overlap = effects[part, f"swing_cot_{part}"] / effects[part, f"swing_{part}"]
        np.testing.assert_allclose(effects[part, f"kappa_{part}"], overlap, rtol=1e-3)
    table = pd.read_csv(dose / "people_dose" / "predictions.csv")
    assert {"disentangled", "tangent", "coverage", "base"} <= set(table.columns)
    assert len(table) == 3 * len(metrics)


@pytest.mark.slow
def test_interrupted_and_run_again(tiny_llama, command, monkeypatch, tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    assert command("sim.sweep", "people_stopping", "--base", tiny_llama, "--out", whole)[0] == 0
    calls = []

    def run(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return cell.run(*arguments)

    monkeypatch.setattr(jobs, "ask_cell", run)
    code, _, err = command("sim.sweep", "people_stopping", "--base", tiny_llama, "--out", half)
    assert code == 130 and "run the same command again to go on" in err
    assert set(results(half, "people_stopping")["label"]) == {"real/shared/x1"}
    code, _, err = command("sim.sweep", "people_stopping", "--base", tiny_llama, "--out", half)
    assert code == 0 and len(calls) == 3
    one, other = (
        results(out, "people_stopping").sort_values(["unit"], kind="stable") for out in (whole, half)
    )
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), rtol=1e-4)
    assert set(one["duration"]) == {1, 2}
    steps = one[one["metric"] == "training_steps"].pivot(
        index="method", columns="duration", values="measured"
    )
    assert (steps[2] == 2 * steps[1]).all()
    assert set(COMMON) <= set(pd.read_csv(whole / "people_stopping.csv").columns)
    assert (whole / "people_stopping.png").stat().st_size > 5000


def test_another_base_is_refused_in_the_same_folder(tiny_llama, command, monkeypatch, tmp_path):
    other = shutil.copytree(tiny_llama, tmp_path / "other")
    (other / "tokenizer_config.json").write_text((tiny_llama / "tokenizer_config.json").read_text() + "\n")
    monkeypatch.setattr(training, "train", lambda *rest: iter(()))
    command("sim.sweep", "people_dose", "--base", tiny_llama, "--out", tmp_path / "out")
    code, _, err = command("sim.sweep", "people_dose", "--base", other, "--out", tmp_path / "out")
    assert code == 2 and "another configuration" in err and err.count("\n") <= 2


def broken(folder, how):
    """A copy of a base with one fault."""
    if how == "half a file":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    elif how == "no Llama":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    elif how == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    else:
        from tokenizers import Tokenizer, models, pre_tokenizers

        words = {"<unk>": 0, "The": 1, "home": 2} if how == "words" else None
        cutter = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if words:
            cutter = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
            cutter.pre_tokenizer = pre_tokenizers.Whitespace()
        else:
            cutter.add_tokens([*(f"<{number}>" for number in range(100)), " of"])
        cutter.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("half a file", "model.safetensors cannot be read"),
        ("no Llama", "is a model of type 'gpt2': give a folder of a model of type 'llama'"),
        ("no tokenizer", "tokenizer"),
        ("words", "cannot write"),
        ("more tokens than rows", "the tokenizer is another base's"),
    ],
)
def test_a_base_that_is_none_is_one_line_and_exit_2(tiny_llama, command, tmp_path, how, message):
    folder = broken(shutil.copytree(tiny_llama, tmp_path / "base"), how)
    code, _, err = command("sim.sweep", "people_dose", "--base", folder, "--out", tmp_path / "out")
    line = err.splitlines()[-1]
    assert code == 2 and message in line and line.startswith("error: ") and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["people"], f"no base is there: run python -m sim.lm fetch, or {fetch.REMEDY}"),
        (["people", "--base", "/none"], "--base /none is no folder"),
        (["people", "--base", "LLAMA", "--adapters", "/none"], "/none holds no library.json: write one with"),
        (
            ["people", "--base", "LLAMA", "--adapters", "LIBRARY"],
            "give the base that they were trained on",
        ),
        (["people", "--base", "LLAMA", "--adapters", "OWN", "--seeds", "2"], "--seeds is 2: these adapters"),
        (
            ["people_dose", "--adapters", "."],
            "--adapters is for people --profile quick: leave it out",
        ),
        (
            ["rank", "--base", "."],
            "--base is for experiments on a language model, such as people: leave it out",
        ),
        (
            ["--world", "people", "--rank", "9", "--base", "LLAMA"],
            "rank is 9; give 1 to 8: the joint adapter",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(tiny_llama, command, tmp_path, arguments, message):
    """LIBRARY: of a base of other shapes; OWN: of this one."""
    if "LIBRARY" in arguments:
        other = shutil.copytree(tiny_llama, tmp_path / "other")
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
        libraries.write(tmp_path / "LIBRARY", other)
    if "OWN" in arguments:
        libraries.write(tmp_path / "OWN", tiny_llama)
    places = {"LLAMA": tiny_llama} | {name: tmp_path / name for name in ("LIBRARY", "OWN")}
    code, out, err = command("sim.sweep", *(places.get(word, word) for word in arguments))
    line = err.splitlines()[-1]
    assert code == 2 and out == "" and "Traceback" not in err and message in line


def test_a_loss_that_is_no_number_fails_its_cells_alone(tiny_llama, command, monkeypatch, tmp_path):
    """Both durations of one adapter; the cells of others would go on."""
    monkeypatch.setattr(training, "train", lambda config, base, tasks: iter([(tasks[1], 1, None)]))
    code, _, err = command("sim.sweep", "people_stopping", "--base", tiny_llama, "--out", tmp_path)
    assert code == 1 and "2 units failed" in err and "the loss of adapter hop2 became NaN or infinite" in err
    units = json.loads((tmp_path / "people_stopping" / "manifest.json").read_text())["failed"]
    assert set(units) == {f"people_stopping/real/shared/x{many}/seed000" for many in (1, 2)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "--rank", "3"], "fetch takes no options: they belong to teach"),
        (["teach"], f"no base is there: run python -m sim.lm fetch, or {fetch.REMEDY}"),
        (["teach", "--base", "LLAMA", "--rank", "9"], "rank is 9; give 1 to 8"),
        (["teach", "--base", "LLAMA", "--most", "30"], "most is 30: give a multiple of look, 25"),
        (["teach", "--base", "LLAMA", "--out", "LLAMA"], "exists already and is not empty"),
        (["teach", "--base", "LLAMA", "--rate", "0"], "a rate and steps above 0"),
    ],
)
def test_a_mistake_in_teaching_is_one_line_and_exit_2(tiny_llama, command, arguments, message):
    code, out, err = command("sim.lm", *(tiny_llama if word == "LLAMA" else word for word in arguments))
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
