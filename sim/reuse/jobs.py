"""The cells of a configuration as batched, resumable work."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sim.lab.parallel import RunContext
from sim.lab.store import Failure
from sim.model.training import require_finite
from sim.reuse.bases import Base, Params, Work, base_of, key_data, like_base, precompile_bases, train_bases
from sim.reuse.cell import run as chunk_of_cells
from sim.reuse.config import Cell, ReuseConfig
from sim.reuse.rows import rows_of
from sim.worlds import World, build, kind_of


@dataclass(frozen=True)
class Part:
    """Cells that share one configuration, and so compiled programs.

    cells: (label, setting, ranks by kind of matrix) of each; every seed runs all of them.
    """

    config: ReuseConfig
    cells: tuple[tuple[str, Any, tuple[tuple[str, int], ...]], ...]

    @classmethod
    def of(cls, config: Any, settings: Mapping[str, Any]) -> Self:
        """A part whose cells have the configuration's rank: label -> setting."""
        return cls(config, tuple((label, setting, ()) for label, setting in settings.items()))

    @property
    def setting(self) -> type:
        """The Setting whose fields are columns of the results."""
        return kind_of(self.config.world).setting

    def stages(
        self, context: RunContext, experiment: str, count: int, done: set[str]
    ) -> Iterator[tuple[str, int, Work]]:
        """(label, number of units, work) of the bases that are needed, then of all cells."""
        todo = self._todo(experiment, count, done)
        ready: dict[Base, Params | Failure] = {}
        wanted = len({base_of(cell) for cell in todo})
        yield "pretraining", wanted, train_bases(context, self.config, todo, ready)
        total = count * len(self.cells)
        yield "cells", total, run(context, self.config, todo, ready, total - len(todo))

    def precompile(self, context: RunContext, experiment: str, count: int, done: set[str]) -> None:
        """Begin to compile what ``stages`` will run."""
        if todo := self._todo(experiment, count, done):
            precompile_bases(context, self.config, todo)
            job = _job(self.config, todo[0], like_base(self.config.decoder), any(cell.ranks for cell in todo))
            context.precompile(functools.partial(chunk_of_cells, self.config), job, len(todo))

    def seeds(self, count: int) -> Sequence[int]:
        """The seeds of every cell."""
        return range(count)

    def whole(self, experiment: str, count: int) -> list[Cell]:
        """All cells, seed by seed."""
        pairs = itertools.product(self.seeds(count), self.cells)
        return [Cell(experiment, label, setting, seed, ranks) for seed, (label, setting, ranks) in pairs]

    def _todo(self, experiment: str, count: int, done: set[str]) -> list[Cell]:
        return [cell for cell in self.whole(experiment, count) if cell.unit not in done]


def run(
    context: RunContext,
    config: ReuseConfig,
    cells: Sequence[Cell],
    ready: Mapping[Base, Params | Failure],
    done: int = 0,
) -> Work:
    """Run cells of one configuration, chunk by chunk; ``done`` others are there already.

    A cell fails if its base did, or if the loss of an adapter becomes NaN or infinite.
    """
    lost = {cell.unit: base for cell in cells if isinstance(base := ready[base_of(cell)], Failure)}
    yield lost, len(lost) + done
    cells = [cell for cell in cells if cell.unit not in lost]
    varied = any(cell.ranks for cell in cells)
    jobs = [_job(config, cell, ready[base_of(cell)], varied) for cell in cells]
    for positions, results in context.map_runs(functools.partial(chunk_of_cells, config), jobs):
        finished = {
            cells[position].unit: _rows(config, cells[position], jobs[position]["world"], result)
            for position, result in zip(positions, results, strict=True)
        }
        yield finished, len(finished)


def _job(config: ReuseConfig, cell: Cell, base: Params, varied: bool) -> dict:
    """What ``cell.run`` takes of one cell; ``varied``: whether cells have ranks of their own."""
    world = build(config.world, cell.seed, cell.setting)
    job = {"base": base, "world": world, "key": key_data(1, cell.seed)}
    return job | ({"ranks": _ranks(config, cell)} if varied else {})


def _rows(config: ReuseConfig, cell: Cell, world: World, result: Mapping) -> list[dict] | Failure:
    try:
        for family, adapters in result["training"].items():
            for name, training in adapters.items():
                require_finite(training.losses, f"{family} adapter {name} of {cell.unit}")
    except FloatingPointError as error:
        return Failure(str(error))
    return rows_of(config, cell, world, result)


def _ranks(config: ReuseConfig, cell: Cell) -> dict[str, np.ndarray]:
    """The rank of every module, as arrays, so that one program serves all cells."""
    by_kind = dict(cell.ranks)
    return {
        module: np.int32(by_kind.get(module.split(".")[1], config.rank))
        for module in config.decoder.modules(config.kinds)
    }
