"""The sweep's own figure: prediction against measurement, and two-hop accuracy of every method."""

from pathlib import Path

import numpy as np
import pandas as pd

from sim.lab import style

ALIKE = {
    "hop1_recall": "one-hop recall",
    "hop2_recall": "one-hop recall",
    "coverage_rule_exact": "coverage_rule",
}
"""Metrics that share a series in the comparison of prediction and measurement."""

METHODS = ("hop1", "hop2", "joint")
"""Single adapters, shown after the base and before the merges."""


def draw(summary: pd.DataFrame, folder: Path) -> None:
    """Write sweep.pdf and sweep.png from a summary table; panels without data are left out."""
    predicted = summary[summary["predicted"].notna()]
    asked = summary[(summary["model"] == "transformer") & summary["adapter"].isin(("", "lora"))]
    panels = [(_agreement, predicted)] * (not predicted.empty) + [(_two_hop, asked)] * (not asked.empty)
    widths = {_agreement: 1.0, _two_hop: 1.7}
    figure, axes = style.figure(
        style.PAGE if len(panels) == 2 else style.COLUMN,
        2.6,
        ncols=len(panels),
        width_ratios=[widths[panel] for panel, _ in panels],
        squeeze=False,
    )
    for (panel, rows), axis in zip(panels, axes[0], strict=True):
        panel(axis, rows)
    style.save(figure, folder / "sweep")


def _agreement(axes, rows: pd.DataFrame) -> None:
    """Every prediction of the sweep against its measurement; theory is the diagonal."""
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    names = rows["metric"].replace(ALIKE).str.replace("_", " ")
    for series, (name, group) in enumerate(rows.groupby(names, sort=True)):
        style.points(axes, group["predicted"], group["mean"], group["low"], group["high"], series, name)
    axes.set(xlabel="predicted", ylabel="measured (95% interval)", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.legend(loc="lower right", handletextpad=0.2, borderpad=0, labelspacing=0.2, fontsize=6)


def _two_hop(axes, rows: pd.DataFrame) -> None:
    """Two-hop accuracy on the edited facts: chain of thought filled, direct hollow, chance dashed."""
    methods = [m for m in rows["method"].unique() if m not in METHODS]
    methods = methods[:1] + [m for m in METHODS if m in set(rows["method"])] + methods[1:]
    settings = list(
        rows[["rank", "entities", "template"]].drop_duplicates().itertuples(index=False, name=None)
    )
    several = len({rank for rank, _, _ in settings}) > 1
    chance = rows.loc[rows["metric"] == "two_hop_direct", "predicted"].mean()
    axes.axhline(chance, color="black", linestyle="--", linewidth=0.8, label="chance")
    offsets = (np.arange(len(settings)) - (len(settings) - 1) / 2) * 0.8 / len(settings)
    for series, (setting, offset) in enumerate(zip(settings, offsets, strict=True)):
        rank, entities, template = setting
        chosen = rows[
            (rows["rank"] == rank) & (rows["entities"] == entities) & (rows["template"] == template)
        ]
        for metric, hollow in (("two_hop_cot", False), ("two_hop_direct", True)):
            found = (
                chosen[chosen["metric"] == metric].set_index("method").reindex(methods).dropna(subset="mean")
            )
            x = [methods.index(method) + offset for method in found.index]
            label = f"{entities}, template: {template}" + (f", r = {rank}" if several else "")
            style.points(
                axes, x, found["mean"], found["low"], found["high"], series, None if hollow else label, hollow
            )
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    axes.set(ylabel="two-hop accuracy", ylim=(-0.03, 1.03))
    title = "filled: chain of thought, hollow: direct"
    axes.legend(loc="upper left", fontsize=6, title=title, title_fontsize=6, alignment="left")
