"""Shared code of all worlds' Settings: the check of their values, and the part that the base depends on."""

from collections.abc import Collection, Mapping


def require_choices(setting: object, choices_by_field: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError, naming field, value and choices, unless each field has one of its choices."""
    for name, choices in choices_by_field.items():
        if getattr(setting, name) not in choices:
            raise ValueError(f"unknown {name} {getattr(setting, name)!r}: use one of {', '.join(choices)}")


def seen_by_base(setting: object, templates: Mapping[str, tuple[bool, bool]]) -> dict[str, str]:
    """The fields ``template`` and ``identity`` of the Setting that a base depends on: whether pretraining
    shows them. templates: key -> (in pretraining, in the data)."""
    return {
        name: "pretraining" if templates[getattr(setting, name)][0] else "none"
        for name in ("template", "identity")
    }
