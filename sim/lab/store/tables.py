"""The tables of a run as CSV: reading one, compressing large ones, and the summary of results over seeds."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from sim.lab import files, intervals

LARGEST = 200_000
"""Bytes of the largest table that a repository holds as it is; a larger one is compressed."""


def table_path(folder: Path, name: str) -> Path:
    """The file of a table in a run folder: ``name.csv``, or ``name.csv.gz`` if that is the one there is."""
    path, packed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    return packed if packed.exists() and not path.exists() else path


def compress_tables(runs: Path) -> None:
    """Replace every table above ``LARGEST`` in the run folders of ``runs`` by its ``.csv.gz``.

    ``results.csv`` stays: a run resumes from it. The same table gives the same bytes. Where a newer table is
    small, the old compressed one goes.
    """
    for path in sorted(runs.glob("*/*.csv")):
        packed = path.with_name(f"{path.name}.gz")
        if path.stat().st_size <= LARGEST:
            packed.unlink(missing_ok=True)
        elif path.stem != "results":
            with files.replacing(packed) as part:
                part.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
            path.unlink()


def read_table(path: Path) -> pd.DataFrame:
    """A results or summary CSV, compressed or not, floats exactly as written, empty text cells as ""."""
    rows = pd.read_csv(path, dtype={"unit": str})  # exact from pandas 3.1 on
    text = rows.select_dtypes(exclude="number").columns
    return rows.assign(**{column: rows[column].fillna("") for column in text})


MEASURES = ("unit", "seed", "predicted", "measured", "trials")

KINDS = (("experiment", "world", "metric"), ("experiment", "world"))
"""Cells that agree in these are of a kind, nearer and wider: answers of one seed are as alike in each."""

SETTING = "label"
"""Cells that agree in this one share their models."""


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, 95% interval and number of seeds of every cell and metric (all columns but seed and values).

    Rows with ``trials`` are success rates, whose correlation within a seed is pooled over the cells of
    ``KINDS`` (``intervals.proportions``; each by itself in a table that lacks their columns), the
    others real numbers (``intervals.mean``). ``predicted`` is the mean prediction over the same seeds,
    ``error`` the mean absolute difference of prediction and measurement, seed by seed.
    """
    keys = [column for column in rows.columns if column not in MEASURES]
    numbers = rows[["predicted", "measured", "trials"]].astype(float)
    rows = rows.assign(**numbers, error=(numbers["predicted"] - numbers["measured"]).abs())
    groups = rows.groupby(keys, sort=False, dropna=False)
    summary = groups.agg(
        predicted=("predicted", "mean"),
        seeds=("seed", "nunique"),
        error=("error", "mean"),
        trials=("trials", "min"),
    )
    place = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    shape = len(summary), max(place[1], default=0) + 1  # a cell may lack seeds: they count no trial
    right, trials, values = (np.full(shape, fill) for fill in (0.0, 0.0, np.nan))
    counts = numbers["trials"].fillna(0.0)
    right[place], trials[place], values[place] = numbers["measured"] * counts, counts, numbers["measured"]
    rates = summary["trials"].notna().to_numpy()
    bounds = np.empty((len(summary), 3))
    pooled = right[rates], trials[rates]
    bounds[rates] = np.stack(intervals.proportions(*pooled, _pool(summary.index[rates], *pooled)), axis=1)
    for row in np.flatnonzero(~rates):
        bounds[row] = intervals.mean(values[row][~np.isnan(values[row])])
    summary[["measured", "low", "high"]] = bounds
    return summary.reset_index()[[*keys, "predicted", "measured", "low", "high", "seeds", "error"]]


def _pool(cells: pd.MultiIndex, right: np.ndarray, trials: np.ndarray) -> intervals.Correlation | None:
    """What the cells of ``KINDS`` show of the correlation within a seed; None where a column is missing."""
    if not {SETTING, *KINDS[0]} <= set(cells.names):
        return None
    table = cells.to_frame(index=False)
    *kinds, setting = (table.groupby(list(kind), dropna=False).ngroup() for kind in (*KINDS, (SETTING,)))
    return intervals.correlation(right, trials, *kinds, setting=setting)
