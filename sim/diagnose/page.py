"""The report to read: in a terminal, and as one HTML file that needs no other, with figure and all tables."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sim.diagnose.draw import labels
from sim.diagnose.marks import marks, next_command
from sim.diagnose.tables import FEATURE_KEY, KEY, kind_table, module_table, printed, worst_modules
from sim.diagnose.verdict import details, verdict
from sim.lab import report as page
from sim.lab.store import environment


def as_text(report: Mapping[str, Any]) -> str:
    """What is printed: doubts, the verdict, who is who, the two short tables, the numbers behind."""
    table = module_table(report)
    worst = worst_modules(table)
    parts = [
        *(["\n".join(report["warnings"])] if report["warnings"] else []),
        "\n".join(verdict(report)),
        f"Next: {next_command(report)}",
        marks(report).to_string(float_format="{:.3f}".format),
        "\n".join(labels(report["adapters"])),
        printed(kind_table(table)),
        f"the {len(worst)} worst of {len(table)} modules\n{printed(worst)}",
        _key(report),
        "\n".join(details(report)),
    ]
    return "\n\n".join(parts)


def write(report: Mapping[str, Any], table: pd.DataFrame, picture: Figure, out: Path) -> None:
    """``report.html`` in ``out``: verdict, ``picture``, all tables, and what made them."""
    sections = {
        "Next": [next_command(report)],
        "Marks": marks(report),
        "Adapters": labels(report["adapters"]),
        "Matrix kinds": kind_table(table),
        "Worst modules": worst_modules(table),
        "Columns": _key(report).split("\n"),
        "In detail": details(report),
        "All modules": table,
    }
    figures = {"Norms, overlap and interference, smallest lambda that retains": picture}
    manifest = {"command": shlex.join(["python", "-m", "sim.diagnose", *sys.argv[1:]]), **environment()}
    title = "Can these adapters be merged?"
    page.write(out, title, verdict(report), figures, sections, manifest, report["warnings"])


def _key(report: Mapping[str, Any]) -> str:
    featured = any("features" in module for module in report["modules"].values())
    return KEY + (FEATURE_KEY if featured else "")
