"""Our decoder in PyTorch, for peers: adapters by PEFT one at a time, and many by ``torch.func.vmap``."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from sim.model.transformer import ATTENTION, MLP, Decoder

KINDS = ATTENTION + MLP


class Torch(nn.Module):
    """``sim.model.transformer`` with weights of ours; ``forward`` gives logits of the completion tokens."""

    def __init__(self, decoder: Decoder, params: Mapping[str, np.ndarray]):
        super().__init__()
        self.decoder = decoder
        self.layers = nn.ModuleList()
        for layer in range(decoder.layers):
            kinds = nn.ModuleDict()
            for kind in KINDS:
                out, into = decoder.shape(f"{layer}.{kind}")
                kinds[kind] = nn.Linear(into, out, bias=False)
                kinds[kind].weight.data = torch.tensor(np.asarray(params[f"{layer}.{kind}"]))
            self.layers.append(kinds)
        for name, value in params.items():
            if name.split(".")[-1] not in KINDS:
                self.register_buffer(name.replace(".", "_"), torch.tensor(np.asarray(value)))

    def forward(self, tokens: torch.Tensor, prompt: int) -> torch.Tensor:
        """(B, T) tokens -> (B, T - prompt, V)."""
        x = self.embed[tokens[:, :-1]]
        length, heads = x.shape[1], self.decoder.heads
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        for index, layer in enumerate(self.layers):
            normed = functional.rms_norm(x, x.shape[-1:], getattr(self, f"{index}_attention_norm"), 1e-6)
            q, k, v = (layer[kind](normed).unflatten(-1, (heads, -1)).transpose(1, 2) for kind in "qkv")
            # Written out: vmap runs the fused product as a loop over adapters.
            scores = rotary(q) @ rotary(k).transpose(-1, -2) * q.shape[-1] ** -0.5
            read = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
            x = x + layer["o"](read.transpose(1, 2).flatten(2))
            normed = functional.rms_norm(x, x.shape[-1:], getattr(self, f"{index}_mlp_norm"), 1e-6)
            x = x + layer["down"](functional.relu(layer["up"](normed)))
        x = functional.rms_norm(x[:, prompt - 1 :], x.shape[-1:], self.final_norm, 1e-6)
        return x @ self.unembed.T


def rotary(x: torch.Tensor) -> torch.Tensor:
    """``sim.model.transformer.rotary`` of (B, H, T, K) from position 0."""
    half = x.shape[-1] // 2
    rate = 100.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * rate
    first, second = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def with_adapter(decoder: Decoder, params: Mapping[str, np.ndarray], rank: int) -> nn.Module:
    """The decoder with a fresh LoRA adapter of PEFT on every matrix; all else frozen."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(KINDS))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return get_peft_model(Torch(decoder, params), config).to(device)


def loss(logits: torch.Tensor, tokens: torch.Tensor, prompt: int) -> torch.Tensor:
    """``sim.model.training.completion_loss``."""
    each = functional.cross_entropy(logits.flatten(0, -2), tokens[..., prompt:].flatten(), reduction="none")
    return each.unflatten(0, tokens[..., prompt:].shape).sum(-1).mean()


def one_at_a_time(model: nn.Module, tokens: torch.Tensor, prompt: int, rate: float) -> Callable[[int], float]:
    """``steps -> loss of the last step``: PEFT's adapter trained by AdamW."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, rate, betas=(0.9, 0.98), weight_decay=0.0)

    def run(steps: int) -> float:
        for _ in range(steps):
            drawn = tokens[torch.randint(len(tokens), (len(tokens),), device=tokens.device)]
            now = loss(model(drawn, prompt), drawn, prompt)
            optimiser.zero_grad()
            now.backward()
            optimiser.step()
        return now.item()

    return run


def many_at_once(
    model: nn.Module, tokens: torch.Tensor, prompt: int, rate: float, adapters: int
) -> Callable[[int], float]:
    """``steps -> mean loss of the last step``: adapters stacked, under one ``vmap`` and one AdamW."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {n: p for n, p in model.named_parameters() if n not in trained} | dict(model.named_buffers())
    stacked = {
        n: nn.Parameter(p.detach().expand(adapters, *p.shape).contiguous()) for n, p in trained.items()
    }
    optimiser = torch.optim.AdamW(stacked.values(), rate, betas=(0.9, 0.98), weight_decay=0.0)

    def batch_loss(adapter: dict, drawn: torch.Tensor) -> torch.Tensor:
        return loss(torch.func.functional_call(model, (frozen, adapter), (drawn, prompt)), drawn, prompt)

    def run(steps: int) -> float:
        for _ in range(steps):
            drawn = tokens[torch.randint(len(tokens), (adapters, len(tokens)), device=tokens.device)]
            now = torch.vmap(batch_loss)(stacked, drawn).sum()
            optimiser.zero_grad()
            now.backward()
            optimiser.step()
        return now.item() / adapters

    return run
