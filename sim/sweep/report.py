"""The figure of the main job: prediction against measurement."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.lab import style
from sim.merge.looks import look_of, spelled
from sim.one_layer.jobs import WORLD as ONE_LAYER
from sim.sweep.table import measurements

NAMES = {"law": "law, one-layer model", "chance": "a guess", "tangent": "from single adapters"}
"""Predictors that are compared with measurements, in words."""

NULLS = ("bound", "chance")
"""Predictors that say what is reached without knowing every hop, the sharper one first."""

DRAWN = ("joint", "oracle", "sum", "average", "ties", "svd", "base")
"""Methods of the figure, if a run has them; the table has the others."""


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
        group = (
            chosen[chosen["method"] == method].drop_duplicates("label").set_index("label").reindex(settings)
        )
        y = np.arange(len(settings)) + (series - (len(methods) - 1) / 2) * 0.75 / len(methods)
        values = (group["measured"], y, group["low"], group["high"])
        style.points_across(axes, *values, look_of(method), spelled(method))
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
