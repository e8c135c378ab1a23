"""The merge command on bad arguments, every way a file can be bad, and places that cannot be written."""

import shutil

import ml_dtypes
import numpy as np
import pytest
from folders import DATA, KEY, edit_config, edit_tensors, failure, pair

from sim.merge import write_adapter
from sim.merge.peft import write as peft_write
from sim.merge.peft.config import CONFIG
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "avg"], "unknown merge method 'avg'; did you mean average"),
        (["--method", "sum", "--rank", "0"], "--rank 0 must be between 1 and 10"),
        (["--method", "sum", "--rank", "11"], "--rank 11 must be between 1 and 10"),
        (["--method", "sum", "--weight", "1"], "--weight: 1 numbers for 2 adapters"),
        (["--method", "average", "--weight", "1", "-1"], "sum of the weights, which is 0; use sum"),
        (["--method", "ties", "--option", "densty=1"], "takes NAME=VALUE out of: density=0.2, vote=mass"),
        (["--method", "ties", "--option", "density=x"], "density must be a float"),
        (["--method", "ties", "--option", "density=7"], "density must be in (0, 1], not 7.0"),
        (["--method", "regmean"], "regmean is not data-free: it needs grams"),
        (["--method", "sum", "--weight", "1", "nan"], "--weight must be finite"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, tmp_path, command):
    out = tmp_path / "out"
    sources = [DATA / "plain" / name for name in ("first", "second")]
    assert message in failure(command, *sources, *arguments, "--out", out)
    assert list(tmp_path.iterdir()) == []


BREAKS = {
    "truncated": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-40]),
        "is not a whole safetensors file",
    ),
    "header only": (lambda f: (f / WEIGHTS).write_bytes(b"\x07"), "is not a whole safetensors file"),
    "zip in disguise": (lambda f: (f / WEIGHTS).write_bytes(b"PK\x03\x04" + bytes(99)), "is a zip archive"),
    "pickle in disguise": (lambda f: (f / WEIGHTS).write_bytes(b"\x80\x02}q" + bytes(99)), "is a pickle"),
    "only a pickle": (
        lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"),
        "only a pickle (adapter_model.bin): save it as safetensors",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "no config": (lambda f: (f / CONFIG).unlink(), "is missing; is"),
    "config not JSON": (lambda f: (f / CONFIG).write_text("{"), "is not readable JSON"),
    "no rank": (lambda f: edit_config(f, r=None), "'r' must be a number, found None"),
    "rank in words": (lambda f: edit_config(f, rank_pattern={"q_proj": "two"}), "'q_proj' must be a number"),
    "bad pattern": (
        lambda f: edit_config(f, alpha_pattern={"(": 2}),
        "alpha_pattern: '(' is no regular expression (missing",
    ),
    "pattern list": (lambda f: edit_config(f, rank_pattern=[4]), "not a table of regular expressions"),
    "rank 0": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((0, 12), np.float32)})),
        "has lora_A (0, 12)",
    ),
    "not LoRA": (lambda f: edit_config(f, peft_type="IA3"), "peft_type is 'IA3'; only LORA"),
    "DoRA": (lambda f: edit_config(f, use_dora=True), "uses DoRA magnitudes"),
    "lora_bias": (lambda f: edit_config(f, lora_bias=True), "biases on lora_B"),
    "bias": (lambda f: edit_config(f, bias="all"), "trains biases (bias='all')"),
    "saved modules": (lambda f: edit_config(f, modules_to_save=["head"]), "whole trained modules"),
    "pissa": (lambda f: edit_config(f, init_lora_weights="pissa_niter_4"), "changes the base weights"),
    "missing key": (lambda f: edit_tensors(f, lambda t: t.pop(KEY)), "layers.0.q_proj has no lora_A"),
    "NaN": (lambda f: edit_tensors(f, lambda t: t[KEY].fill(np.nan)), f"{KEY} holds NaN"),
    "wrong rank": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((5, 12), np.float32)})),
        "has lora_A (5, 12) and lora_B (10, 2), but adapter_config.json gives it rank 2",
    ),
    "other model": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 13), np.float32)})),
        "these adapters belong to different base models",
    ),
    "embedding": (
        lambda f: edit_tensors(f, lambda t: t.update({f"{PREFIX}e.lora_embedding_A": t[KEY]})),
        "(an adapted embedding, 2 x 12); only lora_A and lora_B can be merged: train without it, or",
    ),
    "convolution": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 3, 3, 3), np.float32)})),
        "has 4 dimensions; only linear layers can be merged",
    ),
    "integers": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 12), np.int8)})),
        "is int8, not a float type",
    ),
    "ZeRO-3": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones(0, np.float32)})),
        "is empty, as DeepSpeed ZeRO-3 saves what it has not gathered: convert the checkpoint by its",
    ),
    "fp8": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 12), ml_dtypes.float8_e4m3fn)})),
        "is in 8-bit floats (F8_E4M3), too coarse to merge: save it as bfloat16",
    ),
    "several checkpoints": (
        lambda f: (
            [shutil.copytree(f, f / "checkpoint-1"), (f / "checkpoint-1").rename(f / "checkpoint-5")]
            and [shutil.copytree(f / "checkpoint-5", f / "checkpoint-10"), (f / CONFIG).unlink()]
        ),
        "holds several adapters, one folder down: give one of checkpoint-10, checkpoint-5",
    ),
    "another base model": (
        lambda f: [
            edit_config(f, base_model_name_or_path="org/other"),
            edit_tensors(
                f, lambda t: [t.update({k.replace(PREFIX, f"{PREFIX}other."): t.pop(k)}) for k in list(t)]
            ),
        ],
        "share no module and name different base models",
    ),
    "other layout": (lambda f: edit_config(f, fan_in_fan_out=True), "differ in fan_in_fan_out"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_files_are_one_line_and_leave_nothing(name, tmp_path, command):
    change, message = BREAKS[name]
    folder = shutil.copytree(DATA / "plain" / "second", tmp_path / "second")
    change(folder)
    out = tmp_path / "out"
    arguments = [DATA / "plain" / "first", folder, "--method", "sum", "--out", out]
    assert message in failure(command, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["second"]


def test_an_existing_or_unwritable_out_is_refused(tmp_path, command):
    sources = [DATA / "plain" / name for name in ("first", "second")]
    (tmp_path / "file").write_text("mine")
    for out, message in (
        (tmp_path, "exists already and is not empty"),
        (tmp_path / "file", "is a file; give a folder"),
        (tmp_path / "file" / "below", "is a file; give a folder"),
    ):
        assert message in failure(command, *sources, "--method", "sum", "--out", out)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_folder_appears_whole_or_not_at_all(stop, tmp_path, monkeypatch):
    """Interrupted, or the disk full, between its two files: nobody ever sees the first without the second."""

    def failing(tensors, metadata):
        assert not (tmp_path / "out").exists()
        assert [path.name for path in tmp_path.rglob("*.json")] == [CONFIG]
        raise stop

    monkeypatch.setattr(peft_write, "save", failing)
    with pytest.raises(type(stop)):
        write_adapter(tmp_path / "out", pair("plain")[0].modules, pair("plain"))
    assert list(tmp_path.iterdir()) == []
