"""PEFT LoRA folders read: ``adapter_config.json`` beside ``adapter_model.safetensors``.

Reads only safetensors (never pickle) and only what a low-rank update can express: anything else an
adapter can carry (DoRA magnitudes, biases, embeddings, whole saved modules) is refused by name, because
dropping it silently would change the model. Whatever the layer type, PEFT stores lora_A as (r, in) and
lora_B as (out, r); ``fan_in_fan_out`` only says how the base weight is laid out, so it is carried along.
"""

import contextlib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from sim.merge.peft.config import CONFIG, CONVERTIBLE, LORA, read_config, refuse_more_than_low_rank
from sim.merge.peft.contents import read_tensors
from sim.merge.peft.experts import experts
from sim.merge.peft.hub import local
from sim.merge.peft.images import FORMATS, LOHA, alphas, factors_of, linear, update_of
from sim.merge.peft.keys import foreign, parsed
from sim.merge.peft.scales import ranks_and_scales
from theory.lowrank import LowRank

WEIGHTS = "adapter_model.safetensors"

SIZES = (1e-30, 1e15)
"""|scale| |B| |A| of an update that is not zero: beyond, float32 cannot hold it or its square."""

COPY = (".base_layer.weight", ".base_layer.bias")
"""Ends of keys of base weights that PEFT saves as well, where an output layer is adapted or was resized."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as read: its folder, its configuration, and one LowRank (numpy) for each module.

    note: what was read otherwise than it stands, in one line; empty where files are as PEFT writes them.
    absent: modules that its files do not hold, and that were filled in as zero (``aligned``).
    dtype: the type its files are in, the wider of several; empty for an adapter that is not from files.
    copies: tensors of the base model that PEFT saved beside the factors (``base_layer``), by their keys.
    """

    path: Path
    config: Mapping[str, Any]
    modules: Mapping[str, LowRank]
    note: str = ""
    absent: tuple[str, ...] = ()
    dtype: str = ""
    copies: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_adapter(path: str | Path) -> Adapter:
    """Read a PEFT folder, or a file of an image model (``images``).

    Half-precision factors become float32, which changes no value.

    The scale of a module is alpha/r, or alpha/sqrt(r) with ``use_rslora``, with r and alpha from
    ``rank_pattern`` and ``alpha_pattern`` where a pattern matches (``scales.by_pattern``). Names lose
    wrapper segments (torch.compile, FSDP, checkpointing, DataParallel) and adapter names; ``note`` says so.
    A folder that holds one adapter in a folder of its own is read as that; fused experts one by one
    (``experts``).

    Raises: ValueError, one line that names the file and the remedy, if the folder is not a plain LoRA
    adapter or its files are damaged.
    """
    given = Path(path)
    path = located(given)
    if image := _image_file(path):
        return _read_image(*image)
    config = read_config(path, (LORA, *CONVERTIBLE))
    tensors = read_weights(path)
    kind = config.get("peft_type", LORA)
    adapter = adapter_of(path, config, tensors) if kind == LORA else _converted(path, tensors, kind)
    notes = [f"{given}: read from {path.name}"] if path != given else []
    return replace(adapter, note="; ".join([*notes, *filter(None, [adapter.note])]))


def _converted(path: Path, tensors: Mapping[str, np.ndarray], kind: str) -> Adapter:
    """An adapter of another kind, by PEFT's converter. Raises ValueError where that is not installed."""
    try:
        module = importlib.import_module("sim.merge.peft._convert")
    except ImportError as error:
        raise ValueError(
            f"{path} is a {kind} adapter, and to make a LoRA of it {error.name} is needed: pip install "
            "-e '.[hf]', or convert it by peft.save_as_lora elsewhere"
        ) from None
    return Adapter(path, *module.converted(path, tensors, kind), dtype="float32")


