"""``report.html``: the page of a run, one file that needs no other and no network.

Verdict first, then the figures, the sections (lines or tables) and the manifest. The page has no script and
no link; figures are vector graphics inside it. Every text is escaped, whoever wrote it.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import files, style

NAME = "report.html"
"""What the page of a run is called, in the run's own folder."""

LOOK = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 85em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
td, th { padding: .15em .7em; text-align: right; white-space: nowrap } td:first-child { text-align: left }
thead th { position: sticky; top: 0; background: white; box-shadow: 0 1px #888 }
tbody tr:nth-child(even) { background: #f6f6f6 }
.scroll { overflow: auto; max-height: 40em } .doubts { background: #fff3cd; padding: .5em 1em }
.verdict { border-left: .3em solid #0072b2; padding: .3em 1em; font-size: 16px } .verdict p { margin: .4em 0 }
figure { margin: 1.5em 0 } img { max-width: 100% } figcaption { color: #555 }
pre { font-size: 12px; white-space: pre-wrap } summary { cursor: pointer }"""


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
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="doubts">{_lines(doubts)}</div>' if doubts else "",
        '<div class="verdict">' + "".join(f"<p>{escape(line)}</p>" for line in verdict) + "</div>",
        *(_figure(caption, picture) for caption, picture in figures.items()),
        *(_section(heading, content) for heading, content in sections.items()),
        "<h2>Manifest</h2>",
        _lines([f"{key}: {manifest[key]}" for key in ("command", "commit", "device") if key in manifest]),
        f"<details><summary>all of it</summary><pre>{escape(json.dumps(manifest, indent=1))}</pre></details>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>\n'
        f"<style>\n{LOOK}\n</style></head><body>\n" + "\n".join(filter(None, body)) + "\n</body></html>\n"
    )


def cell(measured: float, low: float, high: float) -> str:
    """A measurement and its 95% interval: 0.81 [0.72, 0.88]. A number that is NaN is left out."""
    if pd.isna(measured):
        return ""
    return f"{measured:.2f}" if pd.isna(low) else f"{measured:.2f} [{low:.2f}, {high:.2f}]"


def _section(heading: str, content: pd.DataFrame | Sequence[str]) -> str:
    inside = _table(content) if isinstance(content, pd.DataFrame) else _lines(content)
    return f"<h2>{escape(heading)}</h2>\n{inside}"


def _lines(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _table(table: pd.DataFrame) -> str:
    named = table.reset_index() if any(table.index.names) else table
    text = named.to_html(index=False, border=0, na_rep="-", float_format=lambda value: f"{value:.3f}")
    return f'<div class="scroll">{text}</div>'


@style.styled
def _figure(caption: str, picture: Figure) -> str:
    """The picture as SVG in a data address: its names and styles cannot meet those of another one."""
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": caption}):  # equal data, equal bytes
        picture.savefig(drawn, format="svg", metadata={"Date": None})
    width, _ = picture.get_size_inches()
    data = base64.b64encode(drawn.getvalue()).decode()
    return (
        f'<figure><img style="width:{width * 150:.0f}px" alt="{escape(caption)}" '
        f'src="data:image/svg+xml;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
    )
