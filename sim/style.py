"""One look for every figure: journal column widths, vector output, colours safe for colour-blind readers.

Theory is drawn as lines, measurement as points with 95% bars. Series differ in marker as well as colour,
so that figures read in grey.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLUMN = 3.25
"""Width of one journal column, inches."""

PAGE = 6.75
"""Width of two columns, inches."""

# Okabe and Ito (2008), ordered from dark to light so that neighbours also differ in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

RC = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


matplotlib.rcParams.update(RC)


def figure(width: float = COLUMN, height: float = 2.3, **subplots):
    """``plt.subplots`` at a size in inches, in the house style, laid out without overlaps."""
    return plt.subplots(figsize=(width, height), layout="constrained", **subplots)


def points(axes, x, mean, low, high, series: int, label: str | None = None, hollow: bool = False):
    """Measurements with 95% bars, in the colour and marker of a series."""
    colour, marker = COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)]
    return axes.errorbar(
        x,
        mean,
        yerr=[
            [max(m - a, 0) for m, a in zip(mean, low, strict=True)],
            [max(b - m, 0) for m, b in zip(mean, high, strict=True)],
        ],
        fmt=marker,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markersize=3.5,
        elinewidth=0.8,
        capsize=1.5,
        label=label,
    )


def save(drawn: Figure, stem: Path) -> None:
    """Write stem.pdf (vector) and stem.png, without a date, so that equal data give equal files."""
    drawn.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
    drawn.savefig(stem.with_suffix(".png"))
    plt.close(drawn)
