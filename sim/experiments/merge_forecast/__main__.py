"""``python -m sim.experiments.merge_forecast STAGE ...``: tests of ``sim.predict`` on a language model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from sim.experiments.merge_forecast import cells, pairs, scoring, training
from sim.experiments.merge_forecast.cells import Library, Sizes, read_arrays, write_arrays
from sim.experiments.merge_forecast.drawing import draw
from sim.experiments.merge_forecast.measuring import measure
from sim.forecast.outcomes import Outcomes
from sim.hf.fetch import cache_folder
from sim.lab import files, style
from sim.lab.cli import run_command
from sim.model.llama import KINDS
from sim.model.llama_adapters import Questions
from theory.lowrank import LowRank

SUMS = ("first order", "pairs", "tangent")
"""Sums of effects, in the order of their arrays in a file."""


@dataclass(frozen=True)
class TestBedCommand:
    """Teach libraries of adapters on a real language model, measure every merge, and score the predictors.

    prepare needs the tokenizer (extra hf), train and measure a GPU, pairs processors, score nothing. Every
    stage goes on where it stopped.

    Examples:
    * python -m sim.experiments.merge_forecast prepare train measure
    * python -m sim.experiments.merge_forecast pairs score --out runs/merge_forecast
    """

    stages: tyro.conf.Positional[tuple[Literal["prepare", "train", "measure", "pairs", "score"], ...]]
    """One or several, in this order."""
    base: Path | None = None
    """Folder of a Llama-type model. Default: where sim.lm fetch writes."""
    out: Path = Path("runs/merge_forecast")
    """Folder of tokens, adapters, leads and tables."""
    adapters: tuple[int, ...] = (6, 8)
    """Sizes of the libraries."""
    designs: tuple[Literal["own", "shared"], ...] = ("own", "shared")
    """A relation for each adapter; or one for two, about people of their own."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the facts and of training."""
    facts: int = 16
    """Facts of one adapter."""
    batch: int = 32
    """Sequences of a step of one adapter."""
    rate: float = 1e-3
    """Learning rate."""
    most: int = 300
    """Steps at most."""
    workers: int = 8
    """Processors of the stage pairs."""


def main(command: TestBedCommand) -> None:
    """Run the stages. ValueError for bad input."""
    sizes = Sizes(
        command.adapters, command.designs, command.seeds, command.facts,
        rate=command.rate, batch=command.batch, most=command.most,
    )  # fmt: skip
    for stage in command.stages:
        STAGES[stage](command, sizes)


def prepare(command: TestBedCommand, sizes: Sizes) -> None:
    """Facts and data sets as tokens."""
    from transformers import AutoTokenizer  # the GPU machine may lack it

    tokenizer = AutoTokenizer.from_pretrained((command.base or cache_folder()), local_files_only=True)
    every = [library for group in cells.libraries(sizes) for library in group]
    both = [cells.tokens(library, sizes, lambda text: tokenizer(text)["input_ids"]) for library in every]
    data, plain = (cells.alike(part) for part in zip(*both, strict=True))
    for library, *sets in zip(every, data, plain, strict=True):
        write_arrays(command.out / "tokens" / f"{library}.npz", sets)


def _tokens(command: TestBedCommand, library: Library) -> tuple[Questions, Questions]:
    path = command.out / "tokens" / f"{library}.npz"
    if not path.exists():
        raise ValueError(f"{path} is not there: run the stage prepare first")
    leaves = read_arrays(path)
    return Questions(*leaves[:4]), Questions(*leaves[4:])


def _each(questions: Questions) -> list[Questions]:
    return [Questions(*parts) for parts in zip(*questions, strict=True)]


def train(command: TestBedCommand, sizes: Sizes) -> None:
    """Adapters of all seeds of a size and design in one program."""
    model, params = None, None
    for group in cells.libraries(sizes):
        paths = [command.out / "adapters" / f"{library}.npz" for library in group]
        if all(path.exists() for path in paths):
            continue
        if model is None:
            gpu = jax.default_backend() == "gpu"
            model, params = training.read_base(
                (command.base or cache_folder()), jnp.bfloat16 if gpu else jnp.float32
            )
        both = [_tokens(command, library) for library in group]
        data, plain = (cells.stacked([one for part in both for one in _each(part[i])]) for i in range(2))
        adapters, steps, accuracy = training.teach(
            model,
            params,
            data,
            plain,
            sizes.rank,
            sizes.rate,
            sizes.batch,
            sizes.most,
            100 + group[0].adapters,
        )
        count = group[0].adapters
        for place, path in enumerate(paths):
            some = slice(place * count, (place + 1) * count)
            leaves = [leaf[some] for kind in KINDS for leaf in adapters[kind]]
            write_arrays(path, [*leaves, steps[some], accuracy[some]])


