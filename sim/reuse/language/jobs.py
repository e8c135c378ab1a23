"""The cells of a configuration on a language model as resumable work."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from sim.lab import parallel
from sim.lab.parallel import RunContext
from sim.lab.store import Failure
from sim.model.llama_adapters import Questions
from sim.reuse import jobs
from sim.reuse.bases import Work
from sim.reuse.config import Cell
from sim.reuse.language import ask, base, training
from sim.reuse.language.base import Base, Room
from sim.reuse.language.cell import compile_merges
from sim.reuse.language.cell import run as ask_cell
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.training import CONTEXT, FACTS, TRACES, Task, Trained
from sim.reuse.rows import rows_of
from sim.worlds import build
from sim.worlds.text import Text, TextWorld

GROUPS = {"facts": FACTS, "traces": TRACES, "context": CONTEXT}
"""Groups of a world's data in the order of an adapter's rows, by number."""

ROWS = 1024
"""An adapter's rows are padded to a multiple of this, so that one program trains for all experiments."""


@dataclass(frozen=True)
class Part(jobs.Part):
    """Cells on a language model. folder: of the base, None until one is given (``on``)."""

    config: LanguageConfig
    folder: Path | None = None

    def on(self, folder: Path | None) -> "Part":
        """The same part on a base, by default the one that ``python -m sim.lm fetch`` wrote.

        Raises: ValueError, one line with the remedy, if there is none, for a folder that is no Llama's, and
        for a rank that its matrices do not have.
        """
        folder = base.folder_of(folder)
        config, limit = replace(self.config, base=base.name_of(folder)), base.largest_rank(folder)
        if not 1 <= config.rank <= limit // 2:
            raise ValueError(
                f"rank is {config.rank}; give 1 to {limit // 2}: the joint adapter has twice the rank, and "
                f"the smallest side of the base's matrices is {limit}"
            )
        return replace(self, config=config, folder=folder)

    def stages(
        self, context: RunContext, experiment: str, count: int, done: set[str]
    ) -> Iterator[tuple[str, int, Work]]:
        """(label, number of units, work) of the one stage: adapters are trained, and cells asked, in turn."""
        if type(context) is not RunContext:
            raise ValueError("a language model is run by this process: leave out --cluster")
        whole, todo = self.whole(experiment, count), self._todo(experiment, count, done)
        yield f"adapters on {self.config.base.split()[0]}", len(whole), self._work(whole, todo)

    def precompile(self, context: RunContext, experiment: str, count: int, done: set[str]) -> None:
        """Nothing: ``stages`` compiles merges while it trains."""

    def _work(self, whole: Sequence[Cell], todo: Sequence[Cell]) -> Work:
        yield {}, len(whole) - len(todo)
        if not todo:
            return
        ground = Base(self.folder)
        worlds = {cell: build(self.config.world, cell.seed, cell.setting) for cell in whole}
        rooms = _rooms(ground, worlds.values())
        if jax.config.jax_compilation_cache_dir:
            compile_merges(self.config, ground, worlds[todo[0]])
        ready: dict[Cell, dict[str, Trained]] = {cell: {} for cell in todo}
        for cells, name, adapter in self.adapters(ground, worlds, todo):
            waiting = [cell for cell in cells if cell in ready]
            if adapter is None:
                reason = Failure(f"the loss of adapter {name} became NaN or infinite")
                yield {cell.unit: reason for cell in waiting}, len(waiting)
                for cell in waiting:
                    del ready[cell]
                continue
            for cell in waiting:
                ready[cell][name] = adapter
                if len(ready[cell]) == len(self.config.adapters(worlds[cell])):
                    yield {cell.unit: self._rows(ground, rooms, cell, worlds[cell], ready.pop(cell))}, 1

    def adapters(
        self, ground: Base, worlds: dict[Cell, TextWorld], todo: Sequence[Cell]
    ) -> Iterator[tuple[list[Cell], str, Trained | None]]:
        """(cells that wait for it, name, adapter) of every adapter, as it is trained; None where its loss is
        no number."""
        room = _room_of_data(ground, self.config, worlds.values())
        tasks, cells = self._tasks(ground, worlds, todo, room)
        for task, duration, adapter in training.train(self.config, ground, tasks):
            *group, name = task.name
            waiting = cells[tuple(group)]
            if adapter is not None:
                waiting = [cell for cell in waiting if cell.setting.duration == duration]
            yield waiting, name, adapter

    def _rows(self, ground: Base, rooms, cell: Cell, world: TextWorld, trained) -> list[dict]:
        result = parallel.RUNNER.submit(ask_cell, self.config, ground, rooms, cell, world, trained).result()
        return rows_of(self.config, cell, world, result)

    def _tasks(
        self, ground: Base, worlds: dict[Cell, TextWorld], todo: Sequence[Cell], room: tuple[Room, int]
    ) -> tuple[list[Task], dict[tuple, list[Cell]]]:
        """The adapters to train, those of one cell after the other, and the cells that wait for each of them:
        cells that differ in their duration alone have them in common."""
        cells: dict[tuple, list[Cell]] = defaultdict(list)
        for cell in todo:
            cells[cell.seed, replace(cell.setting, duration=1)].append(cell)
        tasks = []
        for (seed, setting), group in cells.items():
            world = worlds[group[0]]
            for place, name in enumerate(self.config.adapters(world)):
                rows, groups = _data(ground, world.data[name], *room)
                durations = tuple(sorted({cell.setting.duration for cell in group}))
                rank = self.config.rank_of(name)
                tasks.append(Task((seed, setting, name), seed, place, rank, rows, groups, durations))
        return tasks, cells


def _texts(data: dict[str, tuple[Text, ...]]) -> list[tuple[Text, int]]:
    return [(text, number) for group, number in GROUPS.items() for text in data.get(group, ())]


def _data(
    ground: Base, data: dict[str, tuple[Text, ...]], room: Room, rows: int
) -> tuple[Questions, np.ndarray]:
    """An adapter's data as arrays of ``rows`` rows, and the group of each."""
    texts = _texts(data)
    groups = np.full(rows, -1)
    groups[: len(texts)] = [number for _, number in texts]
    return base.behind(ground.questions([text for text, _ in texts]), room, rows), groups


def _room_of_data(ground: Base, config: LanguageConfig, worlds) -> tuple[Room, int]:
    """The room of every sequence that adapters are taught, and the most rows of one, in whole batches."""
    texts, rows = set(), 0
    for world in worlds:
        for name in config.adapters(world):
            each = [text for text, _ in _texts(world.data[name])]
            texts.update(each)
            rows = max(rows, len(each))
    return base.room_of(ground.questions(sorted(texts)), 16), -(-rows // ROWS) * ROWS


def _rooms(ground: Base, worlds) -> list[Room]:
    """The rooms of the two sheets of questions."""
    texts_of: list[list] = [[], []]
    for world in worlds:
        for number, names in enumerate(ask.split(world.probes)):
            texts_of[number] += [q.text for name in names for q in world.probes[name].questions]
        texts_of[0] += [Text("The name is", f" {name}") for group in world.names.values() for name in group]
    return [base.room_of(ground.questions(sorted(set(texts)))) for texts in texts_of]
