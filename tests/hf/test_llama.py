"""Prediction and recording on real Hugging Face models with adapters of the real PEFT (extra ``hf``)."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import noisy_adapter, tiny
from safetensors.numpy import load_file

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import llama  # noqa: E402
import torch  # noqa: E402

from sim.forecast import candidates as merges  # noqa: E402
from sim.forecast import design  # noqa: E402
from sim.forecast.accuracy import accuracies, forecast, shares  # noqa: E402
from sim.hf import _model, _run  # noqa: E402
from sim.hf.prompts import read_prompts  # noqa: E402
from sim.hf.tokens import batch, question  # noqa: E402
from sim.merge import read_adapter  # noqa: E402
from sim.model import lora  # noqa: E402
from sim.model.transformer import completion_logits, init  # noqa: E402
from sim.predict import predict_merges  # noqa: E402
from sim.reuse.ask import ask  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]

LAMS = (0.3, 0.9)
PARTS = ("hop1", "hop2")
PROMPT_GROUPS = ("hop1", "cot", "untouched")


@pytest.fixture(scope="module")
def scene(tmp_path_factory, tiny_world):
    """(folder, config, base, adapters): a decoder of ours with noisy adapters, written as a Llama."""
    folder = tmp_path_factory.mktemp("converted")
    config = tiny(methods=(), lambdas=LAMS)
    params = init(config.decoder, jax.random.key(5))
    parts = [noisy_adapter(config.decoder, jax.random.key(6 + i), size=0.5) for i in range(2)]
    llama.converted(folder, config.decoder, params, dict(zip(PARTS, parts, strict=True)))
    llama.write_prompts(folder / "prompts.jsonl", {name: tiny_world.probes[name] for name in PROMPT_GROUPS})
    return folder, config, params, parts


def predicted(folder, out, **how):
    return predict_merges(
        *(folder / part for part in PARTS),
        base=folder / "base",
        prompts=folder / "prompts.jsonl",
        out=out,
        **how,
    )


def test_a_converted_decoder_has_the_same_logits_with_adapters_at_any_strength(scene, tiny_world):
    folder, config, params, parts = scene
    loaded = _model.load(folder / "base", [read_adapter(folder / part) for part in PARTS], None, "cpu")
    prompts = [prompt for prompt in read_prompts(folder / "prompts.jsonl") if prompt.group == "cot"]
    together = batch([question(loaded.tokenizer, prompt) for prompt in prompts])
    probe = tiny_world.probes["cot"]
    for strengths in ((0.0, 0.0), (0.7, 0.0), (0.0, 1.3), (0.9, -0.4)):
        ours = completion_logits(
            config.decoder, lora.fold(params, lora.linear(parts, strengths)), probe.tokens, probe.prompt
        )
        theirs = _run.answer_logits(loaded, together, strengths).numpy()
        np.testing.assert_allclose(theirs, np.asarray(ours).reshape(theirs.shape), rtol=1e-4, atol=1e-4)


def test_outcomes_are_those_of_our_own_merge(scene, tiny_world, tmp_path):
    folder, config, params, parts = scene
    prediction = predicted(folder, tmp_path / "out", lams=LAMS, batch_size=3)
    results = prediction.results
    assert len(results.places) == len(results.candidates) == 9 and results.model is None
    probes = {name: tiny_world.probes[name] for name in PROMPT_GROUPS}
    outcomes_of = jax.jit(
        lambda lams: ask(config.decoder, lora.fold(params, lora.linear(parts, lams)), probes)
    )
    for lams in itertools.product((0.0, *LAMS), repeat=2):
        merged = outcomes_of(lams)
        for name in PROMPT_GROUPS:
            right = results.outcomes.lead[results.run_of(lams), results.of == name] > 0
            expected = np.asarray(merged["cot_exact" if name == "cot" else name])
            np.testing.assert_array_equal(right, expected)
    assert (results.outcomes.lead > 0).mean() not in (0.0, 1.0)


def test_log_likelihoods_are_sums_over_the_answers_tokens_and_leads_the_least(scene, tiny_world, tmp_path):
    folder, config, params, parts = scene
    results = predicted(folder, tmp_path / "out", lams=LAMS, batch_size=64).results
    probe = tiny_world.probes["cot"]
    run, some = results.run_of((0.9, 0.3)), results.of == "cot"
    logits = completion_logits(
        config.decoder, lora.fold(params, lora.linear(parts, (0.9, 0.3))), probe.tokens, probe.prompt
    )
    each = jnp.take_along_axis(jax.nn.log_softmax(logits), probe.target[..., None], -1)[..., 0]
    np.testing.assert_allclose(results.loglik[run, some], each.sum(1), rtol=1e-4)
    right = jnp.take_along_axis(logits, probe.target[..., None], -1)[..., 0]
    others = jnp.put_along_axis(logits, probe.target[..., None], -jnp.inf, -1, inplace=False).max(-1)
    lead = (right - others).min(1)
    np.testing.assert_allclose(results.outcomes.lead[run, some], lead, rtol=1e-3, atol=1e-3)
    least = results.outcomes.gap[run].min(-1)  # the nearest rival is one of those chosen, mostly
    row = results.outcomes.row
    nearest = np.array([least[row == prompt].min() for prompt in np.flatnonzero(some)])
    assert (nearest >= lead - 1e-3).all() and (np.abs(nearest - lead) < 1e-3).mean() > 0.5


def test_features_are_what_enters_each_module_where_an_answer_is_decided(
    scene, tiny_world, tmp_path, command
):
    folder, config, params, _ = scene
    out = tmp_path / "features.safetensors"
    sources = [folder / part for part in PARTS]
    arguments = ["--base", folder / "base", "--prompts", folder / "prompts.jsonl", "--out", out]
    code, printed, err = command(
        "sim.record", *sources, *arguments, "--own", "hop1", "cot", "--batch-size", 5
    )
    assert code == 0, err
    tensors = load_file(out)
    inputs = {}

    def project(name, weight, x):
        inputs[name] = x
        return x @ weight.T

    for group, key in (("hop1", "@0"), ("cot", "@1")):
        probe = tiny_world.probes[group]
        completion_logits(config.decoder, params, probe.tokens, probe.prompt, project)
        for kind, name in (("q", "self_attn.q_proj"), ("down", "mlp.down_proj")):
            x = np.asarray(inputs[f"0.{kind}"]).reshape(-1, inputs[f"0.{kind}"].shape[-1])
            recorded = tensors[f"model.layers.0.{name}{key}"]
            order = [np.lexsort(np.round(rows, 3).T) for rows in (x, recorded)]  # batches are by length
            np.testing.assert_allclose(recorded[order[1]], x[order[0]], atol=1e-4)
    assert f"{len(tensors)} tensors of up to" in printed
    code, printed, err = command("sim.diagnose", *sources, "--features", out, "--out", tmp_path / "diagnosis")
    assert code == 0 and "the kappa of your features lets the average decide" in printed, err


def test_few_tokens_are_kept_where_few_are_asked_for(scene, tmp_path, command):
    folder, *_ = scene
    out = tmp_path / "f.safetensors"
    arguments = ["--base", folder / "base", "--prompts", folder / "prompts.jsonl", "--out", out, "--most", 3]
    assert command("sim.record", folder / "hop1", *arguments)[0] == 0
    assert {len(tensor) for tensor in load_file(out).values()} == {3}


class TestErrors:
    def test_an_adapter_of_another_base(self, scene, tmp_path, command):
        folder, config, *_ = scene
        rest = ["--prompts", folder / "prompts.jsonl", "--out", tmp_path / "out"]
        narrow, short = (shutil.copytree(folder / "base", tmp_path / name) for name in ("narrow", "short"))
        small = type(config.decoder)(config.decoder.vocab, 1, 8, 2, 16)
        llama.llama(small, hidden_act="relu").save_pretrained(narrow)
        renamed = shutil.copytree(folder / "hop1", tmp_path / "renamed")
        text = (renamed / "adapter_model.safetensors").read_bytes()
        (renamed / "adapter_model.safetensors").write_bytes(text.replace(b"layers.0", b"layers.7"))
        for base, first, message in (
            (narrow, folder / "hop1", "it is (8, 16): it is for another base"),
            (folder / "base", renamed, "lacks: it is for another base"),
            (tmp_path, folder / "hop1", "holds no config.json"),
        ):
            code, _, err = command("sim.predict", first, folder / "hop2", "--base", base, *rest)
            assert code == 2 and message in err and err.count("\n") == 1, err
        (short / "model.safetensors").write_bytes(b"junk")
        code, _, err = command("sim.predict", folder / "hop1", folder / "hop2", "--base", short, *rest)
        assert code == 2 and "cannot be loaded as a causal language model" in err and err.count("\n") == 1, (
            err
        )

    def test_what_is_kept_belongs_to_one_configuration(self, scene, tmp_path, command):
        folder, *_ = scene
        arguments = [*(folder / part for part in PARTS), "--base", folder / "base", "--out", tmp_path / "out"]
        arguments += ["--prompts", folder / "prompts.jsonl", "--lams", "0.5", "--batch-size", 64]
        assert command("sim.predict", *arguments)[0] == 0
        files = {"predictions.csv", "prompts.csv", "manifest.json", "prediction.pdf", "prediction.png"}
        files |= {"report.html"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == files | {"answers.sqlite"}
        table = (tmp_path / "out" / "predictions.csv").read_bytes()
        assert command("sim.predict", *arguments)[0] == 0
        assert (tmp_path / "out" / "predictions.csv").read_bytes() == table
        code, _, err = command("sim.predict", *arguments, "--dtype", "bfloat16")
        assert code == 2 and "another configuration (dtype: default there, bfloat16 here)" in err

    def test_bfloat16_is_near_float32(self, scene, tmp_path):
        folder, *_ = scene
        wide, narrow = (
            predicted(folder, tmp_path / str(dtype), lams=(0.5,), dtype=dtype, batch_size=64)
            for dtype in (None, "bfloat16")
        )
        lead, coarse = (prediction.results.outcomes.lead for prediction in (wide, narrow))
        assert 0 < np.abs(coarse - lead).max() < 0.1 * np.abs(lead).max()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """All merges of "own", a decoder of ours, and of "torch", trained by torch and PEFT."""
    folder, out = llama.cached(), tmp_path_factory.mktemp("both")
    (out / "prompts.jsonl").write_text((folder / "prompts.jsonl").read_text())
    predictions = {}
    for name in ("own", "torch"):
        shutil.copytree(folder / name, out / name)
        shutil.copy(folder / "prompts.jsonl", out / name)
        predictions[name] = predicted(out / name, out / name / "out", batch_size=64)
    return out, predictions


def accuracy_of(prediction, group, *lams):
    results = prediction.results
    return (results.outcomes.lead[results.run_of(lams), results.of == group] > 0).mean()


def test_adapters_know_their_edits_and_the_base_does_not(both):
    for prediction in both[1].values():
        for i, group in enumerate(PARTS):
            assert accuracy_of(prediction, group, 0.0, 0.0) == 0
            assert accuracy_of(prediction, group, *np.eye(2)[i]) > 0.9


def test_the_merges_of_real_adapters_are_foretold(both):
    """From the base and 11 merges the other 13: every group within .05 on average, also where accuracy is
    neither near 0 nor near 1; sums of single effects err more."""
    for prediction in both[1].values():
        results = prediction.results
        places = design.spread(results.candidates, merges.first(results.candidates), design.size(2) + 1)
        order = [results.places.index(place) for place in places]
        rest = np.setdiff1d(np.arange(len(results.places)), order)
        errors = {}
        for name in ("first order", "saturating"):
            model = forecast(results.weights[order], results.outcomes.take(order), results.of, None, [name])
            truth = shares(results.outcomes.lead > 0, results.of, model.groups)[rest]
            error = np.abs(accuracies(model, results.weights[rest]).mean - truth)
            errors[name] = error[(truth > 0.05) & (truth < 0.95)].mean()
        assert errors["saturating"] < 0.08 and errors["saturating"] < errors["first order"]


def test_the_verdict_is_what_was_measured(both):
    """Lost at 1/4, held by the sum, with damage: which merge is best depends on what is protected."""
    for prediction in both[1].values():
        for group in PARTS:
            assert accuracy_of(prediction, group, 0.25, 0.25) < 0.1
            assert accuracy_of(prediction, group, 1.0, 1.0) >= 0.75
        assert accuracy_of(prediction, "untouched", 0.25, 0.25) > 0.9
        assert accuracy_of(prediction, "untouched", 1.0, 1.0) < 0.5
        results = prediction.results
        best = results.measured()[results.run_of(results.candidates[results.best])]
        at = results.groups.index("untouched")
        assert best[at] >= results.measured()[results.run_of((0, 0)), at] - 0.05 - 1e-9
        scores = results.score(results.measured())
        assert results.score(best) == scores.max()
        assert prediction.verdict[0].startswith("Recommendation: ")
        assert f"{scores.max():.2f} [" in prediction.verdict[0]
        assert prediction.verdict[2] == "Certain: all 25 merges were run"


def test_the_command_writes_what_it_says(both, command):
    folder = both[0] / "torch"
    arguments = ["--base", folder / "base", "--prompts", folder / "prompts.jsonl", "--out", folder / "out"]
    code, printed, err = command("sim.predict", folder / "hop1", folder / "hop2", *arguments)
    assert code == 0, err
    assert printed.split("\n")[: len(both[1]["torch"].verdict)] == both[1]["torch"].verdict
    table = pd.read_csv(folder / "out" / "predictions.csv")
    assert len(table) == len(llama.PROMPT_GROUPS) * 25 and table["run"].all()
    own = table[table["lam"] == 0.5].set_index("group")
    for group in llama.PROMPT_GROUPS:
        expected = accuracy_of(both[1]["torch"], group, 0.5, 0.5)
        assert own.loc[group, "accuracy"] == pytest.approx(expected)
        assert own.loc[group, "low"] <= own.loc[group, "accuracy"] <= own.loc[group, "high"]
    prompts = pd.read_csv(folder / "out" / "prompts.csv")
    assert len(prompts) == len((folder / "prompts.jsonl").read_text().splitlines())
    critical = prompts[prompts["group"] == "hop1"]["critical_lambda_1"]
    assert 0.25 < critical.median() < 0.75
    assert (prompts[prompts["group"] == "hop1"]["adapter"] == 1).mean() > 0.9
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert (
        manifest["device"] == "cpu" and manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    )


def test_other_objectives_and_methods_use_the_runs_that_are_there(both, command):
    folder = both[0] / "own"
    arguments = ["--base", folder / "base", "--prompts", folder / "prompts.jsonl", "--out", folder / "out"]
    adapters = [folder / "hop1", folder / "hop2"]
    code, printed, err = command("sim.predict", *adapters, *arguments, "--objective", "hop1", "--protect")
    assert code == 0 and "prompt run" not in err, err
    assert "accuracy of hop1 1.00" in printed
    code, printed, err = command(
        "sim.predict", *adapters, *arguments[:-1], folder / "ties", "--method", "ties", "--lams", "1"
    )
    assert code == 0 and "; ties " in printed.split("\n")[0], err
