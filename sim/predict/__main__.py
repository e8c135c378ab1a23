"""``python -m sim.predict A B [C ...] --base FOLDER --prompts FILE``: what would their merges answer?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sim.lab.cli import RESUME, run_command
from sim.merge.layouts import parse_renames
from sim.predict.entry import MOST, predict_merges
from sim.predict.weights import GRID


@dataclass(frozen=True)
class PredictCommand:
    """Predict every linear merge of PEFT adapters on a base and prompts of your own. Needs the extra hf.

    The base and each adapter alone are run at every strength, and again with every other one at a small
    strength of either sign: what adapters do to each other. No merge is run, unless you say --check: with two
    adapters and few strengths that costs no more than the prediction, with more of either it does.
    """

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more PEFT folders. Never modified."""
    base: Path
    """Folder of the base model as Hugging Face saves it, with its tokenizer."""
    prompts: Path
    """A file of one JSON object a line: {"prompt": ..., "answer": ..., "group": ...}. The two texts are
    joined as they stand, so a space between them belongs to one of them. The group "untouched" is what no
    adapter was to change."""
    out: Path = Path("runs/predict")
    """Folder for report.html, predictions.csv, prompts.csv, prediction.pdf and .png, manifest.json; the same
    command goes on where it stopped."""
    lams: Annotated[
        tuple[float, ...],
        tyro.conf.arg(
            help=f"Strengths at which each adapter is run. Default: {' '.join(map(str, GRID))}, 1/K."
        ),
    ] = ()
    most: int = MOST
    """Predict all combinations of strengths if they are at most so many, else common strengths alone."""
    check: bool = False
    """Run the merges as well, and show the outcome beside the prediction."""
    batch_size: int = 8
    """Prompts that are run at a time."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type of the base's numbers. Default: that of its files."""
    rename: tuple[str, ...] = ()
    """Prefixes of module names to replace in the adapters that have them, as OLD=NEW, for example
    model.language_model=model: for adapters that name the base's modules in another layout."""
    device: str | None = None
    """For example cpu or cuda:1. Default: the GPU if there is one."""


def main(command: PredictCommand) -> None:
    """Predict, write the files, print table and verdict. ValueError for bad input."""
    prediction = predict_merges(
        *command.adapters,
        base=command.base,
        prompts=command.prompts,
        out=command.out,
        lams=command.lams,
        most=command.most,
        check=command.check,
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
