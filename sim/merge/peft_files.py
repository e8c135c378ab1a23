"""PEFT LoRA folders in and out: ``adapter_config.json`` beside ``adapter_model.safetensors``.

Reads only safetensors (never pickle) and only what a low-rank update can express: anything else an
adapter can carry (DoRA magnitudes, biases, embeddings, whole saved modules) is refused by name, because
dropping it silently would change the model. Whatever the layer type, PEFT stores lora_A as (r, in) and
lora_B as (out, r); ``fan_in_fan_out`` only says how the base weight is laid out, so it is carried along.
"""

import json
import math
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from theory.lowrank import LowRank

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

UNSUPPORTED = {
    "use_dora": "DoRA magnitudes",
    "lora_bias": "biases on lora_B (lora_bias)",
    "modules_to_save": "whole trained modules (modules_to_save)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "target_parameters": "adapted nn.Parameters (target_parameters)",
    "layer_replication": "replicated layers (layer_replication)",
    "use_qalora": "QA-LoRA pooling (use_qalora)",
    "use_bdlora": "block-diagonal factors (use_bdlora)",
    "alora_invocation_tokens": "activation by invocation tokens (aLoRA)",
    "arrow_config": "an Arrow router (arrow_config)",
    "kasa_config": "KaSA singular values (kasa_config)",
    "monteclora_config": "sampled factors (monteclora_config)",
}
"""Configuration fields that, when set, mean the adapter is more than Delta W = scale * B A."""

MUTATING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base weights, so that Delta W alone does not give the tuned model."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as read: its folder, its configuration, and one LowRank (numpy) for each module."""

    path: Path
    config: Mapping[str, Any]
    modules: Mapping[str, LowRank]


def read_adapter(path: str | Path) -> Adapter:
    """Read a PEFT folder. Half-precision factors become float32, which changes no value.

    The scale of a module is alpha/r, or alpha/sqrt(r) with ``use_rslora``, with r and alpha from
    ``rank_pattern`` and ``alpha_pattern`` where a pattern matches (the first that does, as PEFT matches).

    Raises: ValueError, one line that names the file and the remedy, if the folder is not a plain LoRA
    adapter or its files are damaged.
    """
    path = Path(path)
    config = _read_config(path)
    tensors = _read_tensors(path)
    factors: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.lora_([AB])\.weight", key)
        if not found:
            raise ValueError(
                f"{path / WEIGHTS}: holds {key!r}{_why(key)}; only lora_A and lora_B can be merged"
            )
        if tensor.ndim != 2:
            raise ValueError(
                f"{path / WEIGHTS}: {key} has {tensor.ndim} dimensions; only linear layers can be merged"
            )
        if tensor.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
            raise ValueError(f"{path / WEIGHTS}: {key} is {tensor.dtype.name}, not a float type")
        tensor = tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)
        if not np.isfinite(tensor).all():
            raise ValueError(f"{path / WEIGHTS}: {key} holds NaN or infinity; use a checkpoint without them")
        factors.setdefault(found[1], {})[found[2]] = tensor
    if not factors:
        raise ValueError(f"{path / WEIGHTS}: holds no LoRA weights")
    modules = {name: _update(path, config, name, factors[name]) for name in sorted(factors)}
    return Adapter(path, config, modules)


def check_mergeable(adapters: Sequence[Adapter]) -> None:
    """Raise ValueError unless all adapters change the same modules, of the same shapes, of one layout."""
    first = adapters[0]
    for other in adapters[1:]:
        for left, right in ((first, other), (other, first)):
            missing = sorted(set(left.modules) - set(right.modules))
            if missing:
                raise ValueError(
                    f"{right.path} does not adapt {missing[0]!r}, which {left.path} does "
                    f"({len(missing)} such modules): merge adapters with the same target modules"
                )
        for name, update in first.modules.items():
            shapes = [(u.b.shape[0], u.a.shape[1]) for u in (update, other.modules[name])]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{name} is {shapes[0]} (out, in) in {first.path} but {shapes[1]} in {other.path}: "
                    "these adapters belong to different base models"
                )
        if bool(first.config.get("fan_in_fan_out")) != bool(other.config.get("fan_in_fan_out")):
            raise ValueError(f"{first.path} and {other.path} differ in fan_in_fan_out: different base layers")


def write_adapter(folder: Path, modules: Mapping[str, LowRank], sources: Sequence[Adapter]) -> None:
    """Write updates as a PEFT adapter into an existing folder, with the configuration of the sources.

    Ranks and alphas that differ between modules go into rank_pattern and alpha_pattern; alpha/r is
    the scale and rsLoRA is off, so every PEFT version scales the adapter alike.
    """
    tensors, ranks, alphas = {}, {}, {}
    for name, update in modules.items():
        b, a, scale = np.asarray(update.b), np.asarray(update.a), float(update.scale)
        if not scale > 0:  # keep alpha positive: the sign (or the zero) goes into B
            b, scale = b * b.dtype.type(scale), 1.0
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(b)
        ranks[name] = a.shape[0]
        alphas[name] = _alpha(scale, a.shape[0])
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    config = {
        **sources[0].config,
        **_targets(sources),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": _pattern(ranks, rank),
        "alpha_pattern": _pattern(alphas, alpha),
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o666 & ~_umask())


