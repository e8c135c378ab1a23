"""Figures of the test beds: predicted against measured on the language model, and the domain."""

import numpy as np
import pandas as pd

from sim.experiments.common import guide
from sim.experiments.merge_forecast.claims import FIRST, FORECAST, MINIATURE, MODEL, SUMS
from sim.lab import intervals, style
from sim.lab.figure import Source, build_row, figure
from sim.merge.looks import look_of

SHOWN = (FORECAST, FIRST, "tangent", "metrics")
"""Predictors with a panel on the language model."""

NAMES = {"pairs": "all pairs", "base": "no change"}
LOOKS = {name: style.look(place) for place, name in enumerate((FORECAST, *SUMS))} | {"base": look_of("base")}
STEP = 16
"""Parts of the range of an accuracy: a group has as many facts."""


def unrun(cells: pd.DataFrame) -> pd.DataFrame:
    """The undecided cells of merges of two adapters or more that were not run."""
    some = ~cells["run"].astype(bool) & cells["subset"].astype(str).str.count("1").gt(1)
    return cells[some & cells["measured"].between(0.05, 0.95)]


def _cells(source: Source) -> pd.DataFrame:
    """A row a predictor, sixteenth of the prediction and outcome: how many cells are there, of all."""
    cells = unrun(source.summary(MODEL, "cells"))
    seeds = cells["seed"].nunique()
    rows = []
    for name in (name for name in SHOWN if name in cells):
        predicted = np.round(cells[name] * STEP) / STEP
        error = (cells[name] - cells["measured"]).abs().mean()
        for (forecast, outcome), count in cells.groupby([predicted, cells["measured"]]).size().items():
            where = {"panel": name, "count": count, "share": count / len(cells), "error": error}
            rows.append(build_row(forecast, (outcome,) * 3, seeds, **where))
    return pd.DataFrame(rows)


@figure(
    "Predicted against measured on a language model, misses included: the forecast from a few merges stays "
    "near the diagonal, adding up single adapters does not.",
    "SmolLM2-135M, libraries of 6 and 8 adapters of 16 facts each, whose relations are shared or not, all "
    "subsets at four strengths. Area of a circle: how many accuracies on an adapter's facts, of merges that "
    "were not run, are there; none at floor or ceiling; predictions are rounded to sixteenths. Line: "
    "measured as predicted; off by: mean absolute error.",
    _cells,
    (MODEL,),
    panels=(
        "Forecast from K + K (K - 1) / 2 + 8 runs.",
        "First order: the effects of single adapters, each run at its strength, added up.",
        "Tangent: their effects at strength 1, times the strength.",
        "A regression on the published metrics of pairs, fitted to the other libraries.",
    ),
)
def merge_forecast(table: pd.DataFrame):
    """A panel a predictor: circles at (predicted, measured)."""
    names = list(dict.fromkeys(table["panel"]))
    picture, panels = style.figure(style.PAGE, 2.2, ncols=len(names), sharey=True)
    for axes, name in zip(np.atleast_1d(panels), names, strict=True):
        rows = table[table["panel"] == name]
        style.diagonal(axes)
        area = 2500 * rows["share"]
        look = LOOKS.get(name, style.look(len(LOOKS)))
        axes.scatter(rows["predicted"], rows["measured"], area, color=look.colour, alpha=0.6, linewidths=0)
        axes.set(xlabel="predicted")
        error = f"off by {rows['error'].iloc[0]:.3f}"
        axes.text(0.98, 0.02, error, transform=axes.transAxes, ha="right", va="bottom")
        axes.set_title(NAMES.get(name, name), loc="left")
        style.unit(axes, "xy")
    np.atleast_1d(panels)[0].set_ylabel("measured accuracy")
    return picture


def _domain(source: Source) -> pd.DataFrame:
    """Mean absolute error of every predictor by number of adapters, by depth and by strength."""
    rows = source.summary(MINIATURE, "by_library")
    layers = rows["design"].str.extract(r"(\d+)", expand=False).astype(float)
    strength = pd.to_numeric(rows["range"], errors="coerce")
    all_strengths = rows["range"] == "all"
    panels = {"adapters": (rows["adapters"], all_strengths), "layers": (layers, all_strengths)}
    panels["strength"] = (strength, strength.notna())
    table = []
    for panel, (x, some) in panels.items():
        for at, part in rows[some].groupby(x[some]):
            for name in (FORECAST, *SUMS, "base"):
                error = part.groupby("seed")[name].mean().dropna()
                if len(error):
                    where = {"panel": panel, "x": at, "predictor": name}
                    table.append(build_row(np.nan, intervals.mean(error), len(error), **where))
    return pd.DataFrame(table)


@figure(
    "From λ = ½ on a few merges predict the others far better than adding up effects of single adapters or "
    "pairs; their error grows with strength and number of adapters, and not with depth.",
    "Decoders of width 64 that know 8 relations of 64 entities; adapters of rank 4 on all matrices, taught "
    "16 edits of one relation each; all subsets at four strengths. Mean absolute error of the accuracy on an "
    "adapter's facts in merges that were not run, neither at floor nor at ceiling. Points: means; bars: 95% "
    "intervals over seeds; thin lines guide the eye.",
    _domain,
    (MINIATURE,),
    panels=(
        "Against the number of adapters, all depths and strengths together.",
        "Against the layers of the decoder.",
        "Against the common coefficient.",
    ),
)
def merge_miniature(table: pd.DataFrame):
    """Error of each predictor against number of adapters, depth and strength."""
    picture, panels = style.figure(style.PAGE, 2.6, ncols=3, sharey=True)
    labels = {"adapters": "adapters K", "layers": "layers L", "strength": "coefficient λ"}
    for axes, (panel, label) in zip(panels, labels.items(), strict=True):
        for name in (FORECAST, *SUMS, "base"):
            curve = table[(table["panel"] == panel) & (table["predictor"] == name)].sort_values("x")
            guide(axes, curve["x"], curve, LOOKS[name], NAMES.get(name, name))
        axes.set(xlabel=label, ylim=(0, None), title=panel)
        axes.set_xticks(sorted(table[table["panel"] == panel]["x"].unique()))
    panels[0].set_ylabel("mean absolute error")
    style.key(picture, panels)
    return picture
