"""The rank and the scale of each module, by the patterns of ``adapter_config.json``."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sim.merge.peft.patterns import match


def ranks_and_scales(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """{module: (r, scale)}, from the patterns where one matches: alpha/r, or alpha/sqrt(r) with rsLoRA.

    Raises: ValueError, which names the field, for a pattern that cannot be matched (``patterns.match``).
    """
    _try_targets(config, names)
    ranks, alphas = (
        by_pattern(pattern, config.get(pattern) or {}, names, config[field])
        for field, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern"))
    )

    def scale(name: str) -> float:
        if ranks[name] < 1:
            return math.nan
        return alphas[name] / (math.sqrt(ranks[name]) if config.get("use_rslora") else ranks[name])

    return {name: (ranks[name], scale(name)) for name in names}


def by_pattern(
    field: str, table: Mapping[str, float], names: Sequence[str], default: float
) -> dict[str, float]:
    """{module: value} of the first pattern, in the file's order, that is its name or its end after a dot.

    PEFT's own rule (``get_pattern_key``): patterns are regular expressions, and one that begins with ^ is
    the whole name. Files written by PEFT list them by spelling, whatever the order they were given in.
    """
    accepted = _match(field, {pattern: rf"(.*\.)?({pattern})$" for pattern in table}, names)
    first = {name: next((text for text in table if name in accepted[text]), name) for name in names}
    return {name: table.get(text, default) for name, text in first.items()}


def _try_targets(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Match the regular expressions that PEFT will match to names, as it does: a merge hands them on."""
    for field in ("target_modules", "exclude_modules"):
        if isinstance(pattern := config.get(field), str):
            _match(field, {pattern: pattern}, names, "fullmatch")
    layers = config.get("layers_pattern") or []
    for pattern in [layers] if isinstance(layers, str) else layers:
        _match("layers_pattern", {pattern: rf".*\.{pattern}\.(\d+)\."}, names)


def _match(
    field: str, patterns: Mapping[str, str], names: Sequence[str], how: str = "match"
) -> dict[str, set[str]]:
    try:
        return match(patterns, names, how)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
