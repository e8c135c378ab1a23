"""``python -m sim.merge A B [C ...] --method NAME --out DIR``: merge PEFT adapters into one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from sim.lab.cli import run_command
from sim.merge import METHODS, Method, merge_adapters, read_adapter
from sim.merge.peft_files import new_folder, write_files


def _method_table() -> str:
    free = [record for record in METHODS.values() if record.data_free]
    return "\n".join(f"{record.name}: {record.summary}{_options_note(record)}" for record in free)


def _named(flag: str) -> str:
    return ", ".join(record.name for record in METHODS.values() if record.data_free and getattr(record, flag))


def _options_note(record: Method) -> str:
    return f" [{', '.join(f'{k}={v}' for k, v in record.options.items())}]" if record.options else ""


@dataclass(frozen=True)
class MergeCommand:
    """Merge PEFT LoRA adapters of one base model into one adapter, without data and without the base."""

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """One or more PEFT folders (adapter_config.json, adapter_model.safetensors). Never modified."""
    method: Annotated[str, tyro.conf.arg(help=_method_table())]
    out: Path
    """The folder to write. It must not exist, or be empty."""
    weight: Annotated[
        tuple[float, ...],
        tyro.conf.arg(
            help="One number an adapter, negative allowed (1 each by default); used as given, but divided by "
            f"their sum by {_named('normalises')}."
        ),
    ] = ()
    rank: int | None = None
    """Truncate every module to this rank. Default: the sum of the adapters' ranks (the largest for svd and
    compress_then_merge)."""
    option: tuple[str, ...] = ()
    """Options of the method, as NAME=VALUE, for example density=0.5 vote=count."""
    seed: Annotated[int, tyro.conf.arg(help=f"Seed of the methods that draw: {_named('uses_key')}.")] = 0


def parsed_options(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE texts as the method's options, each in the type of its default. Raises ValueError."""
    record = METHODS[method]
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in record.options:
            known = ", ".join(f"{k}={v}" for k, v in record.options.items()) or "none"
            raise ValueError(f"--option {text!r}: {method} takes NAME=VALUE out of: {known}")
        kind = type(record.options[name])
        try:
            options[name] = kind(value)
        except ValueError:
            raise ValueError(f"--option {text!r}: {name} must be a {kind.__name__}") from None
    return options


def main(command: MergeCommand) -> None:
    """Read, merge, write; prints what was done. Raises ValueError with one line for anything wrong."""
    if not command.adapters:
        raise ValueError("give at least one adapter folder to merge")
    options = parsed_options(command.method, command.option)
    if command.weight and len(command.weight) != len(command.adapters):
        raise ValueError(f"--weight: {len(command.weight)} numbers for {len(command.adapters)} adapters")
    if not np.isfinite(command.weight).all():
        raise ValueError("--weight must be finite numbers")
    adapters = [read_adapter(path) for path in command.adapters]
    bases = {str(adapter.config.get("base_model_name_or_path")) for adapter in adapters}
    with new_folder(command.out) as folder:
        merged, lost = merge_adapters(
            adapters,
            command.method,
            command.weight,
            rank=command.rank,
            seed=command.seed,
            options=options,
        )
        write_files(folder, merged, adapters)
    print(
        f"{command.out}: {command.method} of {len(adapters)} adapters, {len(merged)} modules, "
        f"rank {max(update.a.shape[0] for update in merged.values())}"
        + ("" if np.isnan(lost) else f"; the rank cut off {100 * lost:.3g}% of the squared norm")
    )
    if notes := [adapter.note for adapter in adapters if adapter.note]:
        print(f"note: {'; '.join(notes)}")
    if len(bases) > 1:
        print(f"note: the adapters name different base models: {', '.join(sorted(bases))}")


if __name__ == "__main__":
    run_command(MergeCommand, main, "sim.merge")
