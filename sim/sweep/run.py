"""Run parts into a store, stage by stage, with a progress bar each."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from sim.experiments.common.claim import CLAIMS, PAIRED
from sim.experiments.registry import Part
from sim.lab.parallel import RunContext
from sim.lab.store import Store
from sim.reuse.rows import PAIR

CORE = ("experiment", "world", "label", "rank", "seed")
VALUES = (
    *("adapter", "library", "method", "lam", "facts", "metric"),
    *("predictor", "predicted", "measured", "trials"),
)


@dataclass(frozen=True)
class Outcome:
    """What a run left in its folder: the summary of the finished units, counts of answers (``guesses``), and
    why each of the others failed."""

    folder: Path
    summary: pd.DataFrame
    guesses: pd.DataFrame
    failed: dict[str, str]


def columns(parts: Sequence[Part]) -> tuple[str, ...]:
    """Columns of the results: a fixed core and the fields of the worlds' Settings.

    One row a unit, model, metric and predictor; a metric that nothing predicts has one, with predictor "".
    """
    settings = dict.fromkeys(field.name for part in parts for field in fields(part.setting))
    return (*CORE, *settings, *VALUES)


def run(
    name: str,
    parts: Sequence[Part],
    seeds: Callable[[Part], int],
    config: dict,
    folder: Path,
    command: str,
    context: RunContext,
    precompile_next: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run what is not done yet of the parts. A unit that fails is left out; the others are finished.

    Args:
        name: of the experiment, a column of the results and the beginning of every unit.
        seeds: how many seeds a part runs.
        config: what identifies the run besides its parts. Another one is refused in the same folder.
        folder, command: see ``Store``.
        context: who computes.
        precompile_next: begins to compile what comes after the last part, while that part runs.
    """
    identity = config | {"parts": [part.config for part in parts], "cells": [_cells(part) for part in parts]}
    device = "{} x {}".format(*context.devices)
    with Store(folder, identity, columns(parts), command, device) as store:

        def precompile(part: Part) -> None:
            part.precompile(context, name, seeds(part), store.done)

        precompile(parts[0])
        coming = [*(functools.partial(precompile, part) for part in parts[1:]), precompile_next]
        for index, part in enumerate(parts):
            coming[index]()
            place = f" {index + 1}/{len(parts)}" if len(parts) > 1 else ""
            for label, total, work in part.stages(context, name, seeds(part), store.done):
                with tqdm(total=total, desc=f"{name}{place}: {label}", unit="unit", disable=not total) as bar:
                    for step, (finished, advance) in enumerate(work):
                        if finished:
                            store.add(finished)
                        if not step:  # what needed no computing says nothing about the time that is left
                            bar.initial = advance
                        bar.update(advance)
        summary, rows = store.finish()
        tables = {"predictions": predictions(rows), "guesses": guesses(rows), "pairs": pairs(rows)}
        tables["counts"] = counts(rows)
        for table, content in tables.items():
            if not content.empty:
                store.write(f"{table}.csv", content.to_csv(index=False, float_format="%.5g"))
        return Outcome(folder, summary, tables["guesses"], store.failed)


def require_whole(outcomes: Sequence[Outcome]) -> None:
    """Raise FloatingPointError, saying how many units failed and what to do, if any did."""
    failed = {unit: reason for outcome in outcomes for unit, reason in outcome.failed.items()}
    if failed:
        unit, reason = next(iter(failed.items()))
        manifests = " and ".join(str(o.folder / "manifest.json") for o in outcomes if o.failed)
        raise FloatingPointError(
            f"{len(failed)} unit{'s' * (len(failed) > 1)} failed, listed in {manifests}, the first {unit}: "
            f"{reason}; the others are finished, and the same command tries these again"
        )


def predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """What was predicted of merges beside what they did, seed by seed: one row a merge and metric.

    A column for each predictor that comes from base and single adapters; empty if there are none.
    """
    forecasts = rows[~rows["predictor"].isin(("", "law", "chance", "bound")) & rows["predicted"].notna()]
    keys = ["world", "label", "seed", "adapter", "library", "method", "lam", "metric", "measured"]
    if forecasts.empty:
        return forecasts
    wide = forecasts.pivot(index=keys, columns="predictor", values="predicted")
    return wide.reset_index().rename_axis(columns=None)


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """What was measured of the parts before they were merged, seed by seed: one row a library, a column a
    metric (``sim.reuse.pairs.METRICS``); empty if nothing was."""
    measured = rows[rows["metric"].str.startswith(f"{PAIR}_") & rows["method"].eq(PAIR)]
    if measured.empty:
        return measured
    named = measured.assign(metric=measured["metric"].str.removeprefix(f"{PAIR}_"))
    wide = named.pivot(index=["world", "label", "seed", "adapter"], columns="metric", values="measured")
    return wide.reset_index().rename_axis(columns=None)


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Right answers and all answers (``trials``), seed by seed, of the shares that claims or pages compare,
    so that two models are compared on the same seeds; empty where nothing reads the experiment."""
    keys = ["experiment", "label", "library", "method", "metric"]
    compared = {tuple(getattr(cell, key) for key in keys) for item in CLAIMS.values() for cell in item.cells}
    chosen = pd.MultiIndex.from_frame(rows[keys]).isin(list(compared))
    for experiment, metrics in PAIRED.items():
        chosen |= rows["experiment"].eq(experiment) & rows["metric"].isin(metrics)
    chosen &= rows["trials"].notna()
    shares = rows[chosen].drop_duplicates([*keys, "seed"])
    right = (shares["measured"].astype(float) * shares["trials"].astype(float)).round()
    shares = shares.assign(right=right)[[*keys[1:], "seed", "right", "trials"]]
    return shares.astype({"right": int, "trials": int})


def _cells(part: Part) -> object:
    return getattr(part, "cells", ())


def guesses(rows: pd.DataFrame) -> pd.DataFrame:
    """How often answers among the possible ones were right, seed by seed and model by model, over all cells.

    Columns ``right`` and ``asked`` are counts; ``predicted`` is the share that a guess would score, ``bound``
    the most that who lacks a step does, where that is known, else a guess as well.
    """
    given = rows[rows["metric"].str.endswith("_given_among_answers")]
    cell = ["world", "label", "seed", "adapter", "library", "method", "metric"]
    bound = given[given["predictor"] == "bound"].set_index(cell)["predicted"]
    given = given[given["predictor"] == "chance"].set_index(cell)
    given = given.assign(bound=bound.reindex(given.index).fillna(given["predicted"])).reset_index()
    count = {"right": given["measured"] * given["trials"], "bound": given["bound"] * given["trials"]}
    count = given.assign(asked=given["trials"], **count)
    keys = ["world", "seed", "adapter", "library", "method", "metric", "predicted"]
    table = count.groupby(keys, sort=False)[["right", "asked", "bound"]].sum()
    table = table.assign(bound=table["bound"] / table["asked"]).reset_index()
    return table.assign(right=table["right"].round().astype(int), asked=table["asked"].astype(int))
