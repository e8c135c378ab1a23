"""PEFT LoRA folders in and out: ``adapter_config.json`` beside ``adapter_model.safetensors``.

Reads only safetensors (never pickle) and only what a low-rank update can express: anything else an
adapter can carry (DoRA magnitudes, biases, embeddings, whole saved modules) is refused by name, because
dropping it silently would change the model. Whatever the layer type, PEFT stores lora_A as (r, in) and
lora_B as (out, r); ``fan_in_fan_out`` only says how the base weight is laid out, so it is carried along.
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from sim.lab import files
from sim.merge.peft_config import CONFIG, rank_and_scale, read_config
from sim.merge.peft_keys import PREFIX, foreign, parsed
from theory.lowrank import LowRank

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as read: its folder, its configuration, and one LowRank (numpy) for each module.

    note: what was read otherwise than it stands, in one line; empty where files are as PEFT writes them.
    absent: modules that its files do not hold, and that were filled in as zero (``aligned``).
    """

    path: Path
    config: Mapping[str, Any]
    modules: Mapping[str, LowRank]
    note: str = ""
    absent: tuple[str, ...] = ()


def read_adapter(path: str | Path) -> Adapter:
    """Read a PEFT folder. Half-precision factors become float32, which changes no value.

    The scale of a module is alpha/r, or alpha/sqrt(r) with ``use_rslora``, with r and alpha from
    ``rank_pattern`` and ``alpha_pattern`` where a pattern matches (``peft_config.matched``). Names lose
    wrapper segments (torch.compile, FSDP, checkpointing, DataParallel) and adapter names; ``note`` says so.

    Raises: ValueError, one line that names the file and the remedy, if the folder is not a plain LoRA
    adapter or its files are damaged.
    """
    path = Path(path)
    _refuse_other_formats(path)
    config = read_config(path)
    factors: dict[str, dict[str, np.ndarray]] = {}
    dropped: set[str] = set()
    for raw, tensor in _read_tensors(path / WEIGHTS).items():
        try:
            key = parsed(raw)
        except ValueError as error:
            raise ValueError(f"{path / WEIGHTS}: {error}") from None
        sides = factors.setdefault(key.module, {})
        if key.side in sides:
            raise ValueError(f"{path / WEIGHTS}: holds two lora_{key.side} of {key.module}; save one adapter")
        sides[key.side] = _checked(path / WEIGHTS, raw, tensor)
        dropped |= set(key.dropped)
    if not factors:
        raise ValueError(f"{path / WEIGHTS}: holds no LoRA weights")
    modules = {name: _update(path, config, name, factors[name]) for name in sorted(factors)}
    note = f"{path}: module names were read without {', '.join(sorted(dropped))}" if dropped else ""
    return Adapter(path, config, modules, note)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out`` when the block ends well, and leaves nothing behind when it does not.

    Raises: ValueError if ``out`` holds something already (nothing is overwritten) or cannot be created.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already and is not empty: choose another --out, or remove it first")
    with contextlib.ExitStack() as stack:
        try:
            part = stack.enter_context(files.replacing(out))
        except OSError as error:
            raise ValueError(f"cannot write {out}: {error.strerror}; choose another --out") from error
        part.mkdir()
        yield part


def write_adapter(out: str | Path, modules: Mapping[str, LowRank], sources: Sequence[Adapter]) -> None:
    """Write updates as the PEFT adapter ``out``, whole or not at all, configured as the sources are.

    Raises: ValueError if ``out`` holds something already or cannot be created.
    """
    with new_folder(Path(out)) as folder:
        write_files(folder, modules, sources)


def write_files(folder: Path, modules: Mapping[str, LowRank], sources: Sequence[Adapter]) -> None:
    """The two files of ``write_adapter`` in a folder that exists.

    alpha = r for every module, so the scale is 1 and no pattern is needed: PEFT matches a pattern to the
    ends of names, in the order of its file, and so gives a module the value of another whose name ends like
    its own. Each scale is multiplied into B (rounded once), and ranks are padded with zeros to the largest.
    """
    rank = max(update.a.shape[0] for update in modules.values())
    tensors = {}
    for name, update in modules.items():
        b, a = np.asarray(update.b), np.asarray(update.a)
        b = (b.astype(np.float64) * float(update.scale)).astype(b.dtype)
        missing = rank - a.shape[0]
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(np.pad(a, ((0, missing), (0, 0))))
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(np.pad(b, ((0, 0), (0, missing))))
    config = {
        **sources[0].config,
        **_targets(sources, modules),
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))


def _refuse_other_formats(path: Path) -> None:
    """ValueError for a path that is no PEFT folder, by the name of its format where its tensors tell it."""
    if (path / CONFIG).exists():
        return
    found = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    for file in found:
        with contextlib.suppress(SafetensorError, OSError), safe_open(file, "np") as tensors:
            if name := foreign(tensors.keys()):
                raise ValueError(f"{file} is in the {name} format, not PEFT's: convert it to PEFT first")
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; give the folder that holds {CONFIG}")


def _read_tensors(file: Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        if (file.parent / "adapter_model.bin").exists():
            raise ValueError(f"{file.parent} holds only a pickle (adapter_model.bin): save it as safetensors")
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


def _checked(file: Path, key: str, tensor: np.ndarray) -> np.ndarray:
    """The tensor in float32 or float64. Raises ValueError if it is no finite matrix of floats."""
    if tensor.ndim != 2:
        raise ValueError(f"{file}: {key} has {tensor.ndim} dimensions; only linear layers can be merged")
    if tensor.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"{file}: {key} is {tensor.dtype.name}, not a float type")
    tensor = tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)
    if not np.isfinite(tensor).all():
        raise ValueError(f"{file}: {key} holds NaN or infinity; use a checkpoint without them")
    return tensor


def _update(path: Path, config: Mapping, name: str, factors: Mapping[str, np.ndarray]) -> LowRank:
    for side in "AB":
        if side not in factors:
            raise ValueError(f"{path / WEIGHTS}: {name} has no lora_{side}; the file is incomplete")
    a, b = factors["A"], factors["B"]
    rank, scale = rank_and_scale(config, name)
    if a.shape[0] != rank or b.shape[1] != rank or rank < 1:
        raise ValueError(
            f"{path}: {name} has lora_A {a.shape} and lora_B {b.shape}, but {CONFIG} gives it rank {rank}"
        )
    return LowRank(b, a, scale)


def _targets(sources: Sequence[Adapter], modules: Iterable[str]) -> dict[str, Any]:
    """The fields that say which modules are adapted: those of the sources if they agree, else full names.

    Full names are one regular expression, which PEFT matches to whole names; in a list, a name would also
    take every module whose name it ends. Names that were changed in reading are given in full as well.
    """
    fields = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")

    def said(adapter: Adapter) -> list[Any]:
        values = [adapter.config.get(field) for field in fields]
        return [sorted(value) if isinstance(value, list) else value for value in values]

    agreed = said(sources[0])
    whole = all(source.modules.keys() == set(modules) and not source.note for source in sources)
    if agreed[0] and whole and all(said(source) == agreed for source in sources):
        return {field: sources[0].config.get(field) for field in fields}
    names = "|".join(re.escape(name) for name in sorted(modules))
    return {**dict.fromkeys(fields), "target_modules": names}
