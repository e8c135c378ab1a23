"""Worlds: pretraining data of the base, training data of each adapter, and test questions.

A world is one file: its ``Config`` (sizes), its ``Setting`` (what varies between the cells of a seed) and a
``build`` function under ``@world``. The file's name is the world's; commands and their help find it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from sim.lab.registry import Registry
from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds.building import FACTS, JOINT
from sim.worlds.probe import Layout, Probe, Step
from sim.worlds.text import Text, TextProbe, TextWorld

__all__ = [
    "FACTS",
    "JOINT",
    "WORLDS",
    "Layout",
    "Probe",
    "Sequences",
    "Step",
    "Text",
    "TextProbe",
    "TextWorld",
    "World",
    "WorldKind",
    "build",
    "kind_of",
    "world",
]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class World:
    """One sampled world, all arrays, so that worlds of one configuration can be stacked and vmapped.

    pretraining: groups the base is trained on, by name.
    data:        training data of each adapter, groups as in ``pretraining``, by the adapter's name: every
                 part, ``JOINT``, and extras (a "bridge", an "expert") that a library may hold besides the
                 parts. Closed-form adapters are solved on the group ``FACTS``, which an adapter must know.
    probes:      test questions for every model, by name. The probe of a part's own training questions has the
                 part's name.
    parts:       names of the disjoint adapters, two or more.
    libraries:   (name, adapters) of further libraries. A library of the parts and one extra, named after the
                 extra, needs no entry. A library of one adapter is evaluated without a merge.
    """

    pretraining: dict[str, Sequences]
    data: dict[str, dict[str, Sequences]]
    probes: dict[str, Probe]
    parts: tuple[str, ...] = field(metadata={"static": True})
    libraries: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), metadata={"static": True})


@dataclass(frozen=True)
class WorldKind:
    """Description of a kind of world, before one is sampled.

    config, setting: its dataclasses. A config has ``vocab``, the number of tokens; a setting has
        ``pretraining``, the part of it that the base depends on, and its fields are columns of the results.
    build:       (config, seed, setting) -> World; equal shapes and layouts for all seeds and settings.
    pretraining, finetuning: how a base and an adapter are trained, batches by name of the groups.
    settings:    by profile ("quick", "paper"), the settings that the main job runs.

    A world of text (``sim.worlds.text``) is for a language model that is there already: it has no vocabulary
    and no schedules, and ``build`` gives a ``TextWorld``.
    """

    name: str
    config: type
    setting: type
    build: Callable[[Any, int, Any], World | TextWorld]
    pretraining: Schedule | None
    finetuning: Schedule | None
    settings: Mapping[str, Sequence[Any]]

    @property
    def is_text(self) -> bool:
        """Whether its worlds are of text."""
        return self.finetuning is None


WORLDS: Registry[WorldKind] = Registry("world")


def world(
    config: type,
    setting: type,
    pretraining: Schedule | None,
    finetuning: Schedule | None,
    settings: Mapping,
):
    """Register ``build`` under the name of its file."""

    def register(build: Callable) -> Callable:
        name = build.__module__.rpartition(".")[2]
        WORLDS.add(name, WorldKind(name, config, setting, build, pretraining, finetuning, settings))
        return build

    return register


def kind_of(config: Any) -> WorldKind:
    """The kind of world that a configuration belongs to."""
    return next(kind for kind in WORLDS.values() if kind.config is type(config))


def build(config: Any, seed: int, setting: Any) -> World | TextWorld:
    """One world of the kind of ``config``."""
    return kind_of(config).build(config, seed, setting)


WORLDS.discover(__name__)
