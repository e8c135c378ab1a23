"""What a reader gets: ``report.html``, the page of a run, and results that print and draw themselves.

The page is one file that needs no other and no network. The first line of the verdict opens it; then come the
rest, the figures, the sections (lines or tables) and the manifest. Tables are sorted by a click on a column's
name and filtered by words; without scripts they are read as they stand. The page has no link; figures are
vector graphics inside it. Every text is escaped, whoever wrote it.
"""

import abc
import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import files, style

DIGITS = "{:.3f}".format

NAME = "report.html"
"""What the page of a run is called, in the run's own folder."""

TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
).get_template("report.html")


def write(
    folder: Path,
    title: str,
    verdict: Sequence[str],
    figures: Mapping[str, Figure],
    sections: Mapping[str, pd.DataFrame | Sequence[str]],
    manifest: Mapping[str, Any],
    doubts: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` into a folder, whole or not at all; returns its path.

    Args:
        verdict: one sentence a line; the first one is the first thing that a reader sees.
        figures: caption -> picture, drawn in the house style.
        sections: heading -> a table (text cells as they are, numbers with three decimals), or lines of text.
            The rows of a table with two levels of index are grouped by the first.
        manifest: what made the run: command, commit, device, versions, configuration.
        doubts: what makes the verdict doubtful; they stand before it.

    Raises OSError if the folder cannot be written.
    """
    path = folder / NAME
    files.write_text(path, page(title, verdict, figures, sections, manifest, doubts))
    return path


def page(title, verdict, figures, sections, manifest, doubts=()) -> str:
    """The HTML text (``write``)."""
    return TEMPLATE.render(
        title=title,
        verdict=verdict,
        doubts=doubts,
        figures={caption: _picture(caption, picture) for caption, picture in figures.items()},
        sections={heading: _section(content) for heading, content in sections.items()},
        origin=[f"{key}: {manifest[key]}" for key in ("command", "commit", "device") if key in manifest],
        manifest=json.dumps(manifest, indent=1),
    )


def markdown(template: Path, **values: Any) -> str:
    """Markdown from a jinja2 template, whose indented lines go on with the line before; a list is lines.

    Raises: jinja2.UndefinedError for a name that the template has and the values lack.
    """
    text = re.sub(r"\n +(?=\S)", " ", template.read_text(encoding="utf-8"))
    lines = {name: "\n".join(value) if isinstance(value, list) else value for name, value in values.items()}
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(lines)


def natural(name: str) -> list[str | int]:
    """Sort key of names that puts layer 2 before layer 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def cell(measured: float, low: float, high: float) -> str:
    """A measurement and its 95% interval: 0.81 [0.72, 0.88]. A number that is NaN is left out."""
    if pd.isna(measured):
        return ""
    return f"{measured:.2f}" if pd.isna(low) else f"{measured:.2f} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class _Table:
    """A table as text.

    heads:  a row a level of the columns, as (name, how many columns it spans).
    groups: (name, rows); the name is empty where there are no groups.
    """

    heads: list[list[tuple[str, int]]]
    groups: list[tuple[str, list[list[str]]]]


def _section(content: pd.DataFrame | Sequence[str]) -> tuple[_Table | None, Sequence[str]]:
    """(a table, no lines), or the reverse."""
    return (_table(content), ()) if isinstance(content, pd.DataFrame) else (None, content)


def _table(content: pd.DataFrame) -> _Table:
    names = [""] * len(content)
    if content.index.nlevels > 1:
        names, content = list(map(str, content.index.get_level_values(0))), content.droplevel(0)
    if content.index.name is not None or not isinstance(content.index, pd.RangeIndex):
        content = content.rename_axis(content.index.name or "").reset_index()
    levels = [list(map(str, content.columns.get_level_values(n))) for n in range(content.columns.nlevels)]
    heads = [[(name, len(list(same))) for name, same in groupby(level)] for level in levels[:-1]]
    heads.append([(name, 1) for name in levels[-1]])
    rows = [[_text(value) for value in row] for row in content.itertuples(index=False, name=None)]
    groups: dict[str, list[list[str]]] = {}
    for name, row in zip(names, rows, strict=True):
        groups.setdefault(name, []).append(row)
    return _Table(heads, list(groups.items()))


def _text(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "-" if np.isnan(value) else f"{value:.3f}"
    return "-" if value is None else str(value)


@style.styled
def _picture(caption: str, picture: Figure) -> tuple[str, int]:
    """(an SVG in base64, its width in pixels): its names and styles cannot meet those of another one."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": caption}):  # equal data, equal bytes
        picture.savefig(drawn, format="svg", metadata={"Date": None})
    width, _ = picture.get_size_inches()
    return base64.b64encode(drawn.getvalue()).decode(), round(width * 150)


class Result(abc.ABC):
    """The result of a command: a verdict in a few lines, a short table and a figure."""

    @property
    @abc.abstractmethod
    def verdict(self) -> Sequence[str]:
        """The result in sentences, the most important first."""

    @abc.abstractmethod
    def table(self) -> pd.DataFrame:
        """The numbers behind it, short enough to read."""

    @abc.abstractmethod
    def figure(self) -> Figure:
        """The same drawn."""

    def __repr__(self) -> str:
        return "\n".join(self.verdict)

    def __str__(self) -> str:
        return f"{self!r}\n\n{self.table().to_string(float_format=DIGITS, na_rep='-')}"

    def _repr_html_(self) -> str:
        """Verdict, figure and table, as a notebook shows them."""
        picture = base64.b64encode(png(self.figure())).decode()
        return (
            "".join(f"<p>{escape(line)}</p>" for line in self.verdict)
            + f'<img alt="figure" style="max-width: 100%" width="560" src="data:image/png;base64,{picture}">'
            + self.table().to_html(border=0, na_rep="-", float_format=DIGITS)
        )

    def _repr_png_(self) -> bytes:
        return png(self.figure())


def png(drawn: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(style.settings()):
        drawn.savefig(buffer, format="png")
    return buffer.getvalue()
