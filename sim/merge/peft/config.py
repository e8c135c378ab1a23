"""``adapter_config.json``: what it may say of a plain low-rank update.

Every field that is set must be one whose meaning is known to leave Delta W = scale * B A alone. A field of
another tool or of a later PEFT is refused by name, because skipping it would merge something else.
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.merge.peft.contents import BEGINNING, identify, parse_json
from sim.merge.peft.keys import FOLD

CONFIG = "adapter_config.json"

LORA = "LORA"
CONVERTIBLE = ("LOHA", "LOKR")
"""Kinds of PEFT that ``_convert`` makes low-rank updates of."""

MADE_FROM = "made_from"
"""The field of an adapter's configuration that says what it was converted from; never written."""

LARGEST = 1e9
"""A rank or an alpha beyond this is damage."""

NAMES = ("auto_mapping", "base_model_name_or_path", "revision", "task_type", "peft_type", "peft_version")
READ = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out")
TARGETS = ("target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern")
CARRIED = (*TARGETS, "inference_mode")
CHECKED = ("init_lora_weights", "bias")
TRAINING = ("lora_dropout", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config")
LAYOUT = ("megatron_config", "megatron_core", "qalora_group_size", "ensure_weight_tying", "runtime_config")
NEUTRAL = frozenset(NAMES + READ + CARRIED + CHECKED + TRAINING + LAYOUT)
"""Fields that may be set: they are read, checked by value, or change nothing of the trained Delta W."""

UNSUPPORTED = {
    "use_dora": "DoRA magnitudes",
    "lora_bias": "biases on lora_B",
    "modules_to_save": "whole trained modules",
    "trainable_token_indices": "trained token embeddings",
    "layer_replication": "replicated layers",
    "use_qalora": "QA-LoRA pooling",
    "use_bdlora": "block-diagonal factors",
    "alora_invocation_tokens": "activation by invocation tokens",
    "arrow_config": "an Arrow router",
    "kasa_config": "KaSA singular values",
    "monteclora_config": "sampled factors",
}
"""Fields that, when set, are known to mean more than Delta W = scale * B A; any other is unknown."""

INITS = ("gaussian", "eva", "orthogonal")
"""Initialisations by name that leave the base weights as they are."""

MUTATING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base weights, so that Delta W alone does not give the tuned model."""


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_names(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_numbers(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return value is None or all(isinstance(item, int) for item in items)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("use_rslora", "fan_in_fan_out"), (_is_flag, "true or false")),
    **dict.fromkeys(("base_model_name_or_path", "bias"), (_is_text, "a text")),
    **dict.fromkeys(
        ("target_modules", "target_parameters", "exclude_modules", "layers_pattern"),
        (_is_names, "a text or a list of texts"),
    ),
    "layers_to_transform": (_is_numbers, "a whole number or a list of them"),
    "init_lora_weights": (lambda value: _is_flag(value) or _is_text(value), "true, false or a text"),
}
"""Fields that are read or handed on -> whether a value is what PEFT writes there, and what that is."""


def read_config(path: Path, kinds: Sequence[str] = (LORA,)) -> dict[str, Any]:
    """The configuration in an adapter's folder, every field that is read of the kind that it should be.

    kinds: the values of ``peft_type`` that will do; of others than LoRA nothing more is read.
    Raises: ValueError, one line that names the file and the remedy, if it is of another kind.
    """
    file = path / CONFIG
    config = _parse(file)
    if isinstance(config, dict) and "lora_parameters" in config:
        raise ValueError(f"{file} is in the MLX format, not PEFT's: convert the adapter to PEFT first")
    if not isinstance(config, dict) or config.get("peft_type", LORA) not in kinds:
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise ValueError(
            f"{file}: peft_type is {reprlib.repr(kind)}; only {', '.join(kinds)} adapters can be read"
        )
    if config.get("peft_type", LORA) != LORA:
        return config
    for field, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        table = config.get(pattern) or {}
        if not isinstance(table, dict):
            raise ValueError(
                f"{file}: {pattern} is not a table of regular expressions, found {reprlib.repr(table)}"
            )
        for name, value in {field: config.get(field), **table}.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not abs(value) <= LARGEST:
                raise ValueError(
                    f"{file}: {reprlib.repr(name)} must be a number, found {reprlib.repr(value)}"
                    + (f"; the largest is {LARGEST:g}" if number else "")
                )
    for field, (fits, kind) in KINDS.items():
        if not fits(config.get(field)):
            raise ValueError(f"{file}: {field} must be {kind}, found {reprlib.repr(config[field])}")
    return config


def _parse(file: Path) -> Any:
    """The JSON of a file, or ValueError that says what it is instead."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{file} is missing; is {file.parent} a PEFT adapter folder?") from None
    try:
        return parse_json(content.decode("utf-8-sig"))
    except ValueError as error:
        what = identify(content[:BEGINNING]) or f"is not readable JSON ({error}); copy the adapter again"
    raise ValueError(f"{file} {what}")


def refuse_more_than_low_rank(path: Path, config: Mapping[str, Any]) -> None:
    """Raise ValueError, one line with the remedy, for a field that says more than Delta W = scale * B A."""
    for field, value in config.items():
        if not value or field in NEUTRAL:
            continue
        if field in UNSUPPORTED:
            uses = f"uses {UNSUPPORTED[field]} ({field}={reprlib.repr(value)})"
            raise ValueError(f"{path} {uses}, which a low-rank merge cannot carry: {FOLD}")
        sets = f"sets {reprlib.repr(field)} to {reprlib.repr(value)}"
        raise ValueError(
            f"{path / CONFIG} {sets}, a field not known to leave Delta W alone; remove it from the file "
            "if it does"
        )
    if (bias := config.get("bias") or "none") != "none":
        raise ValueError(f"{path} trains biases (bias={bias!r}), which a low-rank merge cannot carry: {FOLD}")
    if config.get("target_parameters") and (config.get("rank_pattern") or config.get("alpha_pattern")):
        raise ValueError(
            f"{path} has target_parameters beside rank_pattern or alpha_pattern, and its files do not tell "
            "the rank of fused experts then; train it with one rank and alpha"
        )
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(MUTATING_INITS):
        raise ValueError(
            f"{path} was initialised by {reprlib.repr(init)}, which changes the base weights; save it as "
            "plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    if isinstance(init, str) and init.lower() not in INITS:
        raise ValueError(
            f"{path / CONFIG}: init_lora_weights is {reprlib.repr(init)}, not known to leave the base "
            f"weights alone; known: {', '.join(INITS)}"
        )
