"""A base of Hugging Face with PEFT adapters, run with each adapter at a strength of its own.

PEFT computes W x + sum_i s_i B_i (A_i x) for the adapters that are active; an adapter at strength lambda has
its s_i multiplied by lambda (``LoraLayer.scaling``). Several active adapters are their linear merge.
"""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError

from sim.hf.tokens import Batch
from sim.merge import Adapter

Strengths = Sequence[float]
"""One number an adapter; 0 leaves it out."""


@dataclass(frozen=True)
class Loaded:
    """A base with K adapters in evaluation mode.

    scaling: (layer, adapter's name, its own scale) of every adapted layer. longest: tokens it can read.
    """

    model: Any
    tokenizer: Any
    count: int
    scaling: tuple[tuple[LoraLayer, str, float], ...]
    longest: int | None


def load(base: Path, adapters: Sequence[Adapter], dtype: str | None, device: str | None) -> Loaded:
    """The model of a folder with its adapters beside it; nothing is fetched from anywhere.

    dtype: of the base, None for that of its files. device: None for the GPU if there is one, else the CPU.
    Raises: ValueError for a folder that is no model, or adapters that do not fit it.
    """
    if not (base / "config.json").is_file():
        raise ValueError(f"{base} is not the folder of a model: it holds no config.json")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                base, local_files_only=True, dtype=getattr(torch, dtype) if dtype else "auto"
            )
        except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
            raise ValueError(f"{base} cannot be loaded as a causal language model: {error}") from None
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        for adapter in adapters:
            require_fit(model, base, adapter)
        for number, adapter in enumerate(adapters):
            if number:
                model.load_adapter(adapter.path, adapter_name=str(number))
            else:
                model = peft.PeftModel.from_pretrained(model, adapter.path, adapter_name="0")
    model.eval().to(device)
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    scaling = [(layer, name, scale) for layer in layers for name, scale in layer.scaling.items()]
    return Loaded(model, tokenizer, len(adapters), tuple(scaling), longest)


def require_fit(model: torch.nn.Module, base: Path, adapter: Adapter) -> None:
    """Raise ValueError unless every module that the adapter changes is in the model, at its shape."""
    held = dict(model.named_modules())
    for name, update in adapter.modules.items():
        if "[" in name:
            raise ValueError(
                f"{adapter.path} adapts fused experts ({name}), of which PEFT runs one adapter at a time: "
                "not supported here"
            )
        module = held.get(name)
        if not hasattr(module, "weight"):
            raise ValueError(f"{adapter.path} adapts {name}, which {base} lacks: it is for another base")
        shape, found = (update.b.shape[0], update.a.shape[1]), tuple(module.weight.shape)
        if hasattr(module, "out_features"):  # the weight itself may be packed, four bits a number
            found = (module.out_features, module.in_features)
        if found not in (shape, shape[::-1] if adapter.config.get("fan_in_fan_out") else shape):
            raise ValueError(
                f"{adapter.path} changes {name} as {shape} (out, in), in {base} it is {found}: "
                "it is for another base"
            )


def set_strengths(loaded: Loaded, strengths: Strengths) -> None:
    """Give each adapter its strength from now on."""
    active = [str(number) for number, strength in enumerate(strengths) if strength]
    if active:
        loaded.model.base_model.set_adapter(active)
    for layer, name, scale in loaded.scaling:
        layer.scaling[name] = scale * strengths[int(name)]


def answer_logits(loaded: Loaded, batch: Batch, strengths: Strengths) -> torch.Tensor:
    """Logits (N, V), float32, that decide each answer token of a batch, the right ones given before it."""
    set_strengths(loaded, strengths)
    model = loaded.model
    with contextlib.nullcontext() if any(strengths) else model.disable_adapter(), torch.inference_mode():
        row, position, tokens, mask = (
            torch.as_tensor(part, device=model.device)
            for part in (batch.row, batch.position, batch.tokens, batch.mask)
        )
        if "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters:
            kept, position = torch.unique(position, return_inverse=True)
            found = model(input_ids=tokens, attention_mask=mask, use_cache=False, logits_to_keep=kept)
        else:
            found = model(input_ids=tokens, attention_mask=mask, use_cache=False)
        return found.logits[row, position].float()


def module_inputs(loaded: Loaded, batch: Batch, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """What enters each named module of the base where an answer token is decided: (N, in), float32.

    Raises: ValueError for a module that is not given all tokens of every question.
    """
    found: dict[str, torch.Tensor] = {}
    row, position = (
        torch.as_tensor(part, device=loaded.model.device) for part in (batch.row, batch.position)
    )

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if inputs[0].shape[:2] != batch.tokens.shape:
                raise ValueError(f"{name} does not read the tokens in a row (an expert?): not supported")
            found[name] = inputs[0][row, position].float()

        return hook

    base = loaded.model.get_base_model()
    hooks = [base.get_submodule(name).register_forward_pre_hook(keep(name)) for name in names]
    try:
        answer_logits(loaded, batch, [0.0] * loaded.count)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Want of memory in the block as a ValueError that names the remedy."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise ValueError(
            "the device has too little memory: use a smaller --batch-size or --dtype bfloat16; what was "
            "answered is kept"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice of the libraries: what is wrong is raised."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
