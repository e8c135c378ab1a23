"""What predicts the result of a merge: forecasts, and published metrics of the pair; their claim."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from sim.experiments.common import LAMBDAS, SMALL, guide
from sim.experiments.common.claim import Cell, Reading, Rule, claim
from sim.experiments.common.predicted import (
    HALF,
    NAMES,
    RANGES,
    SLIGHT,
    WHOLE,
    error_cells,
    errors_by_range,
    prediction_errors,
    undecided,
)
from sim.experiments.mergeability.cost import cost
from sim.experiments.mergeability.fitted import leave_one_out, rank_correlation
from sim.experiments.registry import experiment
from sim.lab import intervals, style
from sim.lab.figure import Source, build_row, figure, points_across
from sim.merge.looks import look_of
from sim.model.transformer import ATTENTION, MLP
from sim.reuse import interaction, pairs
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
from sim.worlds import two_hop
from sim.worlds.two_hop import Setting
from theory import pairwise

MERGES = replace(
    SMALL, methods=(), routers=(), oracle=False, interaction=True, lambdas=tuple(x for x in LAMBDAS if x <= 1)
)
"""The linear merges of the two hop adapters, with all forecasts and metrics of them."""


@experiment(
    quick={
        "config": replace(MERGES, lambdas=(0.25, 0.5, 0.75, 1.0)),
        "settings": (("real", "both"), ("real", "none"), ("fake", "both"), ("half_fake", "both")),
        "ranks": (1, 16),
        "facts": (8,),
        "layers": (),
    },
    paper={
        "config": MERGES,
        "settings": tuple(itertools.product(("real", "half_fake", "fake"), two_hop.TEMPLATES)),
        "ranks": (1, 2, 16),
        "facts": (8,),
        "layers": (4,),
    },
)
def mergeability(
    config: ReuseConfig,
    settings: Sequence[tuple[str, str]],
    ranks: Sequence[int],
    facts: Sequence[int],
    layers: Sequence[int],
) -> Iterator[Part]:
    """Forecasts of linear merges and published pairwise metrics, over settings, ranks, facts and depths."""
    shared, every = Setting("real", "both"), ATTENTION + MLP
    cells = [(f"{e}/{t}", Setting(e, t), config.rank) for e, t in settings]
    cells += [(f"rank{rank}", shared, rank) for rank in ranks]
    yield Part(
        replace(config, rank=max(config.rank, *ranks)),
        tuple((label, setting, tuple((kind, rank) for kind in every)) for label, setting, rank in cells),
    )
    for count in facts:
        yield Part.of(replace(config, world=replace(config.world, edits=count)), {f"facts{count}": shared})
    for count in layers:
        yield Part.of(replace(config, layers=count), {f"layers{count}": shared})


SIZES = (
    "Two-hop world of 64 entities, 16 edits a hop; 2 layers of width 64, rank 4 on all matrices; settings "
    "vary who is edited, where the template is, the rank (1 to 16), the edits (8 a hop) and the depth. "
    "Merges that are neither at floor nor ceiling (0.05 to 0.95)."
)

OURS = ("base", "tangent", "disentangled", *interaction.PREDICTORS)
"""Predictors that are fitted to nothing."""

LOOKS = {name: style.look(place) for place, name in enumerate(OURS)} | {"base": look_of("base")}
"""Looks of the predictors; the predictor "base" has the look of the model "base"."""

NULL, ALL = "other settings' mean", "all of them"
"""Fits to no metric, and to all."""

METRICS = {"published, data-free": pairwise.METRICS, "published, with prompts": pairs.PROMPTED}


def outcomes(source: Source) -> pd.DataFrame:
    """Predictions and outcomes of the merges with the metrics of the pair, seed by seed."""
    rows = undecided(source.summary("mergeability", "predictions"))
    rows = rows[rows["metric"] != "direct"]  # nothing that is asked at once is answered: at its floor
    of_pairs = source.summary("mergeability", "pairs")
    return rows.merge(of_pairs, on=["world", "label", "seed", "adapter"], validate="many_to_one")


def _calibration(source: Source) -> pd.DataFrame:
    """Panel "calibration": mean outcome beyond λ = 1/2 in bins of the prediction. "error": mean
    absolute error of every predictor at every lambda; "setting": the same by setting. "cost": ``cost``."""
    rows = outcomes(source)
    tables = [calibration(rows[rows["undecided"] & (rows["lam"] > 0.5)])]
    tables += [prediction_errors(at, OURS).assign(panel="error", lam=lam) for lam, at in rows.groupby("lam")]
    tables += [
        prediction_errors(of, OURS).assign(panel="setting", label=label, range=name)
        for low, high, name in RANGES[:2]
        for label, of in rows[(rows["lam"] > low) & (rows["lam"] <= high)].groupby("label")
    ]
    return pd.concat([*tables, cost(MERGES).assign(panel="cost")], ignore_index=True)


BINS = np.linspace(0.0, 1.0, 9)


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean prediction and mean outcome in eight equal bins of the prediction, with a 95% bootstrap interval
    over seeds."""
    table = []
    for predictor in OURS:
        place = np.clip(np.digitize(rows[predictor], BINS) - 1, 0, len(BINS) - 2)
        for index, part in rows.groupby(place):
            by_seed = part.groupby("seed")["measured"].mean()
            where = {"panel": "calibration", "predictor": predictor, "bin": index, "rows": len(part)}
            table.append(
                build_row(part[predictor].mean(), intervals.bootstrap(by_seed), len(by_seed), **where)
            )
    return pd.DataFrame(table)


