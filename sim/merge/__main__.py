"""``python -m sim.merge A B [C ...] --method NAME --out DIR``: merge PEFT adapters into one."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sim.lab.cli import run_command
from sim.merge import METHODS, Method
from sim.merge.adapters import truncation_loss
from sim.merge.check import Check, check_merge
from sim.merge.entry import check_weights, cut_off, merged, notes_on
from sim.merge.layouts import parse_renames, read_adapters, refuse_repeats
from sim.merge.peft.rounding import MOST, share
from sim.merge.peft.write import new_folder
from sim.merge.recipe import Recipe, read_recipe


def _method_table() -> str:
    free = [record for record in METHODS.values() if record.data_free]
    return "\n".join(f"{record.name}: {record.summary}{_options_note(record)}" for record in free)


def _named(flag: str) -> str:
    return ", ".join(record.name for record in METHODS.values() if record.data_free and getattr(record, flag))


def _options_note(record: Method) -> str:
    return f" [{', '.join(f'{k}={v}' for k, v in record.options.items())}]" if record.options else ""


@dataclass(frozen=True)
class MergeCommand:
    """Merge PEFT LoRA adapters of one base model into one adapter, without data and without the base.

    Examples:
    * python -m sim.merge A B --method sum --out merged
    * python -m sim.merge A --check MERGED --base BASE
    """

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """One or more PEFT folders (adapter_config.json, adapter_model.safetensors), or ids of the Hugging Face
    hub (org/name). Never modified."""
    out: Path | None = None
    """The folder to write. It must not exist, or be empty."""
    check: Path | None = None
    """Write nothing, and say whether this is the exact merge: an adapter, or a whole model with --base. One
    adapter without a method is compared with all its parts: DoRA, biases, saved modules."""
    base: Path | None = None
    """Folder of the base model, or its id of the hub, for --check of a whole model."""
    method: Annotated[str, tyro.conf.arg(help=_method_table())] = ""
    recipe: Path | None = None
    """A recipe.yaml, as it lies beside every merge: in place of adapters, method and all other options."""
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
    dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None
    """Type of the file's numbers. Default: that of the adapters' files, the wider of several."""
    allow_rounding: bool = False
    """Write the merge although the type of the file loses more than 1% of a module's update."""
    rename: tuple[str, ...] = ()
    """Prefixes of module names to replace in the adapters that have them, as OLD=NEW, for example
    model.language_model=model: for adapters that name one model's modules in two layouts."""
    seed: Annotated[int, tyro.conf.arg(help=f"Seed of the methods that draw: {_named('uses_key')}.")] = 0


def parsed_options(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE texts as the method's options, each in the type of its default. Raises ValueError."""
    record = METHODS[method]
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in record.options:
            choices = ", ".join(f"{k}={v}" for k, v in record.options.items()) or "none"
            raise ValueError(f"--option {text!r}: {method} takes NAME=VALUE out of: {choices}")
        kind = type(record.options[name])
        try:
            options[name] = kind(value)
        except ValueError:
            raise ValueError(f"--option {text!r}: {name} must be a {kind.__name__}") from None
    return options


def main(command: MergeCommand) -> None:
    """Read, merge, write; prints what was done. Raises ValueError with one line for anything wrong."""
    recipe = described(command)
    if command.check is not None:
        print(verify(command, recipe))
        return
    if not recipe.method:
        raise ValueError("give --method NAME, or --recipe FILE; python -m sim.merge --help has two examples")
    if not recipe.adapters:
        raise ValueError("give at least one adapter folder to merge")
    if command.out is None:
        raise ValueError("give --out DIR, the folder to write, or --check MERGED")
    check_weights(recipe.weights, len(recipe.adapters))
    refuse_repeats(recipe.adapters)
    adapters = read_adapters(recipe.adapters, recipe.rename)
    for note in notes_on(adapters):
        print(f"note: {note}")
    loss = truncation_loss(adapters, recipe.method, recipe.weights, recipe.rank)
    if loss:
        print(f"the rank will cut off {100 * loss:.3g}% of the squared norm", flush=True)
    with new_folder(command.out) as folder:
        result = merged(adapters, recipe, loss)
        rounding = result.write_into(folder, shlex.join(_typed(recipe, command.out)))
    if rounding.loss > MOST:
        print(f"warning: rounding to {rounding.dtype} lost {share(rounding.loss)} of {rounding.module}")
    print(
        f"{command.out}: {recipe.method} of {len(adapters)} adapters, {len(result.updates)} modules, "
        f"rank {result.rank}, {rounding.dtype}{cut_off(result.lost)}"
    )


def verify(command: MergeCommand, recipe: Recipe) -> Check:
    """Whether ``--check`` is the merge of a recipe. Raises ValueError as ``check_merge``."""
    if command.out is not None:
        raise ValueError("--check writes nothing: leave --out away")
    if not recipe.adapters:
        raise ValueError("give at least one adapter folder to check a merge of")
    return check_merge(
        *recipe.adapters,
        candidate=command.check,
        base=command.base,
        method=recipe.method,
        weights=recipe.weights,
        rename=recipe.rename,
        rank=recipe.rank,
        seed=recipe.seed,
        options=recipe.options,
    )


def described(command: MergeCommand) -> Recipe:
    """The merge of a command: that of its recipe, or of its options.

    Raises: ValueError if more than what to do with the merge is given beside a recipe.
    """
    if command.recipe is None:
        options = parsed_options(command.method, command.option) if command.method else {}
        return Recipe(
            tuple(map(str, command.adapters)),
            command.method,
            command.weight,
            command.rank,
            command.seed,
            options,
            command.dtype,
            command.allow_rounding,
            parse_renames(command.rename),
        )
    recipe = read_recipe(command.recipe)
    goal = {"out": command.out, "check": command.check, "base": command.base}
    if command != MergeCommand((), **goal, recipe=command.recipe):
        raise ValueError("--recipe says adapters, method and options itself: give it with --out and no other")
    return dataclasses.replace(recipe, options=parsed_options(recipe.method, _pairs(recipe.options)))


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in table.items()]


def _typed(recipe: Recipe, out: Path) -> list[str]:
    """The command in words, whatever way it was given."""
    words = ["python", "-m", "sim.merge", *recipe.adapters, "--method", recipe.method]
    for flag, values in (
        ("--weight", map(str, recipe.weights)),
        ("--option", _pairs(recipe.options)),
        ("--rename", _pairs(recipe.rename)),
    ):
        words += [flag, *given] if (given := list(values)) else []
    for flag, value in (("--rank", recipe.rank), ("--dtype", recipe.dtype)):
        words += [flag, str(value)] if value is not None else []
    words += ["--allow-rounding"] if recipe.allow_rounding else []
    if METHODS[recipe.method].uses_key:
        words += ["--seed", str(recipe.seed)]
    return [*words, "--out", str(out)]


if __name__ == "__main__":
    run_command(MergeCommand, main, "sim.merge")
