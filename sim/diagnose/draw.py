"""The report as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sim.diagnose.verdict import module_table, most
from sim.lab import style

LEGEND = {"fontsize": 6.5, "frameon": False, "handletextpad": 0.2, "columnspacing": 0.8}


@style.styled
def draw(report: Mapping[str, Any]) -> Figure:
    """Three panels over the modules: norms, overlap and interference, smallest lambda that retains."""
    modules, count = report["modules"], len(report["adapters"])
    x = np.arange(len(modules))
    drawn, (top, middle, bottom) = style.figure(height=4.4, nrows=3, sharex=True)
    size = 3.0 if len(modules) <= 40 else 1.2
    for i in range(count):
        values = [np.sqrt(found["norm2"][i]) for found in modules.values()]
        kind = {"color": style.COLOURS[i % 7], "marker": style.MARKERS[i % 7], "ms": size, "ls": "none"}
        kind |= {"mfc": "none" if i % 2 else style.COLOURS[i % 7], "mew": 0.7}
        top.plot(x, values, label=f"adapter {i + 1}", **kind)
        low = np.array([_median(found["critical_lambda"][i]) for found in modules.values()])
        bottom.plot(x, np.where(np.isfinite(low), low, np.nan), **kind)
    table = module_table(report)
    shown = (("row cos", "row-space cosine"), ("interf.", "interference"), ("cos", "$\\Delta W$ cosine"))
    for series, (column, label) in enumerate(shown):
        kind = {"color": style.COLOURS[series], "marker": style.MARKERS[series], "ms": size, "ls": "none"}
        middle.plot(x, table[column], label=label, mfc="none", mew=0.7, **kind)
    top.set_ylabel("norm $|\\Delta W|_F$")
    top.set_ylim(bottom=0)
    middle.set_ylabel("overlap")
    middle.set_ylim(bottom=0)
    bottom.set_ylabel("smallest $\\lambda$")
    bottom.axhline(0.5, color="0.4", lw=0.8, label="no interference, 1/2")
    if count != 2:
        bottom.axhline(1 / count, color="0.4", lw=0.8, ls="--", label=f"average, 1/{count}")
    bottom.set_ylim(0, 1.05 * most([1.0, *(most(line.get_ydata()) for line in bottom.lines)]))
    if len(modules) <= 14:
        bottom.set_xticks(x, [_short(name) for name in modules], rotation=60, ha="right", fontsize=6)
    else:
        bottom.set_xlabel("module, in order of depth")
    for axes in (top, middle, bottom):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=4, borderaxespad=0, **LEGEND)
    return drawn


def _median(values: Sequence[float]) -> float:
    """The median of the directions that are there; NaN if none is."""
    known = np.array(values)[~np.isnan(values)]
    return float(np.median(known)) if known.size else np.nan


def _short(name: str) -> str:
    """The layer number and the matrix: enough to tell modules apart on an axis."""
    parts = name.split(".")
    return ".".join([part for part in parts[:-1] if part.isdigit()] + parts[-1:])
