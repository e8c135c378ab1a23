"""Section 12: a merge by order of interaction, in deep linear networks of random adapters, and the figure."""

import itertools

import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import average, check, exact
from sim.lab.figure import LINES, Source, figure, law, line, point, points
from sim.lab.seeds import Effort
from sim.twins import interactions as twin
from theory import interactions as closed

DIM = 8


def _table(adapters: int, depth: int, gain: float, strength: float, key, draws: int) -> np.ndarray:
    """f of every subset of the adapters, (2, ..., 2, draws), of networks at f(0)^2 = 1 on average."""
    weights = twin.subset_weights(adapters, strength)
    values = twin.outputs(weights, [gain] * adapters, depth, DIM, key, draws)
    return values.T.reshape((2,) * adapters + (draws,))


def _left_out(table: np.ndarray, adapters: int, order: int) -> np.ndarray:
    """Squared error of the truncated sum at the merge of all adapters, one a draw."""
    whole = (1,) * adapters
    return np.square((table - closed.truncated(table, adapters, order))[whole])


def _expected(adapters: int, order: int, gain: float, depth: int) -> float:
    return float(closed.order_variances(adapters, gain, depth)[order + 1 :].sum())


@check("interactions: order L is exact in L linear layers", "12", "exact")
def _depth(effort: Effort):
    for depth, adapters in effort.some([(depth, size) for depth in (1, 2, 3, 4) for size in (4, 5)]):
        table = _table(adapters, depth, 0.4, 0.8, seeds.key(80, depth, adapters), 1)
        at_depth, whole = closed.truncated(table, adapters, depth), (1,) * adapters
        text = f"L={depth}, K={adapters}, one network of width {DIM}"
        yield exact(text, at_depth[whole].item(), table[whole].item(), 1e-10)


@check("interactions: mean square left out by order m", "12", "law")
def _remainder(effort: Effort):
    places = list(itertools.product((3, 4, 6), (4, 8), (1, 2)))
    for adapters, depth, order in effort.some([at for at in places if at[2] < min(at[:2])]):
        gain = 0.8 / depth
        key = seeds.key(81, adapters, depth)
        table = _table(adapters, depth, gain, 0.5, key, effort(2000, 4000))
        text = f"K={adapters}, L={depth}, m={order}, lambda=0.5, g={gain:.1f}, d={DIM}"
        predicted = _expected(adapters, order, 0.25 * gain, depth)
        yield average(text, predicted, _left_out(table, adapters, order))


PAIRS = ((0.5, 0.0), (1.0, 0.5), (2.0, 2.0), (0.0, 4.0), (0.25, 1.0), (3.0, 0.5), (1.0, 3.0), (4.0, 4.0))


@check("interactions: covariance of units that saturate", "12", "law")
def _saturating(effort: Effort):
    gains = np.array([0.7, 3.0])
    for place, (one, other) in enumerate(effort.some(PAIRS)):
        weights = np.array([[one, 1.0], [other, 2.0]])
        values = twin.saturating_outputs(weights, gains, seeds.key(82, place), effort(20000))
        predicted = closed.saturating_covariance(weights[:1], weights[1:], gains)[0, 0]
        text = f"merges ({one}, 1) and ({other}, 2), gains 0.7 and 3"
        yield average(text, predicted, values.prod(axis=1))


ORDERS = (0, 1, 2, 3)
NAMES = ("no adapter", "first order", "pairs", "triples")
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
SIZES = (2, 3, 4, 6, 8)
GAIN, DEPTH, ADAPTERS, STRENGTH = 0.5, 8, 6, 0.5


def _collect(source: Source) -> pd.DataFrame:
    """Share of the merge's mean square that order m leaves out: by strength, by number of adapters, by depth.

    Gains are GAIN / L a layer, so that a single adapter does as much in shallow networks as in deep ones.
    """
    settings = [("strength", lam, (ADAPTERS, DEPTH, lam)) for lam in STRENGTHS]
    settings += [("adapters", size, (size, DEPTH, STRENGTH)) for size in SIZES]
    settings += [("depth", depth, (ADAPTERS, depth, STRENGTH)) for depth in (1, 2, 4, 8, 16)]
    fine = [("strength", lam, (ADAPTERS, DEPTH, lam)) for lam in np.linspace(0.1, 1.0, 19)]
    rows = []
    for panel, x, (adapters, depth, lam) in [*fine, *settings]:
        gain = GAIN / depth
        total = (1 + adapters * lam**2 * gain) ** depth
        for order, name in zip(ORDERS, NAMES, strict=True):
            predicted = _expected(adapters, order, lam**2 * gain, depth) / total
            if predicted > 1e-9:
                rows.append(law(predicted, panel=panel, x=x, order=name))
    for place, (panel, x, (adapters, depth, lam)) in enumerate(source.effort.some(settings)):
        gain = GAIN / depth
        total = (1 + adapters * lam**2 * gain) ** depth
        table = _table(adapters, depth, gain, lam, seeds.key(83, place), source.effort(2000, 4000))
        for order, name in zip(ORDERS, NAMES, strict=True):
            predicted = _expected(adapters, order, lam**2 * gain, depth) / total
            if predicted > 1e-9:
                errors = _left_out(table, adapters, order) / total
                rows.append(point(predicted, errors, panel=panel, x=x, order=name))
    return pd.DataFrame(rows)


@figure(
    "What a sum over small subsets of adapters leaves out of their merge grows with strength and number of "
    "adapters, and is nothing once the order reaches the depth.",
    f"Linear networks with orthogonal layers of width {DIM} and random adapters of gain {GAIN}/L on every "
    "layer; share of the merge's mean square that interactions above the order hold. No adapter: the base; "
    "first order: single adapters; pairs and triples: all merges of two and three." + LINES,
    _collect,
    section="section 12",
    panels=(
        f"Of {ADAPTERS} adapters in {DEPTH} layers, against their common coefficient.",
        f"In {DEPTH} layers at λ = {STRENGTH}, against the number of adapters.",
        f"Of {ADAPTERS} adapters at λ = {STRENGTH}, against depth; orders from the depth on "
        "are exact and not drawn.",
    ),
)
def interactions_by_order(table: pd.DataFrame):
    """Share of the mean square left out, by order, against strength, number of adapters and depth."""
    picture, panels = style.figure(style.PAGE, 2.7, ncols=3, sharey=True)
    labels = {"strength": "coefficient λ", "adapters": "adapters K", "depth": "layers L"}
    looks = style.levels(len(NAMES))
    for axes, (panel, label) in zip(panels, labels.items(), strict=True):
        rows = table[table["panel"] == panel]
        for look, name in zip(looks, NAMES, strict=True):
            curve = rows[rows["order"] == name]
            line(axes, curve, "x", look)
            points(axes, curve, "x", look, name)
        axes.set(xlabel=label, yscale="log", ylim=(1e-6, 1.5))
    panels[0].set_ylabel("share left out")
    panels[0].set_xticks([0.25, 0.5, 0.75, 1.0], ["¼", "½", "¾", "1"])
    style.sizes(panels[1], SIZES)
    style.sizes(panels[2], (1, 2, 4, 8, 16))
    for axes, title in zip(panels, ("strength", "number", "depth"), strict=True):
        axes.set_title(title, loc="left")
    style.key(picture, panels)
    return picture
