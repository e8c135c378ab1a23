"""The gallery: tables, pictures and captions of the figures, from committed tables, anew, or from runs."""

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from sim.figures import claims
from sim.lab import files, style
from sim.lab.figure import FIGURES, TABLES, Figure, Source, committed
from sim.lab.seeds import EFFORTS, Effort
from sim.lab.store import unfinished


def ordered() -> list[Figure]:
    """All figures, laws first in the order of their sections, then experiments by name."""

    def place(item: Figure) -> tuple:
        number = re.search(r"\d+", item.section)
        return (bool(item.experiments), int(number[0]) if number else 0, item.section)

    return sorted(FIGURES.values(), key=place)


def chosen(names: Sequence[str], runs: Path | None = None) -> tuple[list[Figure], list[str]]:
    """(figures to draw, a line for each that is left out).

    All of them if there are no names. From a folder of runs, those whose experiments it holds: the others
    are left out, or if they were asked for by name, an error.

    Raises:
        ValueError: a name that is no figure's, or a named figure that the runs cannot give.
    """
    found = [FIGURES[name] for name in names] or ordered()
    if runs is None:
        return found, []
    wanting = {item.name: _wanting(item, runs) for item in found}
    for name in names:
        if wanting[name]:
            raise ValueError(f"{name} cannot be drawn from {runs}: {wanting[name]}")
    left_out = [f"{name} left out: {what}" for name, what in wanting.items() if what]
    return [item for item in found if not wanting[item.name]], left_out


def _wanting(item: Figure, runs: Path) -> str:
    if not item.experiments:
        return "it computes its own numbers; draw it without --from"
    missing = [name for name in item.experiments if not (runs / name / "summary.csv").exists()]
    if missing:
        summaries = ", ".join(f"{name}/summary.csv" for name in missing)
        return f"{summaries} missing; make it with: python -m sim.sweep {missing[0]}"
    part = [name for name in item.experiments if unfinished(runs / name)]
    return f"{', '.join(part)} not finished; go on with: python -m sim.sweep {part[0]}" if part else ""


def home() -> Path:
    """Where figures are drawn by default: the figures of the checkout, or ``figures`` where one stands."""
    return TABLES if committed() == TABLES and TABLES.exists() else Path("figures")


def draw(item: Figure, folder: Path, effort: Effort | None = None, runs: Path | None = None) -> None:
    """Write table, picture and caption of one figure into a folder.

    The table is the one in the folder, or else the committed one. It is collected anew if an ``effort`` or a
    folder of ``runs`` is given, or where there is none.
    """
    path, kept = folder / f"{item.name}.csv", committed() / f"{item.name}.csv"
    if effort is None and runs is None and not path.exists() and kept.exists():
        for suffix in (".csv", ".md"):
            files.write_text(path.with_suffix(suffix), kept.with_suffix(suffix).read_text())
    elif effort is not None or runs is not None or not path.exists():
        start = time.monotonic()
        source = Source(runs or committed() / "experiments", effort or EFFORTS["quick"])
        files.write_text(path, item.collect(source).to_csv(index=False, float_format="%.5g"))
        files.write_text(path.with_suffix(".md"), caption(item, source, time.monotonic() - start))
    style.save(item.draw(pd.read_csv(path)), path.with_suffix(""))


def draw_all(
    items: Iterable[Figure], folder: Path, effort: Effort | None = None, runs: Path | None = None
) -> None:
    """``draw`` each figure, and then write the page of the folder."""
    for item in items:
        draw(item, folder, effort, runs)
    if folder == committed():  # the claims are told of the committed runs alone
        claims.write(Source(folder / "experiments"), folder)
    files.write_text(folder / "README.md", page(folder))


def page(folder: Path) -> str:
    """The page of a folder: a line for every figure that is there."""
    lines = ["# Figures", ""]
    if (folder / "CLAIMS.md").exists():
        lines += [
            "`CLAIMS.md` sets the claims of the paper against them; `experiments/` holds the tables of",
            "`python -m sim.sweep NAME --profile paper` that the figures of experiments are drawn from.",
            "",
        ]
    lines += ["| Figure | Claim | Source | Command and run time |", "|---|---|---|---|"]
    for item in ordered():
        path = folder / f"{item.name}.md"
        if path.exists():
            command = path.read_text().rpartition("Command: ")[2].strip().rstrip(".")
            lines.append(f"| [{item.name}]({item.name}.pdf) | {item.claim} | {item.section} | {command} |")
    return "\n".join(lines) + "\n"


def caption(item: Figure, source: Source, seconds: float) -> str:
    """Claim, setting, command and run time, as text for the page under the picture."""
    command = f"python -m sim.figures {item.name}"
    if not item.experiments:
        command += f" --recompute --profile {source.effort.name}"
    elif source.runs == committed() / "experiments":
        command += " --recompute"
    else:
        command += f" --from {source.runs}"
    text = f"**{item.name}** ({item.section}). {item.claim} {item.setting}"
    return f"{text}\n\nCommand: `{command}` ({seconds:.0f} s).\n"
