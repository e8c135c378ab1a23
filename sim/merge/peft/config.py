"""``adapter_config.json``: what it may say of a plain low-rank update, and each module's rank and scale.

Every field that is set must be one whose meaning is known to leave Delta W = scale * B A alone. A field of
another tool or of a later PEFT is refused by name, because skipping it would merge something else.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"

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
    "lora_bias": "biases on lora_B (lora_bias)",
    "modules_to_save": "whole trained modules (modules_to_save)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "layer_replication": "replicated layers (layer_replication)",
    "use_qalora": "QA-LoRA pooling (use_qalora)",
    "use_bdlora": "block-diagonal factors (use_bdlora)",
    "alora_invocation_tokens": "activation by invocation tokens (aLoRA)",
    "arrow_config": "an Arrow router (arrow_config)",
    "kasa_config": "KaSA singular values (kasa_config)",
    "monteclora_config": "sampled factors (monteclora_config)",
}
"""Fields that, when set, are known to mean more than Delta W = scale * B A; any other is unknown."""

INITS = ("gaussian", "eva", "orthogonal")
"""Initialisations by name that leave the base weights as they are."""

MUTATING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base weights, so that Delta W alone does not give the tuned model."""


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in an adapter's folder.

    Raises: ValueError, one line that names the file and the remedy, if it is not that of a plain LoRA.
    """
    file = path / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"{file} is missing; is {path} a PEFT adapter folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}); copy the adapter again") from None
    if isinstance(config, dict) and "lora_parameters" in config:
        raise ValueError(f"{file} is in the MLX format, not PEFT's: convert the adapter to PEFT first")
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{file}: peft_type is {kind!r}; only LORA adapters can be merged")
    for field, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        values = {field: config.get(field), **_checked_pattern(file, pattern, config.get(pattern) or {})}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{file}: {name!r} must be a number, found {value!r}")
    _refuse_more_than_low_rank(path, config)
    return config


def rank_and_scale(config: Mapping[str, Any], module: str) -> tuple[float, float]:
    """(r, scale) of a module, from the patterns where one matches: alpha/r, or alpha/sqrt(r) with rsLoRA."""
    rank = matched(config.get("rank_pattern"), module, config["r"])
    alpha = matched(config.get("alpha_pattern"), module, config["lora_alpha"])
    if rank < 1:
        return rank, math.nan
    return rank, alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def matched(patterns: Mapping[str, float] | None, module: str, default: float) -> float:
    """The value of the first pattern, in the file's order, that is the name or its end after a dot.

    PEFT's own rule (``get_pattern_key``): patterns are regular expressions, and one that begins with ^ is
    the whole name. Files written by PEFT list them by spelling, whatever the order they were given in.
    """
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return (patterns or {}).get(module, default)


def _checked_pattern(file: Path, field: str, pattern: Any) -> Mapping[str, Any]:
    try:
        for key in pattern:
            re.compile(key)
        return dict(pattern)
    except (re.error, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {field} is not a table of regular expressions ({error})") from None


def _refuse_more_than_low_rank(path: Path, config: Mapping[str, Any]) -> None:
    for field, value in config.items():
        if not value or field in NEUTRAL:
            continue
        if field in UNSUPPORTED:
            meaning = UNSUPPORTED[field]
            raise ValueError(f"{path} uses {meaning}, which a low-rank merge cannot carry; not supported")
        raise ValueError(
            f"{path / CONFIG} sets {field!r} to {value!r}, a field not known to leave Delta W alone; "
            "remove it from the file if it does"
        )
    if (config.get("bias") or "none") != "none":
        raise ValueError(f"{path} trains biases (bias={config['bias']!r}), which is not supported")
    if config.get("target_parameters") and (config.get("rank_pattern") or config.get("alpha_pattern")):
        raise ValueError(
            f"{path} has target_parameters beside rank_pattern or alpha_pattern, and its files do not tell "
            "the rank of fused experts then; train it with one rank and alpha"
        )
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(MUTATING_INITS):
        raise ValueError(
            f"{path} was initialised by {init!r}, which changes the base weights; save it as plain LoRA "
            "(PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    if isinstance(init, str) and init.lower() not in INITS:
        raise ValueError(
            f"{path / CONFIG}: init_lora_weights is {init!r}, not known to leave the base weights alone; "
            f"known: {', '.join(INITS)}"
        )
