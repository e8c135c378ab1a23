"""The residual stream of a base of Hugging Face where it is read out: before the final norm."""

from dataclasses import dataclass

import torch

from sim.hf._model import Loaded
from sim.hf._run import Strengths, answer_logits
from sim.hf.tokens import Batch

NEAR = {"rtol": 1e-3, "atol": 1e-3}
"""How far logits of the readout may be from the model's."""


@dataclass(frozen=True)
class Readout:
    """What a model does to its residual stream in the end: a norm, and the matrix of the logits."""

    norm: torch.nn.Module
    head: torch.nn.Module

    def __call__(self, stream: torch.Tensor) -> torch.Tensor:
        """Logits (N, V), float32, of streams (N, D)."""
        return self.head(self.norm(stream.to(self.head.weight.dtype))).float()


def readout(loaded: Loaded, batch: Batch) -> Readout | None:
    """The readout of a model; None where it does more to its logits, or an adapter changes the last matrix.

    The norm is the last thing called before the matrix; that these two alone make the logits is tried out.
    """
    base, called = loaded.model.get_base_model(), []
    head = base.get_output_embeddings()
    leaves = [module for module in base.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(lambda leaf, *_: called.append(leaf)) for leaf in leaves]
    nothing = [0.0] * loaded.count
    try:
        logits = answer_logits(loaded, batch, nothing)
    finally:
        for hook in hooks:
            hook.remove()
    if head not in called[1:]:
        return None
    candidate = Readout(called[called.index(head) - 1], head)
    with torch.inference_mode():
        same = torch.allclose(candidate(answer_streams(loaded, candidate, batch, nothing)), logits, **NEAR)
    return candidate if same else None


def answer_streams(loaded: Loaded, readout: Readout, batch: Batch, strengths: Strengths) -> torch.Tensor:
    """Streams (N, D), float32, that decide each answer token of a batch, the right ones given before it."""
    streams = []
    hook = readout.norm.register_forward_pre_hook(lambda _, given: streams.append(given[0]))
    try:
        answer_logits(loaded, batch, strengths)
    finally:
        hook.remove()
    row, position = (torch.as_tensor(part, device=streams[0].device) for part in (batch.row, batch.position))
    return streams[0][row, position].float()
