"""What the main job shows when it is done: prediction against measurement as a figure."""

from pathlib import Path

import numpy as np
import pandas as pd

from sim.lab import style
from sim.one_layer.jobs import WORLD as ONE_LAYER
from sim.sweep.table import measurements

ALIKE = {"hop1": "one-hop recall", "hop2": "one-hop recall", "coverage_rule_exact": "coverage_rule"}
"""Metrics that share a series in the comparison of prediction and measurement."""


@style.styled
def picture(summary: pd.DataFrame):
    """Two panels, those without data left out: prediction against measurement, two-hop accuracy by method."""
    predicted = summary[summary["predicted"].notna()]
    rows = measurements(summary)
    asked = rows[(rows["world"] != ONE_LAYER) & rows["adapter"].isin(("", "lora"))]
    panels = [(_agreement, predicted)] * (not predicted.empty) + [(_two_hop, asked)] * (not asked.empty)
    widths = {_agreement: 1.0, _two_hop: 1.7}
    drawn, axes = style.figure(
        style.PAGE if len(panels) == 2 else style.COLUMN,
        2.6,
        ncols=len(panels),
        width_ratios=[widths[panel] for panel, _ in panels],
        squeeze=False,
    )
    for (panel, found), axis in zip(panels, axes[0], strict=True):
        panel(axis, found)
    return drawn


def draw(summary: pd.DataFrame, folder: Path) -> None:
    """Write sweep.pdf and sweep.png from a summary table."""
    style.save(picture(summary), folder / "sweep")


def _agreement(axes, rows: pd.DataFrame) -> None:
    """Every prediction of the sweep against its measurement; theory is the diagonal."""
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    rows = rows[rows["world"].eq(ONE_LAYER) | rows["predictor"].isin(("chance", "tangent"))]
    names = rows["metric"].replace(ALIKE).str.replace("_", " ")
    for series, (name, group) in enumerate(rows.groupby(names, sort=True)):
        style.points(axes, group["predicted"], group["measured"], group["low"], group["high"], series, name)
    axes.set(xlabel="predicted", ylabel="measured (95% interval)", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.legend(loc="lower right", handletextpad=0.2, borderpad=0, labelspacing=0.2, fontsize=6)


def _two_hop(axes, rows: pd.DataFrame) -> None:
    """Accuracy on what needs every part: chain of thought filled, direct hollow, chance dashed."""
    single = list(dict.fromkeys(rows["method"][rows["library"] == "single"]))
    methods = [*single, *(m for m in dict.fromkeys(rows["method"]) if m not in single)]
    settings = list(dict.fromkeys(rows["label"]))
    chance = rows.loc[rows["predictor"] == "chance", "predicted"].mean()
    axes.axhline(chance, color="black", linestyle="--", linewidth=0.8, label="chance")
    offsets = (np.arange(len(settings)) - (len(settings) - 1) / 2) * 0.8 / len(settings)
    for series, (setting, offset) in enumerate(zip(settings, offsets, strict=True)):
        chosen = rows[rows["label"] == setting]
        for metric, hollow in (("cot_answer", False), ("direct", True)):
            found = chosen[chosen["metric"] == metric].set_index("method")
            found = found.reindex(methods).dropna(subset="measured")
            x = [methods.index(method) + offset for method in found.index]
            label = None if hollow else setting
            style.points(axes, x, found["measured"], found["low"], found["high"], series, label, hollow)
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    axes.set(ylabel="two-hop accuracy", ylim=(-0.03, 1.03))
    title = "filled: chain of thought, hollow: direct"
    axes.legend(loc="upper left", fontsize=6, title=title, title_fontsize=6, alignment="left")
