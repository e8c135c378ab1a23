"""The report to read: in a terminal, and as one HTML file that needs no other, with figure and all tables."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from sim.diagnose.draw import labels
from sim.diagnose.tables import FEATURE_KEY, KEY, kind_table, module_table, printed, worst_modules
from sim.diagnose.verdict import details, verdict

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .15em .7em; text-align: right }
td:first-child { text-align: left } thead { border-bottom: 1px solid #888 }
.scroll { overflow: auto; max-height: 40em } .first { background: #fff3cd; padding: .5em 1em }
img { max-width: 100%; width: 50em } pre { font-size: 13px; white-space: pre-wrap }"""


def said(report: Mapping[str, Any]) -> str:
    """What is printed: doubts, the verdict, who is who, the two short tables, the numbers behind."""
    table = module_table(report)
    worst = worst_modules(table)
    parts = [
        *(["\n".join(report["warnings"])] if report["warnings"] else []),
        "\n".join(verdict(report)),
        "\n".join(labels(report["adapters"])),
        printed(kind_table(table)),
        f"the {len(worst)} worst of {len(table)} modules\n{printed(worst)}",
        _key(report),
        "\n".join(details(report)),
    ]
    return "\n\n".join(parts)


def page(report: Mapping[str, Any], table: pd.DataFrame, png: bytes) -> str:
    """The HTML text. ``png``: the figure, which is put inside."""
    first = f'<div class="first">{_list(report["warnings"])}</div>' if report["warnings"] else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Diagnosis</title><style>
{STYLE}
</style></head><body>
<h1>Can these adapters be merged?</h1>
{first}
{_list(verdict(report))}
{_list(labels(report["adapters"]))}
<img alt="norms, overlap and smallest lambda" src="data:image/png;base64,{base64.b64encode(png).decode()}">
<h2>Matrix kinds</h2>
{_table(kind_table(table))}
<h2>Worst modules</h2>
{_table(worst_modules(table))}
<pre>{escape(_key(report))}</pre>
<h2>In detail</h2>
{_list(details(report))}
<h2>All modules</h2>
{_table(table)}
</body></html>
"""


def _key(report: Mapping[str, Any]) -> str:
    featured = any("features" in module for module in report["modules"].values())
    return KEY + (FEATURE_KEY if featured else "")


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _table(table: pd.DataFrame) -> str:
    text = table.reset_index().to_html(
        index=False, border=0, na_rep="-", float_format=lambda value: f"{value:.3f}"
    )
    return f'<div class="scroll">{text}</div>'
