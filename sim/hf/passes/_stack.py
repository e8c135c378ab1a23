"""Many merges of a base's adapters in one pass: their factors side by side, and a strength for each row.

PEFT gives all rows of a pass the same strengths. Here its layers are switched off, and what each adds is
computed from all factors at once: with A = [A_1; ...; A_K] and B = [s_1 B_1, ..., s_K B_K], a row x of a
merge gets W x + B (lambda * A x), lambda the strength of each column's adapter. Logits are computed where an
answer token is decided, and nowhere else; beginnings that prompts share are read once (``_tree``).

On a CPU the cores take a pass each. Threads that share a pass wait for each other at every product: where
other programs use the cores as well, that takes several times the processor's time.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from peft.tuners.lora import LoraLayer

from sim.hf._model import Loaded
from sim.hf._run import Strengths, answer_logits, require_finite
from sim.hf.passes._tree import Tree, inputs, is_cheaper, plant
from sim.hf.tokens import Batch

TOKENS = 1024
"""Tokens of a pass, at most, where the batch itself has no more; half of them on a CPU."""


def merge_logits(
    loaded: Loaded, batch: Batch, merges: Sequence[Strengths]
) -> Iterator[tuple[int, torch.Tensor]]:
    """(number of merges, their logits (number, N, V), float32), pass by pass, in order.

    Raises: ValueError, naming adapters, prompt and layer, for logits that are not finite.
    """
    count = TOKENS // 2 if loaded.model.device.type == "cpu" else TOKENS
    tree = _forest(loaded, batch)
    count = max(1, count // (batch.tokens.size if tree is None else len(tree.tokens)))
    groups = [merges[start : start + count] for start in range(0, len(merges), count)]
    passes = _passes(loaded, batch, tree, groups)
    for some, logits in zip(groups, passes, strict=True):
        if logits is None:  # the model does more than read its last states out
            passes.close()
            break
        bad = [number for number, one in enumerate(logits) if not _is_finite(one)]
        if bad:
            passes.close()  # what follows runs the model without these hooks
            require_finite(loaded, batch, some[bad[0]], logits[bad[0]], "the logits")
        yield len(some), logits
    else:
        return
    for some in groups:
        yield len(some), torch.stack([answer_logits(loaded, batch, one) for one in some])


def _is_finite(values: torch.Tensor) -> bool:
    """Whether all are. The sum takes a fifth of the time, and decides wherever it is finite itself."""
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def _forest(loaded: Loaded, batch: Batch) -> Tree | None:
    """The batch as a forest where the model reads one and that is less work."""
    width = getattr(loaded.model.config.get_text_config(), "hidden_size", 0)
    tree = plant(batch)
    return tree if is_cheaper(tree, batch, width) and loaded.reads_trees else None


def _passes(
    loaded: Loaded, batch: Batch, tree: Tree | None, groups: Sequence[Sequence[Strengths]]
) -> Iterator[torch.Tensor | None]:
    """The logits of each group of merges, in order (``_pass``)."""
    model, now = loaded.model, threading.local()
    head = model.get_base_model().get_output_embeddings()
    gather = head.register_forward_pre_hook(lambda _, given: (given[0][now.places][None],))
    try:
        with model.disable_adapter(), _adapted(loaded, now), _workers(model.device, len(groups)) as run:
            yield from run(lambda some: _pass(loaded, batch, tree, some, now), groups)
    finally:
        gather.remove()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _workers(device: torch.device, passes: int) -> Iterator[Callable]:
    """A ``map`` in order; on a CPU by as many workers as there are cores, which share them."""
    if device.type != "cpu":
        yield map
        return
    count = max(1, min(passes, cores()))
    threads = (cores() // count,)
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=threads)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _pass(
    loaded: Loaded, batch: Batch, tree: Tree | None, merges: Sequence[Strengths], now: threading.local
) -> torch.Tensor | None:
    """Logits of merges in one pass; None where the model does more than read its last states out.

    now: what the hooks read of the pass: ``places`` of the logits, ``strengths`` of each row.
    """
    model, count, device = loaded.model, len(merges), loaded.model.device
    if tree is None:
        rows, row, position = len(batch.tokens), batch.row, batch.position
        parts = {"input_ids": batch.tokens, "attention_mask": batch.mask}
        given = {name: torch.as_tensor(part, device=device).repeat(count, 1) for name, part in parts.items()}
    else:
        rows, row, position = 1, np.zeros_like(tree.node), tree.node
        given = inputs(tree, count, device, model.dtype)
    row = np.concatenate([row + rows * number for number in range(count)])
    now.places = tuple(torch.as_tensor(part, device=device) for part in (row, np.tile(position, count)))
    now.strengths = torch.tensor(np.asarray(merges, float), device=device).repeat_interleave(rows, dim=0)
    now.columns = {}
    with torch.inference_mode():
        logits = model(**given, use_cache=False).logits
        if logits.shape[:2] != (1, len(row)):
            return None
        return logits[0].float().reshape(count, len(batch.row), -1)


@contextlib.contextmanager
def _adapted(loaded: Loaded, now: threading.local) -> Iterator[None]:
    """Add to each adapted layer what the adapters do at the strengths (rows, K) of the pass, in the block."""
    own: dict[LoraLayer, dict[str, float]] = {}
    for layer, name, scale in loaded.scaling:
        own.setdefault(layer, {})[name] = scale
    hooks = []
    try:
        for layer, scales in own.items():
            hook = _addition(layer, scales, now, loaded.model.dtype)
            hooks.append(layer.get_base_layer().register_forward_hook(hook))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _addition(layer: LoraLayer, scales: Mapping[str, float], now: threading.local, kind) -> Callable:
    """The hook of a layer whose adapters have these scales; all in ``kind``, the base's type."""
    a = torch.cat([layer.lora_A[name].weight for name in scales]).to(kind).T
    b = torch.cat([scale * layer.lora_B[name].weight for name, scale in scales.items()], 1).to(kind).T
    places = tuple(int(name) for name in scales for _ in range(layer.lora_A[name].weight.shape[0]))

    def add(_: torch.nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        if places not in now.columns:  # the same for all layers of equal ranks
            now.columns[places] = now.strengths[:, None, list(places)].to(kind)
        change = ((given[0].to(kind) @ a) * now.columns[places]).flatten(0, 1)
        if output.dtype != kind:
            return output + (change @ b).view(output.shape).to(output.dtype)
        return torch.addmm(output.flatten(0, 1), change, b).view(output.shape)

    return add
