"""Make the golden files of tests/merge/data with PEFT (extra ``bench``): run once, commit what it writes.

    python tests/merge/data/make_peft_golden.py

Two adapters of a small model whose modules have unequal ranks and alphas (rank_pattern, alpha_pattern),
and two rsLoRA ones with a transposed (Conv1D) layer; beside each pair ``golden.safetensors`` with PEFT's own
Delta W of each adapter and of each merge. The recipe names what was asked of PEFT.
"""

import json
from pathlib import Path

import peft
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

HERE = Path(__file__).parent


class Block(torch.nn.Module):
    """Two linear layers, one of them stored transposed as in GPT-2, so fan_in_fan_out is used."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.q_proj = Conv1D(10, 12) if transposed else torch.nn.Linear(12, 10)
        self.v_proj = Conv1D(10, 10) if transposed else torch.nn.Linear(10, 10)


class Model(torch.nn.Module):
    """Two blocks."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(transposed), Block(transposed)])


def delta(model, adapter: str) -> dict[str, torch.Tensor]:
    """PEFT's Delta W of every module, turned to (out, in) where the layer is stored transposed."""
    deltas = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and adapter in module.lora_A:
            weight = module.get_delta_weight(adapter)
            weight = weight.T if module.fan_in_fan_out else weight
            deltas[name.removeprefix("base_model.model.")] = weight.contiguous()
    return deltas


def make(folder: Path, transposed: bool, merges: dict[str, dict], **config) -> None:
    """Write adapters first/ and second/, and golden.safetensors, under ``folder``."""
    torch.manual_seed(0)
    shared = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **config}
    shared["fan_in_fan_out"] = transposed
    model = get_peft_model(Model(transposed), LoraConfig(**shared), adapter_name="first")
    model.add_adapter("second", LoraConfig(**shared))
    golden = {f"{a}.{k}": v for a in ("first", "second") for k, v in delta(model, a).items()}
    for name, options in merges.items():
        options = {"weights": [1.0, 1.0], **options}
        model.add_weighted_adapter(["first", "second"], adapter_name=name, **options)
        golden |= {f"{name}.{k}": v for k, v in delta(model, name).items()}
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder, selected_adapters=["first", "second"])
    for readme in folder.rglob("README.md"):
        readme.unlink()
    recipe = {"peft": peft.__version__, "torch": torch.__version__, "merges": json.dumps(merges)}
    save_file(golden, folder / "golden.safetensors", metadata=recipe)


PLAIN = {
    "cat": {"combination_type": "cat", "weights": [0.7, -0.4]},
    "svd": {"combination_type": "svd", "weights": [0.7, 0.4], "svd_rank": 3},
    "ties_total": {"combination_type": "ties_svd", "density": 0.5, "svd_rank": 10},
    "ties_frequency": {
        "combination_type": "ties_svd",
        "density": 0.5,
        "svd_rank": 10,
        "majority_sign_method": "frequency",
    },
    "ties_weighted": {
        "combination_type": "ties_svd",
        "density": 0.5,
        "svd_rank": 10,
        "weights": [2.0, 0.5],
    },
    "magnitude_prune": {
        "combination_type": "magnitude_prune_svd",
        "density": 0.4,
        "svd_rank": 10,
        "weights": [0.7, 0.4],
    },
    "linear": {"combination_type": "linear", "weights": [0.7, -0.4]},
}

if __name__ == "__main__":
    make(HERE / "plain", False, {k: v for k, v in PLAIN.items() if k != "linear"}, r=2, lora_alpha=6,
         rank_pattern={"layers.0.v_proj": 4}, alpha_pattern={"layers.1.q_proj": 5, "v_proj": 3})  # fmt: skip
    make(HERE / "equal_rank", False, {"linear": PLAIN["linear"]}, r=3, lora_alpha=6)
    make(
        HERE / "rslora", True, {"cat": PLAIN["cat"], "svd": PLAIN["svd"]}, r=4, lora_alpha=6, use_rslora=True
    )
