"""Files that are whole or absent: everything the toolkit writes goes through ``replacing``."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path beside ``path``; what the block writes there replaces ``path`` when it ends well.

    For a file or a folder (which must not exist yet, or be empty). A reader sees the old or the new, never a
    part; after an error or an interruption the old is untouched and nothing is left behind.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        part = Path(scratch) / path.name
        yield part
        for file in (part, *part.rglob("*")):
            if file.is_file():
                _to_disk(file)
        os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file holding ``text``, whole or not at all (``replacing``)."""
    with replacing(path) as part:
        part.write_text(text)


def _to_disk(path: Path) -> None:
    """Wait until the file is on the disk: a crash after the rename must not leave an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
