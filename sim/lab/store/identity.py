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
        differences = ", ".join(_differences(there, here)[:3])
        raise ValueError(f"{folder} has another configuration ({differences}); choose another --out")


def _differences(there: object, here: object) -> list[str]:
    """The settings that differ, "rank: 2 there, 4 here": the least nested, since others follow from them."""
    old, new = _settings(there), _settings(here)
    differing = [path for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
    nesting = {path: 2 * len(path) - (path[-1:] == ("",)) for path in differing}
    return [
        f"{'.'.join(filter(None, path))}: {old.get(path, 'default')} there, {new.get(path, 'default')} here"
        for path in differing
        if nesting[path] == min(nesting.values())
    ]


def _settings(value: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Every setting by its path, in a few letters; of a list of nested ones how many, and those of all."""
    if isinstance(value, dict):
        nested = [_settings(item, (*path, key)) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        nested = [{(*path, ""): f"{len(value)} of them"}, *(_settings(item, path) for item in value)]
    else:
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        return {path: "default" if value is None else text if len(text) <= 40 else f"{text[:37]}..."}
    texts: dict[tuple[str, ...], str] = {}
    for settings in nested:
        for place, text in settings.items():
            texts[place] = text if texts.get(place, text) == text else f"{texts[place]} {text}"
    return texts


def environment(device: str = "") -> dict:
    """Versions, device and commit: what a reader needs to repeat a run.

    device: what it ran on, if that was not JAX in this process, which is then not started.
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
    return {name: version_of(name) for name in packages}


def version_of(package: str, missing: str | None = "not installed") -> str | None:
    """The version of a package; ``missing`` for one that is not there, or is run from a source tree."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return missing
