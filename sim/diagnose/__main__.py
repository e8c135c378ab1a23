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
from sim.diagnose.report import diagnose
from sim.diagnose.verdict import FEATURE_KEY, KEY, module_table, verdict
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
    """Folder for diagnosis.json and the figure diagnosis.pdf, .png; those of an earlier run are replaced."""


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
    """diagnosis.json, .pdf and .png in ``out``, each replaced whole. What is infinite is null in the JSON."""
    text = json.dumps(_finite(report), indent=1, allow_nan=False) + "\n"
    files.write_text(out / "diagnosis.json", text)
    style.save(draw(report), out / "diagnosis")


def main(command: DiagnoseCommand) -> None:
    """Read, measure, print the table and the verdict, write JSON and figure. ValueError for bad input."""
    adapters = [read_adapter(path) for path in command.adapters]
    features = read_features(command.features) if command.features else None
    report = diagnose(adapters, features)
    write(report, command.out)
    print(module_table(report).to_string(float_format=lambda value: f"{value:.3f}"))
    print(KEY + (FEATURE_KEY if features else ""))
    print("\n" + "\n".join(verdict(report)))
    if notes := [adapter.note for adapter in adapters if adapter.note]:
        print(f"note: {'; '.join(notes)}")
    print(f"\nwrote {command.out / 'diagnosis'}.json, .pdf, .png")


if __name__ == "__main__":
    run_command(DiagnoseCommand, main, "sim.diagnose")
