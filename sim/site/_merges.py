"""The page of the site with merges of a language model, predicted and measured, from the committed tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from sim.experiments.merge_forecast.claims import FORECAST, MODEL, SUMS
from sim.experiments.merge_forecast.figures import unrun
from sim.figures import captions
from sim.lab.figure import Source, committed
from sim.lab.store import table_path
from sim.site.readme import markdown_table

WORST = 12
"""Misses that the page lists."""


def page(folder: Path | None = None, run: str = MODEL) -> str | None:
    """The page as Markdown; None where the tables of the run are not there."""
    source = Source((folder or committed()) / "experiments")
    if not table_path(source.runs / run, "cells").exists():
        return None
    cells, summary = source.summary(run, "cells"), source.summary(run, "summary")
    search, rules = source.summary(run, "search"), source.summary(run, "rules")
    origin = captions.of_run(source.runs / run)
    predictors = [name for name in (FORECAST, *SUMS, "metrics", "base") if name in summary]
    lines = [
        "# Predicted against measured on a real model",
        f"Every merge of every library was run; `sim.predict` saw {_shares(cells)} of them. Written from the "
        f"tables of `{origin.command}` ({origin.cost}).",
        f"[![predicted and measured]({MODEL}.png)]({MODEL}.pdf)",
        "## Mean error",
        "Mean absolute error of the accuracy on an adapter's facts, over merges that were not run and that "
        "are neither at floor nor at ceiling; how often the 90% interval covers, over all that were not run.",
        markdown_table(summary[["adapters", "design", "undecided", *predictors, "coverage", "width"]]),
        "## Bounds that were fixed before the run",
        f"{rules['holds'].sum()} of {len(rules)} hold.",
        markdown_table(rules.assign(holds=np.where(rules["holds"], "yes", "**no**"))),
        "## Searches",
        "The score of the merge that a search returns, beside the best of all; `open`: how many may be "
        "better, as it says.",
        markdown_table(search),
        "## The largest misses",
        f"The {WORST} cells that the forecast misses most. `run` ones are not among them; `inside`: whether "
        "the interval covers them all the same.",
        markdown_table(_misses(cells)),
    ]
    if table_path(source.runs / run, "calibration").exists():
        lines += [
            "## What the files alone say",
            "Rank correlation of the share of an adapter's answers that the merge of two keeps with numbers "
            "that `sim.diagnose` reads from the weights, over adapters in pairs, with 95% intervals; and the "
            "mean share of answers and of energy that is kept.",
            markdown_table(source.summary(run, "calibration")),
        ]
    return "\n\n".join(lines) + "\n"


def _shares(cells: pd.DataFrame) -> str:
    """ "45 of 253 and 81 of 1021"."""
    merges = cells.drop_duplicates(["adapters", "design", "seed", "subset", "strength"])
    counts = merges.groupby(["adapters", "design", "seed"])["run"].agg(["sum", "count"])
    each = counts.groupby("adapters").max()
    return " and ".join(f"{row['sum']} of {row['count']}" for _, row in each.iterrows())


def _misses(cells: pd.DataFrame) -> pd.DataFrame:
    some = unrun(cells)
    some = some.assign(
        miss=(some[FORECAST] - some["measured"]).abs(),
        inside=np.where(some["measured"].between(some["low"] - 1e-9, some["high"] + 1e-9), "yes", "no"),
    )
    some = some.sort_values("miss", ascending=False, kind="stable").head(WORST)
    names = ["adapters", "design", "seed", "subset", "strength", "group", "measured", FORECAST, "low", "high"]
    return some[[*names, "inside"]]
