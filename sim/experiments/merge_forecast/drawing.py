"""Predicted against measured, cell by cell, of each predictor."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import style


@style.styled
def draw(cells: pd.DataFrame, predictors: tuple[str, ...]) -> Figure:
    """A panel a predictor: every undecided cell of merges that were not run is a point at (predicted,
    measured); the diagonal is where they agree; the title has the mean absolute error."""
    some = cells[~cells["run"] & cells["subset"].str.count("1").gt(1) & cells["measured"].between(0.05, 0.95)]
    picture = Figure(figsize=(style.COLUMN * 2, style.COLUMN * 0.62))
    panels = picture.subplots(1, len(predictors), sharey=True, squeeze=False)[0]
    noise = np.random.default_rng(0).uniform(-0.02, 0.02, (2, len(some)))  # shares come in steps
    for axes, name, colour in zip(panels, predictors, style.COLOURS, strict=False):
        axes.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        axes.plot(some[name] + noise[0], some["measured"] + noise[1], ".", color=colour, ms=1.2, alpha=0.35)
        error = (some[name] - some["measured"]).abs().mean()
        axes.set(xlabel=f"{name}", title=f"mean error {error:.3f}", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    panels[0].set(ylabel="measured accuracy")
    picture.tight_layout()
    return picture
