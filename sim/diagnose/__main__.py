"""``python -m sim.diagnose A B [C ...]``: will merging these adapters work? No data, no base model needed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sim.diagnose.draw import draw
from sim.diagnose.page import said
from sim.diagnose.page import write as write_page
from sim.diagnose.report import diagnose
from sim.diagnose.tables import module_table
from sim.diagnose.verdict import verdict
from sim.lab import files, style
from sim.lab.cli import run_command
from sim.merge import read_adapter


@dataclass(frozen=True)
class DiagnoseCommand:
    """Compare PEFT LoRA adapters of one base model: overlap, interference, what theory says of merging."""

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more PEFT folders. Never modified."""
    features: Path | None = None
    """A safetensors file of activations at the inputs of the adapted modules, on prompts of your own: one
    (tokens, in) tensor for a module, under its name; "<module>@<i>" for adapter i's own training prompts."""
    out: Path = Path("runs/diagnose")
    """Folder for report.html, diagnosis.csv, .json and the figure .pdf, .png; an earlier run's go."""


def read_features(path: Path) -> dict[str, np.ndarray]:
    """Activations by module name. Raises ValueError, one line, for a file that is not whole safetensors."""
    try:
        return load_file(path)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); write it again") from None


def _finite(value: Any) -> Any:
    """Infinity and NaN as null: JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write(report: Mapping[str, Any], out: Path) -> None:
    """report.html and diagnosis.json, .csv, .pdf and .png in ``out``, each replaced whole.

    What is infinite or unknown is null in the JSON; the CSV has one row a module.
    """
    text = json.dumps({**_finite(report), "verdict": verdict(report)}, indent=1, allow_nan=False) + "\n"
    files.write_text(out / "diagnosis.json", text)
    table, picture = module_table(report), draw(report)
    files.write_text(out / "diagnosis.csv", table.to_csv())
    style.save(picture, out / "diagnosis")
    write_page(report, table, picture, out)


def main(command: DiagnoseCommand) -> None:
    """Read, measure, write the files, print the verdict and the short tables. ValueError for bad input."""
    adapters = [read_adapter(path) for path in command.adapters]
    features = read_features(command.features) if command.features else None
    report = diagnose(adapters, features)
    write(report, command.out)
    print(said(report))
    print(f"\nread {command.out / 'report.html'}; beside it are diagnosis.csv, .json, .pdf and .png")


if __name__ == "__main__":
    run_command(DiagnoseCommand, main, "sim.diagnose")
