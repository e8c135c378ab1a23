"""The units of a run in one SQLite file: writing some costs the same however many there are.

A unit's rows are one JSON text, so that every cell comes back as it went in: whole numbers and floats to the
last bit, "" and NaN told apart. What is written together is there whole or not at all, whenever the process
is killed or the power fails (SQLite's rollback journal).
"""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.lab.store.trouble import damaged, told

SCHEMA = {
    "run": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "units": "unit TEXT PRIMARY KEY, rows TEXT NOT NULL",
    "failed": "unit TEXT PRIMARY KEY, reason TEXT NOT NULL",
}
"""Tables: what is known of the run as a whole, rows of finished units, units that have none and why."""


@dataclass(frozen=True)
class Failed:
    """In place of a unit's rows: why there are none."""

    reason: str


class Database:
    """An open file, held by this process alone until it closes it or dies.

    The lock is SQLite's own, of the operating system, which lifts it with the process. Threads may share the
    object: each method is one transaction, one thread at a time.
    """

    def __init__(self, path: Path):
        """Open or create the file.

        Raises:
            BlockingIOError: another run has it open.
            OSError: it cannot be made or written.
            ValueError: it is damaged, or holds something else.
        """
        self.path, self._turn = path, threading.Lock()
        with told(path):
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with told(path):  # the lock that the next transaction takes is kept after it
                self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        """Make the tables of a new file; look through an old one now, not after hours of work."""
        with self._transaction() as do:
            found = {name for (name,) in do("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not found:
                for name, fields in SCHEMA.items():
                    do(f"CREATE TABLE {name} ({fields})")
            elif found != set(SCHEMA):
                raise ValueError(f"{self.path} holds something else; move it away or choose another --out")
            elif do("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise damaged(self.path)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Callable]:
        """What is executed in the block is done whole, or undone if the block raises."""
        with self._turn, told(self.path):
            do = self._connection.execute
            do("BEGIN EXCLUSIVE")
            try:
                yield do
                do("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite has undone it already on a full disk
                    do("ROLLBACK")
                raise

    def write(self, units: Mapping[str, Sequence | Failed], **known: object) -> None:
        """Add units, each with its rows or why it has none, and what is ``known`` of the run.

        A unit that failed before may be added again; one with rows may not (sqlite3.IntegrityError).
        """
        with self._transaction() as do:
            for unit, rows in units.items():
                do("DELETE FROM failed WHERE unit = ?", (unit,))
                if isinstance(rows, Failed):
                    do("INSERT INTO failed VALUES (?, ?)", (unit, rows.reason))
                else:
                    do("INSERT INTO units VALUES (?, ?)", (unit, _text(rows)))
            for name, value in known.items():
                do("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, _text(value)))

    def known(self) -> dict:
        """What is known of the run; empty in a new file."""
        with self._transaction() as do:
            return {name: json.loads(value) for name, value in do("SELECT name, value FROM run")}

    def done(self) -> set[str]:
        """Units that have rows."""
        with self._transaction() as do:
            return {unit for (unit,) in do("SELECT unit FROM units")}

    def failed(self) -> dict[str, str]:
        """Units that have none, in order, with the reason of each."""
        with self._transaction() as do:
            return dict(do("SELECT unit, reason FROM failed ORDER BY unit"))

    def rows(self) -> list[list]:
        """The rows of all units, in the order of their names, each behind the name of its unit."""
        with self._transaction() as do:
            found = do("SELECT unit, rows FROM units ORDER BY unit")
            return [[unit, *row] for unit, text in found for row in json.loads(text)]

    def close(self) -> None:
        """Let go of the file; whoever comes next may open it."""
        with self._turn:
            self._connection.close()


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=lambda number: number.item())  # NumPy's
