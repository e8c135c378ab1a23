"""One look for every figure: journal widths, vector output, colours for grey and for colour-blind readers.

Theory is drawn as lines, measurement as points with 95% bars. Series differ in marker as well as colour.
Kinds, such as methods, take ``COLOURS`` in order; levels of one quantity (ranks, sizes) a ramp from dark to
light (``levels``). Importing this changes nothing of matplotlib's: pictures are drawn off screen, in a
context (``styled``); ``use`` sets the style for good, in a notebook say.
"""

import contextlib
import functools
import itertools
import math
import string
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from sim.lab import files

COLUMN = 3.25
"""Width of one journal column, inches; other pages: see ``Page``."""

PAGE = 6.75
"""Width of two columns, inches."""

COLOURS = (
    *("#0F57C5", "#E8804F", "#6A1B7A", "#C4B700", "#000000"),
    *("#17966B", "#A20402", "#F2A6DA", "#157DA8", "#4D4D4D"),
)
"""Neighbours differ by 15 and more in CIELAB lightness, and by 35 in colour as a deuteranope sees it."""

MARKERS = ("o", "s", "^", "D", "*", "v", "P", ">", "<", "p")

RAMP = "plasma"
"""Colour map of ``levels``; its lightness rises evenly."""

FORMATS = ("pdf", "png", "pgf", "svg")
DEFAULT_FORMATS = ("pdf", "png")


@dataclass(frozen=True)
class Page:
    """What a journal gives a figure: width of a column and of the text in inches, font size in points, and
    whether letters are those of a text in Times."""

    column: float = COLUMN
    text: float = PAGE
    font: float = 8.0
    serif: bool = False

    def __post_init__(self):
        if not 3.0 <= self.text <= 20.0:
            raise ValueError(f"a width of {self.text} inches is outside 3 to 20; give that of the text")
        if not 7.5 <= self.font <= 14.0:
            raise ValueError(
                f"a font of {self.font} points is outside 7.5 to 14, or notes are below 6 points"
            )

    def of_width(self, text: float) -> "Page":
        """The same for another text width; a column keeps its share of it, but no less than 3 inches."""
        return replace(self, text=text, column=min(text, max(3.0, self.column * text / self.text)))


PAGES = {"icml": Page(), "tmlr": Page(3.2, 6.5), "neurips": Page(3.1, 5.5)}
"""Widths by the style files. TMLR and NeurIPS have one column, of which a narrow figure takes about half."""

_PAGES = [Page()]

SERIF = {"font.family": ["STIXGeneral", "DejaVu Serif"], "mathtext.fontset": "stix"}
"""Letters like Times, which come with matplotlib; what they lack is taken from the second family."""


@contextlib.contextmanager
def on(page: Page) -> Iterator[None]:
    """Within the block pictures are drawn for this page."""
    _PAGES.append(page)
    try:
        yield
    finally:
        _PAGES.pop()


def settings() -> dict:
    """matplotlib's settings for the page that is drawn for."""
    font = _PAGES[-1].font
    serif = SERIF if _PAGES[-1].serif else {}
    return serif | {
        "font.size": font,
        "axes.labelsize": font,
        "axes.titlesize": font,
        "legend.fontsize": "small",
        "legend.title_fontsize": "small",
        "xtick.labelsize": font - 1,
        "ytick.labelsize": font - 1,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "errorbar.capsize": 1.5,
        "legend.frameon": False,
        "legend.handletextpad": 0.3,
        "legend.columnspacing": 1.0,
        "pdf.fonttype": 42,
        "svg.hashsalt": "lora-reuse",
        "pgf.rcfonts": False,
        "savefig.dpi": 200,
    }


def use() -> None:
    """Make the house style matplotlib's default for the rest of the session."""
    matplotlib.rcParams.update(settings())


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """``draw`` under the house style; matplotlib's own settings are as before when it returns."""

    @functools.wraps(draw)
    def drawn(*arguments, **options) -> Figure:
        with matplotlib.rc_context(settings()):
            return draw(*arguments, **options)

    return drawn


