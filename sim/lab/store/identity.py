"""What a run is: its configuration as plain data, and where and with what it was made."""

import dataclasses
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from sim.lab import parallel


def digest(config: object, length: int = 12) -> str:
    """Hash of a configuration: any nesting of dataclasses, dicts, sequences and numbers."""
    text = json.dumps(plain(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def plain(value: object) -> object:
    """The JSON form of a configuration."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def require_same(there: object, here: object, folder: Path) -> None:
    """Raise ValueError, naming what differs, if a folder holds results of another configuration."""
    if there != here:
        raise ValueError(
            f"{folder} has another configuration ({', '.join(_differences(there, here)[:3])}); "
            "choose another --out"
        )


def _differences(old: object, new: object, path: tuple = ()) -> list[str]:
    """The settings that differ; where plain values do, only these, since what is nested follows from them."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in sorted({*old, *new}, key=str) if old.get(key) != new.get(key)]
        typed = [key for key in keys if not (_nested(old.get(key)) or _nested(new.get(key)))]
        found = [_differences(old.get(key), new.get(key), (*path, key)) for key in typed or keys]
        return list(dict.fromkeys(text for texts in found for text in texts))
    if _nested(old) and _nested(new) and len(old) == len(new):
        old, new = (dict(enumerate(values)) for values in (old, new))
        return _differences(old, new, path)
    name = ".".join(part for part in path if isinstance(part, str))
    return [f"{name}: {_short(old)} there, {_short(new)} here"]


def _nested(value: object) -> bool:
    """Whether a value has settings of its own, or is a list of such."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_nested, value)))


def _short(value: object) -> str:
    """A value in a few letters: "2 4 8"."""
    if _nested(value):
        return f"{len(value)} of them"
    text = (
        " ".join(map(str, value)) if isinstance(value, list) else "default" if value is None else str(value)
    )
    return text if len(text) <= 40 else f"{text[:37]}..."


def environment(device: str | None = None) -> dict:
    """Versions, device and commit: what a reader needs to repeat a run.

    device: what it ran on, where that was not JAX, which is then left asleep.
    """
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True
    )
    return {
        "python": platform.python_version(),
        "versions": versions(),
        "device": device or "{} x {}".format(*parallel.devices()),
        "platform": platform.platform(),
        "commit": commit.stdout.strip() or "unknown",
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    packages = ("jax", "jaxlib", "optax", "numpy", "scipy", "pandas", "lora-reuse")
    return {name: _version(name) for name in packages}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a source tree that was not installed
        return "not installed"
