"""The units of a run in one SQLite file: writing some costs the same however many there are.

A unit's rows are one JSON text, so that every cell comes back as it went in: whole numbers, floats to the
last bit, "" and NaN. What is written together is there whole or not at all, whenever the process is
interrupted or killed or the power fails (SQLite's rollback journal).
"""

import contextlib
import errno
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCHEMA = {
    "run": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "units": "unit TEXT PRIMARY KEY, rows TEXT NOT NULL",
    "failed": "unit TEXT PRIMARY KEY, reason TEXT NOT NULL",
}
"""Tables: properties of the run as a whole, rows of finished units, units that have none and why."""

ROOM = "make room on the disk and run the same command again: what was finished is kept"
ELSEWHERE = "make it writable or choose another --out"

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""No room, or a disk that fails: SQLite does not tell a quota from a broken disk."""

CODES = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@dataclass(frozen=True)
class Failure:
    """In place of a unit's rows: why there are none."""

    reason: str


class Database:
    """An open file, locked for this process until it closes it or dies. Each method is one transaction.

    The lock is SQLite's own, of the operating system, which lifts it with the process.
    """

    def __init__(self, path: Path):
        """Open or create the file.

        Raises:
            BlockingIOError: another run has it open.
            OSError: it cannot be made or written.
            ValueError: it is damaged, or holds something else.
        """
        self.path = path
        with explain_disk_errors(path):
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            with self._transaction() as execute:
                execute("PRAGMA locking_mode = EXCLUSIVE")  # the lock outlives the transaction
                tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if not tables:
                    for name, fields in SCHEMA.items():
                        execute(f"CREATE TABLE {name} ({fields})")
                elif tables != set(SCHEMA):
                    raise ValueError(f"{path} holds something else; move it away or choose another --out")
                elif execute("PRAGMA quick_check(1)").fetchone() != ("ok",):  # now, not after hours of work
                    raise damage_error(path)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Callable]:
        """What is executed in the block is done whole, or undone if the block raises."""
        with explain_disk_errors(self.path), self._connection:
            self._connection.execute("BEGIN EXCLUSIVE")
            yield self._connection.execute

    def write(self, units: Mapping[str, Sequence | Failure], **properties: object) -> None:
        """Add units, each with its rows or why it has none, and set properties of the run.

        A unit that failed before may be added again; one with rows may not (sqlite3.IntegrityError).
        """
        with self._transaction() as execute:
            for unit, rows in units.items():
                execute("DELETE FROM failed WHERE unit = ?", (unit,))
                if isinstance(rows, Failure):
                    execute("INSERT INTO failed VALUES (?, ?)", (unit, rows.reason))
                else:
                    execute("INSERT INTO units VALUES (?, ?)", (unit, _text(rows)))
            for name, value in properties.items():
                execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (name, _text(value)))

    def properties(self) -> dict:
        """Properties of the run; empty in a new file."""
        with self._transaction() as execute:
            return {name: json.loads(value) for name, value in execute("SELECT name, value FROM run")}

    def done(self) -> set[str]:
        """Units that have rows."""
        with self._transaction() as execute:
            return {unit for (unit,) in execute("SELECT unit FROM units")}

    def failed(self) -> dict[str, str]:
        """Units that have none, in order, with the reason of each."""
        with self._transaction() as execute:
            return dict(execute("SELECT unit, reason FROM failed ORDER BY unit"))

    def rows(self) -> list[list]:
        """The rows of all units, in the order of their names, each behind the name of its unit."""
        with self._transaction() as execute:
            units = execute("SELECT unit, rows FROM units ORDER BY unit")
            return [[unit, *row] for unit, text in units for row in json.loads(text)]

    def close(self) -> None:
        """Let go of the file; whoever comes next may open it."""
        self._connection.close()


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=lambda number: number.item())  # NumPy's


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Raise errors that the block meets while it reads or writes ``path`` as one line with their remedy.

    Raises:
        OSError: the disk is full or fails, ``path`` cannot be written, or another run holds it.
        ValueError: ``path`` is a damaged database.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # without the extension
        if code == sqlite3.SQLITE_BUSY:
            line = "in use by another run; wait until it ends or choose another --out"
            raise BlockingIOError(errno.EAGAIN, line, str(path)) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damage_error(path) from error
        number = error.errno if isinstance(error, OSError) else CODES.get(code)
        if number is None:
            raise  # a fault of ours keeps its traceback
        text = error.strerror if isinstance(error, OSError) else error
        raise OSError(number, f"{text}; {ROOM if number in FULL else ELSEWHERE}", str(path)) from error


def damage_error(path: Path) -> ValueError:
    """What to raise for a file that cannot be understood."""
    return ValueError(f"{path} is damaged; move it away or choose another --out")