def figure(width: float = COLUMN, height: float = 2.3, **subplots):
    """(figure, axes) at a size in inches, laid out without overlaps; ``subplots`` as for ``plt.subplots``.

    A ``width`` of ``COLUMN`` or ``PAGE`` is that of the page that is drawn for.
    """
    page = _PAGES[-1]
    wide = {COLUMN: page.column, PAGE: page.text}.get(width, width * page.text / PAGE)
    drawn = Figure(figsize=(wide, height), layout="constrained")
    return drawn, drawn.subplots(**subplots)


@dataclass(frozen=True)
class Look:
    """How a series is drawn."""

    colour: str
    marker: str


def look(series: "int | Look") -> Look:
    """The look of a kind, by its place in ``COLOURS``; a look is its own."""
    if isinstance(series, Look):
        return series
    return Look(COLOURS[series % len(COLOURS)], MARKERS[series % len(MARKERS)])


def levels(count: int) -> list[Look]:
    """Looks of the levels of one quantity, from dark to light."""
    colours = matplotlib.colormaps[RAMP]
    places = [0.05 + 0.75 * i / max(count - 1, 1) for i in range(count)]
    marks = itertools.cycle("os^Dv")
    return [Look(matplotlib.colors.to_hex(colours(at)), next(marks)) for at in places]


def points(axes, x, mean, low, high, series: int | Look, label: str | None = None, hollow: bool = False):
    """Measurements with 95% bars, in the colour and marker of a series. The legend shows only the marker."""
    return _marked(axes.errorbar(x, mean, yerr=_bars(mean, low, high), **_marks(series, hollow)), label)


def points_across(
    axes, mean, y, low, high, series: int | Look, label: str | None = None, hollow: bool = False
):
    """The same with the measured value along the horizontal axis."""
    return _marked(axes.errorbar(mean, y, xerr=_bars(mean, low, high), **_marks(series, hollow)), label)


def _marked(bars, label: str | None):
    bars.lines[0].set_label(label or "_nolegend_")
    return bars


def _bars(mean, low, high) -> list[list[float]]:
    return [
        [max(m - a, 0) for m, a in zip(mean, low, strict=True)],
        [max(b - m, 0) for m, b in zip(mean, high, strict=True)],
    ]


SIZES = {"*": 5.5, "P": 4.2, "p": 4.2}
"""Markers that need more than the usual points to look as large as a disc."""


def _marks(series: int | Look, hollow: bool) -> dict:
    own = look(series)
    return {
        "fmt": own.marker,
        "color": own.colour,
        "markerfacecolor": "white" if hollow else own.colour,
        "markersize": SIZES.get(own.marker, 3.5),
        "elinewidth": 0.8,
        "capsize": 1.5,
    }


def cloud(axes, x, y, series: int | Look, label: str | None = None) -> None:
    """Many small points without bars."""
    own = look(series)
    axes.plot(x, y, own.marker, color=own.colour, markersize=2.5, alpha=0.6, label=label)


def unit(axes, names: str = "y") -> None:
    """Axes of shares: they run from 0 to 1, with room for the markers at either end."""
    for name in names:
        axes.set(**{f"{name}lim": (-0.04, 1.04), f"{name}ticks": [0, 0.25, 0.5, 0.75, 1]})
        getattr(axes, f"set_{name}ticklabels")(["0", "", "0.5", "", "1"])
        axes.spines["left" if name == "y" else "bottom"].set_bounds(0, 1)


def rows(panels, names: Sequence[str]) -> None:
    """Name the rows, from the top, in the first of the panels that share them. All panels get thin lines, and
    a strip above the first row for the names of reference lines."""
    for axes in panels:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -1.2)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="0.93", linewidth=0.5)
        axes.set_axisbelow(True)


def reference(axes, value: float, label: str, across: bool = False) -> None:
    """A dashed line, and its name (if any) where no data are: beside the panel, or, of an upright line where
    values run across, in the strip above the first of the ``rows``."""
    draw = axes.axvline if across else axes.axhline
    draw(value, color="black", linestyle="--", linewidth=0.8, zorder=0)
    if across:
        where, shift = {"xy": (value, 1.0), "xycoords": ("data", "axes fraction"), "va": "top"}, (2, 0)
    else:
        where, shift = {"xy": (1.0, value), "xycoords": ("axes fraction", "data"), "va": "center"}, (3, 0)
        label = label.replace(" ", "\n", 1)
    axes.annotate(label, xytext=shift, textcoords="offset points", ha="left", fontsize="small", **where)