def adapter_of(path: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Adapter:
    """The adapter of a folder's configuration and tensors. Raises ValueError as ``read_adapter`` does."""
    factors: dict[str, dict[str, np.ndarray]] = {}
    dropped: set[str] = set()
    copies: dict[str, np.ndarray] = {}
    types: set[str] = set()
    for raw, tensor in tensors.items():
        if raw.endswith(COPY):
            copies[raw] = tensor
            continue
        types.add(tensor.dtype.name)
        try:
            key = parsed(raw, tensor.shape)
        except ValueError as error:
            raise ValueError(f"{path / WEIGHTS}: {error}") from None
        sides = factors.setdefault(key.module, {})
        if key.side in sides:
            raise ValueError(f"{path / WEIGHTS}: holds two lora_{key.side} of {key.module}; save one adapter")
        sides[key.side] = _checked(path / WEIGHTS, raw, tensor)
        dropped |= set(key.dropped)
    if not factors:
        raise ValueError(f"{path / WEIGHTS}: holds no LoRA weights")
    refuse_more_than_low_rank(path, config)
    try:
        scales = ranks_and_scales(config, sorted(factors))
    except ValueError as error:
        raise ValueError(f"{path / CONFIG}: {error}") from None
    modules: dict[str, LowRank] = {}
    for name, (rank, scale) in scales.items():
        modules |= _updates(path, config, name, factors[name], rank, scale)
    note = f"{path}: module names were read without {', '.join(sorted(dropped))}" if dropped else ""
    return Adapter(path, config, modules, note, dtype=widest(types), copies=copies)


def widest(types: Iterable[str]) -> str:
    """The one type of all, or else float64 if it is among them, else float32, which holds the others."""
    types = set(types)
    return next(iter(types)) if len(types) == 1 else "float64" if "float64" in types else "float32"


def located(path: Path) -> Path:
    """The folder, that of an id of the hub (``local``), or the only adapter one folder down (a checkpoint).

    Raises: ValueError for several, and as ``local`` does.
    """
    path = local(path)
    if not path.is_dir() or (path / CONFIG).exists():
        return path
    below = sorted(file.parent for file in path.glob(f"*/{CONFIG}"))
    if len(below) > 1:
        names = ", ".join(folder.name for folder in below)
        raise ValueError(f"{path} holds several adapters, one folder down: give one of {names}")
    return below[0] if below else path


def _image_file(path: Path) -> tuple[Path, str] | None:
    """The file of an image model at a path that is no PEFT folder, and its format. ValueError for others."""
    if (path / CONFIG).exists():
        return None
    candidates = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    for file in candidates:
        with contextlib.suppress(SafetensorError, OSError), safe_open(file, "np") as tensors:
            if (name := foreign(tensors.keys())) in FORMATS:
                if len(candidates) > 1:
                    raise ValueError(f"{path} holds several safetensors files: give one of them")
                return file, FORMATS[name]
            if name:
                raise ValueError(f"{file} is in the {name} format, not PEFT's: convert it to PEFT first")
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give the folder that holds {CONFIG}")
    return None


def _read_image(file: Path, kind: str) -> Adapter:
    """An adapter of an image model; ``config`` says its format and which modules are convolutions."""
    tensors = read_tensors(file)
    try:
        factors = factors_of(tensors)
        for name, sides in factors.items():
            for side in "AB":
                if side not in sides:
                    raise ValueError(f"{name} has no lora_{side} (down: A, up: B); the file is incomplete")
        alpha = alphas(file, factors)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: {error}") from None
    modules, convolutions = {}, []
    for name, sides in sorted(factors.items()):
        if sides["A"].ndim == 4:
            convolutions.append(name)
        a, b = (_checked(file, f"{name} ({side})", linear(sides[side])) for side in "AB")
        if a.shape[0] != b.shape[1] or not a.size or not b.size:
            raise ValueError(f"{file}: {name} has down {a.shape} and up {b.shape}, whose ranks differ")
        modules[name] = update_of(a, b, alpha[name])
    config = {"peft_type": "LORA", "format": kind, "convolutions": convolutions}
    types = {side.dtype.name for sides in factors.values() for key, side in sides.items() if key != "alpha"}
    note = f"{file}: LoHa read as exact factors of rank r^2" if any(map(LOHA.fullmatch, tensors)) else ""
    return Adapter(file, config, modules, note, dtype=widest(types))


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a PEFT folder. Raises ValueError if they are missing, a pickle or damaged."""
    file = path / WEIGHTS
    if not file.is_file():
        if (file.parent / "adapter_model.bin").exists():
            raise ValueError(f"{file.parent} holds only a pickle (adapter_model.bin): save it as safetensors")
        raise ValueError(f"{file} is missing")
    return read_tensors(file)


def _checked(file: Path, key: str, tensor: np.ndarray) -> np.ndarray:
    """The tensor in float32 or float64. Raises ValueError if it is no finite matrix of floats."""
    if tensor.shape == (0,):
        raise ValueError(
            f"{file}: {key} is empty, as DeepSpeed ZeRO-3 saves what it has not gathered: convert the "
            "checkpoint by its zero_to_fp32.py, or train with stage3_gather_16bit_weights_on_model_save"
        )
    if tensor.ndim != 2:
        raise ValueError(f"{file}: {key} has {tensor.ndim} dimensions; only linear layers can be merged")
    if tensor.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"{file}: {key} is {tensor.dtype.name}, not a float type")
    tensor = tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)
    if not np.isfinite(tensor).all():
        raise ValueError(f"{file}: {key} holds NaN or infinity; use a checkpoint without them")
    return tensor


def _updates(
    path: Path,
    config: Mapping[str, Any],
    name: str,
    sides: Mapping[str, np.ndarray],
    rank: float,
    scale: float,
) -> dict[str, LowRank]:
    """The update of a module under its name, or those of fused experts under theirs."""
    for side in "AB":
        if side not in sides:
            raise ValueError(f"{path / WEIGHTS}: {name} has no lora_{side}; the file is incomplete")
    a, b = sides["A"], sides["B"]
    if config.get("target_parameters") and rank >= 1 and a.shape[0] == b.shape[1] > rank:
        return experts(f"{path}: {name}", name, LowRank(b, a, scale), int(rank))
    if a.shape[0] != rank or b.shape[1] != rank or rank < 1 or not (a.size and b.size):
        raise ValueError(
            f"{path}: {name} has lora_A {a.shape} and lora_B {b.shape}, but {CONFIG} gives it rank {rank:g}"
        )
    size = abs(scale) * np.prod([np.linalg.norm(side.astype(np.float64)) for side in (a, b)])
    if size and not SIZES[0] < size < SIZES[1]:
        raise ValueError(
            f"{path}: {name} has an update of norm {size:.1g} at scale {scale:.1g}, which float32 cannot "
            f"hold: lora_alpha in {CONFIG} or the tensors are damaged"
        )
    return {name: LowRank(b, a, scale)}
