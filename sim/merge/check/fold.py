"""What a base becomes when an adapter is folded into it, tensor by tensor, in float64.

LoRA: W' = W + Delta W. DoRA: W' = m (W + Delta W) / |W + Delta W|, norms of rows (out). A bias on lora_B adds
its scaled self to the layer's bias. Saved modules and trained biases take the place of the base's.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sim.merge.check.parts import Parts
from sim.merge.check.shards import read_tensor, shards, spelled
from sim.merge.peft.keys import is_vocabulary
from theory.lowrank import LowRank, cast, dense


def fold(weight: np.ndarray, update: LowRank, magnitude: np.ndarray | None, transposed: bool) -> np.ndarray:
    """W' of one module. Raises ValueError for a base of another shape."""
    delta = np.asarray(dense(cast(update, np.float64)))
    matrix = weight.astype(np.float64).T if transposed else weight.astype(np.float64)
    if delta.shape != matrix.shape:
        raise ValueError(f"it is {matrix.shape} (out, in) there, the adapter has {delta.shape}")
    total = matrix + delta
    if magnitude is not None:
        total = total * (magnitude / np.linalg.norm(total, axis=1))[:, None]
    return total.T if transposed else total


def tensors(parts: Parts, base: Path, candidate: Path) -> Iterator[tuple[str, str, np.ndarray, ...]]:
    """(name, part, W, exact, merged) of each tensor that should change or that both models have.

    part: update, DoRA update, bias, whole tensor or base. A tensor that ``candidate`` lacks is zero there,
    but for an output head that is tied to the embedding.
    Raises: ValueError for folders without tensors, a base that lacks a module, or other shapes.
    """
    keys, others = shards(base, "--base"), shards(candidate, "--check")
    seen = set()
    for name, part in _touched(parts).items():
        own = _place(name, keys)
        if not own and part in ("update", "DoRA update"):
            raise ValueError(f"--base {base} has no {name}: it is another model")
        there = _place(name, others)
        seen |= {own, there}
        module = name.rpartition(".")[0]
        if part == "whole tensor":
            exact = parts.wholes[name].astype(np.float64)
            start = read_tensor(keys, own).astype(np.float64) if own else 0 * exact
        elif part == "bias":
            start = read_tensor(keys, own).astype(np.float64) if own else 0 * parts.shifts[module]
            exact = start + parts.shifts[module]
        else:
            start = read_tensor(keys, own).astype(np.float64)
            try:
                magnitude = parts.magnitudes.get(module)
                exact = fold(start, parts.updates[module], magnitude, parts.transposed)
            except ValueError as error:
                raise ValueError(f"--base {base}: {name}: {error}: another model") from None
        yield name, part, start, exact, read_tensor(others, there) if there else np.zeros_like(exact)
    for name in sorted(keys.keys() - seen):
        if there := _place(name, others):
            start = read_tensor(keys, name)
            yield name, "base", start, start, read_tensor(others, there)


def _touched(parts: Parts) -> dict[str, str]:
    """{tensor: part} of all that an adapter changes."""
    names = {
        f"{name}.weight": "DoRA update" if name in parts.magnitudes else "update" for name in parts.updates
    }
    return (
        names
        | {f"{name}.bias": "bias" for name in parts.shifts}
        | dict.fromkeys(parts.wholes, "whole tensor")
    )


def _place(name: str, keys: Mapping[str, Path]) -> str:
    """The model's name of a tensor; of a head that is tied, that of the embedding; empty if there is none."""
    tied = is_vocabulary(name.removesuffix(".weight")) and name.endswith(".weight")
    vocabulary = [key for key in sorted(keys) if is_vocabulary(key.removesuffix(".weight"))]
    return spelled(name, keys) or (vocabulary[0] if tied and len(vocabulary) == 1 else "")
