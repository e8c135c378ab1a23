"""``report.html`` of a run: verdict, figures, the table and the manifest."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sim.lab import report
from sim.sweep import main_job
from sim.sweep.table import explained, table
from sim.sweep.verdict import verdict


def write(summary: pd.DataFrame, guesses: pd.DataFrame, folder: Path, figures: Mapping[str, Figure]) -> Path:
    """Write ``report.html`` of a run into its folder, which holds its manifest; returns the page's path."""
    manifest = json.loads((folder / "manifest.json").read_text())
    sections = {
        world: _in_order(cells.droplevel("world").loc[:, (cells != "").any()])
        for world, cells in table(summary).groupby("world", sort=False)
    }
    sections["What stands where"] = (
        *explained(summary),
        "every metric, predictor and interval: summary.csv; seed by seed: results.csv",
    )
    doubts = [f"{unit} failed: {reason}" for unit, reason in manifest["failed"].items()]
    name = summary["experiment"].iloc[0]
    title = "The main job" if name == main_job.NAME else f"Experiment {name}"
    return report.write(
        folder, title, opening(verdict(summary, guesses)), figures, sections, manifest, doubts
    )


def _in_order(cells: pd.DataFrame) -> pd.DataFrame:
    """Settings by name, rank 4 before rank 16; models of a setting stay as they are."""
    names = sorted(set(cells.index.get_level_values("label")), key=report.natural)
    places = {name: place for place, name in enumerate(names)}
    return cells.sort_index(
        level="label", key=lambda keys: keys.map(places), sort_remaining=False, kind="stable"
    )


def opening(lines: list[str]) -> list[str]:
    """The verdict with what was found step by step first, and last what the run has nothing on."""
    return sorted(reversed(lines), key=lambda line: line.endswith(" in this run."))
