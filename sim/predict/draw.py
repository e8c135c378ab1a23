"""Accuracy of the sum of all adapters against their common strength, and the best merge."""

import numpy as np
from matplotlib.figure import Figure

from sim.lab import style
from sim.predict.tables import Results, every_accuracy


@style.styled
def draw(results: Results) -> Figure:
    """One series a group: predictions as a line with their interval, runs as points, the best merge as a
    star at its mean strength."""
    picture, axes = style.figure(style.COLUMN * 1.3)
    cells = every_accuracy(results)
    every = results.candidates
    places = np.flatnonzero(np.isclose(every, every[:, :1]).all(axis=1))
    places = places[np.argsort(every[places, 0])]
    lams = every[places, 0]
    for series, group in enumerate(results.groups):
        colour = style.COLOURS[series % len(style.COLOURS)]
        mean, low, high = (cells[name][places, series] for name in ("accuracy", "low", "high"))
        axes.plot(lams, mean, color=colour, label=group)
        axes.fill_between(lams, low, high, color=colour, alpha=0.15, lw=0)
        run = cells["run"][places]
        style.points(axes, lams[run], mean[run], low[run], high[run], series)
        used = every[results.best]
        lam = used[used > 0].mean() if used.any() else 0.0
        axes.plot(lam, cells["accuracy"][results.best, series], "*", color=colour, ms=9)
    axes.set(xlabel="common strength $\\lambda$ of all adapters", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return picture
