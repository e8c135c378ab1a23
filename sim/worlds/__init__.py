"""Worlds: what the base knows, what each adapter is taught, and what is asked afterwards.

A world is one function from a frozen configuration and a seed to a ``World``; ``@world("name")`` makes
the sweep and its help text know it. All sequences of a group have one prompt length and one total
length, so shapes are static and nothing is padded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sequences:
    """Token sequences of one kind: the first ``prompt`` tokens are given, the rest is to be produced.

    ``weight`` is the relative frequency at which training draws a sequence; 0 means never.
    """

    tokens: Int[Array, "S T"]
    weight: Float[Array, " S"]
    prompt: int = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class World:
    """One sampled world, all arrays, so that worlds of one configuration can be stacked and vmapped.

    pretraining: groups the base is trained on, by name.
    libraries:   data of each adapter, by name ("hop1", "hop2", "joint", ...): groups as in ``pretraining``.
    probes:      groups asked of every model, by name; the completion is the right answer.
    """

    pretraining: dict[str, Sequences]
    libraries: dict[str, dict[str, Sequences]]
    probes: dict[str, Sequences]


WORLDS: dict[str, Callable] = {}


def world(name: str):
    """Register ``build(config, seed, setting) -> World`` under ``name``."""

    def register(build):
        WORLDS[name] = build
        return build

    return register


from sim.worlds import two_hop as _two_hop  # noqa: E402, F401  (registers itself)
