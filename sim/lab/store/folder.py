"""A run folder: its units in ``results.sqlite``, and what people and figures read, written out from there.

``results.csv`` (one row per unit, model, method and metric) and ``summary.csv`` are written when a run ends,
is interrupted or meets an error; ``manifest.json`` also when it begins.
"""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pandas as pd

from sim.lab import files, interrupt
from sim.lab.store import earlier, manifest
from sim.lab.store.database import Database, Failed
from sim.lab.store.identity import environment, plain, require_same
from sim.lab.store.tables import summarise
from sim.lab.store.trouble import told


class Store:
    """The rows of one run folder, resumable; nobody else may open it meanwhile.

    A context manager: however the block ends, what was finished is written out, and the folder let go.
    """

    def __init__(self, folder: Path, config: object, columns: Sequence[str], command: str):
        """Open or create a run folder for exactly this configuration.

        Raises:
            ValueError: the folder holds results of another configuration, or a damaged file.
            OSError: the folder cannot be made or written, or another run holds it.
        """
        self.folder, self.columns, self.command = folder, list(columns), command
        self.config, self.environment, self._start = plain(config), environment(), time.monotonic()
        path = folder / "results.sqlite"
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            begun = path.exists()
        if not begun:
            self._earlier()  # refuses a folder before anything is written there
        self._database, self._watched = Database(path), contextlib.ExitStack()
        try:
            known = self._begin()
            self._seconds, self._finished = known["seconds"], known["finished"]
            self._record(self._finished)
        except BaseException:
            self.close()
            raise

    def _earlier(self) -> earlier.Earlier:
        return earlier.read(self.folder, self.config, self.columns)

    def _begin(self) -> dict:
        """What the database knows of the run, after a check that it is this one; or begin it."""
        known = self._database.known()
        if not known:
            found = self._earlier()
            known = {"config": self.config, "columns": self.columns}
            known |= {"seconds": found.seconds, "finished": found.finished}
            self._database.write(found.units, **known)
        require_same(known["config"], self.config, self.folder)
        if known["columns"] != self.columns:
            raise ValueError(f"{self._database.path} has other columns; move it away or choose another --out")
        return known

    def __enter__(self) -> Self:
        self._watched.enter_context(interrupt.ending(self._write_out))
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is not None:
                with contextlib.suppress(OSError, ValueError):  # what stopped the run is to be told
                    self._write_out()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the folder."""
        self._watched.close()
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

    def add(self, units: Mapping[str, Sequence[Mapping] | Failed]) -> None:
        """Put finished units on disk, all of them at once: the rows of each, or why it failed.

        Values are text, numbers, booleans or None; a column that a row lacks stays empty.

        Raises:
            OSError: the disk is full. Nothing of what was there is lost.
        """
        if self._finished:
            self._record(finished=False)
        self._database.write(
            {unit: rows if isinstance(rows, Failed) else self._cells(rows) for unit, rows in units.items()},
            seconds=self._elapsed(),
        )

    def _cells(self, rows: Sequence[Mapping]) -> list[list]:
        return [[row.get(column, math.nan) for column in self.columns] for row in rows]

    def finish(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write everything out and return (summary, all rows). The run is finished if no unit failed."""
        tables = self._write_tables()
        self._record(finished=not self.failed)
        return tables

    def write(self, name: str, text: str) -> None:
        """Replace a file of the folder. Raises OSError if it cannot be written."""
        with told(self.folder / name):
            files.write_text(self.folder / name, text)

    def _write_out(self) -> None:
        """What a run that is stopped leaves."""
        if self.done:
            self._write_tables()
        self._record(self._finished)

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
        manifest.write(self.folder, content | self.environment | {"config": self.config})

    def _elapsed(self) -> float:
        return round(self._seconds + time.monotonic() - self._start, 1)
