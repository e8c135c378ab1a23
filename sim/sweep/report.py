"""``report.html`` of a run, and the figure of the main job: prediction against measurement."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import report as pages
from sim.lab import style
from sim.lab.figure import points_across
from sim.merge.looks import look_of, spelled
from sim.one_layer.jobs import WORLD as ONE_LAYER
from sim.sweep import main_job
from sim.sweep.table import explained, measurements, table
from sim.sweep.verdict import verdict

NAMES = {"law": "law, one-layer model", "chance": "a guess", "tangent": "from single adapters"}
"""Predictors that are compared with measurements, in words."""

NULLS = ("bound", "chance")
"""Predictors that say what is reached without knowing every hop, the sharper one first."""

DRAWN = ("joint", "oracle", "sum", "average", "ties", "svd", "base")
"""Methods of the figure, if a run has them; the table has the others."""


def write(summary: pd.DataFrame, guesses: pd.DataFrame, folder: Path, figures: Mapping[str, Figure]) -> Path:
    """Write ``report.html`` of a run into its folder, which holds its manifest; returns the page's path."""
    manifest = json.loads((folder / "manifest.json").read_text())
    sections = {
        world: _in_order(cells.droplevel("world").loc[:, (cells != "").any()])
        for world, cells in table(summary).groupby("world", sort=False)
    }
    sections["What stands where"] = (
        *explained(summary),
        "every metric, predictor and interval: summary.csv; seed by seed: results.csv",
    )
    doubts = [f"{unit} failed: {reason}" for unit, reason in manifest["failed"].items()]
    name = summary["experiment"].iloc[0]
    title = "The main job" if name == main_job.NAME else f"Experiment {name}"
    return pages.write(folder, title, opening(verdict(summary, guesses)), figures, sections, manifest, doubts)


def _in_order(cells: pd.DataFrame) -> pd.DataFrame:
    """Settings by name, rank 4 before rank 16; models of a setting stay as they are."""
    names = sorted(set(cells.index.get_level_values("label")), key=pages.natural)
    places = {name: place for place, name in enumerate(names)}
    return cells.sort_index(
        level="label", key=lambda keys: keys.map(places), sort_remaining=False, kind="stable"
    )


def opening(lines: list[str]) -> list[str]:
    """The verdict with what was found step by step first, and last what the run has nothing on."""
    return sorted(reversed(lines), key=lambda line: line.endswith(" in this run."))


@style.styled
def picture(summary: pd.DataFrame):
    """A row of panels a rank: prediction against measurement, then accuracy on what needs every part, step by
    step and at once, a line a setting and a marker a method. What has no data is left out."""
    predicted = summary[summary["predicted"].notna()]
    rows = measurements(summary, NULLS)
    answers = rows[(rows["world"] != ONE_LAYER) & rows["adapter"].isin(("", "lora"))]
    kinds = [_agreement] * (not predicted.empty) + [_written, _at_once] * (not answers.empty)
    ranks, lines = sorted(summary["rank"].unique()), answers["label"].nunique()
    drawn, grid = style.figure(
        style.PAGE if len(kinds) > 1 else style.COLUMN,
        len(ranks) * max(2.4, 0.8 + 0.36 * lines / len(ranks)) + 0.6,
        nrows=len(ranks),
        ncols=len(kinds),
        width_ratios=[1.3 if kind is _agreement else 1.0 for kind in kinds],
        squeeze=False,
    )
    for rank, panels in zip(ranks, grid, strict=True):
        for kind, axes in zip(kinds, panels, strict=True):
            group = predicted if kind is _agreement else answers
            kind(axes, group[group["rank"] == rank])
            if len(ranks) > 1:
                axes.set_title(f"{axes.get_title(loc='left')}\nrank {rank}", loc="left")
        if kinds[-1] is _at_once:
            panels[-1].set_yticklabels([])  # the panel before it has them
    style.lettered(drawn)
    for column, kind in enumerate(kinds[:2]):
        panels = grid[:, column] if kind is _agreement else grid[:, column:].ravel()
        style.key(drawn, panels, place=("left", "right")[column], share=1 / min(len(kinds), 2))
    return style.fitted(drawn)


def _agreement(axes, rows: pd.DataFrame) -> None:
    """Every prediction of the sweep against its measurement; theory is the diagonal."""
    style.diagonal(axes)
    for look, (predictor, name) in zip(style.levels(len(NAMES)), NAMES.items(), strict=True):
        group = rows[rows["predictor"] == predictor]
        if not group.empty:
            values = (group[name] for name in ("predicted", "measured", "low", "high"))
            style.points(axes, *values, look, name)
    axes.set(xlabel="predicted", ylabel="measured (95% interval)")
    axes.set_title("prediction", loc="left")


def _written(axes, rows: pd.DataFrame) -> None:
    _by_setting(axes, rows, "cot_answer", "step by step")


def _at_once(axes, rows: pd.DataFrame) -> None:
    _by_setting(axes, rows, "direct", "at once")


def _by_setting(axes, rows: pd.DataFrame, metric: str, title: str) -> None:
    """Accuracy on what needs every part: a line a setting, a marker a method, beside the most that one hop
    allows."""
    chosen = rows[(rows["metric"] == metric) & rows["library"].isin(("", "parts", "single"))]
    settings, worlds = list(dict.fromkeys(chosen["label"])), chosen["world"].unique()
    methods = [name for name in DRAWN if name in set(chosen["method"])]
    for series, method in enumerate(methods):
        group = chosen[chosen["method"] == method].drop_duplicates("label").set_index("label")
        shift = (series - (len(methods) - 1) / 2) * 0.75 / len(methods)
        points_across(axes, group, settings, shift, look_of(method), spelled(method))
    style.rows([axes], [_short(label, worlds) for label in settings])
    style.unit(axes, "x")
    null = rows.loc[rows["metric"] == "direct_given_among_answers", "predicted"].mean()
    if np.isfinite(null):
        style.reference(axes, null, "one hop", across=True)
    axes.set_xlabel("accuracy, 95% interval")
    axes.set_title(title, loc="left")


def _short(label: str, worlds: Sequence[str]) -> str:
    """A setting without its rank, which the title says, and without its world if there is but one."""
    parts = label.split("/")
    first = int(parts[0] in worlds and len(worlds) == 1)
    return "/".join(part for part in parts[first:] if not re.fullmatch(r"rank\d+", part))
