"""Figures of one adapter: rank starvation, crosstalk, and the threshold of cross-entropy adapters."""

import math

import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.figure.one_layer import key_of, seeds
from sim.lab import intervals, style
from sim.lab.figure import figure
from sim.twins import cross_entropy as trained
from sim.twins import crosstalk as drawn
from sim.twins import starvation as twin
from theory import coverage, starvation
from theory import crosstalk as kernel
from theory import model as one_layer

FACTS = (16, 32, 64)
OVERWRITE_SHARES = (1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)
INSERTION_RANKS = (1, 2, 4, 6, 8, 12)


def _recall(kind: str, facts: int, rank: int, count: int, place: int) -> dict:
    """A row: recall of trained adapters against the closed form."""
    runs = getattr(twin, kind)(facts, rank, key=key_of(place, facts, rank), draws=count)
    measured, low, high = intervals.proportion(np.asarray(runs) * facts, [facts] * count)
    return {
        "kind": kind,
        "facts": facts,
        "rank": rank,
        "rank_share": rank / facts,
        "predicted": float(getattr(starvation, kind)(facts, rank)),
        "measured": measured,
        "low": low,
        "high": high,
        "seeds": count,
    }


def _starvation(profile: str) -> pd.DataFrame:
    rows = []
    for facts in FACTS:
        count = seeds(profile, 2048 // facts, 16384 // facts)
        ranks = [round(share * facts) for share in OVERWRITE_SHARES]
        rows += [_recall("overwrite_recall", facts, rank, count, 0) for rank in ranks]
        ranks = [rank for rank in INSERTION_RANKS if rank < facts]
        rows += [_recall("insertion_recall", facts, rank, count, 1) for rank in ranks]
    return pd.DataFrame(rows)


@figure(
    "Overwriting needs rank in proportion to the facts, inserting only its logarithm.",
    "LoRAs trained by gradient descent on orthonormal keys, λ = 1, F = 16, 32, 64 facts; 128, 64, 32 "
    "adapters a point, one a seed (8 times as many in the paper profile).",
    "section 6",
    _starvation,
)
def rank_starvation(table: pd.DataFrame):
    """Overwrite and insertion recall against r/F for three F."""
    picture, axes = style.figure(style.COLUMN, 2.4)
    for series, facts in enumerate(FACTS):
        for kind, dashes in (("overwrite_recall", "-"), ("insertion_recall", "--")):
            last = facts if kind == "overwrite_recall" else min(facts, 2 * max(INSERTION_RANKS))
            ranks = np.arange(1, last + 1)
            law = [getattr(starvation, kind)(facts, int(rank)) for rank in ranks]
            axes.plot(ranks / facts, law, dashes, color=style.COLOURS[series])
            rows = table[(table["facts"] == facts) & (table["kind"] == kind)]
            hollow = kind == "insertion_recall"
            label = f"F = {facts}" if not hollow else None
            x = rows["rank_share"]
            style.points(axes, x, rows["measured"], rows["low"], rows["high"], series, label, hollow)
    axes.set(xlabel="rank over facts r/F", ylabel="facts recalled", xlim=(0, 1.0), ylim=(-0.03, 1.05))
    axes.text(0.36, 0.68, "insert\n(hollow)", ha="left", va="center")
    axes.text(0.6, 0.42, "overwrite\n(filled)", ha="left", va="center")
    axes.legend(loc="lower right")
    return picture


DEGREES = tuple(range(0, 181, 20))
WIDTH = 256


def _crosstalk(profile: str) -> pd.DataFrame:
    count, rows = seeds(profile, 64, 512), []
    unit = jnp.asarray([1.0, 0.0])

    def add(panel: str, x: float, law: float, runs, m: int) -> None:
        measured, low, high = intervals.mean(np.asarray(runs))
        rows.append(
            {
                "panel": panel,
                "x": x,
                "features": m,
                "predicted": law,
                "measured": measured,
                "low": low,
                "high": high,
                "seeds": count,
            }
        )

    for activation in ("relu", "identity"):
        for degrees in DEGREES:
            read = jnp.asarray([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
            runs = drawn.kappa(unit, read, activation, key=key_of(2, degrees), features=WIDTH, draws=count)
            add(activation, degrees, float(kernel.kappa(unit, read, activation)), runs, WIDTH)
    read = jnp.asarray([math.cos(math.radians(60)), math.sin(math.radians(60))])
    law = float(kernel.kappa(unit, read))
    for m in (32, 128, 512, 2048):
        runs = np.asarray(drawn.kappa(unit, read, key=key_of(5, m), features=m, draws=count))
        squares = np.square(runs - law)
        add("error", m, kappa_variance(60.0) / m, squares, m)
    return pd.DataFrame(rows)


def kappa_variance(degrees: float) -> float:
    """m Var of <phi(u), phi(v)>/|phi(u)|^2 at unit vectors this far apart, by the delta method: one integral.

    With x = 2 relu(g.u) relu(g.v), y = 2 relu(g.u)^2, E y = 1, it is E[(x - kappa y)^2]; in polar coordinates
    E rho^4 = 8 times the mean over the circle.
    """
    turn = math.radians(degrees)
    psi = (np.arange(4096) + 0.5) * 2 * np.pi / 4096
    u, v = np.maximum(np.cos(psi), 0), np.maximum(np.cos(psi - turn), 0)
    kappa = (math.sin(turn) + (math.pi - turn) * math.cos(turn)) / math.pi
    return float(32 * np.mean(np.square(u * (v - kappa * u))))


@figure(
    "How strongly an edit acts at another prompt is the arc-cosine kernel of their angle, with an error that "
    "falls as one over the root of the features.",
    "Left: one edit read at an angle, 256 features. Right: root mean square error at 60 degrees. 64 drawn "
    "feature maps a point (512 in the paper profile).",
    "section 4",
    _crosstalk,
)
def crosstalk(table: pd.DataFrame):
    """Measured kappa against the arc-cosine curve, and its error against the number of features."""
    picture, (left, right) = style.figure(style.COLUMN, 2.2, ncols=2, width_ratios=(1.5, 1))
    dense = np.radians(np.linspace(0, 180, 200))
    left.plot(np.degrees(dense), kernel.arc_cosine(jnp.cos(dense)), color=style.COLOURS[0])
    left.plot(np.degrees(dense), np.cos(dense), color=style.COLOURS[1])
    for series, activation in enumerate(("relu", "identity")):
        rows = table[table["panel"] == activation]
        style.points(left, rows["x"], rows["measured"], rows["low"], rows["high"], series, activation)
    left.set(xlabel="angle, degrees", ylabel="crosstalk κ")
    left.set_xticks([0, 60, 120, 180])
    left.legend(loc="lower left")
    rows = table[table["panel"] == "error"]
    m = np.geomspace(24, 2800, 20)
    right.plot(m, np.sqrt(kappa_variance(60.0) / m), color=style.COLOURS[0])
    root = [np.sqrt(np.maximum(rows[name], 1e-12)) for name in ("measured", "low", "high")]
    style.points(right, rows["x"], *root, 0)
    right.set(xscale="log", yscale="log", xlabel="features m", ylabel="error of κ (rms)")
    right.minorticks_off()
    right.set_yticks([0.03, 0.1], ["0.03", "0.1"])
    return picture


CONFIG = one_layer.ModelConfig(entities=24, dim=100, features=300)
CE_RANKS = (1, 2, 3, 4, 6, 12, 24)
SHOWN = (2, 4, 12)
CE_LAMBDAS = tuple(np.round(np.geomspace(0.015, 1.0, 14), 5))


def _cross_entropy(profile: str) -> pd.DataFrame:
    count, rows = seeds(profile, 3, 12), []
    facts = CONFIG.entities
    lam = jnp.asarray(CE_LAMBDAS)
    for rank in CE_RANKS:
        predicted, measured = [], []
        for seed in range(count):
            library = trained.two_adapters(CONFIG, key_of(6, seed), rank=rank, step=0.02, steps=2000)
            margin, swing, third = trained.margins(library)
            critical = np.where(third > 0, coverage.critical_lambda(margin, swing), np.inf)
            predicted.append(np.mean(np.asarray(lam)[:, None, None] > critical[None], axis=(1, 2)))
            measured.append(np.sum(trained.merged_recall(library, lam), axis=(1, 2)))
        for j, value in enumerate(CE_LAMBDAS):
            mean, low, high = intervals.proportion([run[j] for run in measured], [2 * facts] * count)
            law = float(np.mean([run[j] for run in predicted]))
            rows.append(("cross entropy", rank, value, law, mean, low, high, count))
        draws = 4 * count
        runs = twin.overwrite_recall(facts, rank, key=key_of(7, rank), draws=draws)
        found = intervals.proportion(np.asarray(runs) * facts, [facts] * draws)
        law = float(starvation.overwrite_recall(facts, rank))
        rows.append(("least squares", rank, 1.0, law, *found, draws))
    columns = ["loss", "rank", "lam", "predicted", "measured", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=columns)


@figure(
    "Cross-entropy adapters overshoot, so they survive dilution and small rank where least squares fails; "
    "the margins of single adapters say when.",
    "One-layer relu model, 24 facts a hop, two adapters summed at λ, 2000 steps of SGD; 3 seeds of 48 "
    "facts (12 in the paper profile). Left: rank in the legend, shaded where an exact overwrite survives; "
    "right: λ = 1, least squares with 12 adapters of 24 facts. Lines: margins of single adapters; the Beta "
    "law for least squares.",
    "section 6",
    _cross_entropy,
)
def cross_entropy_threshold(table: pd.DataFrame):
    """Recall of overwrites against lambda and rank, cross entropy beside least squares."""
    picture, (left, right) = style.figure(style.COLUMN, 2.3, ncols=2, sharey=True)
    ours = table[table["loss"] == "cross entropy"]
    for series, rank in enumerate(SHOWN):
        rows = ours[ours["rank"] == rank]
        left.plot(rows["lam"], rows["predicted"], color=style.COLOURS[series])
        style.points(left, rows["lam"], rows["measured"], rows["low"], rows["high"], series, f"r = {rank}")
    left.axvspan(0.5, 1.1, color="0.9", zorder=0, linewidth=0)
    left.set(xscale="log", xlabel="coefficient λ", ylabel="overwrites kept", ylim=(-0.03, 1.05))
    left.set(xlim=(0.012, 1.1))
    left.legend(loc="lower right")
    last = ours[ours["lam"] == 1.0]
    right.plot(last["rank"], last["predicted"], color=style.COLOURS[3])
    style.points(right, last["rank"], last["measured"], last["low"], last["high"], 3, "cross entropy")
    squares = table[table["loss"] == "least squares"]
    ranks = np.arange(1, 25)
    law = [starvation.overwrite_recall(CONFIG.entities, int(rank)) for rank in ranks]
    right.plot(ranks, law, color=style.COLOURS[6])
    style.points(
        right, squares["rank"], squares["measured"], squares["low"], squares["high"], 6, "least squares"
    )
    right.set(xlabel="rank r")
    right.set_xticks([1, 6, 12, 18, 24])
    right.legend(loc="lower right", bbox_to_anchor=(1.06, 0.02), handletextpad=0.1, fontsize=6)
    return picture
