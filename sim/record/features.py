"""Features of prompts, module by module, on the base: recorded batch by batch, written as one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from sim.hf.extra import with_extra
from sim.hf.prompts import groups, read_prompts
from sim.hf.tokens import batch, batches, questions
from sim.lab import files
from sim.merge import aligned
from sim.merge.layouts import read_adapters, refuse_repeats
from sim.merge.peft.hub import local_base


@dataclass(frozen=True)
class Recording:
    """The tensors of a file, {key: (tokens, in)}, and notes on what was read otherwise than it stands."""

    shapes: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]


def record(
    adapters: Sequence[Path],
    base: Path,
    prompts: Path,
    out: Path,
    own: Sequence[str] = (),
    most: int = 256,
    batch_size: int = 8,
    dtype: str | None = None,
    device: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Recording:
    """Write what enters each module that some adapter changes, where an answer token is decided on the base.

    own: the group of each adapter's own training prompts; they are recorded under "<module>@<i>" as well.
    most: tokens kept of each set, spread evenly over it. Float32. rename: prefixes of module names to
    replace, {old: new}, where adapters have another layout than the base.

    Raises: ValueError, one line, for bad input or a missing extra; OSError if ``out`` cannot be written.
    """
    _check(adapters, own, most, batch_size)
    refuse_repeats(adapters)
    files.check_file(out)
    base = local_base(base)
    library = read_adapters(adapters, rename)
    same = aligned(library)
    names, lines = list(same[0].modules), read_prompts(prompts)
    for group in own:
        if group not in groups(lines):
            raise ValueError(f"--own {group}: {prompts} has no such group; it has {', '.join(groups(lines))}")
    loaded = with_extra("sim.hf._model").load(base, library, dtype, device)
    running = with_extra("sim.hf._run")
    items, notes = questions(loaded.tokenizer, lines, loaded.longest, loaded.rows)
    inputs: dict[str, list[np.ndarray]] = {name: [] for name in names}
    numbers: list[int] = []  # of the prompt that each recorded token belongs to
    with tqdm(total=len(items), desc="recording", unit="prompt", delay=1) as bar, running.fitting():
        for chosen in batches(items, range(len(items)), batch_size):
            together = batch([items[number] for number in chosen])
            for name, values in running.module_inputs(loaded, together, names).items():
                inputs[name].append(values.cpu().numpy())
            numbers += [chosen[row] for row in together.row]
            bar.update(len(chosen))
    of = np.array([lines[number].group for number in numbers])
    sets = {"": np.arange(len(of))} | {f"@{i}": np.flatnonzero(of == group) for i, group in enumerate(own)}
    tensors = {}
    for name, parts in inputs.items():
        whole = np.concatenate(parts)
        tensors |= {
            f"{name}{end}": np.ascontiguousarray(whole[_spread(at, most)]) for end, at in sets.items()
        }
    _write(out, tensors)
    notes = [*(adapter.note for adapter in same if adapter.note), *loaded.notes, *notes]
    return Recording({key: tensor.shape for key, tensor in tensors.items()}, tuple(notes))


def _check(adapters: Sequence[Path], own: Sequence[str], most: int, batch_size: int) -> None:
    if not adapters:
        raise ValueError("give the folders of the adapters whose modules are to be recorded")
    if own and len(own) != len(adapters):
        raise ValueError(f"--own: {len(own)} groups for {len(adapters)} adapters")
    for name, value in (("--most", most), ("--batch-size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give 1 or more")


def _spread(at: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of the places, evenly spread, first and last among them."""
    if len(at) <= most:
        return at
    return at[np.linspace(0, len(at) - 1, most).round().astype(int)]


def _write(out: Path, tensors: Mapping[str, np.ndarray]) -> None:
    with files.replacing(out) as part:
        save_file(dict(tensors), part)
