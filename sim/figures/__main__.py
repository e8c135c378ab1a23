"""Draw the figures: ``python -m sim.figures [NAME ...]`` from the committed tables, anew, or from runs.

Each figure NAME is a table NAME.csv, a picture in NAME.pdf and NAME.png, and a caption NAME.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from sim.figures import FIGURES, Figure, gallery
from sim.lab import cli, parallel
from sim.lab.seeds import EFFORTS


@dataclass(frozen=True)
class Draw:
    """Draw figures from their committed tables; --recompute and --from make the tables anew."""

    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(help=f"default: all of {', '.join(FIGURES)}")
    ] = ()
    listed: Annotated[
        bool, tyro.conf.arg(name="list", help="print name, section and claim of every figure, draw nothing")
    ] = False
    recompute: Annotated[bool, tyro.conf.arg(help="compute the tables anew")] = False
    profile: Annotated[Literal["quick", "paper"], tyro.conf.arg(help="how much to compute")] = "quick"
    runs: Annotated[
        Path | None,
        tyro.conf.arg(name="from", help="draw your own runs, DIR/EXPERIMENT/summary.csv (sim.sweep)"),
    ] = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(help="folder to draw into (default: the --from folder, else figures)"),
    ] = None


def main(args: Draw) -> None:
    """Draw. Raises what ``cli.run_command`` turns into one line and an exit code."""
    items, left_out = gallery.chosen(args.names, args.runs)
    if args.listed:
        for item in items:
            print(f"{item.name:28} {item.section:14} {item.claim}")
        return
    if args.runs is not None and not args.runs.is_dir():
        raise ValueError(f"--from {args.runs} is no folder; give the --out of python -m sim.sweep NAME ...")
    parallel.use_all_cores()
    parallel.keep_compiled()
    effort = EFFORTS[args.profile] if args.recompute else None
    gallery.draw_all(_named(items), args.out or args.runs or gallery.home(), effort, args.runs)
    for line in left_out:
        print(line)


def _named(items: list[Figure]) -> Iterator[Figure]:
    """The figures one by one, behind a progress bar that names the one being drawn."""
    with tqdm(items, unit="figure") as bar:
        for item in bar:
            bar.set_postfix_str(item.name)
            yield item


if __name__ == "__main__":
    cli.run_command(Draw, main, "sim.figures", "figures already written are kept")
