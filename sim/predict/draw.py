"""Accuracy of the sum of adapters against their common strength: predicted as lines, measured as points."""

import numpy as np
from matplotlib.figure import Figure

from sim.lab import style
from sim.predict.tables import MEASURED, Results, share
from sim.predict.weights import common


@style.styled
def draw(results: Results) -> Figure:
    """One series a group; 95% intervals over prompts, of the outcome where it is known."""
    picture, axes = style.figure(style.COLUMN * 1.3)
    places = common(results.weights)
    lams = np.array([results.weights[at][0] for at in places])
    for series, group in enumerate(results.groups):
        at = results.of(group)
        mean, low, high = share(results.answers[results.trusted].right[at][:, places].astype(float))
        colour = style.COLOURS[series % len(style.COLOURS)]
        axes.plot(lams, mean, color=colour, label=group)
        if MEASURED not in results.answers:
            axes.fill_between(lams, low, high, color=colour, alpha=0.15, lw=0)
        else:
            interval = share(results.answers[MEASURED].right[at][:, places].astype(float))
            style.points(axes, lams, *interval, series)
    axes.set(xlabel="common strength $\\lambda$ of all adapters", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return picture
