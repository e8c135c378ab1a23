"""``python -m sim.bench [NAME ...]``: measure, print, and write <NAME>.csv and <NAME>.json."""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from sim.bench import BENCHMARKS
from sim.lab import files, parallel
from sim.lab.cli import run_command
from sim.lab.store.identity import version_of


@dataclass(frozen=True)
class BenchCommand:
    """Time the toolkit's main operations on this machine.

    Examples:
    * python -m sim.bench
    * python -m sim.bench merge ties --out runs/bench
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Benchmarks to run; none lists them."""
    out: Path = Path("runs/bench")
    """Folder for the tables; those of an earlier run are replaced."""


def machine() -> dict[str, str | int | None]:
    """Where the numbers come from: processor, cores, JAX's devices, and versions of what was timed."""
    count, kind = parallel.devices()
    description = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    description["device"] = f"{count} x {kind}"
    return description | {name: version_of(name, None) for name in ("jax", "numpy", "torch", "peft")}


def write(name: str, table: pd.DataFrame, out: Path) -> None:
    """<name>.csv and <name>.json (with the machine), each replaced whole."""
    report = {"machine": machine(), "rows": json.loads(table.to_json(orient="records"))}
    files.write_text(out / f"{name}.csv", table.to_csv(index=False))
    files.write_text(out / f"{name}.json", json.dumps(report, indent=1) + "\n")


def main(command: BenchCommand) -> None:
    """Run the named benchmarks. Raises ValueError for an unknown name, listing the known ones."""
    chosen = [BENCHMARKS[name] for name in command.names]
    if not command.names:
        for record in BENCHMARKS.values():
            print(f"{record.name}: {record.summary}")
        return
    files.check_folder(command.out)
    parallel.use_all_cores()
    command.out.mkdir(parents=True, exist_ok=True)  # before the work, since it may fail
    for record in chosen:
        table = record.run()
        write(record.name, table, command.out)
        print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
        print(f"wrote {command.out / record.name}.csv, .json")


if __name__ == "__main__":
    run_command(BenchCommand, main, "sim.bench")
