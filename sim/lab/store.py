"""Results on disk: nothing lost on Ctrl-C or kill, nothing computed twice, nothing overwritten.

A run folder holds ``results.csv`` (one row per unit, model, method and metric), ``summary.csv`` and
``manifest.json``. Rows come in units, each written whole or not at all: the file is replaced atomically.
"""

import dataclasses
import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from sim.lab import files, intervals


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


def environment() -> dict:
    """Versions, device and commit: what a reader needs to repeat a run."""
    packages = ("jax", "jaxlib", "optax", "numpy", "scipy", "pandas", "lora-reuse")
    devices = jax.devices()
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True
    )
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "platform": platform.platform(),
        "commit": commit.stdout.strip() or "unknown",
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a source tree that was not installed
        return "not installed"


class Store:
    """The rows of one run folder, resumable."""

    def __init__(self, folder: Path, config: object, columns: Sequence[str], command: str):
        """Open or create a run folder for exactly this configuration.

        Raises:
            ValueError: the folder holds results of another configuration, or a damaged file.
            OSError: the folder cannot be made or written.
        """
        self.folder, self.columns, self.command = folder, ["unit", *columns], command
        self.config, self.environment, self._start = plain(config), environment(), time.monotonic()
        self.results, self.manifest = folder / "results.csv", folder / "manifest.json"
        folder.mkdir(parents=True, exist_ok=True)
        found = self._read_manifest()
        if found is None and self.results.exists():
            raise ValueError(f"{self.results} has no manifest.json beside it; choose another --out")
        if found is not None and found["config"] != self.config:
            differing = _differences(found["config"], self.config)
            raise ValueError(
                f"{folder} holds results of another configuration ({differing}); choose another --out"
            )
        self._seconds = found["seconds"] if found else 0.0
        self.rows = self._read_rows()
        self.save_manifest(finished=found["finished"] if found else False)

    def _read_manifest(self) -> dict | None:
        if not self.manifest.exists():
            return None
        try:
            found = json.loads(self.manifest.read_text())
            return {key: found[key] for key in ("config", "seconds", "finished")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.manifest} is damaged; move it away or choose another --out") from error

    def _read_rows(self) -> pd.DataFrame:
        if not self.results.exists():
            return pd.DataFrame(columns=self.columns)
        try:
            rows = read_table(self.results)
        except (ValueError, pd.errors.ParserError) as error:
            raise ValueError(f"{self.results} is damaged; move it away or choose another --out") from error
        if list(rows.columns) != self.columns:
            raise ValueError(f"{self.results} has other columns; move it away or choose another --out")
        return rows

    @property
    def done(self) -> set[str]:
        """Units whose rows are on disk."""
        return set(self.rows["unit"])

    def add(self, units: Mapping[str, Sequence[Mapping]]) -> None:
        """Write the rows of finished units, all of them at once."""
        new = pd.DataFrame(
            [{"unit": unit, **row} for unit, rows in units.items() for row in rows], columns=self.columns
        )
        self.rows = new if self.rows.empty else pd.concat([self.rows, new], ignore_index=True)
        files.write_text(self.results, self.rows.to_csv(index=False))
        self.save_manifest(finished=False)

    def save_manifest(self, finished: bool) -> None:
        """Configuration, environment, command, and the seconds spent in all sittings together."""
        content = {
            "command": self.command,
            "finished": finished,
            "seconds": round(self._seconds + time.monotonic() - self._start, 1),
            **self.environment,
            "config": self.config,
        }
        files.write_text(self.manifest, json.dumps(content, indent=1) + "\n")

    def finish(self) -> pd.DataFrame:
        """Sort the rows by unit (the file must not depend on the order of work) and summarise them."""
        self.rows = self.rows.sort_values("unit", kind="stable", ignore_index=True)
        files.write_text(self.results, self.rows.to_csv(index=False))
        summary = summarise(self.rows)
        files.write_text(self.folder / "summary.csv", summary.to_csv(index=False, float_format="%.4g"))
        self.save_manifest(finished=True)
        return summary


def read_table(path: Path) -> pd.DataFrame:
    """A results or summary CSV, floats exactly as written, empty text cells as ""."""
    rows = pd.read_csv(path, dtype={"unit": str})  # exact from pandas 3.1 on
    text = rows.select_dtypes(exclude="number").columns
    return rows.assign(**{column: rows[column].fillna("") for column in text})


MEASURES = ("unit", "seed", "predicted", "measured", "trials")


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, 95% interval and number of seeds of every cell and metric (all columns but seed and values).

    Rows with ``trials`` are success rates (``intervals.proportion``), the others real numbers
    (``intervals.mean``). ``predicted`` is the mean prediction over the same seeds, ``error`` the mean
    absolute difference of prediction and measurement, seed by seed.
    """
    keys = [column for column in rows.columns if column not in MEASURES]
    numbers = rows[["predicted", "measured", "trials"]].astype(float)
    rows = rows.assign(**numbers, error=(numbers["predicted"] - numbers["measured"]).abs())
    groups = rows.groupby(keys, sort=False, dropna=False)
    found = groups.agg(
        predicted=("predicted", "mean"),
        seeds=("seed", "nunique"),
        error=("error", "mean"),
        of=("trials", "min"),
    )
    place = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    shape = len(found), max(place[1], default=0) + 1  # seeds that a cell lacks asked nothing
    right, asked, values = (np.full(shape, fill) for fill in (0.0, 0.0, np.nan))
    trials = numbers["trials"].fillna(0.0)
    right[place], asked[place], values[place] = numbers["measured"] * trials, trials, numbers["measured"]
    counted = found["of"].notna().to_numpy()
    intervals_ = np.empty((len(found), 3))
    intervals_[counted] = np.stack(intervals.proportions(right[counted], asked[counted]), axis=1)
    for row in np.flatnonzero(~counted):
        intervals_[row] = intervals.mean(values[row][~np.isnan(values[row])])
    found[["measured", "low", "high"]] = intervals_
    return found.reset_index()[[*keys, "predicted", "measured", "low", "high", "seeds", "error"]]


def _differences(old: object, new: object, path: str = "") -> str:
    """Names of the settings that differ, at most three."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        old, new = (dict(enumerate(values)) for values in (old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        parts = [
            _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
        return ", ".join(parts[:3])
    return f"{path}: {old} there, {new} here"
