"""Adapters of other kinds made into low-rank updates by PEFT's own converter (``peft.convert_to_lora``).

No base is needed: the shapes are in the factors, and an update of these kinds does not depend on W. PEFT's
converter is not used for DoRA, whose magnitudes it leaves out (PEFT 0.21).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch

from sim.merge.peft.config import LORA, MADE_FROM
from sim.merge.peft.keys import PREFIX
from theory.lowrank import LowRank


def converted(
    path: Path, tensors: Mapping[str, np.ndarray], kind: str
) -> tuple[dict[str, Any], dict[str, LowRank], str]:
    """(configuration, low-rank updates, note) of the adapter in a folder of this kind, in float32.

    Raises: ValueError, one line, for convolutions, and for tensors that its configuration does not describe.
    """
    shapes = _shapes(path, tensors, kind)
    config = peft.PeftConfig.from_pretrained(path)
    config.target_modules, config.inference_mode = set(shapes), False
    model = peft.PeftModel(_skeleton(shapes), config)
    state = {key: torch.as_tensor(value.astype(np.float32)) for key, value in tensors.items()}
    try:
        report = peft.set_peft_model_state_dict(model, state)
    except RuntimeError:  # sizes that do not match
        raise ValueError(f"{path}: its tensors are not those that adapter_config.json describes") from None
    if report.unexpected_keys:
        raise ValueError(f"{path}: PEFT does not know {report.unexpected_keys[0]!r:.300} of this {kind}")
    _, factors = peft.convert_to_lora(model, rank=1.0)  # all of the energy
    modules, worst = {}, 0.0
    for name in sorted(shapes):
        b, a = (factors[f"{PREFIX}{name}.lora_{side}.weight"].numpy() for side in "BA")
        exact = model.get_submodule(PREFIX + name).get_delta_weight("default").detach().numpy()
        worst = max(worst, float(np.linalg.norm(b @ a - exact) / (np.linalg.norm(exact) or 1.0)))
        modules[name] = LowRank(b, a, 1.0)
    rank = max(update.a.shape[0] for update in modules.values())
    note = f"{path}: made from {kind} by PEFT, rank {rank}, off by at most {100 * worst:.1g}% of an update"
    fields = {name: getattr(config, name, None) for name in ("base_model_name_or_path", "task_type")}
    return {"peft_type": LORA, MADE_FROM: kind, **fields}, modules, note


def _shapes(path: Path, tensors: Mapping[str, np.ndarray], kind: str) -> dict[str, tuple[int, int]]:
    """{module: (out, in)} from the factors of LoHa (B1 A1) * (B2 A2) and LoKr W1 (x) W2."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, value in tensors.items():
        name, _, part = key.removeprefix(PREFIX).rpartition(".")
        if part.endswith(("_t1", "_t2")) or value.ndim != 2:
            raise ValueError(f"{path}: {key} is of a convolution; only linear layers of {kind} can be merged")
        modules.setdefault(name, {})[part] = value.shape
    try:
        return {name: _shape(parts, kind) for name, parts in modules.items()}
    except KeyError as error:
        raise ValueError(f"{path}: a module of this {kind} has no {error}; the file is incomplete") from None


def _shape(parts: Mapping[str, tuple[int, ...]], kind: str) -> tuple[int, int]:
    if kind == "LOHA":
        return parts["hada_w1_a"][0], parts["hada_w1_b"][1]
    sides = [parts.get(f"lokr_w{i}") or (parts[f"lokr_w{i}_a"][0], parts[f"lokr_w{i}_b"][1]) for i in (1, 2)]
    return sides[0][0] * sides[1][0], sides[0][1] * sides[1][1]


def _skeleton(shapes: Mapping[str, tuple[int, int]]) -> torch.nn.Module:
    """A model that has these modules and nothing else."""
    root = torch.nn.Module()
    for name, (out, size) in shapes.items():
        *above, last = name.split(".")
        parent = root
        for part in above:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        parent.add_module(last, torch.nn.Linear(size, out, bias=False))
    return root
