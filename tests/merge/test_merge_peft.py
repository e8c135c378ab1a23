"""The same folders in PEFT itself (extra ``bench``): what we write it loads, and patterns match alike."""

import sys

import numpy as np
import pytest
from folders import DATA, assert_all_close, delta, pair
from safetensors.numpy import load_file
from test_merge_files import ORDERS, PATTERNS, overlapping

from sim.merge import Adapter, merge_adapters, write_adapter
from sim.merge.peft.files import WEIGHTS

peft = pytest.importorskip("peft", reason="needs the extra bench (torch, peft): pip install -e '.[bench]'")
torch = pytest.importorskip("torch")
sys.path.insert(0, str(DATA))


@pytest.mark.parametrize(("patterns", "name", "expected"), PATTERNS)
def test_peft_matches_patterns_alike(patterns, name, expected):
    from peft.utils.other import get_pattern_key

    assert patterns.get(get_pattern_key(patterns.keys(), name), 2) == expected


@pytest.mark.parametrize(
    ("kind", "method"), [("plain", "average"), ("plain", "ties"), ("rslora", "sum"), ("rslora", "svd")]
)
def test_a_folder_we_write_loads_with_the_same_delta(kind, method, tmp_path):
    import make_peft_golden as maker

    adapters = pair(kind)
    updates, _ = merge_adapters(adapters, method, [0.7, 0.4])
    write_adapter(tmp_path / "out", updates, adapters)
    model = peft.PeftModel.from_pretrained(maker.Model(kind == "rslora"), tmp_path / "out")
    deltas = {name: value.numpy() for name, value in maker.delta(model, "default").items()}
    assert_all_close(deltas, {name: delta(update) for name, update in updates.items()})


def nested(modules):
    """A base model whose linear layers have the names and shapes of the updates; children before parents."""
    root = torch.nn.Module()
    for name, update in modules.items():
        *parents, last = name.split(".")
        place = root
        for parent in parents:
            if not hasattr(place, parent):
                place.add_module(parent, torch.nn.Module())
            place = getattr(place, parent)
        place.add_module(last, torch.nn.Linear(update.a.shape[1], update.b.shape[0], bias=False))
    return root


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("targets", [["proj", "v", "w"], None])
def test_names_that_end_one_another_keep_their_scales(order, targets, tmp_path):
    """Also through the one regular expression of full names, written where the sources name no targets."""
    import make_peft_golden as maker

    modules = overlapping(ORDERS[order])
    source = Adapter(tmp_path, {"peft_type": "LORA", "target_modules": targets}, modules)
    write_adapter(tmp_path / "out", modules, [source])
    model = peft.PeftModel.from_pretrained(nested(modules), tmp_path / "out")
    deltas = {name: value.numpy() for name, value in maker.delta(model, "default").items()}
    assert_all_close(deltas, {name: np.asarray(delta(update)) for name, update in modules.items()})


class Experts(torch.nn.Module):
    """Three experts, each of two matrices, fused into two parameters (experts, out, in)."""

    def __init__(self):
        super().__init__()
        self.gate_up_proj = torch.nn.Parameter(torch.zeros(3, 6, 8))
        self.down_proj = torch.nn.Parameter(torch.zeros(3, 8, 5))


def mixture():
    model = torch.nn.Module()
    model.experts, model.q = Experts(), torch.nn.Linear(8, 8, bias=False)
    model.forward = lambda x: x
    return model


def saved(model, folder, seed, dtype=torch.float32, **config):
    """A real adapter with random factors, saved by PEFT."""
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(init_lora_weights=False, **config)).to(dtype)
    wrapped.save_pretrained(folder)
    return wrapped


def parameter_deltas(model):
    """What PEFT adds to each parameter, by the name of its wrapper."""
    return {
        name: module.get_delta_weight("default").detach().double().numpy()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def test_fused_experts_are_merged_as_peft_applies_them(tmp_path, command):
    targets = {"target_modules": ["q"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    parts = [
        parameter_deltas(saved(mixture(), tmp_path / str(i), i, r=2 + i, lora_alpha=6, **targets))
        for i in range(2)
    ]
    arguments = ["--method", "sum", "--weight", "0.7", "-0.4", "--out", tmp_path / "out"]
    code, _, err = command("sim.merge", tmp_path / "0", tmp_path / "1", *arguments)
    assert code == 0, err
    deltas = parameter_deltas(peft.PeftModel.from_pretrained(mixture(), tmp_path / "out"))
    assert len(deltas) == 3 and deltas.keys() == parts[0].keys()
    for name, value in deltas.items():
        np.testing.assert_allclose(value, 0.7 * parts[0][name] - 0.4 * parts[1][name], atol=1e-5)
        assert value.any()


def test_adapters_of_other_modules_and_half_precision_load(tmp_path, command):
    """One adapter of q alone, one of q and v, both bfloat16: PEFT finds both modules, in bfloat16."""

    def base():
        model = torch.nn.Module()
        model.q, model.v = (torch.nn.Linear(8, 8, bias=False) for _ in range(2))
        model.forward = lambda x: x
        return model

    first = parameter_deltas(saved(base(), tmp_path / "a", 0, torch.bfloat16, r=2, target_modules=["q"]))
    second = parameter_deltas(
        saved(base(), tmp_path / "b", 1, torch.bfloat16, r=2, target_modules=["q", "v"])
    )
    code, out, err = command(
        "sim.merge", tmp_path / "a", tmp_path / "b", "--method", "sum", "--out", tmp_path / "out"
    )
    assert code == 0 and "does not adapt v" in out and "rank 4, bfloat16" in out, err
    deltas = parameter_deltas(peft.PeftModel.from_pretrained(base(), tmp_path / "out"))
    assert deltas.keys() == second.keys()
    for name, value in deltas.items():
        exact = first.get(name, 0) + second[name]
        assert np.linalg.norm(value - exact) < 2.0**-6 * np.linalg.norm(exact)


@pytest.mark.filterwarnings("ignore")  # PEFT says what it saves, and calls what transformers deprecates
def test_the_copy_that_peft_writes_of_an_adapted_head_is_carried(tmp_path, command):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=11, num_key_value_heads=2, tie_word_embeddings=False, **sizes
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    weight = model.lm_head.weight.detach().clone()
    for i in range(2):
        saved(model, tmp_path / str(i), i, r=2, target_modules=["q_proj", "lm_head"]).unload()
    code, _, err = command(
        "sim.merge", tmp_path / "0", tmp_path / "1", "--method", "sum", "--out", tmp_path / "out"
    )
    assert code == 0, err
    tensors = {name: load_file(tmp_path / name / WEIGHTS) for name in ("0", "out")}
    copies = [key for key in tensors["0"] if "base_layer" in key]
    assert copies and set(copies) <= set(tensors["out"])
    for key in copies:
        assert np.array_equal(tensors["out"][key], tensors["0"][key])
    loaded = peft.PeftModel.from_pretrained(model, tmp_path / "out")
    assert torch.equal(loaded.base_model.model.lm_head.base_layer.weight, weight)
