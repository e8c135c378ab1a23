"""The gallery: tables, pictures and captions of the figures, from committed tables, anew, or from runs."""

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from sim.figures import board_page, captions, claims_page, exceptions_page, guide_page
from sim.lab import files, parallel, style
from sim.lab.figure import FIGURES, TABLES, Figure, Source, command_of, committed
from sim.lab.seeds import EFFORTS, Effort
from sim.lab.store import compress_tables, is_unfinished, table_path

PAGES = {
    "CLAIMS.md": claims_page.page,
    "GUIDE.md": guide_page.page,
    "BOARD.md": board_page.page,
    "EXCEPTIONS.md": exceptions_page.page,
}
"""Pages of the committed runs: file -> (source of runs, folder of tables) -> text."""


def ordered() -> list[Figure]:
    """All figures, laws first in the order of their sections, then experiments by name."""

    def place(item: Figure) -> tuple:
        number = re.search(r"\d+", item.section)
        return (bool(item.experiments), int(number[0]) if number else 0, item.section)

    return sorted(FIGURES.values(), key=place)


def chosen(names: Sequence[str], runs: Path | None = None) -> tuple[list[Figure], list[str]]:
    """(figures to draw, a line for each that is left out).

    Without names these are all figures. With a folder of runs they are the figures of its experiments: the
    others are left out, or an error if named. Without a folder, experiments that have no committed run are
    left out.

    Raises:
        ValueError: a name is not that of a figure, or a named figure's run is missing.
    """
    items = [FIGURES[name] for name in names] or ordered()
    if runs is None and names:
        return items, []
    missing = {item.name: _missing(item, runs) for item in items}
    for name in names:
        if missing[name]:
            raise ValueError(f"{name} cannot be drawn from {runs}: {missing[name]}")
    if runs is not None and all(missing.values()) and not any(runs.glob("*/summary.csv*")):
        raise ValueError(_wrong_folder(runs))
    left_out = [f"{name} left out: {what}" for name, what in missing.items() if what]
    return [item for item in items if not missing[item.name]], left_out


def _wrong_folder(runs: Path) -> str:
    """What a folder without finished runs of experiments is, and which one to give."""
    remedy = "give the --out of python -m sim.sweep NAME ..., which holds NAME/summary.csv"
    if table_path(runs, "summary").exists():
        return f"--from {runs} is one run: give the folder that it is in, {runs.resolve().parent}"
    inside = sorted({path.parent.parent for path in runs.glob("*/*/manifest.json")})
    if inside:
        remedy += f"; did you mean {' or '.join(map(str, inside[:3]))}?"
    return f"--from {runs} holds no finished run of an experiment: {remedy}"


def _missing(item: Figure, runs: Path | None) -> str:
    """What is missing for a figure, in a folder of runs or among the committed ones; empty if nothing is."""
    if runs is None and (not item.experiments or (committed() / f"{item.name}.csv").exists()):
        return ""
    if not item.experiments:
        return "it computes its own numbers; draw it without --from"
    folder = runs or committed() / "experiments"
    if absent := Source(folder).missing(item.experiments, item.tables):
        tables = ", ".join(f"{name}/{table}.csv" for name, table in absent)
        return f"{tables} missing; make it with: {command_of(absent[0][0])}"
    part = [name for name in item.experiments if is_unfinished(folder / name)]
    return f"{', '.join(part)} not finished; go on with: {command_of(part[0])}" if part else ""


def home() -> Path:
    """Default folder of figures: that of the checkout, or ``figures`` in the working folder."""
    return TABLES if committed() == TABLES and TABLES.exists() else Path("figures")


def draw(
    item: Figure,
    folder: Path,
    effort: Effort | None = None,
    runs: Path | None = None,
    formats: Sequence[str] = style.DEFAULT_FORMATS,
) -> None:
    """Write table, picture and caption (for Markdown and for LaTeX) of one figure into a folder.

    The table is the one in the folder, or else the committed one. It is collected anew if an ``effort`` or a
    folder of ``runs`` is given, or where there is none.
    """
    path, fallback = folder / f"{item.name}.csv", committed() / f"{item.name}.csv"
    source = Source(runs or committed() / "experiments", effort or EFFORTS["quick"])
    if effort is None and runs is None and not path.exists() and fallback.exists():
        files.write_text(path, fallback.read_text())
        if item.name in (origins := captions.recorded(committed())):
            captions.record(folder, item.name, origins[item.name])
    elif effort is not None or runs is not None or not path.exists():
        start = time.monotonic()
        files.write_text(path, item.collect(source).to_csv(index=False, float_format="%.5g"))
        if not item.experiments:
            captions.record(folder, item.name, _origin(item, source, time.monotonic() - start))
    table = pd.read_csv(path)
    style.save(item.draw(table), path.with_suffix(""), formats)
    sources = captions.origins(item, folder, source.runs)
    files.write_text(path.with_suffix(".md"), captions.caption(item, table, sources))
    files.write_text(path.with_suffix(".tex"), captions.tex(item, table))


def _origin(item: Figure, source: Source, seconds: float) -> captions.Origin:
    profile, (count, kind) = source.effort.name, parallel.devices()
    command = f"python -m sim.figures {item.name} --recompute --profile {profile}"
    return captions.Origin(command, profile, round(seconds, 1), f"{count} x {kind}")


def draw_all(
    items: Iterable[Figure],
    folder: Path,
    effort: Effort | None = None,
    runs: Path | None = None,
    formats: Sequence[str] = style.DEFAULT_FORMATS,
) -> None:
    """``draw`` each figure and write the folder's page. In the repository: compress tables of runs
    and write ``PAGES``."""
    for item in items:
        draw(item, folder, effort, runs, formats)
    if folder == committed():  # claims are judged on the committed runs only
        compress_tables(folder / "experiments")
        for name, text in PAGES.items():
            files.write_text(folder / name, text(Source(folder / "experiments"), folder))
    page = captions.page(ordered(), folder, runs or committed() / "experiments")
    files.write_text(folder / "README.md", page)
