"""``manifest.json``: what a run is and how far it came, for people, and for figures drawn from its tables."""

import json
from pathlib import Path

from sim.lab import files
from sim.lab.store.trouble import damaged, told


def path_in(folder: Path) -> Path:
    """Where the manifest of a run folder stands."""
    return folder / "manifest.json"


def write(folder: Path, content: dict) -> None:
    """Replace the manifest. Raises OSError if it cannot be written."""
    with told(path_in(folder)):
        files.write_text(path_in(folder), json.dumps(content, indent=1) + "\n")


def read(folder: Path) -> dict | None:
    """Configuration, seconds and whether it is finished; None without a manifest, ValueError if damaged."""
    path = path_in(folder)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return {key: found[key] for key in ("config", "seconds", "finished")}
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path) from error


def unfinished(folder: Path) -> bool:
    """Whether the tables of a run folder lack units: it was stopped and not run again, or units failed."""
    found = read(folder)
    return found is not None and not found["finished"]
