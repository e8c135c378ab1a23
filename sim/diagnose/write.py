"""The report as files: JSON, CSV, HTML and the figure."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.diagnose.draw import draw
from sim.diagnose.marks import PROMPTS
from sim.diagnose.page import write as write_page
from sim.diagnose.tables import module_table
from sim.diagnose.verdict import reasons, verdict
from sim.hf.prompts import UNTOUCHED, started
from sim.lab import files, style

SYMMETRIC = ("row_cosines", "column_cosines")
"""Measures of pairs, the same for (i, j) and (j, i) and all 1 for (i, i)."""

SIGNIFICANT = 6
"""Digits of a module's numbers in the JSON; those of the whole library are given in full."""


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
    write_page(report, table, picture, out)


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
