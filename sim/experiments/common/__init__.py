"""What the two-hop experiments share: the points around which they vary one setting at a time, and how
their figures choose rows and draw chance."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sim.lab import style
from sim.reuse.config import of_world
from sim.worlds import two_hop

LAMBDAS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25)
"""Common coefficients of the linear merges of the two hop adapters."""

DEFAULT = of_world(
    two_hop.Config(bridges=256),
    families=("lora",),
    extras=("bridge", "expert"),
    methods=("average", "sum", "ties", "svd"),
    lambdas=LAMBDAS,
    routers=("arrow",),
    oracle=True,
)
"""The paper profile's: 2 layers of width 64, rank 4 on every matrix."""

SMALL = replace(DEFAULT, extras=(), methods=("average", "sum", "ties"))
"""The two hop adapters and the ceiling alone: for programs that must compile quickly."""

SETTING = (
    "Two-hop world of 64 entities, 16 edits a hop; 2 layers of width 64, rank 4 on all matrices; "
    "20 seeds a cell."
)

NAMES = {
    "real": "real",
    "half_fake": "bridge unseen",
    "half_fake_subject": "subject unseen",
    "fake": "both unseen",
}
"""Which names of the edited facts pretraining never saw, by ``Setting.entities``."""

CEILINGS_AND_MERGES = (
    ("single", "joint", "joint"),
    ("parts", "oracle", "oracle"),
    ("parts", "sum", "sum"),
    ("parts", "average", "average"),
    ("parts", "arrow", "arrow"),
)
"""(library, method, label) of the figures that vary a size."""


def selected(
    summary: pd.DataFrame, metrics: Sequence[str], methods: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """Measurements of these metrics for these (library, method) pairs, one row each."""
    pairs = pd.MultiIndex.from_frame(summary[["library", "method"]])
    rows = summary[pairs.isin(methods) & summary["metric"].isin(metrics)]
    return rows.drop_duplicates(["label", "library", "method", "metric"]).reset_index(drop=True)


def of_method(rows: pd.DataFrame, library: str, method: str) -> pd.DataFrame:
    """The rows of one library and method."""
    return rows[(rows["library"] == library) & (rows["method"] == method)]


def chance(axes, across: bool = False) -> None:
    """The dashed line of a guess among the edited answers, upright where accuracy runs across."""
    draw = axes.axvline if across else axes.axhline
    draw(1 / DEFAULT.world.edits, color="black", linestyle="--", linewidth=0.8, zorder=0)


def guide(axes, x, rows: pd.DataFrame, series: int, label: str, hollow: bool = False) -> None:
    """Points with bars, joined by a thin guide for the eye."""
    axes.plot(x, rows["measured"], color=style.COLOURS[series], linewidth=0.5, alpha=0.6)
    style.points(axes, x, rows["measured"], rows["low"], rows["high"], series, label, hollow)


Methods = Sequence[tuple[str, str, str]]
"""(library, method, label) of the figures that have a row for each method, from the top."""


def shown(rows: pd.DataFrame, methods: Methods) -> Methods:
    """The methods that a run has."""
    present = set(zip(rows["library"], rows["method"], strict=True))
    return [method for method in methods if method[:2] in present]


def across(axes, rows: pd.DataFrame, methods: Methods, place: float, series: int, name: str) -> None:
    """One series, a point a method, ``place`` below the middle of its row."""
    found = rows.set_index(["library", "method"]).reindex([method[:2] for method in methods])
    y = np.arange(len(methods)) + place
    style.points_across(axes, found["measured"], y, found["low"], found["high"], series, name)


def name_rows(panels, methods: Methods) -> None:
    """Labels of the methods beside the first of the panels that share them, thin lines in all."""
    for axes in panels:
        axes.grid(axis="y", color="0.93", linewidth=0.5)
    panels[0].set_yticks(range(len(methods)), [label for _, _, label in methods])
    panels[0].invert_yaxis()
