"""One look for every figure: journal column widths, vector output, colours safe for colour-blind readers.

Theory is drawn as lines, measurement as points with 95% bars. Series differ in marker as well as colour,
so that figures read in grey. Importing this changes nothing of matplotlib's: pictures are drawn in a context
(``styled``), off screen; ``use`` sets the style for good, in a notebook say.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from sim.lab import files

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


def use() -> None:
    """Make the house style matplotlib's default for the rest of the session."""
    matplotlib.rcParams.update(RC)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """``draw`` under the house style; matplotlib's own settings are as before when it returns."""

    @functools.wraps(draw)
    def drawn(*arguments, **options) -> Figure:
        with matplotlib.rc_context(RC):
            return draw(*arguments, **options)

    return drawn


def figure(width: float = COLUMN, height: float = 2.3, **subplots):
    """(figure, axes) at a size in inches, laid out without overlaps; ``subplots`` as for ``plt.subplots``."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(**subplots)


def points(axes, x, mean, low, high, series: int, label: str | None = None, hollow: bool = False):
    """Measurements with 95% bars, in the colour and marker of a series."""
    return axes.errorbar(x, mean, yerr=_bars(mean, low, high), label=label, **_look(series, hollow))


def points_across(axes, mean, y, low, high, series: int, label: str | None = None):
    """The same with the measured value along the horizontal axis."""
    return axes.errorbar(mean, y, xerr=_bars(mean, low, high), label=label, **_look(series, False))


def _bars(mean, low, high) -> list[list[float]]:
    return [
        [max(m - a, 0) for m, a in zip(mean, low, strict=True)],
        [max(b - m, 0) for m, b in zip(mean, high, strict=True)],
    ]


def _look(series: int, hollow: bool) -> dict:
    colour = COLOURS[series % len(COLOURS)]
    return {
        "fmt": MARKERS[series % len(MARKERS)],
        "color": colour,
        "markerfacecolor": "white" if hollow else colour,
        "markersize": 3.5,
        "elinewidth": 0.8,
        "capsize": 1.5,
    }


def save(drawn: Figure, stem: Path) -> None:
    """Write stem.pdf (vector) and stem.png, without a date, so that equal data give equal files."""
    with matplotlib.rc_context(RC):
        for suffix, options in ((".pdf", {"metadata": {"CreationDate": None}}), (".png", {})):
            with files.replacing(stem.with_suffix(suffix)) as part:
                drawn.savefig(part, **options)


def sizes(axes, ticks) -> None:
    """A logarithmic x axis that is labelled at these places alone, with plain numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
