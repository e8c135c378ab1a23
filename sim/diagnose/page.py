"""The report to read: in a terminal, and as JSON, CSV, the figure, and HTML that needs no other file."""

import json
import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.diagnose.draw import draw, labels
from sim.diagnose.marks import PROMPTS, marks, remedies
from sim.diagnose.tables import FEATURE_KEY, KEY, kind_table, module_table, printed, worst_modules
from sim.diagnose.verdict import details, reasons, verdict
from sim.hf.prompts import UNTOUCHED, started
from sim.lab import files, style
from sim.lab import report as page
from sim.lab.store import environment

SYMMETRIC = ("row_cosines", "column_cosines")
"""Measures of pairs, the same for (i, j) and (j, i) and all 1 for (i, i)."""

SIGNIFICANT = 6
"""Digits of a module's numbers in the JSON; those of the whole library are given in full."""


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


def write(report: Mapping[str, Any], out: Path) -> None:
    """report.html and diagnosis.json, .csv, .pdf and .png in ``out``, each replaced whole; prompts.jsonl is
    begun where the next command needs it, and left as it is where there is one.

    The JSON has a line for each module, with ``SYMMETRIC`` as lists over the pairs (1, 2), (1, 3), ...,
    (2, 3), ...; what is infinite or unknown is null. The CSV has one row a module.
    """
    files.write_text(out / "diagnosis.json", as_json(report, out))
    if not (out / PROMPTS).exists():
        files.write_text(out / PROMPTS, begun(report))
    table, picture = module_table(report), draw(report)
    files.write_text(out / "diagnosis.csv", table.to_csv())
    style.save(picture, out / "diagnosis")
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


def begun(report: Mapping[str, Any]) -> str:
    """A file of prompts for sim.predict to go on with: a group for each adapter, and one of other things."""
    return started([*(f"adapter {i + 1}" for i in range(len(report["adapters"]))), UNTOUCHED])


def as_json(report: Mapping[str, Any], out: Path = Path("runs/diagnose")) -> str:
    """The text of diagnosis.json."""
    modules = [
        f"{json.dumps(name)}: {_text(_pairs(measures), SIGNIFICANT)}"
        for name, measures in report["modules"].items()
    ]
    rest = {key: value for key, value in report.items() if key != "modules"} | {
        "verdict": verdict(report, out),
        "reasons": reasons(report),
    }
    lines = [f"{json.dumps(key)}: {_text(value)}" for key, value in rest.items()]
    return "{\n" + ",\n".join(lines) + ',\n"modules": {\n' + ",\n".join(modules) + "\n}}\n"


def _pairs(measures: Mapping[str, Any]) -> dict[str, Any]:
    """A module's measures without what symmetry repeats."""
    upper = {
        key: [row[j] for i, row in enumerate(measures[key]) for j in range(i + 1, len(row))]
        for key in SYMMETRIC
    }
    return {**measures, **upper}


def _text(value: Any, digits: int | None = None) -> str:
    """The JSON of plain data, floats to so many digits or in full; infinity and NaN as null."""
    if isinstance(value, float):
        finite = math.isfinite(value)
        return "null" if not finite else repr(value) if digits is None else f"{value:.{digits}g}"
    if isinstance(value, list):
        return "[" + ",".join([_text(item, digits) for item in value]) + "]"
    if isinstance(value, Mapping):
        items = [f"{json.dumps(str(key))}:{_text(item, digits)}" for key, item in value.items()]
        return "{" + ",".join(items) + "}"
    return json.dumps(value)
