"""Draw the figures: ``python -m sim.figures [NAME ...]`` from the committed tables, or anew.

Each figure NAME is a table figures/NAME.csv, a picture in NAME.pdf and NAME.png, and a caption NAME.md.
Without --recompute the picture is drawn from the table that is there.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro
from tqdm import tqdm

from sim.figures import FIGURES, Figure
from sim.lab import cache, cli, parallel, style
from sim.lab.store import write_atomically


@dataclass(frozen=True)
class Draw:
    """Draw figures from their tables; a table that is missing is computed."""

    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(help=f"default: all of {', '.join(FIGURES)}")
    ] = ()
    list: Annotated[
        bool, tyro.conf.arg(help="print name, section and claim of every figure, draw nothing")
    ] = False
    recompute: Annotated[bool, tyro.conf.arg(help="compute the tables anew")] = False
    profile: Annotated[Literal["quick", "paper"], tyro.conf.arg(help="how much to compute")] = "quick"
    out: Annotated[Path, tyro.conf.arg(help="folder of tables, pictures and captions")] = Path("figures")


def main(args: Draw) -> None:
    """Draw. Raises what ``cli.run_command`` turns into one line and an exit code."""
    for name in args.names:
        if name not in FIGURES:
            raise ValueError(f"unknown figure {name!r}; use one or more of: {', '.join(FIGURES)}")
    chosen = [FIGURES[name] for name in args.names or FIGURES]
    if args.list:
        for item in chosen:
            print(f"{item.name:28} {item.section:14} {item.claim}")
        return
    parallel.use_all_cores()
    cache.keep_compiled()
    args.out.mkdir(parents=True, exist_ok=True)
    with tqdm(chosen, unit="figure") as bar:
        for item in bar:
            bar.set_postfix_str(item.name)
            draw(item, args.out, args.recompute, args.profile)
    write_atomically(args.out / "README.md", index(args.out))


def draw(item: Figure, folder: Path, recompute: bool, profile: str) -> None:
    """Write table (if it is missing or ``recompute``), picture and caption of one figure."""
    stem = folder / item.name
    path = stem.with_suffix(".csv")
    if recompute or not path.exists():
        start = time.monotonic()
        table = item.collect(profile)
        write_atomically(path, table.to_csv(index=False, float_format="%.5g"))
        write_atomically(stem.with_suffix(".md"), caption(item, profile, time.monotonic() - start))
    style.save(item.draw(pd.read_csv(path, keep_default_na=True)), stem)


def index(folder: Path) -> str:
    """The page of the folder: a line for every figure that is there."""
    lines = [
        "# Figures",
        "",
        "`CLAIMS.md` sets the claims of the paper against them; `grid/` holds the tables of `sim.grid`.",
        "",
        "| Figure | Claim | Source | Command and run time |",
        "|---|---|---|---|",
    ]
    for item in FIGURES.values():
        path = folder / f"{item.name}.md"
        if path.exists():
            command = path.read_text().rpartition("Command: ")[2].strip().rstrip(".")
            lines.append(f"| [{item.name}]({item.name}.pdf) | {item.claim} | {item.section} | {command} |")
    return "\n".join(lines) + "\n"


def caption(item: Figure, profile: str, seconds: float) -> str:
    """Claim, setting, command and run time, as text for the page under the picture."""
    return (
        f"**{item.name}** ({item.section}). {item.claim} {item.setting} "
        "Lines: theory; points: measurement with 95% intervals.\n\n"
        f"Command: `python -m sim.figures {item.name} --recompute --profile {profile}` ({seconds:.0f} s).\n"
    )


if __name__ == "__main__":
    cli.run_command(Draw, main, "sim.figures", "figures already written are kept")
