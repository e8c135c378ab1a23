"""Fused experts (PEFT's ``target_parameters``): one LoRA for E matrices, read expert by expert.

PEFT keeps lora_A as (E r, in), expert by expert, and lora_B as (out, r E), the experts fastest, so that
Delta W_e = scale * B[:, :, e] A[e] (``ParamWrapper.get_delta_weight``). In between an expert is a module of
its own, "<module>[e]", and every merge method and measure applies to it.
"""

import re
from collections.abc import Mapping

import numpy as np

from theory.lowrank import LowRank


def experts(where: str, module: str, update: LowRank, rank: int) -> dict[str, LowRank]:
    """The E updates of rank ``rank`` that a fused one holds. Raises ValueError if none fit."""
    b, a, scale = update
    count, rest = divmod(a.shape[0], rank)
    if rest:
        raise ValueError(f"{where} has lora_A {a.shape}, which is no number of experts of rank {rank}")
    sides = b.reshape(b.shape[0], rank, count), a.reshape(count, rank, a.shape[1])
    return {
        f"{module}[{e}]": LowRank(np.ascontiguousarray(sides[0][:, :, e]), sides[1][e], scale)
        for e in range(count)
    }


def fused(factors: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(B, A) by module, all of one rank, with experts put together again as PEFT keeps them."""
    result: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    groups: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for name, sides in factors.items():
        expert = re.fullmatch(r"(.+)\[(\d+)\]", name)
        if expert:
            groups.setdefault(expert[1], {})[int(expert[2])] = sides
        else:
            result[name] = sides
    for module, parts in groups.items():
        ordered = [parts[e] for e in range(len(parts))]
        b = np.stack([b for b, _ in ordered], axis=2)
        result[module] = b.reshape(b.shape[0], -1), np.concatenate([a for _, a in ordered], axis=0)
    return result
