"""What every world is built of: groups of sequences, questions, and the check of a setting's values."""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float, Int

from sim.model.sequences import Sequences
from sim.worlds.probe import Layout, Probe

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where traces of other facts occur: (in pretraining, in the parts' own data)."""

FACTS = "facts"
"""Name of the group of one-hop facts, which every adapter's data has."""

JOINT = "joint"
"""Name of the adapter trained on the data of all parts: the ceiling."""

UNMARKED = Layout()


def require_choices(setting: object, **choices_by_field: Collection[str]) -> None:
    """Raise ValueError, naming field, value and choices, unless each field has one of its choices."""
    for name, choices in choices_by_field.items():
        if getattr(setting, name) not in choices:
            raise ValueError(f"unknown {name} {getattr(setting, name)!r}: use one of {', '.join(choices)}")


def require_doses(setting: object, *names: str) -> None:
    """Raise ValueError unless these fields, numbers of sequences, are 0 or more."""
    for name in names:
        if getattr(setting, name) < 0:
            raise ValueError(f"{name} is {getattr(setting, name)}: a dose is 0 or more")


def take(places: np.ndarray, count: int, message: str) -> np.ndarray:
    """The first ``count`` of some places. ValueError, "only THERE MESSAGE", where there are fewer: all worlds
    have equal shapes."""
    if len(places) < count:
        raise ValueError(f"only {len(places)} {message}")
    return places[:count]


def seen_by_base(setting: object) -> dict[str, str]:
    """The fields ``template`` and ``identity`` of the Setting that a base depends on: whether pretraining
    shows them."""
    return {
        name: "pretraining" if TEMPLATES[getattr(setting, name)][0] else "none"
        for name in ("template", "identity")
    }


def columns(*parts) -> Int[np.ndarray, "S T"]:
    """Sequences from blocks of tokens (S, k), columns (S,), and single tokens, the same in all."""
    count = len(next(part for part in parts if np.ndim(part)))
    blocks = [part if np.ndim(part) == 2 else np.broadcast_to(part, count)[:, None] for part in parts]
    return np.concatenate(blocks, axis=1).astype(np.int32)


def group(tokens: Int[np.ndarray, "S T"], weight, prompt: int) -> Sequences:
    """Sequences of these tokens; ``weight`` is one number or one a row."""
    weight = np.broadcast_to(np.asarray(weight, np.float32), len(tokens)).copy()
    return Sequences(tokens, weight, prompt)


def reweigh(sequences: Sequences, weight) -> Sequences:
    """The sequences with other weights: one number, or one a row."""
    return group(sequences.tokens, weight, sequences.prompt)


def join(*groups: Sequences) -> Sequences:
    """Groups of one shape as one, rows in their order."""
    tokens, weights = ([getattr(each, name) for each in groups] for name in ("tokens", "weight"))
    return Sequences(np.concatenate(tokens), np.concatenate(weights), groups[0].prompt)


def lessons(
    facts: Sequences, traces: Sequences, taught: Mapping[str, tuple]
) -> dict[str, dict[str, Sequences]]:
    """``World.data``: the same groups for every adapter, with its own weights of (facts, traces)."""
    return {
        name: {FACTS: reweigh(facts, on_facts), "traces": reweigh(traces, on_traces)}
        for name, (on_facts, on_traces) in taught.items()
    }


def ask(
    sequences: Sequences,
    layout: Layout = UNMARKED,
    nulls: Mapping[str, Float[np.ndarray, "S S"]] | None = None,
    **changes,
) -> Probe:
    """The sequences as questions, with ``changes`` of the layout's fields.

    nulls: of models that lack some of the facts (``Probe.nulls``).
    """
    layout = dataclasses.replace(layout, **changes) if changes else layout
    return Probe(sequences.tokens, sequences.weight, sequences.prompt, layout, dict(nulls or {}))


def positions(start: int, count: int) -> tuple[int, ...]:
    """``count`` positions of a sequence from ``start`` on."""
    return tuple(range(start, start + count))
