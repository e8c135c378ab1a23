"""Tensor names and configuration fields: what is read, what is refused, and by which name."""

import json
import re
import shutil

import numpy as np
import pytest
from folders import DATA, delta, pair
from safetensors.numpy import load_file, save_file

from sim.merge import read_adapter
from sim.merge.peft.config import CONFIG, UNSUPPORTED
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX, foreign, parsed
from theory.lowrank import dense

FIRST = DATA / "plain" / "first"


def renamed(tmp_path, change, name="renamed"):
    """A copy of an adapter with every key changed."""
    folder = shutil.copytree(FIRST, tmp_path / name)
    save_file({change(key): value for key, value in load_file(FIRST / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


WRAPPED = {
    "compiled": lambda key: key.replace(PREFIX, f"{PREFIX}_orig_mod."),
    "compiled after": lambda key: f"_orig_mod.{key}",
    "fsdp": lambda key: key.replace(".q_proj", "._fsdp_wrapped_module.q_proj"),
    "checkpointed": lambda key: key.replace("layers.0", "layers.0._checkpoint_wrapped_module"),
    "all three": lambda key: (
        f"_orig_mod._fsdp_wrapped_module.{key.replace('.v_', '._checkpoint_wrapped_module.v_')}"
    ),
    "data parallel": lambda key: f"module.{key}",
    "data parallel inside": lambda key: key.replace(PREFIX, f"{PREFIX}module."),
    "adapter name": lambda key: key.replace(".weight", ".default.weight"),
    "no prefix": lambda key: key.removeprefix(PREFIX),
    "no prefix, compiled": lambda key: f"_orig_mod.{key.removeprefix(PREFIX)}",
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_names_are_read_as_the_modules_they_are(how, tmp_path):
    plain, wrapped = pair("plain")[0], read_adapter(renamed(tmp_path, WRAPPED[how]))
    assert wrapped.modules.keys() == plain.modules.keys() and not plain.note
    for name, update in plain.modules.items():
        assert np.array_equal(delta(wrapped.modules[name]), delta(update))
    assert wrapped.note.startswith(f"{wrapped.path}: module names were read without ")


def test_the_command_merges_a_wrapped_with_a_plain_adapter_and_says_so_once(tmp_path, command):
    wrapped = renamed(tmp_path, WRAPPED["compiled"])
    second = DATA / "plain" / "second"
    arguments = ["--method", "sum", "--out"]
    code, out, err = command("sim.merge", wrapped, second, *arguments, tmp_path / "a")
    assert code == 0, err
    assert out.count("note: ") == 1 and "read without _orig_mod" in out
    code, out, _ = command("sim.merge", FIRST, second, *arguments, tmp_path / "b")
    assert code == 0 and "note: " not in out
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    # Named in full: what the sources call their targets may hold the wrapper's segments too.
    targets = json.loads((tmp_path / "a" / CONFIG).read_text())["target_modules"]
    assert targets == r"layers\.0\.q_proj|layers\.0\.v_proj|layers\.1\.q_proj|layers\.1\.v_proj"


def test_two_adapters_in_one_file_are_refused(tmp_path):
    folder = shutil.copytree(FIRST, tmp_path / "two")
    tensors = load_file(folder / WEIGHTS)
    second = {key.replace(".weight", ".other.weight"): value for key, value in tensors.items()}
    save_file({**tensors, **second}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"holds two lora_A of layers\.0\.q_proj; save one adapter"):
        read_adapter(folder)


FOREIGN = {
    "lora_unet_down_blocks_0_attentions_0_proj.lora_down.weight": "kohya (sd-scripts)",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": "kohya (sd-scripts)",
    "blocks.0.attn.lora_up.weight": "kohya (sd-scripts)",
    "unet.down_blocks.0.attentions.0.to_q.lora_A.weight": "diffusers",
    "unet.down_blocks.0.attn1.processor.to_q_lora.down.weight": "diffusers",
    "text_encoder.layers.0.q_proj.lora_linear_layer.up.weight": "diffusers",
    "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": "diffusers",
    "model.layers.0.self_attn.q_proj.lora_a": "MLX",
}


@pytest.mark.parametrize("raw", FOREIGN)
def test_names_of_other_formats_are_those_of_their_format(raw, tmp_path):
    with pytest.raises(ValueError) as refused:
        parsed(raw)
    assert f"a name of the {FOREIGN[raw]} format, not PEFT's" in str(refused.value)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file({raw: np.ones((2, 2), np.float32)}, file)
    for path in (file, tmp_path):  # a lone file, or a folder that has no adapter_config.json
        with pytest.raises(ValueError) as refused:
            read_adapter(path)
        if FOREIGN[raw] == "MLX":
            assert f"{file} is in the MLX format, not PEFT's" in str(refused.value)
        else:
            assert re.match(rf"{file}: .* has no lora_[AB] \(down: A, up: B\)", str(refused.value))


def test_an_mlx_configuration_is_refused_by_name(tmp_path):
    (tmp_path / CONFIG).write_text(json.dumps({"lora_parameters": {"rank": 8}, "num_layers": 16}))
    with pytest.raises(ValueError, match="is in the MLX format, not PEFT's: convert"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.self_attn.q_proj", "transformer.h.0.attn.c_attn", "encoder.module.k", "module_list.0.q"],
)
def test_names_of_peft_are_no_other_formats(name):
    raw = f"{PREFIX}{name}.lora_A.weight"
    assert foreign([raw]) is None
    assert parsed(raw).module == name and parsed(raw).dropped == ()


def configured(tmp_path, **fields):
    folder = shutil.copytree(FIRST, tmp_path / "configured", dirs_exist_ok=True)
    config = json.loads((FIRST / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **fields}))
    return folder


def test_an_unknown_field_that_is_set_is_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match="sets 'use_dora2' to True, a field not known to leave Delta W alone"
    ):
        read_adapter(configured(tmp_path, use_dora2=True))
    for unset in (None, False, [], {}, ""):
        read_adapter(configured(tmp_path, use_dora2=unset))


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_a_known_field_that_means_more_is_refused_by_its_meaning(field, tmp_path):
    with pytest.raises(ValueError, match="which a low-rank merge cannot carry"):
        read_adapter(configured(tmp_path, **{field: ["x"]}))


@pytest.mark.parametrize("init", ["mica", "something_new"])
def test_an_unknown_initialisation_is_refused(init, tmp_path):
    with pytest.raises(ValueError, match=f"init_lora_weights is '{init}', not known"):
        read_adapter(configured(tmp_path, init_lora_weights=init))


def test_fields_that_leave_delta_w_alone_may_be_set(tmp_path):
    neutral = {
        "lora_dropout": 0.1,
        "eva_config": {"rho": 2},
        "megatron_core": "x",
        "init_lora_weights": "eva",
    }
    plain = read_adapter(FIRST).modules
    modules = read_adapter(configured(tmp_path, bias=None, **neutral)).modules
    assert modules.keys() == plain.keys()
    for name, update in modules.items():
        np.testing.assert_array_equal(dense(update), dense(plain[name]))
