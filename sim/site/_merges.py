"""The page of the site with merges of a language model, predicted and measured, from the committed tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from sim.experiments.merge_forecast.claims import FORECAST, MODEL, SUMS
from sim.experiments.merge_forecast.figures import unrun
from sim.figures import captions
from sim.lab import report
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
    predictors = [name for name in (FORECAST, *SUMS, "metrics", "base") if name in summary]
    calibrated = table_path(source.runs / run, "calibration").exists()
    return report.markdown(
        Path(__file__).parent / "merges.md",
        shares=_shares(cells),
        origin=captions.of_run(source.runs / run),
        figure=MODEL,
        errors=markdown_table(summary[["adapters", "design", "undecided", *predictors, "coverage", "width"]]),
        holding=f"{rules['holds'].sum()} of {len(rules)}",
        rules=markdown_table(rules.assign(holds=np.where(rules["holds"], "yes", "**no**"))),
        search=markdown_table(search),
        worst=WORST,
        misses=markdown_table(_misses(cells)),
        calibration=markdown_table(source.summary(run, "calibration")) if calibrated else "",
    )


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
