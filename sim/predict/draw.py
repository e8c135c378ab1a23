"""Accuracy of the sum of adapters against their common strength: predicted as lines, measured as points."""

import numpy as np
from matplotlib.figure import Figure

from sim.lab import style
from sim.predict.tables import MEASURED, Asked, share
from sim.predict.weights import common


@style.styled
def draw(asked: Asked) -> Figure:
    """One series a group; 95% intervals over prompts, of the outcome where it is known."""
    picture, axes = style.figure(style.COLUMN * 1.3)
    places = common(asked.weights)
    lams = np.array([asked.weights[at][0] for at in places])
    for series, group in enumerate(asked.groups):
        at = asked.of(group)
        mean, low, high = share(asked.said[asked.trusted].right[at][:, places].astype(float))
        colour = style.COLOURS[series % len(style.COLOURS)]
        axes.plot(lams, mean, color=colour, label=group)
        if MEASURED not in asked.said:
            axes.fill_between(lams, low, high, color=colour, alpha=0.15, lw=0)
        else:
            found = share(asked.said[MEASURED].right[at][:, places].astype(float))
            style.points(axes, lams, *found, series)
    axes.set(xlabel="common strength $\\lambda$ of all adapters", ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return picture
