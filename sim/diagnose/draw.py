"""The report as a figure, one panel a measure: over the modules, or over the layers if there are many."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.diagnose.tables import module_table, most
from sim.lab import style

LEGEND = {"fontsize": 6.5, "frameon": False, "handletextpad": 0.2, "columnspacing": 0.8}
LINE = 130
"""Letters of a legend that fit on a line of the page, of which a marker takes six."""

NAMED = 14
"""Modules that an axis has room to name; of more, the median of each layer is drawn."""


@style.styled
def draw(report: Mapping[str, Any]) -> Figure:
    """Three panels: norms, overlap and interference, smallest lambda that retains."""
    count = len(report["adapters"])
    table = _drawn(report)
    drawn, (top, middle, bottom) = style.figure(style.PAGE, height=5.0, nrows=3, sharex=True)
    x = np.arange(len(table))
    for i, label in enumerate(labels(report["adapters"])):
        top.plot(x, table[f"norm {i + 1}"], label=label, **_look(i, i % 2))
        bottom.plot(x, table[f"lambda {i + 1}"], **_look(i, i % 2))
    shown = (("row cos", "row-space cosine"), ("interf.", "interference"), ("cos", "$\\Delta W$ cosine"))
    for series, (column, label) in enumerate(shown):
        middle.plot(x, table[column], label=label, **_look(series, True))
    top.set_ylabel("norm $|\\Delta W|_F$")
    middle.set_ylabel("overlap")
    for axes in (top, middle):
        axes.set_ylim(bottom=0)
    bottom.set_ylabel("typical $\\lambda$")
    bottom.axhline(0.5, color="0.4", lw=0.8, label="no interference, 1/2")
    if count != 2:
        bottom.axhline(1 / count, color="0.4", lw=0.8, ls="--", label=f"average, 1/{count}")
    bottom.set_ylim(0, 1.05 * most([1.0, *(most(line.get_ydata()) for line in bottom.lines)]))
    if len(report["modules"]) <= NAMED:
        bottom.set_xticks(x, [_short(name) for name in table.index], rotation=60, ha="right", fontsize=6)
    else:
        bottom.set_xlabel("layer (median over its modules)")
        at = x[:: -(-len(x) // 16)]
        bottom.set_xticks(at, table.index[at])
    for axes in (top, middle, bottom):
        longest = max(len(text) for text in axes.get_legend_handles_labels()[1])
        columns = max(1, min(5, LINE // (longest + 6)))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=columns, borderaxespad=0, **LEGEND)
    return drawn


def labels(folders: Sequence[str]) -> list[str]:
    """Number and folder of each adapter: the shortest end of the path that tells all of them apart."""
    parts = [Path(folder).parts for folder in folders]
    depth = next(
        (d for d in range(1, max(map(len, parts)) + 1) if len({p[-d:] for p in parts}) == len(set(parts))), 1
    )
    return [f"{i + 1} = {Path(*part[-depth:])}" for i, part in enumerate(parts)]


def _drawn(report: Mapping[str, Any]) -> pd.DataFrame:
    """What is drawn, a row a module or a layer. Infinite lambda is left out."""
    table = module_table(report)
    for i in range(len(report["adapters"])):
        low = np.array([module["typical_lambda"][i] for module in report["modules"].values()])
        table[f"lambda {i + 1}"] = np.where(np.isfinite(low), low, np.nan)
    if len(table) <= NAMED:
        return table
    return table.groupby([_layer(name) for name in table.index], sort=False).median()


def _look(series: int, hollow: bool | int) -> dict[str, Any]:
    colour = style.COLOURS[series % 7]
    face = {"mfc": "none" if hollow else colour, "mew": 0.7}
    return {"color": colour, "marker": style.MARKERS[series % 7], "ms": 3.0, "ls": ":", "lw": 0.4, **face}


def _layer(name: str) -> str:
    """The name up to its first number, of which the number alone is kept; "other" without one."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return match[1] if match else "other"


def _short(name: str) -> str:
    """The layer number and the matrix: enough to tell modules apart on an axis."""
    parts = name.split(".")
    return ".".join([part for part in parts[:-1] if part.isdigit()] + parts[-1:])
