"""Run parts into a store, stage by stage, with a progress bar each."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from sim.experiments.registry import Part
from sim.lab.store import Store

CORE = ("experiment", "world", "label", "rank", "seed")
VALUES = (
    *("adapter", "library", "method", "lam", "facts", "metric"),
    *("predictor", "predicted", "measured", "trials"),
)


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
    use_cache: bool,
) -> pd.DataFrame:
    """Run what is not done yet of the parts and return the summary.

    Args:
        name: of the experiment, a column of the results and the beginning of every unit.
        seeds: how many seeds a part runs.
        config: what identifies the run besides its parts. Another one is refused in the same folder.
        folder, command: see ``Store``.
        use_cache: load and keep pretrained bases.
    """
    identity = config | {"parts": [part.config for part in parts], "cells": [_cells(part) for part in parts]}
    store = Store(folder, identity, columns(parts), command)
    for index, part in enumerate(parts):
        place = f" {index + 1}/{len(parts)}" if len(parts) > 1 else ""
        for label, total, work in part.stages(name, seeds(part), use_cache, store.done):
            with tqdm(total=total, desc=f"{name}{place}: {label}", unit="unit", disable=not total) as bar:
                for finished, advance in work:
                    if finished:
                        store.add(finished)
                    bar.update(advance)
    return store.finish()


def _cells(part: Part) -> object:
    return getattr(part, "cells", ())