@contextmanager
def atomic_folder(out: str | Path) -> Iterator[Path]:
    """A fresh folder beside ``out`` that takes its name only when the block ends well; else it is removed.

    Raises: ValueError if ``out`` exists already (nothing is overwritten) or cannot be created.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already and is not empty: choose another --out, or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give the folder that holds {CONFIG}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file} is missing; is {path} a PEFT adapter folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}); copy the adapter again") from None
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{file}: peft_type is {kind!r}; only LORA adapters can be merged")
    for field, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        values = {field: config.get(field), **_checked_pattern(file, pattern, config.get(pattern) or {})}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{file}: {name!r} must be a number, found {value!r}")
    for field, meaning in UNSUPPORTED.items():
        if config.get(field):
            raise ValueError(f"{path} uses {meaning}, which a low-rank merge cannot carry; not supported")
    if config.get("bias", "none") != "none":
        raise ValueError(f"{path} trains biases (bias={config['bias']!r}), which is not supported")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(MUTATING_INITS):
        raise ValueError(
            f"{path} was initialised by {init!r}, which changes the base weights; save it as plain LoRA "
            "(PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    return config


def _checked_pattern(file: Path, field: str, pattern: Any) -> Mapping[str, Any]:
    try:
        for key in pattern:
            re.compile(key)
        return dict(pattern)
    except (re.error, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {field} is not a table of regular expressions ({error})") from None


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    file = path / WEIGHTS
    if not file.is_file():
        if (path / "adapter_model.bin").exists():
            raise ValueError(f"{path} holds only a pickle (adapter_model.bin): save it as safetensors")
        raise ValueError(f"{file} is missing")
    try:
        return load_file(file)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        reason = str(error)
    # Only now: a sound safetensors file may begin with these bytes too, they are its header's length.
    with file.open("rb") as stream:
        head = stream.read(4)
    for magic, kind in ((b"PK\x03\x04", "zip archive (a torch.save file?)"), (b"\x80", "pickle")):
        if head.startswith(magic):
            raise ValueError(f"{file} is a {kind}, not safetensors; never unpickled: save it as safetensors")
    raise ValueError(f"{file} is not a whole safetensors file ({reason}); copy it again")


def _why(key: str) -> str:
    for part, meaning in (
        ("lora_magnitude_vector", " (DoRA)"),
        ("lora_embedding_", " (an adapted embedding)"),
        (".lora_B.bias", " (lora_bias)"),
        ("modules_to_save", " (a whole saved module)"),
    ):
        if part in key:
            return meaning
    return ""


def _update(path: Path, config: Mapping, name: str, factors: Mapping[str, np.ndarray]) -> LowRank:
    for side in "AB":
        if side not in factors:
            raise ValueError(f"{path / WEIGHTS}: {name} has no lora_{side}; the file is incomplete")
    a, b = factors["A"], factors["B"]
    rank = _matched(config.get("rank_pattern"), name, config["r"])
    alpha = _matched(config.get("alpha_pattern"), name, config["lora_alpha"])
    if a.shape[0] != rank or b.shape[1] != rank or rank < 1:
        raise ValueError(
            f"{path}: {name} has lora_A {a.shape} and lora_B {b.shape}, but {CONFIG} gives it rank {rank}"
        )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LowRank(b, a, scale)


def _matched(patterns: Mapping[str, float] | None, name: str, default: float) -> float:
    """The value of the first pattern that matches the module name at a dot boundary, as PEFT looks it up."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def _pattern(values: Mapping[str, float], default: float) -> dict[str, float]:
    """The modules that differ from the default. PEFT takes the first key that ends a name: longest first.

    A key can also end the name of a module that has the default value, so those are listed as well.
    """
    named = {name: value for name, value in values.items() if value != default}
    shadowed = {n: v for n, v in values.items() if any(n.endswith("." + other) for other in named)}
    return dict(sorted({**named, **shadowed}.items(), key=lambda item: -len(item[0])))


def _alpha(scale: float, rank: int) -> float:
    """The alpha whose alpha / rank is the scale: to the last bit where such a float exists."""
    alpha = scale * rank
    for candidate in (alpha, math.nextafter(alpha, 0), math.nextafter(alpha, math.inf)):
        if candidate / rank == scale:
            alpha = candidate
            break
    return int(alpha) if alpha == int(alpha) else alpha


def _targets(sources: Sequence[Adapter]) -> dict[str, Any]:
    """The fields that say which modules are adapted: those of the sources if they agree, else full names."""
    fields = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")

    def said(adapter: Adapter) -> list[Any]:
        values = [adapter.config.get(field) for field in fields]
        return [sorted(value) if isinstance(value, list) else value for value in values]

    agreed = said(sources[0])
    if all(said(source) == agreed for source in sources):
        return {field: sources[0].config.get(field) for field in fields}
    return {**dict.fromkeys(fields), "target_modules": sorted(sources[0].modules)}
