"""The tables of a test bed's run, what they cost, and its manifest."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from sim.experiments.common.predicted import RANGES
from sim.experiments.merge_forecast import claims, scoring
from sim.experiments.merge_forecast.measuring import STRENGTHS
from sim.lab import files, parallel
from sim.lab.figure import COMMANDS

STAGES = "stages.json"
"""File of a run: seconds of each stage, and the device that they took."""


@contextmanager
def timed(out: Path, stage: str) -> Iterator[None]:
    """Add the seconds of a stage to those of its earlier calls on the same device."""
    start = time.monotonic()
    yield
    count, kind = parallel.devices()
    costs = read_costs(out)
    name = f"{stage} on {count} x {kind}"
    costs[name] = round(costs.get(name, 0.0) + time.monotonic() - start, 1)
    files.write_text(out / STAGES, json.dumps(costs, indent=1) + "\n")


def read_costs(out: Path) -> dict[str, float]:
    """Seconds by stage and device."""
    path = out / STAGES
    return json.loads(path.read_text()) if path.exists() else {}


def by_library(cells: pd.DataFrame, predictors: Sequence[str]) -> pd.DataFrame:
    """``scoring.summary`` of every library: over all strengths ("all"), by range, and by strength."""
    parts = []
    each = [(lam - 0.01, lam, f"{lam:g}") for lam in STRENGTHS]
    for low, high, name in ((0.0, 2.0, "all"), *RANGES[:2], *each):
        some = cells[(cells["strength"] > low) & (cells["strength"] <= high)]
        table = scoring.summary(some, predictors, ("adapters", "design", "seed"))
        parts.append(table.assign(range=name))
    return pd.concat(parts, ignore_index=True)


def write_table(path: Path, table: pd.DataFrame, digits: int = 4) -> None:
    """A table as text, its numbers to so many digits: whole, or not there."""
    files.write_text(path, table.to_csv(index=False, float_format=f"%.{digits}g"))


def write(
    out: Path, name: str, cells: pd.DataFrame, search: pd.DataFrame, predictors: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Write and return the tables cells, by_library, search, summary and rules; and ``manifest.json``."""
    summary = scoring.summary(cells, predictors, ("adapters", "design"))
    tables = {
        "cells": cells,
        "by_library": by_library(cells, predictors),
        "search": search,
        "summary": summary,
        "rules": claims.verdicts(summary, search),
    }
    for table, rows in tables.items():
        write_table(out / f"{table}.csv", rows)
    costs = read_costs(out)
    device = max(costs, key=costs.get).partition(" on ")[2] if costs else ""
    config = {"experiment": name, "profile": "paper", "command": COMMANDS[name]}
    seconds = round(sum(costs.values()), 1)
    manifest = {"config": config, "finished": True, "seconds": seconds, "device": device, "stages": costs}
    files.write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return tables
