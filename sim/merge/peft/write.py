"""PEFT LoRA folders written: whole or not at all, in the type of the sources, with a model card."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from sim.lab import files
from sim.merge.peft.config import CONFIG, TARGETS
from sim.merge.peft.experts import fused
from sim.merge.peft.files import WEIGHTS, Adapter, widest
from sim.merge.peft.keys import PREFIX
from theory.lowrank import LowRank


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


def write_adapter(
    out: str | Path, modules: Mapping[str, LowRank], sources: Sequence[Adapter], dtype: str = ""
) -> None:
    """Write updates as the PEFT adapter ``out``, whole or not at all, configured as the sources are.

    Raises: ValueError if ``out`` holds something already or cannot be created, and as ``write_files`` does.
    """
    with new_folder(Path(out)) as folder:
        write_files(folder, modules, sources, dtype)


def write_files(
    folder: Path, modules: Mapping[str, LowRank], sources: Sequence[Adapter], dtype: str = ""
) -> None:
    """The two files of ``write_adapter`` in a folder that exists, in ``dtype`` or else ``kept_dtype``.

    alpha = r for every module, so the scale is 1 and no pattern is needed: PEFT matches a pattern to the
    ends of names, in the order of its file, and so gives a module the value of another whose name ends like
    its own. Each scale is multiplied into B (rounded once), and ranks are padded with zeros to the largest.
    Copies of base weights go along as they are.

    Raises: ValueError for a number too large for the type.
    """
    rank = max(update.a.shape[0] for update in modules.values())
    kind = np.dtype(dtype or kept_dtype(sources) or np.result_type(*(u.b.dtype for u in modules.values())))
    factors = {}
    for name, update in modules.items():
        missing = rank - update.a.shape[0]
        b = np.asarray(update.b).astype(np.float64) * float(update.scale)
        factors[name] = (
            _cast(name, np.pad(b, ((0, 0), (0, missing))), kind),
            _cast(name, np.pad(np.asarray(update.a), ((0, missing), (0, 0))), kind),
        )
    tensors = {key: copy for source in sources for key, copy in source.copies.items()}
    for name, (b, a) in fused(factors).items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(b)
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


def kept_dtype(sources: Sequence[Adapter]) -> str:
    """The type of the sources' files, the wider of several; empty where a source is not from files."""
    types = {source.dtype for source in sources}
    return "" if "" in types else widest(types)


def _cast(name: str, factor: np.ndarray, kind: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = factor.astype(kind)
    if not np.isfinite(found).all():
        raise ValueError(f"{name} has numbers too large for {kind}: choose --dtype bfloat16 or float32")
    return found


def _targets(sources: Sequence[Adapter], modules: Iterable[str]) -> dict[str, Any]:
    """The fields that say which modules are adapted: those of the sources if they agree, else full names.

    Full names are one regular expression, which PEFT matches to whole names; in a list, a name would also
    take every module whose name it ends. Names that were changed in reading are given in full as well.
    """

    def said(adapter: Adapter) -> list[Any]:
        values = [adapter.config.get(field) for field in TARGETS]
        return [sorted(value) if isinstance(value, list) else value for value in values]

    agreed = said(sources[0])
    whole = all(source.modules.keys() == set(modules) and not source.note for source in sources)
    fused_experts = sources[0].config.get("target_parameters")  # then ``aligned`` has seen that they agree
    if fused_experts or (agreed[0] and whole and all(said(source) == agreed for source in sources)):
        return {field: sources[0].config.get(field) for field in TARGETS}
    names = "|".join(re.escape(name) for name in sorted(modules))
    return {**dict.fromkeys(TARGETS), "target_modules": names}
