"""``python -m sim.diagnose A B [C ...]``: will merging these adapters work? No data, no base model needed."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sim.diagnose.entry import diagnose_folders
from sim.diagnose.page import as_text
from sim.lab.cli import run_command
from sim.lab.files import check_folder
from sim.merge.layouts import parse_renames


@dataclass(frozen=True)
class DiagnoseCommand:
    """Compare PEFT LoRA adapters of one base model: overlap, interference, what theory says of merging.

    Examples:
    * python -m sim.diagnose A B
    * python -m sim.diagnose A B C --features features.safetensors --out runs/three
    """

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more PEFT folders, or ids of the Hugging Face hub (org/name). Never modified."""
    features: Path | None = None
    """A safetensors file of activations at the inputs of the adapted modules, on prompts of your own: one
    (tokens, in) tensor for a module, under its name; "<module>@<i>" for adapter i's own training prompts.
    python -m sim.record writes it."""
    base: Path | None = None
    """Folder of the base model, or its id of the hub: of four modules, what folding loses in bfloat16, and
    intruder dimensions."""
    rename: tuple[str, ...] = ()
    """Prefixes of module names to replace in the adapters that have them, as OLD=NEW, for example
    model.language_model=model: for adapters that name one model's modules in two layouts."""
    out: Path = Path("runs/diagnose")
    """Folder for report.html, diagnosis.csv, .json and the figure .pdf, .png; an earlier run's go."""


def main(command: DiagnoseCommand) -> None:
    """Read, measure, write the files, print the verdict and the short tables. ValueError for bad input."""
    check_folder(command.out)
    rename = parse_renames(command.rename)
    diagnosis = diagnose_folders(
        *command.adapters, features=command.features, rename=rename, base=command.base
    )
    diagnosis.write(command.out)
    print(as_text(diagnosis.report, command.out))
    print(f"\nread {command.out / 'report.html'}; beside it are diagnosis.csv, .json, .pdf and .png")


if __name__ == "__main__":
    run_command(DiagnoseCommand, main, "sim.diagnose")
