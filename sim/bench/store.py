"""Time to put a chunk of rows on disk against the rows that are there, and to rewrite the whole table."""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sim.bench.clock import benchmark, seconds
from sim.lab import files
from sim.lab.store import Store

SIZES = (0, 24_000, 240_000)
"""Rows that are on disk already."""

UNITS, ROWS = 16, 100
"""Units of a chunk, and rows of a unit: a chunk of the one-layer model, or of cells on a GPU."""

REPEATS = 5

METRICS = [f"metric_{index}" for index in range(10)]
METHODS = [f"method_{index}" for index in range(ROWS // len(METRICS))]
COLUMNS = (
    *("experiment", "world", "label", "rank", "seed"),
    *("method", "metric", "predicted", "measured", "trials"),
)


def chunk(index: int, units: int = UNITS) -> dict[str, list[dict]]:
    """Units with made-up rows, a model and metric each; another ``index`` gives other units."""
    rng = np.random.default_rng(index)
    finished = {}
    for seed in range(units):
        common = {"experiment": "main", "world": "made_up", "label": f"part {index}", "rank": 4, "seed": seed}
        finished[f"main/{index:04d}/seed{seed:04d}"] = [
            common
            | {"method": method, "metric": metric, "measured": float(rng.random()), "trials": 64.0}
            | {"predicted": float(rng.random()) if place % 2 else math.nan}
            for method in METHODS
            for place, metric in enumerate(METRICS)
        ]
    return finished


def table(finished: dict[str, list[dict]]) -> pd.DataFrame:
    """The rows of units as a table."""
    rows = [{"unit": unit, **row} for unit, rows in finished.items() for row in rows]
    return pd.DataFrame(rows, columns=["unit", *COLUMNS])


Add = Callable[[dict[str, list[dict]]], int]
"""Puts a chunk on disk and returns the bytes it wrote into files."""


@contextlib.contextmanager
def stored(folder: Path, there: dict[str, list[dict]]) -> Iterator[Add]:
    """Ours: a store that holds units, and grows."""
    path = folder / "results.sqlite"
    with Store(folder, {}, COLUMNS, "python -m sim.bench store") as store:
        store.add(there)

        def add(finished: dict[str, list[dict]]) -> int:
            before = path.stat().st_size
            store.add(finished)
            return path.stat().st_size - before

        yield add


@contextlib.contextmanager
def rewritten(folder: Path, there: dict[str, list[dict]]) -> Iterator[Add]:
    """The baseline: the table with the new rows in place of the old table, whole at every moment."""
    path, rows = folder / "results.csv", table(there)

    def add(finished: dict[str, list[dict]]) -> int:
        nonlocal rows
        rows = pd.concat([rows, table(finished)], ignore_index=True)
        files.write_text(path, rows.to_csv(index=False))
        return path.stat().st_size

    yield add


WAYS = {"store": stored, "rewritten table": rewritten}


def floor() -> tuple[int, float]:
    """(bytes, seconds) to append the text of a chunk to a file and wait for the disk; nothing undoes it."""
    text = table(chunk(0)).to_csv(index=False, header=False)
    with tempfile.TemporaryFile("w") as file:

        def append() -> None:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

        return len(text), seconds(append, REPEATS)


@benchmark
def store() -> pd.DataFrame:
    """Put a chunk of 1600 rows on disk when 0 to 240,000 are there.

    ``seconds`` is the shortest of 5 chunks, ``written`` the bytes that one of them put into files. Files are
    made in the folder for temporary files (TMPDIR).
    """
    floor_bytes, floor_seconds = floor()
    rows = []
    for size in SIZES:
        there, ours = chunk(0, size // ROWS), math.nan
        for way, begin in WAYS.items():
            with tempfile.TemporaryDirectory() as scratch, begin(Path(scratch), there) as add:
                written: list[int] = []
                chunks = iter([chunk(index) for index in range(1, REPEATS + 1)])
                elapsed = seconds(lambda: written.append(add(next(chunks))), REPEATS)  # noqa: B023
            ours = elapsed if way == "store" else ours
            case = {"tool": way, "rows_there": size, "chunk": UNITS * ROWS, "seconds": elapsed}
            case |= {"written": int(np.median(written)), "floor_bytes": floor_bytes}
            rows.append(case | {"floor_seconds": floor_seconds, "ratio_to_ours": elapsed / ours})
    return pd.DataFrame(rows)
