"""``python -m sim.predict A B [C ...] --base FOLDER --prompts FILE``: which merge of them is best?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sim.forecast.candidates import GRID
from sim.forecast.search import MEAN
from sim.lab.cli import RESUME, run_command
from sim.lab.files import check_folder
from sim.merge.layouts import parse_renames
from sim.predict.entry import DAMAGE, predict_merges


@dataclass(frozen=True)
class PredictCommand:
    """Find the best linear merge of PEFT adapters on a base and prompts of your own. Needs the extra hf.

    The base, each adapter and a few merges are run; all others are predicted from these, and the most
    promising are run, until none that was not run is likely to be better. What is recommended was
    measured. With two adapters all merges are run. With one: what it adds to the base, what the base
    loses, and what folding it into the base in bfloat16 changes.

    Examples:
    * python -m sim.predict A B --base BASE --prompts prompts.jsonl
    * python -m sim.predict A --base BASE --prompts prompts.jsonl --protect untouched:0.02
    """

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """One or more PEFT folders, or ids of the Hugging Face hub (org/name). Never modified."""
    base: Path
    """Folder of the base model as Hugging Face saves it, with its tokenizer, or its id of the hub."""
    prompts: Path
    """A file of one JSON object a line: {"prompt": ..., "answer": ..., "group": ...}. The two texts are
    joined as they stand, so a space between them belongs to one of them. The group "untouched" is what no
    adapter was to change."""
    out: Path = Path("runs/predict")
    """Folder for report.html, predictions.csv, prompts.csv, prediction.pdf and .png, manifest.json; what was
    run there is not run again, whatever the objective."""
    lams: Annotated[
        tuple[float, ...],
        tyro.conf.arg(help=f"Strengths of an adapter. Default: {' '.join(map(str, GRID))}, 1/K."),
    ] = ()
    objective: str = MEAN
    """What the best merge is best at: mean (over groups), worst (of the groups), or the name of a group."""
    protect: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(
            help="Groups that may lose at most so much of the base's accuracy, as GROUP:SHARE; they count in "
            f"no mean. Default: untouched:{DAMAGE}, if there is that group."
        ),
    ] = None
    budget: int | None = None
    """Merges to run, at most. Default: all if they are few, else twice the first design."""
    method: tuple[str, ...] = ()
    """Other methods of sim.merge to run as well, each once, with its defaults."""
    batch_size: int = 8
    """Prompts that are run at a time under many merges; more where merges are few."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type of the base's numbers. Default: that of its files."""
    rename: tuple[str, ...] = ()
    """Prefixes of module names to replace in the adapters that have them, as OLD=NEW, for example
    model.language_model=model: for adapters that name the base's modules in another layout."""
    device: str | None = None
    """For example cpu or cuda:1. Default: the GPU if there is one."""


def parse_protection(texts: tuple[str, ...] | None) -> dict[str, float] | None:
    """{group: share} of GROUP:SHARE. Raises ValueError for anything else."""
    if texts is None:
        return None
    shares = {}
    for text in texts:
        group, _, share = text.rpartition(":")
        try:
            shares[group] = float(share)
        except ValueError:
            group = ""
        if not group or not 0 <= shares[group] <= 1:
            raise ValueError(
                f"--protect {text!r}: write GROUP:SHARE with a share of 0 to 1, untouched:0.02 say"
            )
    return shares


def main(command: PredictCommand) -> None:
    """Search, write the files, print verdict and table. ValueError for bad input."""
    check_folder(command.out)
    prediction = predict_merges(
        *command.adapters,
        base=command.base,
        prompts=command.prompts,
        out=command.out,
        lams=command.lams,
        objective=command.objective,
        protect=parse_protection(command.protect),
        budget=command.budget,
        methods=command.method,
        batch_size=command.batch_size,
        dtype=command.dtype,
        device=command.device,
        rename=parse_renames(command.rename),
    )
    for note in prediction.notes:
        print(f"note: {note}")
    outputs = "predictions.csv, prompts.csv, prediction.pdf, .png and manifest.json"
    print(f"{prediction}\n\nread {command.out / 'report.html'}; beside it are {outputs}")


if __name__ == "__main__":
    run_command(PredictCommand, main, "sim.predict", RESUME)
