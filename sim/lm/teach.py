"""Adapters to hold in the hand: the pair of the world ``people`` and its joint adapter, as PEFT folders."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sim.merge.peft.rounding import share
from sim.merge.peft.write import new_folder
from sim.reuse.config import MASTERY, Cell
from sim.reuse.language import jobs
from sim.reuse.language.base import Base
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.folders import NAMES, Library, place, write_library
from sim.reuse.language.training import Trained
from sim.worlds import build
from sim.worlds.people import SOLUTIONS, Setting

TEMPLATE = "shared"
"""Each data set has worked solutions with a step of its own: without them nothing is reused."""


def teach(
    out: Path, base: Path | None, names: Sequence[str], seed: int, config: LanguageConfig, dtype: str
) -> list[str]:
    """Train the parts and the joint adapter for each kind of names and write ``out``, whole or not at all.

    The joint adapter has the rank of each part: half of the two parts' together.

    Args:
        base: folder of a Llama; by default what ``python -m sim.lm fetch`` wrote.
        names: of ``people.ENTITIES``. dtype: of the files.

    Returns: a line an adapter, and a line for each that does not know its data.
    Raises: ValueError for bad input, or if ``out`` holds something already; FloatingPointError if a loss
        became NaN or infinite.
    """
    dose = SOLUTIONS * config.world.facts
    part = jobs.Part.of(config, {name: Setting(name, TEMPLATE, dose) for name in names}).on(base)
    cells = [Cell("teach", label, setting, seed) for label, setting, _ in part.cells]
    ground, worlds = Base(part.folder), {cell: build(config.world, seed, cell.setting) for cell in cells}
    trained: dict[Cell, dict[str, Trained]] = {cell: {} for cell in cells}
    with new_folder(out) as folder:
        with tqdm(total=len(NAMES) * len(cells), desc="teaching", unit="adapter") as bar:
            for waiting, name, adapter in part.adapters(ground, worlds, cells):
                if adapter is None:
                    raise FloatingPointError(f"the loss of adapter {name} became NaN or infinite")
                for cell in waiting:
                    trained[cell][name] = adapter
                    bar.update()
        lines = []
        for cell in cells:
            each = {name: trained[cell][name] for name in NAMES}
            library = Library(
                part.config.base,
                config.world.facts,
                cell.setting,
                seed,
                config.rank,
                config.kinds,
                {name: adapter.steps for name, adapter in each.items()},
                {name: adapter.recall for name, adapter in each.items()},
            )
            adapters = {name: adapter.adapter for name, adapter in each.items()}
            target = place(folder, cell.setting.entities)
            roundings = write_library(target, library, adapters, worlds[cell], dtype)
            for (name, adapter), rounding in zip(each.items(), roundings, strict=True):
                path = place(out, cell.setting.entities) / NAMES[name]
                knowledge = (
                    f"{adapter.facts:.3f} of its facts and {adapter.traces:.3f} of its worked solutions"
                )
                short = min(adapter.facts, adapter.traces) < MASTERY
                lines.append(
                    f"{path}: knows {knowledge} after {adapter.steps} steps{', too few' if short else ''}; "
                    f"{dtype} loses at most {share(rounding.loss)} of an update"
                )
    return lines
