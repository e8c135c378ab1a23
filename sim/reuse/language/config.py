"""What a cell on a language model is: everything that decides its outcome."""

from dataclasses import dataclass
from typing import Any

from sim.model.llama import KINDS
from sim.reuse.config import Libraries
from sim.worlds.people import DOUBLE


@dataclass(frozen=True)
class LanguageConfig(Libraries):
    """What decides the outcome of a cell, apart from its seed and setting; the base among it.

    world:   configuration of a world of text.
    base:    name and SHA-256 of the base's files, empty until one is given (``jobs.Part.on``).
    rank, kinds: of the adapters, and the matrices they change.
    rate, warmup, batch: Adam's rate after ``warmup`` steps, and sequences a step.
    look:    steps between two looks at what an adapter knows.
    most:    it is trained on until it knows ``MASTERY`` of its facts and of its traces, for ``most`` steps at
             most; both are multiples of ``look``.
    decay:   steps in which the rate then goes to 0, a multiple of ``look``.
    extras, methods, lambdas, composed, routers, oracle: as in ``sim.reuse.config.ReuseConfig``; libraries
             other than the parts are merged by ``few``.
    losses:  whether likelihoods of answers are measured, and forecasts made: half of all work.
    """

    world: Any
    base: str = ""
    rank: int = 8
    kinds: tuple[str, ...] = KINDS
    rate: float = 1e-3
    warmup: int = 20
    batch: int = 32
    look: int = 25
    most: int = 500
    decay: int = 50
    extras: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("average", "sum", "ties", "svd")
    few: tuple[str, ...] = ("average", "sum", "ties", "svd")
    lambdas: tuple[float, ...] = ()
    composed: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    oracle: bool = False
    losses: bool = True
    families: tuple[str, ...] = ("lora",)

    def __post_init__(self):
        for name in ("most", "decay"):
            if getattr(self, name) % self.look:
                raise ValueError(f"{name} is {getattr(self, name)}: give a multiple of look, {self.look}")

    def rank_of(self, name: str) -> int:
        """The rank of an adapter: twice the others' for the joint one that ``people.DOUBLE`` names."""
        return 2 * self.rank if name == DOUBLE else self.rank

    @property
    def width(self) -> int:
        """The largest rank that an adapter may have; smaller ones are padded with zeros."""
        return 2 * self.rank


@dataclass(frozen=True)
class LibraryConfig(LanguageConfig):
    """The same where adapters are there already. files: hash of theirs, empty until they are given."""

    files: str = ""
