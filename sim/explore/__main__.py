"""``python -m sim.explore``: write the explorer, one page of closed forms under sliders."""

from dataclasses import dataclass
from pathlib import Path

from sim.explore.page import page
from sim.lab import cli, files
from sim.lab.figure import TABLES


@dataclass(frozen=True)
class Explore:
    """Write the explorer: sliders for lambda, kappa, rank over facts, adapters, margin and swing.

    Examples:
    * python -m sim.explore
    * python -m sim.explore --out explorer.html
    """

    out: Path = (TABLES if TABLES.exists() else Path()) / "explorer.html"
    """The page (default: the checkout's, else here). Open it in a browser; nothing else is needed."""


def main(args: Explore) -> None:
    """Write the page and say where it is."""
    files.check_file(args.out)
    files.write_text(args.out, page())
    print(f"open {args.out} in a browser")


if __name__ == "__main__":
    cli.run_command(Explore, main, "sim.explore")
