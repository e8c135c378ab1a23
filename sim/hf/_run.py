"""What a loaded model answers with each adapter at a strength of its own, and what enters its modules.

An adapter at strength lambda has its scale multiplied by lambda (``LoraLayer.scaling``). Several active
adapters are their linear merge.
"""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence

import torch

from sim.hf._model import Loaded
from sim.hf.tokens import Batch
from sim.merge.peft.keys import PREFIX

Strengths = Sequence[float]
"""One number an adapter; 0 leaves it out."""


def set_strengths(loaded: Loaded, strengths: Strengths) -> None:
    """Give each adapter its strength from now on."""
    active = [str(number) for number, strength in enumerate(strengths) if strength]
    if active:
        loaded.model.base_model.set_adapter(active)
    for layer, name, scale in loaded.scaling:
        layer.scaling[name] = scale * strengths[int(name)]


def answer_logits(loaded: Loaded, batch: Batch, strengths: Strengths) -> torch.Tensor:
    """Logits (N, V), float32, that decide each answer token of a batch, the right ones given before it.

    Raises: ValueError, naming adapters, prompt and layer, for logits that are not finite.
    """
    logits = _forward(loaded, batch, strengths)
    require_finite(loaded, batch, strengths, logits, "the logits")
    return logits


def _forward(loaded: Loaded, batch: Batch, strengths: Strengths) -> torch.Tensor:
    set_strengths(loaded, strengths)
    model = loaded.model
    with contextlib.nullcontext() if any(strengths) else model.disable_adapter(), torch.inference_mode():
        row, position, tokens, mask = (
            torch.as_tensor(part, device=model.device)
            for part in (batch.row, batch.position, batch.tokens, batch.mask)
        )
        if "logits_to_keep" in inspect.signature(model.get_base_model().forward).parameters:
            needed, position = torch.unique(position, return_inverse=True)
            output = model(input_ids=tokens, attention_mask=mask, use_cache=False, logits_to_keep=needed)
        else:
            output = model(input_ids=tokens, attention_mask=mask, use_cache=False)
        return output.logits[row, position].float()


def module_inputs(loaded: Loaded, batch: Batch, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """What enters each named module of the base where an answer token is decided: (N, in), float32.

    Raises: ValueError for a module that is not given all tokens of every question, or numbers that are not
    finite.
    """
    inputs: dict[str, torch.Tensor] = {}
    row, position = (
        torch.as_tensor(part, device=loaded.model.device) for part in (batch.row, batch.position)
    )

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            if given[0].shape[:2] != batch.tokens.shape:
                raise ValueError(f"{name} does not read the tokens in a row (an expert?): not supported")
            inputs[name] = given[0][row, position].float()

        return hook

    base, nothing = loaded.model.get_base_model(), [0.0] * loaded.count
    hooks = [base.get_submodule(name).register_forward_pre_hook(keep(name)) for name in names]
    try:
        answer_logits(loaded, batch, nothing)
    finally:
        for hook in hooks:
            hook.remove()
    for name, values in inputs.items():
        require_finite(loaded, batch, nothing, values, f"the activations that enter {name}")
    return inputs


def require_finite(
    loaded: Loaded, batch: Batch, strengths: Strengths, values: torch.Tensor, what: str
) -> None:
    """Raise ValueError, naming adapters, prompt and layer, unless all values (N, .) of a batch's answer
    tokens are finite."""
    bad = ~torch.isfinite(values).all(-1)
    if not bad.any():
        return
    line = batch.lines[batch.row[int(bad.nonzero()[0, 0])]]
    active = [f"{loaded.paths[i]} at {lam:.3g}" for i, lam in enumerate(strengths) if lam]
    who = f"{loaded.base} with {' and '.join(active)}" if active else str(loaded.base)
    where, remedy = _origin(loaded, batch, strengths)
    raise ValueError(f"{who}: {what} for the prompt of line {line} are not finite{where}: {remedy}")


def _origin(loaded: Loaded, batch: Batch, strengths: Strengths) -> tuple[str, str]:
    """(the first module that gives numbers that are not finite, the remedy), from another run."""
    names = {module: name.removeprefix(PREFIX) for name, module in loaded.model.named_modules()}
    first: list[torch.nn.Module] = []

    def look(module: torch.nn.Module, _: object, output: object) -> None:
        if not first and isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
            first.append(module)

    leaves = [module for module in names if not list(module.children())]
    hooks = [leaf.register_forward_hook(look) for leaf in leaves]
    try:
        _forward(loaded, batch, strengths)
    finally:
        for hook in hooks:
            hook.remove()
    layer = re.sub(r"\.(base_layer|lora_[AB]\..*)$", "", names[first[0]]) if first else ""
    where = f", first behind {layer}" if first else ""
    if first and not all(torch.isfinite(weight).all() for weight in first[0].parameters()):
        return f"{where}, whose weights hold NaN or infinity", f"copy the files of {loaded.base} again"
    if loaded.model.dtype == torch.float16:
        return where, "use --dtype bfloat16 or float32"
    if any(strengths):
        return where, "the change is too large for numbers of 32 bits: leave the adapter out or train it anew"
    return where, f"copy the files of {loaded.base} again, or use --dtype float32"


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
