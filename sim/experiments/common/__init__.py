"""What the experiments share: default configurations, choice of rows, and how series are drawn."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sim.lab import style
from sim.lab.figure import Source, points_across
from sim.lab.style import Look
from sim.merge.looks import look_of, spelled
from sim.reuse.config import of_world
from sim.worlds import two_hop
from theory.draws import edited_bound

LAMBDAS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25)
"""Common coefficients of the linear merges of the two hop adapters."""

EVERY_WAY = {
    "families": ("lora",),
    "extras": ("bridge", "expert"),
    "methods": ("average", "sum", "ties", "svd"),
    "lambdas": LAMBDAS,
    "routers": ("arrow",),
    "oracle": True,
}
"""What the paper profile makes of the adapters of a world: libraries, merges, a router and the oracle."""

DEFAULT = of_world(two_hop.Config(bridges=256), **EVERY_WAY)
"""The paper profile's: 2 layers of width 64, rank 4 on every matrix."""

SMALL = replace(DEFAULT, extras=(), methods=("average", "sum", "ties"))
"""Only the two hop adapters and the joint one: for programs that must compile quickly."""

SETTING = "Two-hop world of 64 entities, 16 edits a hop; 2 layers of width 64, rank 4 on all matrices."

NAMES = {
    "real": "real",
    "half_fake": "bridge unseen",
    "half_fake_subject": "subject unseen",
    "fake": "both unseen",
}
"""Labels of ``Setting.entities``: which names of the edited facts pretraining never saw."""

Methods = Sequence[tuple[str, str, str]]
"""(library, method, label), in the order of a figure."""


def named(*pairs: tuple[str, str]) -> Methods:
    """Methods by (library, method), spelled as everywhere."""
    return tuple((library, method, spelled(method, library)) for library, method in pairs)


CEILINGS_AND_MERGES = named(
    ("single", "joint"), ("parts", "oracle"), ("parts", "sum"), ("parts", "average"), ("parts", "arrow")
)
"""Methods of the figures that vary a size."""

WAYS_OF_REUSE = named(
    ("single", "joint"),
    *(("parts", name) for name in ("oracle", "sum", "lambda=0.75", "average", "svd", "ties", "arrow")),
    ("bridge", "sum"),
)
"""Rows of the main figure of a world, from the top."""

DIRECT = "direct_given_among_answers"
"""Accuracy of direct answers among those that answer some question; a guess has one over their number."""


def selected(summary: pd.DataFrame, metrics: Sequence[str], methods: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Measurements of these metrics for these methods, each a (library, method) or one of ``Methods``, one
    row each."""
    pairs = pd.MultiIndex.from_frame(summary[["library", "method"]])
    rows = summary[pairs.isin([tuple(each[:2]) for each in methods]) & summary["metric"].isin(metrics)]
    return rows.drop_duplicates(["label", "library", "method", "metric"]).reset_index(drop=True)


def reader(
    experiment: str, metrics: Sequence[str], methods: Iterable[Sequence[str]], **numbers: str
) -> Callable[[Source], pd.DataFrame]:
    """``collect`` of a figure that draws what is ``selected`` of a run.

    numbers: columns of whole numbers -> where these stand in the labels, a regular expression of one group.
    """

    def collect(source: Source) -> pd.DataFrame:
        rows = selected(source.summary(experiment), metrics, methods)
        columns = {name: rows["label"].str.extract(place, expand=False) for name, place in numbers.items()}
        return rows.assign(**{name: column.astype(int) for name, column in columns.items()})

    return collect


def of_method(rows: pd.DataFrame, library: str, method: str) -> pd.DataFrame:
    """The rows of one library and method."""
    return rows[(rows["library"] == library) & (rows["method"] == method)]


def chance(axes, across: bool = False, label: str = "one-hop bound") -> None:
    """A line at the highest accuracy of a model that lacks one of the hops (theory/README.md, 2g). It is
    upright if accuracy is on the x axis."""
    style.reference(axes, edited_bound(DEFAULT.world.edits), label, across)


def guide(axes, x, rows: pd.DataFrame, series: int | Look, label: str | None = None, hollow: bool = False):
    """Points with bars, joined by a thin guide for the eye."""
    axes.plot(x, rows["measured"], color=style.look(series).colour, linewidth=0.5, alpha=0.6)
    style.points(axes, x, rows["measured"], rows["low"], rows["high"], series, label, hollow)


def curves(axes, rows: pd.DataFrame, name: str, series: Sequence[tuple], spacing: float = 0.08) -> None:
    """Shares against the values that ``rows`` have in the column ``name``, evenly spaced.

    series: (rows, look, label, and whether hollow) of each, set ``spacing`` aside; left out without rows.
    """
    places = sorted(rows[name].unique())
    for number, (curve, *looks) in enumerate(series):
        if len(curve):
            curve = curve.sort_values(name)
            x = np.searchsorted(places, curve[name]) + (number - (len(series) - 1) / 2) * spacing
            guide(axes, x, curve, *looks)
    axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    style.unit(axes)


def sizes(axes, rows: pd.DataFrame, name: str, methods: Methods, spacing: float = 0.08) -> None:
    """``curves`` of methods against a size."""
    series = [
        (of_method(rows, library, method), look_of(method), label) for library, method, label in methods
    ]
    curves(axes, rows, name, series, spacing)


def shown(rows: pd.DataFrame, methods: Methods) -> Methods:
    """The methods that a run has."""
    present = set(zip(rows["library"], rows["method"], strict=True))
    return [method for method in methods if method[:2] in present]


def across(
    axes,
    rows: pd.DataFrame,
    methods: Methods,
    place: float,
    series: int | Look,
    name: str,
    hollow: bool = False,
) -> None:
    """One series, a point a method that its rows have, ``place`` below the middle of the method's row."""
    order = [method[:2] for method in methods]
    points_across(axes, rows.set_index(["library", "method"]), order, place, series, name, hollow)


def across_levels(
    axes, rows: pd.DataFrame, methods: Methods, column: str, names: Mapping[str, str], spacing: float
) -> None:
    """``across``, a series for each value of a column (``names``: value -> name) that the rows have."""
    for number, (value, look) in enumerate(zip(names, style.levels(len(names)), strict=True)):
        part = rows[rows[column] == value]
        if len(part):
            across(axes, part, methods, (number - (len(names) - 1) / 2) * spacing, look, names[value])


def name_rows(panels, methods: Methods) -> None:
    """Label the methods in the first of the panels that share them; draw thin lines in all."""
    style.rows(panels, [label for _, _, label in methods])
