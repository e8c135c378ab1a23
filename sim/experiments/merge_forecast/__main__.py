"""``python -m sim.experiments.merge_forecast STAGE ...``: tests of ``sim.predict`` on a language model."""

import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from sim.experiments.merge_forecast import cells, claims, miniature, pairs, scoring, tables, training
from sim.experiments.merge_forecast.cells import Library, Sizes, read_arrays, write_arrays
from sim.experiments.merge_forecast.measuring import leads_of_sums, measure, merges
from sim.forecast.outcomes import Outcomes
from sim.hf.fetch import cache_folder
from sim.hf.weights import read_params, read_shape
from sim.lab import files
from sim.lab.cli import run_command
from sim.model.llama import KINDS, Llama, Params
from sim.model.llama_adapters import Adapter, Questions
from theory.lowrank import LowRank

Stage = Literal["prepare", "check", "train", "measure", "pairs", "score", "miniature"]

TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

MULTIPLE = 8
"""Of which the number of tokens is one."""

SUMS = ("first order", "pairs", "tangent")
"""Sums of effects, in the order of their arrays in a file."""


@dataclass(frozen=True, kw_only=True)
class TestBedCommand(Sizes):
    """Teach libraries of adapters on a real language model, measure every merge, and score the predictors.

    prepare needs the tokenizer (extra hf), check, train and measure a GPU, pairs processors, score nothing.
    Every stage goes on where it stopped. check runs a piece of train, measure and pairs and writes nothing.
    miniature is a test bed of its own, without a language model, at several depths; it needs no GPU.

    Examples:
    * python -m sim.experiments.merge_forecast prepare check train measure
    * python -m sim.experiments.merge_forecast miniature --out runs/merge_miniature
    """

    stages: tyro.conf.Positional[tuple[Stage, ...]]
    """One or several, in this order."""
    base: Path | None = None
    """Folder of a Llama-type model. Default: where sim.lm fetch writes."""
    out: Path = Path("runs/merge_forecast")
    """Folder of tokens, adapters, leads and tables."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the base's numbers in training. Default: bfloat16 on a GPU."""
    workers: int = 8
    """Processors of the stage pairs."""


def main(command: TestBedCommand) -> None:
    """Run the stages. ValueError for bad input."""
    files.check_folder(command.out)
    if not command.stages:
        raise ValueError(f"give one or more stages: {', '.join(get_args(Stage))}")
    for stage in command.stages:
        if stage in STAGES:
            with tables.timed(command.out, stage):
                STAGES[stage](command)
        if stage in SCORES:
            SCORES[stage](command)


def prepare(command: TestBedCommand) -> None:
    """Facts and data sets as tokens."""
    from transformers import AutoTokenizer  # the GPU machine may lack it

    tokenizer = AutoTokenizer.from_pretrained((command.base or cache_folder()), local_files_only=True)
    every = cells.libraries(command)
    both = [cells.tokens(library, command, lambda text: tokenizer(text)["input_ids"]) for library in every]
    data, plain = (cells.alike(part, MULTIPLE) for part in zip(*both, strict=True))
    for library, *sets in zip(every, data, plain, strict=True):
        write_arrays(command.out / "tokens" / f"{library}.npz", sets)


def _tokens(command: TestBedCommand, library: Library) -> tuple[Questions, Questions]:
    leaves = read_arrays(command.out / "tokens" / f"{library}.npz", "prepare")
    return Questions(*leaves[:4]), Questions(*leaves[4:])


def _base(command: TestBedCommand, dtype) -> tuple[Llama, Params]:
    folder = command.base or cache_folder()
    model = read_shape(folder)
    return model, read_params(folder, model, dtype)


def _training_type(command: TestBedCommand):
    return TYPES[command.dtype or ("bfloat16" if jax.default_backend() == "gpu" else "float32")]


