"""What goes wrong with the disk, as one line that names the remedy."""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

ROOM = "make room on the disk and run the same command again: what was finished is kept"
ELSEWHERE = "make it writable or choose another --out"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""No room, or a disk that fails: SQLite tells a quota from a broken disk no better."""

_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors that the block meets while it reads or writes ``path``, with their remedy.

    Raises:
        OSError: the disk is full or fails, ``path`` cannot be written, or another run holds it.
        ValueError: ``path`` is a damaged database.
    """
    try:
        yield
    except OSError as error:
        raise _at(path, error.errno, error.strerror) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # without the extension
        if code == sqlite3.SQLITE_BUSY:
            line = "in use by another run; wait until it ends or choose another --out"
            raise BlockingIOError(errno.EAGAIN, line, str(path)) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damaged(path) from error
        if code in _SQLITE:
            raise _at(path, _SQLITE[code], str(error)) from error
        raise  # a fault of ours keeps its traceback


def damaged(path: Path) -> ValueError:
    """What to raise for a file that cannot be understood."""
    return ValueError(f"{path} is damaged; move it away or choose another --out")


def _at(path: Path, number: int | None, what: str | None) -> OSError:
    return OSError(number, f"{what}; {ROOM if number in _FULL else ELSEWHERE}", str(path))
