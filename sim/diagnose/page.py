"""The report to read: in a terminal, and as one HTML file that needs no other, with figure and all tables."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sim.diagnose.draw import labels
from sim.diagnose.marks import marks, remedies
from sim.diagnose.tables import FEATURE_KEY, KEY, kind_table, module_table, printed, worst_modules
from sim.diagnose.verdict import details, reasons, verdict
from sim.lab import report as page
from sim.lab.store import environment


def as_text(report: Mapping[str, Any], out: Path = Path("runs/diagnose")) -> str:
    """What is printed: the verdict, doubts, the marks, who is who, the two short tables, the numbers behind.

    out: the folder of the diagnosis.
    """
    marked = marks(report)
    table = module_table(report)
    worst = worst_modules(table)
    parts = [
        "\n".join(verdict(report, out)),
        *(["\n".join(report["warnings"])] if report["warnings"] else []),
        printed(marked.drop(columns="if bad").rename_axis(None)),
        *(["\n".join(remedies(marked))] if remedies(marked) else []),
        "\n".join(reasons(report)),
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
        "What is normal": marks(report).rename_axis(None),
        "Why": reasons(report),
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
    page.write(out, title, verdict(report, out), figures, sections, manifest, report["warnings"])


def _key(report: Mapping[str, Any]) -> str:
    featured = any("features" in module for module in report["modules"].values())
    return KEY + (FEATURE_KEY if featured else "")
