"""What a cell is: everything that decides its outcome, and its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sim.merge import METHODS
from sim.model.training import MASTERY as MASTERY
from sim.model.training import Schedule
from sim.model.transformer import ATTENTION, MLP, Decoder
from sim.worlds import JOINT, World, kind_of
from sim.worlds.controls import UNTRAINED

FAMILIES = ("lora", "lora_last", "closed_form")
"""How adapters are made: gradient-trained on every matrix, on the last MLP output, or solved for there."""

LAST = ("lora_last", "closed_form")
"""The families that change the last MLP output alone: their linear merges are predicted exactly."""


@dataclass(frozen=True)
class Recipe:
    """What an adapter's training depends on besides its base and data: the part of a configuration that its
    compiled program knows, so that configurations that differ elsewhere share the program."""

    decoder: Decoder
    finetuning: Schedule
    rank: int
    kinds: tuple[str, ...]


PREFIXES = tuple(UNTRAINED.values())


class Libraries:
    """Which adapters and libraries a configuration has, by its ``extras``."""

    extras: tuple[str, ...]

    def adapters(self, world: World) -> tuple[str, ...]:
        """Names of the adapters that are taught; an adapter's place here is part of its random key."""
        return tuple(name for name in self._members(world) if not name.startswith(PREFIXES))

    def random(self, world: World) -> dict[str, str]:
        """The adapters that are never trained, each with the name of the one whose norms it has."""
        return {
            name: name.removeprefix(prefix)
            for name in self._members(world)
            for prefix in PREFIXES
            if name.startswith(prefix)
        }

    def _members(self, world: World) -> tuple[str, ...]:
        members = [name for library in self.libraries(world).values() for name in library]
        return tuple(dict.fromkeys((*world.parts, JOINT, *members)))

    def libraries(self, world: World) -> dict[str, tuple[str, ...]]:
        """The libraries that are merged and routed: the parts alone, and the extras."""
        named = {
            label: tuple(prefix + part for part in world.parts) for label, prefix in UNTRAINED.items()
        } | dict(world.libraries)
        return {"parts": world.parts} | {
            extra: named.get(extra, (*world.parts, extra)) for extra in self.extras
        }


@dataclass(frozen=True)
class ReuseConfig(Libraries):
    """What decides the outcome of a cell, apart from its seed and setting: sizes of the decoder, training,
    which libraries are made, and how they are reused.

    world:     configuration of the world, of a type that a file in ``sim.worlds`` registered.
    rank, kinds: of the adapters, and the matrices they change (family "lora").
    finetuning: of every adapter alike, the joint one and those of traces included; it has a margin, so that
               they are trained until they know what they are taught.
    families:  of ``FAMILIES``. Each has the adapter of every part of the world and the joint one.
    extras:    libraries besides the parts, by name: what ``World.libraries`` says of it, or the parts and the
               adapter of that name.
    methods:   data-free merges. ``lambdas``: common coefficients of the linear merge of the parts.
    composed:  linear methods whose coefficients weigh logits in place of updates
               (``sim.reuse.ask.composed``); such a model is called LOGITS + method.
    routers:   names of ``sim.model.routing.ROUTERS``. ``oracle`` adds the router that a probe's layout names.
    losses:    whether to measure the loss of single adapters and merges on probes with a chance level.
    margins:   whether to measure what the base's margins and the first steps say of merges
               (``sim.reuse.margins``).
    interaction: whether to tell merges of trained adapters from what adapters do to each other as well
               (``sim.reuse.interaction``), and to measure the pair (``sim.reuse.pairs``).
    """

    world: Any
    pretraining: Schedule
    finetuning: Schedule
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 256
    rank: int = 4
    kinds: tuple[str, ...] = ATTENTION + MLP
    families: tuple[str, ...] = FAMILIES
    extras: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("average", "sum", "concat", "svd", "ties")
    lambdas: tuple[float, ...] = ()
    composed: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    oracle: bool = False
    losses: bool = False
    margins: bool = False
    interaction: bool = False

    @property
    def decoder(self) -> Decoder:
        """The decoder whose vocabulary fits the world."""
        return Decoder(self.world.vocab, self.layers, self.width, self.heads, self.hidden)

    @property
    def recipe(self) -> Recipe:
        """How its adapters are trained."""
        return Recipe(self.decoder, self.finetuning, self.rank, self.kinds)


def of_world(world: Any, **changes: Any) -> ReuseConfig:
    """The default configuration for a world's Config, with the schedules that its file gives."""
    kind = kind_of(world)
    return ReuseConfig(
        **{"world": world, "pretraining": kind.pretraining, "finetuning": kind.finetuning} | changes
    )


@dataclass(frozen=True)
class Cell:
    """One cell of one seed: a unit of work and of resumption.

    ``ranks`` gives kinds of matrices a rank of their own (0: not adapted); others have the configuration's.
    """

    experiment: str
    label: str
    setting: Any
    seed: int
    ranks: tuple[tuple[str, int], ...] = ()

    @property
    def unit(self) -> str:
        """Name in results.csv."""
        return f"{self.experiment}/{self.label}/seed{self.seed:03d}"


Model = tuple[str, str, str]
"""(family, library, method) of a model that is asked. Single adapters have the library "single"."""

BASE: Model = ("", "single", "base")

LOGITS = "logits_"
"""LOGITS + a linear method: the same coefficients on logits, f_0 + sum_i c_i (f_i - f_0)."""


def same_merges(methods: Sequence[str], count: int) -> dict[str, str]:
    """The first of the methods that makes the same update of ``count`` adapters as each one: by coefficient
    where it is linear ("concat" is "sum"), else itself."""
    first: dict[str | float, str] = {}
    coefficients = {name: METHODS[name].coefficient for name in methods}
    return {
        name: first.setdefault(coefficient(count) if coefficient else name, name)
        for name, coefficient in coefficients.items()
    }


def linear_models(config: ReuseConfig, family: str, world: World) -> dict[Model, tuple[float, ...]]:
    """The models of a family that are linear in the parts' updates, with the coefficient of each part."""
    count = len(world.parts)
    common = {method: METHODS[method].coefficient for method in config.methods}
    models = {
        (family, "parts", method): (float(coefficient(count)),) * count
        for method, coefficient in common.items()
        if coefficient is not None
    }
    models |= {(family, "parts", f"lambda={lam:g}"): (lam,) * count for lam in config.lambdas}
    for index, part in enumerate(world.parts):
        models[(family, "single", part)] = tuple(float(i == index) for i in range(count))
    return models
