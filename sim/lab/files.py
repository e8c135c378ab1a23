"""Files written whole or not at all (``replacing``), and identified by their contents (``digests``)."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

CHUNK = 1 << 22
"""Bytes that are read at a time."""


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


def check_folder(path: Path, option: str = "--out") -> None:
    """Raise ValueError, one line, if a path that is to be a folder is a file, or lies below one."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{option} {path}: {place} is a file; give a folder, which need not exist yet")


def check_file(path: Path, option: str = "--out") -> None:
    """Raise ValueError, one line, if a path that is to be a file is a folder, or lies below a file."""
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; give the file to write")
    check_folder(path.parent, option)


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """{name: hash of its contents} of files, by name; folders are left out. A bar shows after two seconds.

    The hash is the first 64 bits of SHA-256: about a second a GB.
    Raises: OSError for a file that cannot be read.
    """
    paths = sorted(path for path in paths if path.is_file())
    total, content = sum(path.stat().st_size for path in paths), {}
    with tqdm(total=total, desc="reading files", unit="B", unit_scale=True, delay=2) as bar:
        for path in paths:
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
                    bar.update(len(chunk))
            content[path.name] = digest.hexdigest()[:16]
    return content


def _to_disk(path: Path) -> None:
    """Wait until the file is on the disk: a crash after the rename must not leave an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