CALIBRATED = ("disentangled", "crossed", "composed")


@figure(
    "What two adapters do to each other is told by derivatives at the single adapters and the last ReLU: the "
    "merge is foretold to a few hundredths up to λ = 1, where adding up effects overrates it, for forward "
    "passes that grow with the strengths and not with their combinations.",
    SIZES + " Points: means; bars: 95% bootstrap intervals over seeds.",
    _calibration,
    ("mergeability",),
    panels=(
        "Accuracy of the merge, ½ < λ ≤ 1, where a predictor says about so much.",
        "Mean absolute error against the common coefficient.",
        "Forward passes for all pairs of strengths of two adapters, by the compiler's count of operations.",
    ),
)
def interaction_forecast(rows: pd.DataFrame):
    """Calibration, error against lambda, and cost, by predictor."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.9, ncols=3)
    style.diagonal(left)
    for predictor in CALIBRATED:
        curve = rows[(rows["panel"] == "calibration") & (rows["predictor"] == predictor)]
        guide(left, curve["predicted"], curve, LOOKS[predictor], _named(predictor))
    left.set(xlabel="predicted accuracy of the merge", ylabel="measured", title="calibration")
    errors = rows[(rows["panel"] == "error") & (rows["scope"] == "undecided")]
    for place, predictor in enumerate(OURS):
        curve = errors[errors["predictor"] == predictor].sort_values("lam")
        guide(middle, curve["lam"] + (place - 3) * 0.006, curve, LOOKS[predictor], _named(predictor))
    middle.set(xlabel="common coefficient λ", ylabel="mean absolute error", ylim=(0, None), title="error")
    costs = rows[rows["panel"] == "cost"]
    for name in dict.fromkeys(costs["predictor"]):
        curve = costs[costs["predictor"] == name]
        if name in OURS:
            guide(right, curve["strengths"], curve, LOOKS[name])
        else:
            right.plot(curve["strengths"], curve["measured"], "--", color="0.5", label=_named(name))
    style.sizes(right, sorted(costs["strengths"].astype(int).unique()))
    right.set(yscale="log", xlabel="strengths an adapter", ylabel="forward passes", title="cost")
    style.key(picture, (middle, right, left))
    return picture


def _named(predictor: str) -> str:
    return {ALL: "all published metrics", **NAMES}.get(predictor, predictor.replace("_", " "))


PUBLISHED = {name: group for group, names in METRICS.items() for name in names}
FITS = {NULL: ()} | {name: (name,) for name in PUBLISHED} | {ALL: tuple(PUBLISHED)}
"""Metrics of each fit, by its name."""


def fit(name: str) -> str:
    """Name of the column with the fitted outcome."""
    return f"{name}, fitted"


def with_fits(rows: pd.DataFrame) -> pd.DataFrame:
    """The outcomes with a column for each of ``FITS``, fitted to the other settings in each stratum
    (``fitted.leave_one_out``)."""
    return rows.assign(**{fit(name): leave_one_out(rows, metrics) for name, metrics in FITS.items()})


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a predictor and quantity, on undecided cells: "rank", Spearman's correlation of the number
    itself with the outcome among cells of one coefficient and question; "error, RANGE", the mean absolute
    error. Metrics are fitted to the other settings (``with_fits``); ours are taken as they are. The mean of
    the other settings is what a metric must beat. Fits have no rank: a mean without a setting is low where
    that setting is high, whatever is fitted."""
    groups = PUBLISHED | {ALL: "published, all", NULL: "no metric"} | dict.fromkeys(OURS, "not fitted")
    fits, table = with_fits(rows), []
    fits = fits[fits["undecided"]]
    for name, group in groups.items():
        forecast = name if name in OURS else fit(name)
        where = {"predictor": name, "group": group}
        if name in fits:  # the number itself, not a fit
            ranked = rank_correlation(fits, name)
            table.append(build_row(np.nan, ranked, fits["seed"].nunique(), quantity="rank", **where))
        for low, high, words in RANGES[:2]:
            part = fits[(fits["lam"] > low) & (fits["lam"] <= high)]
            error = (part[forecast] - part["measured"]).abs().groupby(part["seed"]).mean().dropna()
            if len(error):
                where |= {"quantity": f"error, {words}", "rows": len(part)}
                table.append(build_row(np.nan, intervals.bootstrap(error), len(error), **where))
    return pd.DataFrame(table)