def _library(command: TestBedCommand, library: Library) -> tuple[dict[str, LowRank], np.ndarray, np.ndarray]:
    """(adapters, their steps, their accuracy on their facts)."""
    path = command.out / "adapters" / f"{library}.npz"
    if not path.exists():
        raise ValueError(f"{path} is not there: run the stage train first")
    *leaves, steps, accuracy = read_arrays(path)
    return {kind: LowRank(*leaves[3 * n : 3 * n + 3]) for n, kind in enumerate(KINDS)}, steps, accuracy


def measure_all(command: TestBedCommand, sizes: Sizes) -> None:
    """Leads of every merge."""
    model, params = None, None
    for library in (one for group in cells.libraries(sizes) for one in group):
        path = command.out / "leads" / f"{library}.npz"
        if path.exists():
            continue
        if model is None:
            model, params = training.read_base((command.base or cache_folder()), jnp.float32)
        adapters, steps, accuracy = _library(command, library)
        adapters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), adapters)
        with jax.default_matmul_precision("tensorfloat32"):
            places = scoring.first_runs(library.adapters)
            result = measure(model, params, adapters, cells.flat(_tokens(command, library)[1]), places)
        lead, gap, row = result.outcomes
        sums = [result.sums[name].astype(np.float32) for name in SUMS]
        write_arrays(path, [lead, gap.astype(np.float16), row, *sums, steps, accuracy])
        right = (lead > 0).mean()
        print(
            f"{library}: steps {steps.tolist()}, facts {accuracy.round(2).tolist()}, mean {right:.3f}",
            flush=True,
        )


def measure_pairs(command: TestBedCommand, sizes: Sizes) -> None:
    """``pairs.csv``: metrics of every pair, and what ``sim.diagnose`` says of it."""
    path = command.out / "pairs.csv"
    if path.exists():
        return
    every = [one for group in cells.libraries(sizes) for one in group]
    table = pairs.pair_table(
        [(vars(library), _library(command, library)[0]) for library in every], command.workers
    )
    files.write_text(path, table.to_csv(index=False, float_format="%.6g"))


def score(command: TestBedCommand, sizes: Sizes) -> None:
    """``cells.csv``, ``search.csv``, ``pairs_measured.csv``, ``summary.csv``."""
    tables, searched = [], []
    for library in (one for group in cells.libraries(sizes) for one in group):
        path = command.out / "leads" / f"{library}.npz"
        if not path.exists():
            raise ValueError(f"{path} is not there: run the stage measure first")
        lead, gap, row, *sums, _, _ = read_arrays(path)
        names, outcomes = vars(library), Outcomes(lead.astype(float), gap.astype(float), row)
        tables.append(scoring.predicted(names, outcomes, dict(zip(SUMS, sums, strict=True))))
        searched.append(scoring.searches(names, outcomes))
    every = pd.concat(tables, ignore_index=True)
    predictors = ["forecast", *SUMS, "base", *(name for name in every if name.startswith("kriging"))]
    if (command.out / "pairs.csv").exists():
        pair_table = pd.read_csv(command.out / "pairs.csv")
        every["metrics"] = scoring.fitted_metrics(every, pair_table)
        predictors.append("metrics")
        beside_files = scoring.diagnosed(every, pair_table)
        files.write_text(
            command.out / "pairs_measured.csv", beside_files.to_csv(index=False, float_format="%.4g")
        )
        calibration = scoring.calibration(beside_files)
        files.write_text(
            command.out / "calibration.csv", calibration.to_csv(index=False, float_format="%.4g")
        )
        print(calibration.to_string(), end="\n\n")
    results = {
        "cells": every,
        "search": pd.concat(searched, ignore_index=True),
        "summary": scoring.summary(every, predictors, ("adapters", "design")),
        "summary_by_seed": scoring.summary(every, predictors, ("adapters", "design", "seed")),
    }
    for name, table in results.items():
        files.write_text(command.out / f"{name}.csv", table.to_csv(index=False, float_format="%.4g"))
    style.save(draw(every, ("forecast", *SUMS)), command.out / "merge_forecast")
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(results["summary"].T.to_string(), results["search"].to_string(), sep="\n\n")


STAGES = {
    "prepare": prepare, "train": train, "measure": measure_all, "pairs": measure_pairs, "score": score,
}  # fmt: skip

if __name__ == "__main__":
    run_command(TestBedCommand, main, "sim.experiments.merge_forecast", "the same command goes on")