def diagonal(axes) -> None:
    """Unit axes with the line on which a measurement is what was predicted of it."""
    unit(axes, "xy")
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0, label="measured = predicted")


def key(picture: Figure, panels, title: str | None = None, place: str = "center", share: float = 1.0) -> None:
    """One legend for all series of some panels, below them, in as many columns as fit its share of the width.

    place: "left", "center" or "right".
    """
    handles: dict = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    drawer = FigureCanvasAgg(picture).get_renderer()
    for columns in range(len(handles), 0, -1):
        legend = picture.legend(
            handles.values(),
            handles.keys(),
            loc=f"outside lower {place}",
            ncols=columns,
            title=title,
            alignment="left",
        )
        if columns == 1 or legend.get_window_extent(drawer).width <= 0.98 * share * picture.bbox.width:
            return
        legend.remove()


def lettered(picture: Figure) -> Figure:
    """(a), (b), ... before the titles of a picture's panels, if there are several that have none yet."""
    panels = [axes for axes in picture.axes if axes.get_label() != "<colorbar>"]
    if len(panels) > 1:
        for letter, axes in zip(string.ascii_lowercase, panels, strict=False):
            title = axes.get_title(loc="left") or axes.get_title()
            axes.set_title("")
            axes.set_title(title if title.startswith("(") else f"({letter}) {title}".rstrip(), loc="left")
    return picture


def fitted(picture: Figure) -> Figure:
    """Titles and names of axes that are much longer than their panel at this width, broken into lines."""
    drawer = FigureCanvasAgg(picture)
    picture.draw_without_rendering()
    for axes in picture.axes:
        room = axes.get_window_extent()
        for text, length, most in (
            (axes._left_title, "width", room.width),  # matplotlib's public method gives only its words
            (axes.xaxis.label, "width", 1.1 * room.width),
            (axes.yaxis.label, "height", 1.1 * room.height),
        ):
            long = getattr(text.get_window_extent(drawer.get_renderer()), length)
            if long > 1.04 * most and "$" not in text.get_text():
                text.set_text(_broken(text.get_text(), math.ceil(long / most)))
    return picture


def _broken(text: str, lines: int) -> str:
    """A text in so many lines, about equally long, or in more where its words are long."""
    words = " ".join(text.split())
    for letters in range(len(words) // lines, len(words)):
        pieces = textwrap.wrap(words, letters, break_long_words=False)
        if len(pieces) <= lines:
            break
    return "\n".join(pieces)


def save(drawn: Figure, stem: Path, formats: Sequence[str] = DEFAULT_FORMATS) -> None:
    """Write stem.pdf, stem.png, ..., without a date, so that equal data give equal files.

    ``pgf`` needs no TeX here: texts are as wide as they are in the other formats.
    """
    dateless = {"pdf": {"metadata": {"CreationDate": None}}, "svg": {"metadata": {"Date": None}}}
    with matplotlib.rc_context(settings()):
        for name in formats:
            with files.replacing(stem.with_suffix(f".{name}")) as part:
                if name == "pgf":
                    _save_pgf(drawn, part)
                else:
                    drawn.savefig(part, format=name, **dateless.get(name, {}))


def _save_pgf(drawn: Figure, path: Path) -> None:
    from matplotlib.backends.backend_pgf import FigureCanvasPgf, RendererPgf  # a tenth of a command's start

    measure, agg = RendererPgf.get_text_width_height_descent, RendererAgg(1, 1, drawn.dpi)

    def measured(_, text, font, ismath):
        return agg.get_text_width_height_descent(text, font, ismath)

    # matplotlib asks TeX for the size of every text; there is no other place to give it an answer.
    RendererPgf.get_text_width_height_descent = measured
    try:
        with path.open("w", encoding="utf-8") as file:
            FigureCanvasPgf(drawn).print_pgf(file)
    finally:
        RendererPgf.get_text_width_height_descent = measure


def sizes(axes, ticks) -> None:
    """A logarithmic x axis that is labelled only at these places, with plain numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
