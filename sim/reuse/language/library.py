"""Cells whose adapters are there already, as PEFT folders: they are asked, and nothing is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.hf.weights import read_shape
from sim.lab.store import digest
from sim.reuse.config import Cell
from sim.reuse.language import base, folders
from sim.reuse.language.base import Base
from sim.reuse.language.config import LibraryConfig
from sim.reuse.language.jobs import Part
from sim.reuse.language.training import Trained
from sim.worlds.text import TextWorld


@dataclass(frozen=True)
class LibraryPart(Part):
    """A cell for each library in a folder that ``python -m sim.lm teach`` wrote; none until it is given.

    library: the folder. seed: of its facts.
    """

    config: LibraryConfig
    library: Path = folders.ADAPTERS
    seed: int = 0

    def on(self, folder: Path | None, library: Path | None = None) -> "LibraryPart":
        """The same part on a base and on libraries, by default those that come with the repository.

        Raises:
            ValueError: one line with the remedy, as ``Part.on`` does, for a folder without libraries, and
                for adapters that are another base's.
        """
        folder, library = base.folder_of(folder), library or self.library
        records = folders.read_libraries(library)
        first = next(iter(records.values()))
        config = replace(
            self.config,
            world=replace(self.config.world, facts=first.facts),
            rank=first.rank,
            kinds=first.kinds,
            files=digest({place.name: folders.digests_of(place) for place in records}),
        )
        cells = tuple(
            (f"{record.setting.entities}/{record.setting.template}", record.setting, ())
            for record in records.values()
        )
        part = replace(self, config=config, cells=cells, library=library, seed=first.seed)
        placed = super(LibraryPart, part).on(folder)
        for place, record in records.items():
            folders.read_trained(place, record, read_shape(folder))
        return placed

    def seeds(self, count: int) -> Sequence[int]:
        """The one seed of the adapters. Raises ValueError for more."""
        if count != 1:
            raise ValueError(f"--seeds is {count}: these adapters are those of one seed; leave it out")
        return (self.seed,)

    def adapters(
        self, ground: Base, worlds: dict[Cell, TextWorld], todo: Sequence[Cell]
    ) -> Iterator[tuple[list[Cell], str, Trained | None]]:
        """(cell, name, adapter) of every adapter, as it is read."""
        for cell in todo:
            place = folders.place(self.library, cell.setting.entities)
            read = folders.read_trained(place, folders.read_library(place), ground.model)
            for name, adapter in read.items():
                yield [cell], name, adapter
