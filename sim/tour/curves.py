"""Laws as lines, their twins as points: most pictures of the notebooks, and their tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import ArrayLike
from matplotlib.figure import Figure

from sim.lab import intervals, style


@dataclass(frozen=True)
class Curve:
    """One series. ``law`` at every ``x``; ``draws`` at every mark: one value a seed, or one exact value."""

    name: str
    x: ArrayLike = ()
    law: ArrayLike = ()
    marks: ArrayLike = ()
    draws: Sequence[ArrayLike] = ()


def measured(draws: Sequence[ArrayLike]) -> np.ndarray:
    """(marks, 3): mean and 95% interval of the values at each mark; a single value is taken as exact."""
    values = [np.asarray(one, float).ravel() for one in draws]
    return np.array([intervals.mean(one) if one.size > 1 else (one[0],) * 3 for one in values])


@style.styled
def curves(*series: Curve, xlabel: str, ylabel: str, title: str | None = None, **limits) -> Figure:
    """Each law as a line and its measurements as points with bars. ``limits``: of the axes (xlim, ylim)."""
    picture, axes = style.figure()
    for index, one in enumerate(series):
        if len(one.x):
            axes.plot(one.x, one.law, color=style.COLOURS[index], label=None if len(one.marks) else one.name)
        if len(one.marks):
            style.points(axes, one.marks, *measured(one.draws).T, index, one.name)
    axes.set(xlabel=xlabel, ylabel=ylabel, **limits)
    axes.legend(title=title)
    return picture


def tabulate(rows: Sequence[dict]) -> pd.DataFrame:
    """A table of rows whose ``draws`` become "measured" and "95% interval", three decimals."""
    table = []
    for row in rows:
        mean, low, high = measured([row["draws"]])[0]
        shown = {"measured": mean, "95% interval": f"[{low:.3f}, {high:.3f}]"}
        table.append({key: value for key, value in row.items() if key != "draws"} | shown)
    return pd.DataFrame(table).round(3)