def _taught(
    command: TestBedCommand, group: list[Library], base: tuple[Llama, Params], most: int
) -> tuple[Adapter, np.ndarray, np.ndarray]:
    """(adapters, steps, accuracy) of all libraries of a group, one behind the other."""
    both = (_tokens(command, library) for library in group)
    data, plain = jax.tree.map(lambda *leaves: np.concatenate(leaves), *both)
    seed = 100 + group[0].adapters
    return training.teach(*base, data, plain, cells.RANK, command.rate, command.batch, most, seed)


def check(command: TestBedCommand) -> None:
    """A few steps of training, a few merges and a pair of metrics of the first library, nothing written.

    Raises: ValueError where leads are not finite or the adapters change none.
    """
    group, clock = next(cells.groups(command)), time.monotonic()

    def note(what: str) -> None:
        print(f"check, {time.monotonic() - clock:.0f} s: {what}", flush=True)

    note(f"{jax.device_count()} devices of type {jax.default_backend()}")
    base = _base(command, _training_type(command))
    adapters, steps, accuracy = _taught(command, group, base, training.LOOK)
    note(f"{len(steps)} adapters, {training.LOOK} steps: facts {accuracy.mean():.2f}")
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[: group[0].adapters], jnp.float32), adapters)
    base = _base(command, jnp.float32)
    plain, every = cells.flat(_tokens(command, group[0])[1]), merges(group[0].adapters)
    few = every[[0, 1, -1]]
    with jax.default_matmul_precision("tensorfloat32"):
        lead = measure(*base, first, plain, range(len(few)), few).lead
    if not np.isfinite(lead).all() or np.allclose(lead[0], lead[-1]):
        raise ValueError("check: merges have leads that are not finite, or adapters change nothing")
    note(f"{len(few)} merges of {lead.shape[1]} prompts: leads {lead.mean(1).round(2).tolist()}")
    with _pool(1) as pool:
        table = pairs.pair_table(vars(group[0]), jax.tree.map(np.asarray, first), pool, [(0, 1)])
    note(f"a pair of adapters: {table['action'].item()}")


def train(command: TestBedCommand) -> None:
    """Adapters of all seeds of a size and design in one program."""
    base = None
    for group in cells.groups(command):
        paths = [command.out / "adapters" / f"{library}.npz" for library in group]
        if all(path.exists() for path in paths):
            continue
        base = base or _base(command, _training_type(command))
        adapters, steps, accuracy = _taught(command, group, base, command.most)
        count = group[0].adapters
        for place, path in enumerate(paths):
            some = slice(place * count, (place + 1) * count)
            leaves = [leaf[some] for kind in KINDS for leaf in adapters[kind]]
            write_arrays(path, [*leaves, steps[some], accuracy[some]])


def _library(command: TestBedCommand, library: Library) -> tuple[dict[str, LowRank], np.ndarray, np.ndarray]:
    """(adapters, their steps, their accuracy on their facts)."""
    *leaves, steps, accuracy = read_arrays(command.out / "adapters" / f"{library}.npz", "train")
    return {kind: LowRank(*leaves[3 * n : 3 * n + 3]) for n, kind in enumerate(KINDS)}, steps, accuracy


def measure_all(command: TestBedCommand) -> None:
    """Leads of every merge."""
    base = None
    for library in cells.libraries(command):
        path = command.out / "leads" / f"{library}.npz"
        if path.exists():
            continue
        base = base or _base(command, jnp.float32)
        adapters, steps, accuracy = _library(command, library)
        adapters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), adapters)
        with jax.default_matmul_precision("tensorfloat32"):
            places = scoring.first_runs(library.adapters)
            outcomes = measure(*base, adapters, cells.flat(_tokens(command, library)[1]), places)
        (lead, gap, row), says = outcomes, leads_of_sums(outcomes, library.adapters)
        sums = [says[name].astype(np.float32) for name in SUMS]
        write_arrays(path, [lead, gap.astype(np.float16), row, *sums, steps, accuracy])
        right = (lead > 0).mean()
        print(
            f"{library}: steps {steps.tolist()}, facts {accuracy.round(2).tolist()}, mean {right:.3f}",
            flush=True,
        )


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def measure_pairs(command: TestBedCommand) -> None:
    """``pairs/LIBRARY.csv``: metrics of every pair, and what ``sim.diagnose`` says of it."""
    with _pool(command.workers) as pool:
        for library in cells.libraries(command):
            path = command.out / "pairs" / f"{library}.csv"
            if not path.exists():
                table = pairs.pair_table(vars(library), _library(command, library)[0], pool)
                tables.write_table(path, table, 6)


