"""The registry of experiments: a named set of parts, with the sizes of each profile as data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sim.lab.parallel import RunContext
from sim.lab.registry import Registry, summary_of

SEEDS = {"quick": 2, "paper": 20}
"""Seeds of an experiment that says nothing else."""


class Part(Protocol):
    """Units of work of one configuration (``sim.reuse.jobs.Part``, ``sim.one_layer.jobs.Part``).

    config:  what identifies the part; hashed into the run's identity.
    setting: dataclass whose fields are columns of the results.
    """

    config: Any
    setting: type

    def stages(self, context: RunContext, experiment: str, count: int, done: set[str]) -> Iterator:
        """(label, number of units, work) for each stage; work yields ({unit: rows}, units advanced).

        The first of these is what needs no computing: units of an earlier run, bases in the cache. A unit
        that failed has a ``sim.lab.store.Failure`` in place of its rows.
        """

    def precompile(self, context: RunContext, experiment: str, count: int, done: set[str]) -> None:
        """Begin to compile what ``stages`` of the same arguments will run, and return at once."""


@dataclass(frozen=True)
class Experiment:
    """A named experiment. ``summary`` is its help line; ``sizes`` and ``seeds`` are the arguments and the
    number of seeds of each profile."""

    name: str
    summary: str
    make: Callable[..., Iterable[Part]] = field(repr=False)
    sizes: Mapping[str, Mapping[str, Any]]
    seeds: Mapping[str, int]

    def parts(self, profile: str) -> list[Part]:
        """The parts of a profile."""
        return list(self.make(**self.sizes[profile]))


EXPERIMENTS: Registry[Experiment] = Registry("experiment")


def experiment(quick: Mapping[str, Any], paper: Mapping[str, Any], seeds: Mapping[str, int] = SEEDS):
    """Register ``make(**sizes) -> parts`` under its own name, its docstring's first line as the help line.

    seeds: by profile, where it differs from ``SEEDS``.
    """

    def register(make: Callable[..., Iterable[Part]]) -> Callable[..., Iterable[Part]]:
        name = make.__name__.rstrip("_")  # rank_ makes way for the figure "rank"
        sizes = {"quick": quick, "paper": paper}
        EXPERIMENTS.add(name, Experiment(name, summary_of(make), make, sizes, {**SEEDS, **seeds}))
        return make

    return register
