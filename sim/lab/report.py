"""``report.html``: the page of a run, one file that needs no other and no network.

Verdict first, then the figures, the sections (lines or tables) and the manifest. The page has no script and
no link; figures are vector graphics inside it. Every text is escaped, whoever wrote it.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import files, style

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
        verdict: one sentence a line, the first thing a reader sees.
        figures: caption -> picture, drawn in the house style.
        sections: heading -> a table (text cells as they are, numbers with three decimals), or lines of text.
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


def cell(measured: float, low: float, high: float) -> str:
    """A measurement and its 95% interval: 0.81 [0.72, 0.88]. A number that is NaN is left out."""
    if pd.isna(measured):
        return ""
    return f"{measured:.2f}" if pd.isna(low) else f"{measured:.2f} [{low:.2f}, {high:.2f}]"


def _section(content: pd.DataFrame | Sequence[str]) -> tuple[str, Sequence[str]]:
    """(a table's markup, no lines), or the reverse."""
    if not isinstance(content, pd.DataFrame):
        return "", content
    named = content.reset_index() if any(content.index.names) else content
    return named.to_html(index=False, border=0, na_rep="-", float_format=lambda value: f"{value:.3f}"), ()


@style.styled
def _picture(caption: str, picture: Figure) -> tuple[str, int]:
    """(an SVG in base64, its width in pixels): its names and styles cannot meet those of another one."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": caption}):  # equal data, equal bytes
        picture.savefig(drawn, format="svg", metadata={"Date": None})
    width, _ = picture.get_size_inches()
    return base64.b64encode(drawn.getvalue()).decode(), round(width * 150)
