"""Draw the figures: ``python -m sim.figures [NAME ...]`` from the committed tables, anew, or from runs.

Each figure NAME is a table NAME.csv, a picture in NAME.pdf and NAME.png, a caption in NAME.md and NAME.tex
(with a label). For a paper: ``--preset neurips --serif --format pdf,pgf --out FOLDER``; ``pgf`` is for
xelatex and lualatex.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from sim.figures import FIGURES, Figure, gallery
from sim.lab import cli, files, parallel, style
from sim.lab.registry import unknown
from sim.lab.seeds import EFFORTS


@dataclass(frozen=True)
class Draw:
    """Draw figures from their committed tables; --recompute and --from make the tables anew.

    Examples:
    * python -m sim.figures rank
    * python -m sim.figures --from runs/experiments-quick --format pdf --out pictures
    """

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
    preset: Annotated[
        Literal[tuple(style.PAGES)], tyro.conf.arg(help="widths and font by a journal's style file")
    ] = "icml"
    width: Annotated[
        float | None, tyro.conf.arg(help="width of the text in inches; narrow figures keep their share")
    ] = None
    font: Annotated[float | None, tyro.conf.arg(help="size of the letters in points")] = None
    serif: Annotated[bool, tyro.conf.arg(help="letters that match a paper set in Times")] = False
    formats: Annotated[
        str, tyro.conf.arg(name="format", help=f"one or more of {','.join(style.FORMATS)}, with commas")
    ] = ",".join(style.DEFAULT_FORMATS)


def main(args: Draw) -> None:
    """Draw. Raises what ``cli.run_command`` turns into one line and an exit code."""
    if args.out is not None:
        files.check_folder(args.out)
    if args.runs is not None and not args.runs.is_dir():
        raise ValueError(f"--from {args.runs} is no folder; give the --out of python -m sim.sweep NAME ...")
    items, left_out = gallery.chosen(args.names, args.runs)
    if args.listed:
        print("\n".join(listed(items, _columns())))
        return
    formats, page = _formats(args.formats), _page(args)
    parallel.use_all_cores()
    parallel.cache_programs()
    effort = EFFORTS[args.profile] if args.recompute else None
    with style.on(page):
        gallery.draw_all(_named(items), args.out or args.runs or gallery.home(), effort, args.runs, formats)
    for line in left_out:
        print(line)


def _formats(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in style.FORMATS:
            raise unknown("--format", name, style.FORMATS)
    if not names:
        raise ValueError(f"--format is empty; give one or more of {', '.join(style.FORMATS)}")
    return names


def _page(args: Draw) -> style.Page:
    page = style.PAGES[args.preset]
    page = replace(page, serif=args.serif, font=page.font if args.font is None else args.font)
    return page if args.width is None else page.of_width(args.width)


def _columns() -> int | None:
    """The width of the terminal; None where there is none and a line may be as long as it likes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def listed(items: list[Figure], width: int | None) -> list[str]:
    """Name, section and claim in columns; claims are broken to a ``width``, if there is one."""
    first = max(len(item.name) for item in items) + 2
    second = max(len(item.section) for item in items) + 2
    lines = []
    for item in items:
        start = f"{item.name:{first}}{item.section:{second}}"
        room = max((width or 0) - first - second, 30)
        claim = textwrap.wrap(item.claim, room, break_on_hyphens=False) if width else [item.claim]
        lines += [start + claim[0], *(" " * (first + second) + more for more in claim[1:])]
    return lines


def _named(items: list[Figure]) -> Iterator[Figure]:
    """The figures one by one, behind a progress bar that names the one being drawn."""
    with tqdm(items, unit="figure") as bar:
        for item in bar:
            bar.set_postfix_str(item.name)
            yield item


if __name__ == "__main__":
    cli.run_command(Draw, main, "sim.figures", "figures already written are kept")