BEST = 8
"""How many of the published metrics the figure has."""


@figure(
    "A published metric of the pair, fitted to other settings, foretells a merge somewhat better than their "
    "mean, and all of them in one fit as well as some forecasts from single adapters; best are forecasts of "
    "what adapters do to each other, fitted to nothing.",
    SIZES
    + f" Rows: the least error beyond λ = ½ first; filled: forecasts fitted to nothing; hollow: the {BEST} "
    f"best of {len(PUBLISHED)} published metrics of two adapters (arXiv 2601.22285), all of them in one fit, "
    "and the mean of the other settings, which knows no metric (dashed). Points: means; bars: 95% bootstrap "
    "intervals over seeds.",
    lambda source: compared(outcomes(source)),
    ("mergeability",),
    panels=(
        "Mean absolute error; of a metric after a linear fit to all other settings, at the same λ and "
        "question.",
        "Spearman's rank correlation of the number itself with the accuracy of the merge, among cells of one "
        "λ and question.",
    ),
)
def mergeability_metrics(rows: pd.DataFrame):
    """Errors and rank correlation of the forecasts and of the best metrics, the least error first."""
    picture, (left, right) = style.figure(style.PAGE, 4.2, ncols=2, sharey=True, width_ratios=(1.4, 1))
    quantities = {f"error, {words}": left for _, _, words in RANGES[:2]} | {"rank": right}
    names, looks = ordered(rows), style.levels(2)
    looks = dict(zip(quantities, (*looks, style.Look("black", "o")), strict=True))
    for place, (quantity, axes) in enumerate(quantities.items()):
        scores = rows[(rows["quantity"] == quantity) & rows["predictor"].isin(names)]
        shift, label = (place - 0.5) * 0.3 * (axes is left), quantity.removeprefix("error, ")
        for hollow in (False, True):
            part = scores[scores["predictor"].isin(OURS) != hollow].set_index("predictor")
            own = label if axes is left and not hollow else None
            points_across(axes, part, names, shift, looks[quantity], own, hollow)
        if axes is left and NULL in set(scores["predictor"]):
            null = scores["measured"][scores["predictor"] == NULL].iloc[0]
            axes.axvline(null, color=looks[quantity].colour, linestyle="--", linewidth=0.8, zorder=0)
    style.rows((left, right), [_named(name) for name in names])
    style.reference(right, 0, "", across=True)
    left.set(xlabel="mean absolute error", xlim=(0, None), title="error")
    right.set(xlabel="rank correlation", xlim=(-1.05, 1.05), title="rank")
    style.key(picture, (left,))
    return picture


def ordered(rows: pd.DataFrame) -> list[str]:
    """Rows of the figure, the least error beyond λ = ½ first: all but the metrics after the ``BEST``."""
    errors = rows[rows["quantity"] == f"error, {RANGES[1][2]}"].set_index("predictor")["measured"]
    names = list(errors.sort_values(kind="stable").index)
    shown = {*[name for name in names if name in PUBLISHED][:BEST], *OURS, ALL, NULL}
    return [name for name in names if name in shown]


_error = partial(error_cells, "mergeability")


def collect_fits(source: Source) -> Mapping[Cell, Reading]:
    """Errors by range of λ of every forecast, and of every fit to published metrics."""
    return errors_by_range(with_fits(outcomes(source)), (*OURS, *map(fit, FITS)), "mergeability")


def _less(name: str, others: tuple[str, ...], what: str) -> tuple[Rule, Rule]:
    return tuple(
        Rule(
            f"{name}{place}",
            f"mean absolute error of the disentangled forecast, less that of a fit to {what}, {lams}",
            _error("disentangled", lams),
            tuple(_error(fit(other), lams)[0] for other in others),
            below=-SLIGHT,
        )
        for place, lams in enumerate((HALF, WHOLE))
    )


claim(
    "5+c",
    "... as no published metric of the pair does",
    "mergeability_metrics",
    "mergeability",
    fixed="2026-11-29",
    collect=collect_fits,
    rules=(*_less("one", tuple(PUBLISHED), "one metric"), *_less("all", (ALL,), "all metrics together")),
    numbers={"mean": _error(fit(NULL), WHOLE)[0]},
    evidence="Metrics of the pair (arXiv 2601.22285), fitted to the other settings, all together miss the "
    "merge "
    f"by {{all0.to}} at {HALF} and by {{all1.to}} at {WHOLE}; the disentangled forecast, fitted to nothing, "
    f"by "
    "{all0.of} and {all1.of}. The mean of the other settings, which knows no metric, misses it by {mean} "
    f"at {WHOLE}.",
)
