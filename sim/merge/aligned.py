"""Adapters made comparable: one base model, and the same modules, absent ones as zero."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from sim.merge.layouts import two_layouts
from sim.merge.peft.config import TARGETS
from sim.merge.peft.files import Adapter
from sim.merge.peft.keys import is_vocabulary
from theory.lowrank import LowRank

_RESIZED = (
    "the vocabulary was resized differently, or these are different base models; train the adapters on one "
    "base with one tokenizer"
)


def aligned(adapters: Sequence[Adapter]) -> list[Adapter]:
    """The adapters over all modules that any of them has; where one has none, Delta W = 0 of another's shape.

    ``absent`` and ``note`` say which were filled in. An adapter that has all comes back as it is.
    Raises: ValueError for adapters of different base models (modules of one name and different shapes, other
    ``fan_in_fan_out`` or copies of base weights, no common module under different
    ``base_model_name_or_path``), for modules that are the same but for a wrapper's prefix (``two_layouts``),
    and for fused experts under different targets.
    """
    first = adapters[0]
    for other in adapters[1:]:
        _refuse_other_layout(first, other, adapters)
    for one, another in itertools.combinations(adapters, 2):
        if remedy := two_layouts(one, another, adapters):
            raise ValueError(f"{one.path} and {another.path} name one model in two layouts: {remedy}")
    _refuse_other_copies(adapters)
    pattern: dict[str, tuple[Adapter, LowRank]] = {}
    for adapter in adapters:
        for name, update in adapter.modules.items():
            _refuse_other_shape(name, adapter, *pattern.setdefault(name, (adapter, update)))
    return [_filled(adapter, {name: update for name, (_, update) in pattern.items()}) for adapter in adapters]


def _refuse_other_layout(first: Adapter, other: Adapter, adapters: Sequence[Adapter]) -> None:
    formats = [adapter.config.get("format", "PEFT") for adapter in (first, other)]
    if formats[0] != formats[1]:
        raise ValueError(
            f"{first.path} is in the {formats[0]} format and {other.path} in the {formats[1]} format: "
            "convert one of them"
        )
    if bool(first.config.get("fan_in_fan_out")) != bool(other.config.get("fan_in_fan_out")):
        raise ValueError(
            f"{first.path} and {other.path} differ in fan_in_fan_out, which is true for the Conv1D layers of "
            "GPT-2: they have different bases, or one is wrong; set it alike in adapter_config.json"
        )
    if any(adapter.config.get("target_parameters") for adapter in (first, other)):
        targets = [[adapter.config.get(field) or None for field in TARGETS] for adapter in (first, other)]
        if targets[0] != targets[1] or first.modules.keys() != other.modules.keys():
            raise ValueError(
                f"{first.path} and {other.path} differ in their targets: PEFT tells fused experts "
                "(target_parameters) apart by their order, so merge adapters with the same targets"
            )
    bases = [adapter.config.get("base_model_name_or_path") for adapter in (first, other)]
    if bases[0] != bases[1] and not set(first.modules) & set(other.modules):
        remedy = two_layouts(first, other, adapters)
        raise ValueError(
            f"{first.path} and {other.path} share no module and name "
            f"different base models ({bases[0]}, {bases[1]}): merge adapters of one base model"
            + (f"; if these are one model in two layouts, {remedy}" if remedy else "")
        )


def _refuse_other_copies(adapters: Sequence[Adapter]) -> None:
    holders: dict[str, Adapter] = {}
    for adapter in adapters:
        for key, copy in adapter.copies.items():
            holder = holders.setdefault(key, adapter)
            other = holder.copies[key]
            if other.shape != copy.shape:
                raise ValueError(
                    f"{holder.path} and {adapter.path} hold copies of the base's {key} of different shapes, "
                    f"{other.shape} and {copy.shape}: {_RESIZED}"
                )
            if other.dtype != copy.dtype or not np.array_equal(copy, other):
                raise ValueError(
                    f"{holder.path} and {adapter.path} hold different copies of the base's {key}: other base "
                    "models, or a layer trained beside LoRA, which a low-rank merge cannot carry"
                )


def _refuse_other_shape(name: str, adapter: Adapter, holder: Adapter, pattern: LowRank) -> None:
    update = adapter.modules[name]
    shapes = [(u.b.shape[0], u.a.shape[1]) for u in (pattern, update)]
    if shapes[0] != shapes[1]:
        reason = _RESIZED if is_vocabulary(name) and shapes[0][1] == shapes[1][1] else ""
        raise ValueError(
            f"{name} is {shapes[0]} (out, in) in {holder.path} but {shapes[1]} in {adapter.path}: "
            + (reason or "these adapters belong to different base models")
        )


def _filled(adapter: Adapter, pattern: dict[str, LowRank]) -> Adapter:
    """Zeros of the rank that another adapter has there: methods that mix factors need one rank."""
    absent = tuple(name for name in pattern if name not in adapter.modules)
    if not absent:
        return adapter
    zeros = {name: LowRank(*(np.zeros_like(side) for side in pattern[name][:2]), 1.0) for name in absent}
    missing = f"{adapter.path}: does not adapt {absent[0]}" + (
        f" and {len(absent) - 1} other modules that others do" if len(absent) > 1 else ", which others do"
    )
    note = "; ".join(text for text in (adapter.note, f"{missing}: taken as Delta W = 0") if text)
    modules = {name: {**adapter.modules, **zeros}[name] for name in sorted(pattern)}
    return dataclasses.replace(adapter, modules=modules, absent=absent, note=note)
