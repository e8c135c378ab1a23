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
from sim.merge.peft.config import CONFIG, MADE_FROM, TARGETS
from sim.merge.peft.experts import fused
from sim.merge.peft.files import WEIGHTS, Adapter, widest
from sim.merge.peft.images import FILE, image_bytes
from sim.merge.peft.keys import PREFIX
from sim.merge.peft.rounding import Rounding, refuse_loss, round_factors
from theory.lowrank import LowRank


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out`` when the block ends well, and leaves nothing behind when it does not.

    Raises: ValueError if ``out`` holds something already (nothing is overwritten) or cannot be created.
    """
    files.check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} exists already and is not empty: choose another --out, or remove it first")
    with contextlib.ExitStack() as stack:
        try:
            part = stack.enter_context(files.replacing(out))
        except OSError as error:
            raise ValueError(f"cannot write {out}: {error.strerror}; choose another --out") from error
        part.mkdir()
        yield part


def write_adapter(
    out: str | Path,
    modules: Mapping[str, LowRank],
    sources: Sequence[Adapter],
    dtype: str = "",
    allow_rounding: bool = False,
) -> Rounding:
    """Write updates as the PEFT adapter ``out``, whole or not at all, configured as the sources are.

    Returns: the largest loss by rounding.
    Raises: ValueError if ``out`` holds something already or cannot be created, and as ``write_files`` does.
    """
    with new_folder(Path(out)) as folder:
        return write_files(folder, modules, sources, dtype, allow_rounding)


def write_files(
    folder: Path,
    modules: Mapping[str, LowRank],
    sources: Sequence[Adapter],
    dtype: str = "",
    allow_rounding: bool = False,
) -> Rounding:
    """The two files of ``write_adapter`` in a folder that exists, in ``dtype`` or else ``kept_dtype``.

    alpha = r for every module, so the scale is 1 and no pattern is needed: PEFT matches a pattern to the
    ends of names, in the order of its file, and so gives a module the value of another whose name ends like
    its own. Each scale is shared between B and A (``balance``), which are rounded once, and ranks are padded
    with zeros to the largest. Copies of base weights go along as they are.

    Raises: ValueError for a number too large for the type, or a module of which rounding loses more than
    ``rounding.MOST`` unless ``allow_rounding``.
    """
    rank = max(update.a.shape[0] for update in modules.values())
    widest_factor = np.result_type(*(update.b.dtype for update in modules.values()))
    kind = dtype or kept_dtype(sources) or widest_factor.name
    factors, losses = {}, {}
    for name, update in modules.items():
        b, a, losses[name] = round_factors(update, kind)
        missing = rank - a.shape[0]
        factors[name] = np.pad(b, ((0, 0), (0, missing))), np.pad(a, ((0, missing), (0, 0)))
    worst = max(losses, key=losses.__getitem__)
    rounding = Rounding(kind, worst, losses[worst])
    if np.isinf(rounding.loss):
        raise ValueError(f"{worst} has numbers too large for {kind}: choose --dtype bfloat16 or float32")
    if not allow_rounding:
        refuse_loss(modules, rounding)
    if kind_of_file := sources[0].config.get("format"):
        convolutions = {name for source in sources for name in source.config["convolutions"]}
        (folder / FILE).write_bytes(image_bytes(kind_of_file, factors, convolutions))
        return rounding
    tensors = {key: copy for source in sources for key, copy in source.copies.items()}
    for name, (b, a) in fused(factors).items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(b)
    config = {
        **{field: value for field, value in sources[0].config.items() if field != MADE_FROM},
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
    return rounding


def kept_dtype(sources: Sequence[Adapter]) -> str:
    """The type of the sources' files, the wider of several; empty where a source is not from files."""
    types = {source.dtype for source in sources}
    return "" if "" in types else widest(types)


def _targets(sources: Sequence[Adapter], modules: Iterable[str]) -> dict[str, Any]:
    """The fields that say which modules are adapted: those of the sources if they agree, else full names.

    Full names are one regular expression, which PEFT matches to whole names; in a list, a name would also
    take every module whose name it ends. Names that were changed in reading are given in full as well.
    """

    def fields_of(adapter: Adapter) -> list[Any]:
        values = [adapter.config.get(field) for field in TARGETS]
        return [sorted(value) if isinstance(value, list) else value for value in values]

    agreed = fields_of(sources[0])
    whole = all(source.modules.keys() == set(modules) and not source.note for source in sources)
    fused_experts = sources[0].config.get("target_parameters")  # then ``aligned`` has seen that they agree
    if fused_experts or (agreed[0] and whole and all(fields_of(source) == agreed for source in sources)):
        return {field: sources[0].config.get(field) for field in TARGETS}
    names = "|".join(re.escape(name) for name in sorted(modules))
    return {**dict.fromkeys(TARGETS), "target_modules": names}
