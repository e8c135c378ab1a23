"""A run folder: its units in ``results.sqlite``, and what people and figures read, written out from there.

``results.csv`` (one row per unit, model, method and metric) and ``summary.csv`` are written when a run ends,
is interrupted or meets an error; ``manifest.json``, what the run is and how far it came, also when it begins.
"""

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pandas as pd

from sim.lab import files
from sim.lab.store.database import Database, Failure, damage_error, explain_disk_errors
from sim.lab.store.identity import environment, plain, require_same
from sim.lab.store.tables import read_table, summarise


class Store:
    """The rows of one run folder, resumable; nobody else may open it meanwhile.

    A context manager: however the block ends, what was finished is written out, and the folder let go.
    """

    def __init__(self, folder: Path, config: object, columns: Sequence[str], command: str, device: str = ""):
        """Open or create a run folder for exactly this configuration.

        device: what computes, for the manifest (default: JAX's devices).

        Raises:
            ValueError: the folder holds results of another configuration, or a damaged file.
            OSError: the folder cannot be made or written, or another run holds it.
        """
        self.folder, self.columns, self.command = folder, list(columns), command
        self.config, self.environment, self._start = plain(config), environment(device), time.monotonic()
        path = folder / "results.sqlite"
        with explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            begun = path.exists()
        if not begun:
            self._read_tables()  # refuses a folder before anything is written there
        self._database = Database(path)
        try:
            properties = self._database.properties()
            if not properties:
                units, properties = self._read_tables()
                properties |= {"config": self.config, "columns": self.columns}
                self._database.write(units, **properties)
            require_same(properties["config"], self.config, folder)
            if properties["columns"] != self.columns:
                raise ValueError(f"{path} has other columns; move it away or choose another --out")
            self._seconds = properties["seconds"]
            self._record(properties["finished"])
        except BaseException:
            self.close()
            raise

    def _read_tables(self) -> tuple[dict[str, list[list]], dict]:
        """(units, properties) of a folder without a database: of an earlier version, or moved away."""
        results, manifest = self.folder / "results.csv", read_manifest(self.folder)
        if manifest is None:
            if results.exists():
                raise ValueError(f"{results} has no manifest.json beside it; choose another --out")
            return {}, {"seconds": 0.0, "finished": False}
        require_same(manifest.pop("config"), self.config, self.folder)
        units: dict[str, list[list]] = {}
        if results.exists():
            try:
                rows = read_table(results)
            except (ValueError, pd.errors.ParserError) as error:
                raise damage_error(results) from error
            if list(rows.columns) != ["unit", *self.columns]:
                raise ValueError(f"{results} has other columns; move it away or choose another --out")
            for unit, *row in rows.to_dict("split", index=False)["data"]:
                units.setdefault(unit, []).append(row)
        return units, manifest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is not None:
                with contextlib.suppress(OSError, ValueError):  # the error that stopped the run counts
                    if self.done:
                        self._write_tables()
                    self._record(self._finished)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the folder."""
        self._database.close()

    @property
    def done(self) -> set[str]:
        """Units whose rows are on disk."""
        return self._database.done()

    @property
    def failed(self) -> dict[str, str]:
        """Units that failed, with the reason of each. They are not done: the next run tries them again."""
        return self._database.failed()

    @property
    def rows(self) -> pd.DataFrame:
        """All rows, sorted by unit: neither the order of work nor the size of chunks shows."""
        return pd.DataFrame(self._database.rows(), columns=["unit", *self.columns])

    def add(self, units: Mapping[str, Sequence[Mapping] | Failure]) -> None:
        """Put finished units on disk, all of them at once: the rows of each, or why it failed.

        Values are text, numbers, booleans or None; a column that a row lacks stays empty.

        Raises:
            OSError: the disk is full. Nothing of what was there is lost.
        """
        if self._finished:
            self._record(finished=False)
        cells = {
            unit: rows
            if isinstance(rows, Failure)
            else [[row.get(column, math.nan) for column in self.columns] for row in rows]
            for unit, rows in units.items()
        }
        self._database.write(cells, seconds=self._elapsed())

    def finish(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write everything out and return (summary, all rows). The run is finished if no unit failed."""
        tables = self._write_tables()
        self._record(finished=not self.failed)
        return tables

    def write(self, name: str, text: str) -> None:
        """Replace a file of the folder. Raises OSError if it cannot be written."""
        with explain_disk_errors(self.folder / name):
            files.write_text(self.folder / name, text)

    def _write_tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        rows = self.rows
        self.write("results.csv", rows.to_csv(index=False))
        summary = summarise(rows)
        self.write("summary.csv", summary.to_csv(index=False, float_format="%.4g"))
        return summary, rows

    def _record(self, finished: bool) -> None:
        """Configuration, environment, command, and the seconds spent in all sittings together."""
        self._finished, seconds = finished, self._elapsed()
        self._database.write({}, seconds=seconds, finished=finished)
        content = {"command": self.command, "finished": finished, "seconds": seconds, "failed": self.failed}
        content |= self.environment | {"config": self.config}
        self.write("manifest.json", json.dumps(content, indent=1) + "\n")

    def _elapsed(self) -> float:
        return round(self._seconds + time.monotonic() - self._start, 1)


def read_manifest(folder: Path) -> dict | None:
    """Configuration, seconds and whether it is finished; None without a manifest, ValueError if damaged."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text())
        return {key: manifest[key] for key in ("config", "seconds", "finished")}
    except (ValueError, KeyError, TypeError) as error:
        raise damage_error(path) from error


def is_unfinished(folder: Path) -> bool:
    """Whether the tables of a run folder lack units: it was stopped and not run again, or units failed."""
    manifest = read_manifest(folder)
    return manifest is not None and not manifest["finished"]
