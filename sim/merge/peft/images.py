"""LoRA files of image models: kohya (sd-scripts) and diffusers, one safetensors file with every factor.

kohya: ``lora_unet_NAME.lora_down.weight`` (A), ``.lora_up.weight`` (B), ``.alpha``; scale alpha/r.
diffusers: ``unet.NAME.lora_A.weight``, ``.lora.down.weight``, ``.lora_linear_layer.down.weight`` or
``.processor.to_q_lora.down.weight`` with their other sides; alpha in ``.alpha`` or in the file's metadata.
Without an alpha the scale is 1. Convolutions of size 1 are linear; larger ones are refused.
LoHa in kohya's names: ``lora_unet_NAME.hada_w1_a`` (B1), ``_b`` (A1), ``hada_w2_a`` (B2), ``_b`` (A2).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from sim.merge.peft.scales import ranks_and_scales
from theory.lowrank import LowRank

FILE = "pytorch_lora_weights.safetensors"
"""The name that diffusers looks for in a folder."""

FORMATS = {"kohya (sd-scripts)": "kohya", "diffusers": "diffusers"}
"""Format by the name that ``keys.foreign`` gives it."""

SIDES = {"down": "A", "up": "B", "A": "A", "B": "B"}

FACTOR = re.compile(
    r"(?P<module>.+?)(?P<processor>\.processor)?"
    r"(?:\.lora_(?P<a>down|up|A|B)|\.lora\.(?P<b>down|up)|\.lora_linear_layer\.(?P<c>down|up)"
    r"|\.(?P<target>\w+)_lora\.(?P<d>down|up))\.weight"
)
"""A key of one factor, in any spelling."""

LOHA = re.compile(r"(?P<module>.+)\.hada_(?P<part>w[12]_[ab])")
"""A key of one of the four factors of a LoHa module."""

OTHERS = (
    (r"\.dora_scale$|magnitude", "DoRA magnitudes"),
    (r"\.hada_", "a LoHa convolution in three factors"),
    (r"\.lokr_", "LoKr factors"),
    (r"\.lora_mid\.", "a convolution in three factors"),
    (r"\.bias$|\.diff(_b)?$", "whole trained tensors"),
)
"""Pattern of a key -> what it holds that no low-rank update can carry."""


def parsed_factor(raw: str) -> tuple[str, str]:
    """(module, "A", "B" or "alpha") of a key. Raises ValueError that says what the key is instead."""
    if raw.endswith(".alpha"):
        return raw.removesuffix(".alpha").removesuffix(".lora"), "alpha"
    for pattern, what in OTHERS:
        if re.search(pattern, raw):
            raise ValueError(f"holds {raw!r:.300} ({what}), which a low-rank merge cannot carry")
    factor = FACTOR.fullmatch(raw)
    if factor is None:
        raise ValueError(f"holds {raw!r:.300}; only pairs of factors and their alpha can be merged")
    side = next(factor[name] for name in "abcd" if factor[name])
    module = factor["module"]
    if factor["target"]:  # the old names of attention processors
        module += "." + {"to_out": "to_out.0"}.get(factor["target"], factor["target"])
    return module, SIDES[side]


def factors_of(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """{module: {"A": ..., "B": ..., "alpha": ...}} of a file. Raises ValueError as ``parsed_factor``."""
    factors: dict[str, dict[str, np.ndarray]] = {}
    for raw, tensor in tensors.items():
        key = LOHA.fullmatch(raw)
        module, part = (key["module"], key["part"]) if key else parsed_factor(raw)
        if part in factors.setdefault(module, {}):
            raise ValueError(f"holds two {part} of {module}; save one adapter")
        factors[module][part] = tensor
    return {
        module: parts if {"A", "B"} & parts.keys() or parts.keys() == {"alpha"} else _low_rank(module, parts)
        for module, parts in factors.items()
    }


def _low_rank(module: str, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The factors of LoHa, (B1 A1) * (B2 A2) entry by entry, as exact ones of rank r^2.

    B[o, (i, j)] = B1[o, i] B2[o, j] and A[(i, j), n] = A1[i, n] A2[j, n]; alpha times r, because alpha/r is
    the scale. Source: Hyeon-Woo et al. 2022, arXiv 2108.06098, proposition 1.
    Raises: ValueError for a convolution, a part that is missing, and shapes that do not fit together.
    """
    try:
        b1, a1, b2, a2 = (parts[name] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    except KeyError as error:
        raise ValueError(f"{module} has no factor {error}; the file is incomplete") from None
    shapes = [side.shape for side in (b1, a1, b2, a2)]
    if re.search(r"(^|[._])conv", module) or {len(shape) for shape in shapes} != {2}:
        raise ValueError(f"{module} is a convolution; only linear layers of LoHa can be merged")
    if shapes[0] != shapes[2] or shapes[1] != shapes[3] or shapes[0][1] != shapes[1][0]:
        raise ValueError(
            f"{module} has LoHa factors {', '.join(map(str, shapes))}, which do not fit together"
        )
    wide = [side.astype(np.result_type(side, np.float32)) for side in (b1, a1, b2, a2)]
    b = np.einsum("oi,oj->oij", wide[0], wide[2]).reshape(len(b1), -1)
    a = np.einsum("in,jn->ijn", wide[1], wide[3]).reshape(-1, a1.shape[1])
    alpha = {"alpha": parts["alpha"] * len(a1)} if "alpha" in parts else {}
    return {"A": a, "B": b, **alpha}


def linear(tensor: np.ndarray) -> np.ndarray:
    """A convolution of size 1 as the matrix that it is; anything else as it stands."""
    return tensor[:, :, 0, 0] if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor


def alphas(file: Path, factors: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """{module: alpha}: that of the file's tensors, else of its metadata, else the rank (scale 1).

    diffusers' metadata ``lora_adapter_metadata`` is JSON of the PEFT configuration of each component, under
    "unet.lora_alpha" and the like. Raises: ValueError for metadata that cannot be read.
    """
    values = {name: float(linear(sides["A"]).shape[0]) for name, sides in factors.items()}
    with safe_open(file, "np") as tensors:
        text = (tensors.metadata() or {}).get("lora_adapter_metadata", "{}")
    fields: dict[str, dict[str, Any]] = {}
    for key, value in json.loads(text).items():
        component, _, field = key.partition(".")
        fields.setdefault(component, {})[field] = value
    for component, config in fields.items():
        names = [name.removeprefix(f"{component}.") for name in values if name.startswith(f"{component}.")]
        if names and {"r", "lora_alpha"} <= config.keys():
            for name, (rank, scale) in ranks_and_scales(config, names).items():
                values[f"{component}.{name}"] = scale * rank
    return values | {
        name: float(sides["alpha"].reshape(())) for name, sides in factors.items() if "alpha" in sides
    }


def image_bytes(kind: str, factors: Mapping[str, tuple[np.ndarray, np.ndarray]], convolutions: set[str]):
    """The file of an image model, from {module: (B, A)} at scale 1. alpha = r in kohya's."""
    names = ("lora_down", "lora_up") if kind == "kohya" else ("lora_A", "lora_B")
    tensors = {}
    for module, (b, a) in factors.items():
        for name, side in zip(names, (a, b), strict=True):
            side = side[:, :, None, None] if module in convolutions else side
            tensors[f"{module}.{name}.weight"] = np.ascontiguousarray(side)
        if kind == "kohya":
            tensors[f"{module}.alpha"] = np.asarray(a.shape[0], a.dtype)
    return save(tensors, metadata={"format": "pt"})


def update_of(a: np.ndarray, b: np.ndarray, alpha: float) -> LowRank:
    """alpha/r B A."""
    return LowRank(b, a, alpha / a.shape[0])
