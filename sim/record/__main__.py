"""``python -m sim.record A B --base FOLDER --prompts FILE --out FILE``: activations for ``sim.diagnose``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sim.lab.cli import run_command
from sim.merge.layouts import parse_renames
from sim.record.features import record


@dataclass(frozen=True)
class RecordCommand:
    """Record what enters the adapted modules of the base on your prompts, where their answers are decided.

    The file is what ``sim.diagnose --features`` reads. Needs the extra hf.

    Examples:
    * python -m sim.record A B --base BASE --prompts prompts.jsonl --out features.safetensors
    * python -m sim.record A B --base BASE --prompts prompts.jsonl --out features.safetensors --own hop1 hop2
    """

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """PEFT folders or ids of the hub, in the order in which you will give them to sim.diagnose. Never
    modified."""
    base: Path
    """Folder of the base model as Hugging Face saves it, with its tokenizer, or its id of the hub."""
    prompts: Path
    """A file of one JSON object a line: {"prompt": ..., "answer": ..., "group": ...}."""
    out: Path
    """The safetensors file to write, or replace."""
    own: tuple[str, ...] = ()
    """The group of each adapter's own training prompts: the full swing of its edits is measured there."""
    most: int = 256
    """Answer tokens kept of each set, evenly spread: at width 4096 one takes 16 KiB a module."""
    batch_size: int = 8
    """Prompts that are run at a time."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type of the base's numbers. Default: that of its files."""
    rename: tuple[str, ...] = ()
    """Prefixes of module names to replace in the adapters that have them, as OLD=NEW, for example
    model.language_model=model: for adapters that name the base's modules in another layout."""
    device: str | None = None
    """For example cpu or cuda:1. Default: the GPU if there is one."""


def main(command: RecordCommand) -> None:
    """Record and say what was written. ValueError for bad input."""
    recording = record(
        command.adapters,
        command.base,
        command.prompts,
        command.out,
        command.own,
        command.most,
        command.batch_size,
        command.dtype,
        command.device,
        parse_renames(command.rename),
    )
    for note in recording.notes:
        print(f"note: {note}")
    tokens = max(count for count, _ in recording.shapes.values())
    words = [*map(str, command.adapters), "--features", str(command.out)]
    words += ["--rename", *command.rename] if command.rename else []
    print(
        f"wrote {command.out}: {len(recording.shapes)} tensors of up to {tokens} tokens\n"
        f"next: python -m sim.diagnose {' '.join(words)}"
    )


if __name__ == "__main__":
    run_command(RecordCommand, main, "sim.record")
