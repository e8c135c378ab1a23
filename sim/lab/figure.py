"""Figures: their numbers and their drawing, in two separate functions.

A figure is a ``collect`` function (numbers, from theory, twins or runs) and a ``draw`` function (a picture,
from that table alone). Its table has the columns of its setting and the common ones: predicted, measured,
low, high, seeds; ``law``, ``point``, ``share``, ``certain`` and ``gap`` make such rows.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Picture

from sim.lab import intervals, style
from sim.lab.registry import Registry
from sim.lab.seeds import EFFORTS, Effort
from sim.lab.store import read_table, table_path

TABLES = Path(__file__).resolve().parents[2] / "figures"
"""The tables that come with a checkout of the repository; ``committed`` finds them in a wheel too."""

LINES = " Lines: theory; points: measurement with 95% intervals."
"""Ends the setting of a figure for which it is true."""

COMMON = ("predicted", "measured", "low", "high", "seeds")
"""Columns of every figure's table; the others identify the point."""


COMMANDS: dict[str, str] = {}
"""Commands that make the tables of experiments, where that is not ``sim.sweep``; by name."""


def command_of(experiment: str) -> str:
    """The command that makes the tables of an experiment, without its options."""
    return COMMANDS.get(experiment, f"python -m sim.sweep {experiment}")


@dataclass(frozen=True)
class Source:
    """Sources of a figure's numbers: an amount of computing, and a folder of runs.

    runs: holds one run folder an experiment, as ``python -m sim.sweep NAME --out RUNS`` writes them.
    """

    runs: Path
    effort: Effort = EFFORTS["quick"]

    def summary(self, experiment: str, table: str = "summary") -> pd.DataFrame:
        """The summary of an experiment's run, or another table of it ("predictions").

        Raises:
            ValueError: there is none; the message names the command that makes it.
        """
        path = table_path(self.runs / experiment, table)
        if not path.exists():
            raise ValueError(f"{path} is missing; make it with: {command_of(experiment)} --out {self.runs}")
        return read_table(path)

    def missing(self, experiments: Sequence[str], tables: Sequence[str]) -> list[tuple[str, str]]:
        """(experiment, table) of all of these that no run has written."""
        pairs = [(name, table) for name in experiments for table in tables]
        return [pair for pair in pairs if not table_path(self.runs / pair[0], pair[1]).exists()]


def committed() -> Path:
    """The folder of the tables that come with the toolkit: one a figure, and ``experiments/``, the runs."""
    packed = Path(__file__).resolve().parents[1] / "figures" / "tables"
    return packed if packed.exists() else TABLES


@dataclass(frozen=True)
class Figure:
    """One figure of the paper.

    claim:   what a reader should see, one sentence; opens the caption.
    panels:  what each panel shows, a sentence without its letter; empty for a single one.
    setting: sizes, what lines, points and bars are; ends the caption. How many seeds there are the caption
             takes from the table.
    section: section of theory/README.md, or the experiment it draws.
    collect: source -> table; every number of the picture is in it.
    draw:    table -> picture, in the house style.
    experiments: the runs that ``collect`` reads; empty for a figure that computes its own numbers.
    tables:  of each of these runs; it is drawn where all of them are.
    """

    name: str
    claim: str
    panels: tuple[str, ...]
    setting: str
    section: str
    collect: Callable[[Source], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Picture]
    experiments: tuple[str, ...]
    tables: tuple[str, ...] = ("summary",)


FIGURES: Registry[Figure] = Registry("figure")


def figure(
    claim: str,
    setting: str,
    collect: Callable[[Source], pd.DataFrame],
    experiments: tuple[str, ...] = (),
    section: str = "",
    panels: tuple[str, ...] = (),
    tables: tuple[str, ...] = ("summary",),
):
    """Register a ``draw`` function under its own name, together with what it draws; panels get letters.

    section: left out, it names the experiments.
    """
    section = section or f"experiment{'s' * (len(experiments) > 1)} {' and '.join(experiments)}"

    def register(draw: Callable[[pd.DataFrame], Picture]) -> Callable[[pd.DataFrame], Picture]:
        name = draw.__name__

        @functools.wraps(draw)
        def drawn(table: pd.DataFrame) -> Picture:
            return style.fitted(style.lettered(draw(table)))

        looks = style.styled(drawn)
        FIGURES.add(name, Figure(name, claim, panels, setting, section, collect, looks, experiments, tables))
        return draw

    return register


def law(predicted: float, **setting) -> dict:
    """One node of a theory line, with no measurement."""
    return {**setting, "predicted": float(predicted)}


def point(predicted: float, values, **setting) -> dict:
    """A prediction and the mean of one real value a seed, with its 95% interval (``intervals.mean``)."""
    return build_row(predicted, intervals.mean(values), len(values), **setting)


def share(predicted: float, shares, trials: int, **setting) -> dict:
    """A prediction and a success rate: one share of ``trials`` a seed (``intervals.proportion``)."""
    right = [value * trials for value in shares]
    return build_row(predicted, intervals.proportion(right, [trials] * len(right)), len(right), **setting)


def certain(predicted: float, measured: float, **setting) -> dict:
    """A prediction and one number that has no sampling error."""
    return build_row(predicted, (float(measured),) * 3, 1, **setting)


def build_row(predicted: float, interval: tuple[float, float, float], seeds: int, **setting) -> dict:
    """A row of a table: a prediction and a measurement (mean, low, high) from ``seeds`` seeds."""
    measured, low, high = interval
    columns = {"measured": measured, "low": low, "high": high, "seeds": seeds}
    return {**setting, "predicted": float(predicted), **columns}


def gap(predicted: float, values, **setting) -> dict:
    """The difference measured - predicted, one a seed, whose own law is 0."""
    row = point(0.0, [value - predicted for value in values], **setting)
    return {**row, "law": float(predicted)}


def line(axes, rows: pd.DataFrame, x: str, series: int | style.Look, **options) -> None:
    """Predictions of ``rows`` as a line in the colour of a series."""
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows["predicted"], color=style.look(series).colour, **options)


def points(
    axes,
    rows: pd.DataFrame,
    x: str,
    series: int | style.Look,
    label: str | None = None,
    hollow=False,
    shift=0.0,
):
    """Measurements of ``rows`` with their bars; ``shift`` sets series apart that share places."""
    rows = rows.dropna(subset="measured").sort_values(x)
    style.points(axes, rows[x] + shift, rows["measured"], rows["low"], rows["high"], series, label, hollow)


def points_across(
    axes,
    rows: pd.DataFrame,
    order: Sequence,
    shift: float,
    series: int | style.Look,
    label: str | None = None,
    hollow: bool = False,
) -> pd.DataFrame:
    """Measurements with the value along the horizontal axis, each in the line that its index has in ``order``
    from the top, ``shift`` below. Returns the rows that are drawn, with their heights as ``y``."""
    drawn = rows.reindex(order).assign(y=np.arange(len(order)) + shift).dropna(subset="measured")
    values = (drawn[column] for column in ("measured", "y", "low", "high"))
    style.points_across(axes, *values, series, label, hollow)
    return drawn
