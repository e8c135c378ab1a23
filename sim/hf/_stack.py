"""Many merges of a base's adapters in one pass: their factors side by side, and a strength for each row.

PEFT gives all rows of a pass the same strengths. Here its layers are switched off, and what each adds is
computed from all factors at once: with A = [A_1; ...; A_K] and B = [s_1 B_1, ..., s_K B_K], a row x of a
merge gets W x + B (lambda * A x), lambda the strength of each column's adapter. Logits are computed where an
answer token is decided, and nowhere else.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from peft.tuners.lora import LoraLayer

from sim.hf._model import Loaded
from sim.hf._run import Strengths, answer_logits, require_finite
from sim.hf.tokens import Batch

TOKENS = 1024
"""Tokens of a pass, at most, where the batch itself has no more."""


def merge_logits(
    loaded: Loaded, batch: Batch, merges: Sequence[Strengths]
) -> Iterator[tuple[int, torch.Tensor]]:
    """(number of merges, their logits (number, N, V), float32), pass by pass, in order.

    Raises: ValueError, naming adapters, prompt and layer, for logits that are not finite.
    """
    count = max(1, TOKENS // batch.tokens.size)
    for start in range(0, len(merges), count):
        some = merges[start : start + count]
        logits = _pass(loaded, batch, some)
        for strengths, each in zip(some, logits, strict=True):
            require_finite(loaded, batch, strengths, each, "the logits")
        yield len(some), logits


def _pass(loaded: Loaded, batch: Batch, merges: Sequence[Strengths]) -> torch.Tensor:
    model, count, rows = loaded.model, len(merges), len(batch.tokens)
    device = model.device
    tokens, mask = (
        torch.as_tensor(part, device=device).repeat(count, 1) for part in (batch.tokens, batch.mask)
    )
    row = np.concatenate([batch.row + rows * number for number in range(count)])
    row, position = (torch.as_tensor(part, device=device) for part in (row, np.tile(batch.position, count)))
    strengths = torch.tensor(np.asarray(merges, float), device=device).repeat_interleave(rows, dim=0)
    head = model.get_base_model().get_output_embeddings()
    gather = head.register_forward_pre_hook(lambda _, given: (given[0][row, position][None],))
    try:
        with torch.inference_mode(), model.disable_adapter(), _adapted(loaded, strengths):
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    finally:
        gather.remove()
    if logits.shape[:2] != (1, len(row)):  # the model does more than read its last states out
        return torch.stack([answer_logits(loaded, batch, one) for one in merges])
    return logits[0].float().reshape(count, len(batch.row), -1)


@contextlib.contextmanager
def _adapted(loaded: Loaded, strengths: torch.Tensor) -> Iterator[None]:
    """Add to each adapted layer what the adapters at these strengths (rows, K) do, within the block."""
    own: dict[LoraLayer, dict[str, float]] = {}
    for layer, name, scale in loaded.scaling:
        own.setdefault(layer, {})[name] = scale
    columns: dict[tuple[tuple[str, int], ...], torch.Tensor] = {}  # the same for all layers of equal ranks
    hooks = []
    try:
        for layer, scales in own.items():
            ranks = tuple((name, layer.lora_A[name].weight.shape[0]) for name in scales)
            if ranks not in columns:
                places = [int(name) for name, rank in ranks for _ in range(rank)]
                columns[ranks] = strengths[:, None, places].to(loaded.model.dtype)
            hook = _addition(layer, scales, columns[ranks])
            hooks.append(layer.get_base_layer().register_forward_hook(hook))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _addition(layer: LoraLayer, scales: Mapping[str, float], columns: torch.Tensor) -> Callable:
    """The hook of a layer whose adapters have these scales; columns: (rows, 1, R) strengths.

    All in the type of the base's numbers.
    """
    kind = columns.dtype
    a = torch.cat([layer.lora_A[name].weight for name in scales]).to(kind).T
    b = torch.cat([scale * layer.lora_B[name].weight for name, scale in scales.items()], 1).to(kind).T

    def add(_: torch.nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        change = ((given[0].to(kind) @ a) * columns).flatten(0, 1)
        if output.dtype != kind:
            return output + (change @ b).view(output.shape).to(output.dtype)
        return torch.addmm(output.flatten(0, 1), change, b).view(output.shape)

    return add