def score(command: TestBedCommand) -> None:
    """The tables of ``tables.write``, ``pairs_measured.csv`` and ``calibration.csv``."""
    scored, searched, pair_tables = [], [], []
    for library in cells.libraries(command):
        lead, gap, row, *sums, _, _ = read_arrays(command.out / "leads" / f"{library}.npz", "measure")
        names, outcomes = vars(library), Outcomes(lead.astype(float), gap.astype(float), row)
        scored.append(scoring.predicted(names, outcomes, dict(zip(SUMS, sums, strict=True))))
        searched.append(scoring.searches(names, outcomes))
        file = command.out / "pairs" / f"{library}.csv"
        pair_tables += [pd.read_csv(file)] if file.exists() else []
    every = pd.concat(scored, ignore_index=True)
    predictors = ["forecast", *SUMS, "base", *(name for name in every if name.startswith("kriging"))]
    if len(pair_tables) == len(scored) > 1:
        pair_table = pd.concat(pair_tables, ignore_index=True)
        every["metrics"] = scoring.fitted_metrics(every, pair_table)
        predictors.append("metrics")
        beside_files = scoring.diagnosed(every, pair_table)
        calibration = scoring.calibration(beside_files)
        tables.write_table(command.out / "pairs_measured.csv", beside_files)
        tables.write_table(command.out / "calibration.csv", calibration)
        print(calibration.to_string(), end="\n\n")
    searches = pd.concat(searched, ignore_index=True)
    results = tables.write(command.out, claims.MODEL, every, searches, predictors)
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(results["summary"].T.to_string(), results["search"].to_string(), sep="\n\n")
        print("", results["rules"].to_string(), sep="\n")


def _parts(command: TestBedCommand, layers: int, seed: int) -> list[Path]:
    return [command.out / "parts" / f"{layers}_{seed}_{name}.csv" for name in ("cells", "search")]


def run_miniature(command: TestBedCommand) -> None:
    """``parts/``: libraries of the miniature at every depth, taught, measured and predicted."""
    worlds = [miniature.draw_world(miniature.Sizes(), seed) for seed in MINIATURE_SEEDS]
    for layers in claims.LAYERS:
        taught = None
        for place, seed in enumerate(MINIATURE_SEEDS):
            paths = _parts(command, layers, seed)
            if not all(path.exists() for path in paths):
                taught = taught or miniature.teach(miniature.Sizes(), layers, MINIATURE_SEEDS, worlds)
                result = miniature.score(layers, seed, taught[place], worlds[place])
                for path, table in zip(paths, result, strict=True):
                    tables.write_table(path, table, 6)
                print(f"{claims.depth(layers)}, seed {seed}: scored", flush=True)


def score_miniature(command: TestBedCommand) -> None:
    """The tables of ``tables.write``."""
    both = zip(
        *(_parts(command, *at) for at in itertools.product(claims.LAYERS, MINIATURE_SEEDS)), strict=True
    )
    every, searches = (
        pd.concat([pd.read_csv(path, dtype={"subset": str}) for path in paths], ignore_index=True)
        for paths in both
    )
    results = tables.write(command.out, claims.MINIATURE, every, searches, ["forecast", *SUMS, "base"])
    print(results["summary"].T.to_string(), results["rules"].to_string(), sep="\n\n")


MINIATURE_SEEDS = (0, 1, 2, 3, 4)

STAGES = {
    "prepare": prepare, "check": check, "train": train, "measure": measure_all, "pairs": measure_pairs,
    "miniature": run_miniature,
}  # fmt: skip
"""What takes time."""

SCORES = {"score": score, "miniature": score_miniature}
"""What writes tables, each time anew."""

if __name__ == "__main__":
    run_command(TestBedCommand, main, "sim.experiments.merge_forecast", "the same command goes on")
