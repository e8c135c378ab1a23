"""A base of Hugging Face with PEFT adapters on it, each with the factors that were read from its files.

PEFT computes W x + sum_i s_i B_i (A_i x) for the adapters that are active. PEFT itself leaves factors at
random whose names it does not know (wrappers', for example), and those of modules that a file lacks.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from peft.tuners.lora import LoraLayer
from transformers.pytorch_utils import Conv1D

from sim.hf._base import load_base, quiet, reading
from sim.hf.passes import _tree
from sim.merge import Adapter
from sim.merge.peft.config import MADE_FROM
from sim.merge.peft.keys import PREFIX, unwrapped


@dataclass(frozen=True)
class Loaded:
    """A base with K adapters in evaluation mode.

    paths: their folders. scaling: (layer, adapter's name, its own scale) of every adapted layer. longest:
    tokens it can read. rows: token ids that it has embeddings and logits for. notes: what was read otherwise
    than it stands.
    """

    base: Path
    paths: tuple[Path, ...]
    model: Any
    tokenizer: Any
    scaling: tuple[tuple[LoraLayer, str, float], ...]
    longest: int | None
    rows: int
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """K, the number of adapters."""
        return len(self.paths)

    @functools.cached_property
    def reads_trees(self) -> bool:
        """Whether beginnings that prompts share may be read once (``passes._tree``)."""
        with self.model.disable_adapter(), quiet():
            return _tree.reads_trees(self.model, self.rows)


def load(base: Path, adapters: Sequence[Adapter], dtype: str | None, device: str | None) -> Loaded:
    """The model of a folder with its adapters beside it; nothing is fetched from anywhere.

    dtype: of the base, None for that of its files. device: None for the GPU if there is one, else the CPU.
    Raises: ValueError for a folder that is no whole model (``load_base``), or adapters that do not fit it.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with quiet():
        tokenizer, model = load_base(base, dtype)
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        rows = min(_rows(end) for end in ends if end is not None)
        modules = dict(model.named_modules())
        for adapter in adapters:
            require_fit(modules, base, adapter)
        notes = [note for adapter in adapters if (note := _layout(modules, adapter))]
        for number, adapter in enumerate(adapters):
            with reading(f"PEFT cannot put {adapter.path} on {base}"):
                if number:
                    model.load_adapter(adapter.path, adapter_name=str(number))
                else:
                    model = peft.PeftModel.from_pretrained(model, adapter.path, adapter_name="0")
            set_factors(model, adapter, str(number))
    model.eval().to(device)
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    scaling = [(layer, name, scale) for layer in layers for name, scale in layer.scaling.items()]
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    paths = tuple(adapter.path for adapter in adapters)
    return Loaded(base, paths, model, tokenizer, tuple(scaling), longest, rows, tuple(notes))


def require_fit(modules: dict[str, torch.nn.Module], base: Path, adapter: Adapter) -> None:
    """Raise ValueError unless every module that the adapter changes is in the model, at its shape.

    ``fan_in_fan_out`` decides nothing: PEFT goes by the layer, and so does this. Copies of the base's weights
    in the adapter's files must be the base's, because PEFT puts them in their place.
    """
    if kind := adapter.config.get(MADE_FROM):
        raise ValueError(
            f"{adapter.path} is a {kind} adapter: write it as LoRA first, by python -m sim.merge "
            f"{adapter.path} --method sum --out DIR, and give that folder"
        )
    for name, update in adapter.modules.items():
        if "[" in name:
            raise ValueError(
                f"{adapter.path} adapts fused experts ({name}), of which PEFT runs one adapter at a time: "
                "not supported here"
            )
        module = modules.get(name)
        if not hasattr(module, "weight"):
            raise ValueError(
                f"{adapter.path} adapts {name}, which {base} lacks: it is for another base, or names "
                "its modules in another layout (--rename OLD=NEW)"
            )
        shape, own = (update.b.shape[0], update.a.shape[1]), tuple(module.weight.shape)
        if isinstance(module, Conv1D):
            own = own[::-1]
        elif hasattr(module, "out_features"):  # the weight itself may be packed, four bits a number
            own = (module.out_features, module.in_features)
        if own != shape:
            raise ValueError(
                f"{adapter.path} changes {name} as {shape} (out, in), in {base} it is {own}: "
                "it is for another base"
            )
    for key, copy in adapter.copies.items():
        module, _, side = unwrapped(key).removeprefix(PREFIX).rpartition(".base_layer.")
        own = getattr(modules.get(module), side, None)
        if own is None or not _same(own, copy):
            raise ValueError(
                f"{adapter.path} brings {module}.{side} along, and it is not that of {base}: the adapter is "
                "for another base, or its vocabulary was resized; give the base that it was trained on"
            )


def _rows(end: torch.nn.Module) -> int:
    """Rows of an embedding, or of the matrix of the logits, whose weight may be packed."""
    sizes = (getattr(end, name, None) for name in ("num_embeddings", "out_features"))
    return next((size for size in sizes if size), None) or end.weight.shape[0]


def _layout(modules: dict[str, torch.nn.Module], adapter: Adapter) -> str:
    """What to say of ``fan_in_fan_out: false`` on layers with weights (in, out); empty where they agree."""
    stored = [name for name in adapter.modules if isinstance(modules[name], Conv1D)]
    if not stored or adapter.config.get("fan_in_fan_out"):
        return ""
    return (
        f"{adapter.path}: its adapter_config.json says fan_in_fan_out: false, but {stored[0]} is a Conv1D, "
        "which keeps its weight as (in, out): run as true, as PEFT does"
    )


def set_factors(model: Any, adapter: Adapter, name: str) -> None:
    """Give PEFT's layers the factors and scales that were read, and no change to all modules without any.

    Raises: ValueError where PEFT has no layer, or one of another rank, for a module of the adapter.
    """
    layers = {
        key.removeprefix(PREFIX): layer
        for key, layer in model.named_modules()
        if isinstance(layer, LoraLayer) and name in layer.lora_A
    }
    for module, update in adapter.modules.items():
        layer = layers.get(module)
        sides = [(layer.lora_A[name], update.a), (layer.lora_B[name], update.b)] if layer else []
        if not sides or any(side.weight.shape != factor.shape for side, factor in sides):
            raise ValueError(
                f"{adapter.path} holds factors of {module} that its adapter_config.json does not describe: "
                "target_modules, r and rank_pattern must be those of its tensors"
            )
        for side, factor in sides:
            side.weight.data = _like(side.weight, factor)
        layer.scaling[name] = float(update.scale)
    for module in layers.keys() - adapter.modules.keys():
        layers[module].lora_B[name].weight.data.zero_()


def fold(loaded: Loaded) -> dict[str, float] | None:
    """Put bf16(W + Delta W) in the place of W, for good, as a merged model is usually saved.

    Delta W is that of adapter 0 at its own scale. Returns: {module: |bf16(W + Delta W) - W - Delta W| /
    |Delta W|}; None, and nothing is changed, where a weight is packed.
    """
    layers = [(name, layer) for name, layer in loaded.model.named_modules() if hasattr(layer, "lora_A")]
    own = {layer: scale for layer, name, scale in loaded.scaling if name == "0"}
    weights = [layer.get_base_layer().weight for _, layer in layers]
    if not all(weight.is_floating_point() for weight in weights):
        return None
    losses = {}
    with torch.inference_mode():
        for (name, layer), weight in zip(layers, weights, strict=True):
            layer.scaling["0"] = own[layer]
            delta = layer.get_delta_weight("0").float()
            total = weight.float() + delta
            narrow = total.to(torch.bfloat16)
            weight.data = narrow.to(weight)
            if size := float(delta.norm()):
                losses[name.removeprefix(PREFIX)] = float((narrow.float() - total).norm()) / size
    return losses


def _same(weight: torch.Tensor, copy: np.ndarray) -> bool:
    """Whether an array is a copy of a weight, up to the rounding of the coarser of their types."""
    if weight.shape != copy.shape:
        return False
    wide, kind = _like(weight, copy), getattr(torch, copy.dtype.name)
    return torch.equal(wide, weight) or torch.equal(wide.to(kind), weight.to(kind))


def _like(weight: torch.Tensor, values: np.ndarray) -> torch.Tensor:
    """Values in the type and on the device of a weight."""
    if values.dtype.itemsize < 4:  # torch knows no bfloat16 of NumPy
        values = values.astype(np.float32)
    return torch.as_tensor(values).to(weight)
