"""The report as files: JSON, CSV, HTML and the figure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sim.diagnose.draw import draw
from sim.diagnose.page import page
from sim.diagnose.tables import module_table
from sim.diagnose.verdict import verdict
from sim.lab import files, style

SYMMETRIC = ("row_cosines", "column_cosines")
"""Measures of pairs, the same for (i, j) and (j, i) and all 1 for (i, i)."""

SIGNIFICANT = 6
"""Digits of a module's numbers in the JSON; those of the whole library are given in full."""


def write(report: Mapping[str, Any], out: Path) -> None:
    """diagnosis.json, .csv, .html, .pdf and .png in ``out``, each replaced whole.

    The JSON has a line for each module, with ``SYMMETRIC`` as lists over the pairs (1, 2), (1, 3), ...,
    (2, 3), ...; what is infinite or unknown is null. The CSV has one row a module.
    """
    files.write_text(out / "diagnosis.json", as_json(report))
    table = module_table(report)
    files.write_text(out / "diagnosis.csv", table.to_csv())
    style.save(draw(report), out / "diagnosis")
    files.write_text(out / "diagnosis.html", page(report, table, (out / "diagnosis.png").read_bytes()))


def as_json(report: Mapping[str, Any]) -> str:
    """The text of diagnosis.json."""
    modules = [
        f"{json.dumps(name)}: {_text(_rounded(_pairs(found)))}" for name, found in report["modules"].items()
    ]
    rest = {key: value for key, value in report.items() if key != "modules"} | {"verdict": verdict(report)}
    lines = [f"{json.dumps(key)}: {_text(value)}" for key, value in rest.items()]
    listed = ",\n".join(modules)
    return "{\n" + ",\n".join(lines) + ',\n"modules": {\n' + listed + "\n}}\n"


def _text(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _pairs(found: Mapping[str, Any]) -> dict[str, Any]:
    """A module's measures without what symmetry repeats."""
    upper = {
        key: [row[j] for i, row in enumerate(found[key]) for j in range(i + 1, len(row))] for key in SYMMETRIC
    }
    return {**found, **upper}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value


def _finite(value: Any) -> Any:
    """Infinity and NaN as null: JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
