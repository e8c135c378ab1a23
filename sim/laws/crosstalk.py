"""Section 4: the strength of an edit at other prompts against random feature maps, and its figure."""

import math

import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import average, check
from sim.lab.figure import LINES, Source, figure, law, line, point, points
from sim.lab.seeds import Effort
from sim.twins import crosstalk as twin
from theory import crosstalk as closed
from theory import model as one_layer

STORED = np.array([1.0, 0.0])  # not a JAX array: importing must not start a backend


def _at(degrees) -> jnp.ndarray:
    """Unit vectors at these angles from ``STORED``, (..., 2)."""
    turn = jnp.radians(jnp.asarray(degrees, jnp.float64))
    return jnp.stack([jnp.cos(turn), jnp.sin(turn)], axis=-1)


@check("kappa, arc-cosine kernel", "4", "asymptotic")
def _kappa(effort: Effort):
    """Off by less than 1/m: the bias of a ratio of means, (kappa Var y - Cov(x, y)) / m, is at most .64/m."""
    for features in effort.some((64, 256, 1024, 4096)):
        for degrees in (30, 60, 90, 120):
            key = seeds.key(8, features, degrees)
            runs = twin.kappa(STORED, _at(degrees), key=key, features=features, draws=effort(64))
            text = f"m={features}, angle {degrees}"
            yield average(text, closed.kappa(STORED, _at(degrees)), runs, slack=1 / features)


READ = (
    ("relu", "p12", 2),
    ("relu", "p12", 6),
    ("relu", "new word", 6),
    ("identity", "new word", 2),
    ("identity", "new word", 6),
)
"""(activation, what stands at the read prompt, facts)."""


@check("whitened overlap", "4w", "asymptotic")
def _whitened(effort: Effort):
    """Off by less than F/m: the Gram matrix of F keys is its kernel to a relative error of that order."""
    for (activation, name, facts), features in effort.some([(at, m) for at in READ for m in (64, 512)]):
        subjects = jnp.arange(facts)
        config = one_layer.ModelConfig(facts, 40, features, activation=activation, fillers=1)
        first = one_layer.prompt1(config, subjects)
        two_hop, new_word = one_layer.prompt12(config, subjects), first.at[:, 1].set(config.tokens - 1)
        read = two_hop if name == "p12" else new_word
        kernel = [closed.prompt_kappa(config, first[0], at) for at in (first[1], read[0], read[1])]
        runs = twin.mean_overlap(facts, config, read, key=seeds.key(9, facts, features), draws=effort(32))
        text = f"F={facts}, m={features}, {activation}, read at {name}"
        yield average(text, closed.mean_overlap(facts, *kernel), runs, slack=facts / features)


DEGREES = tuple(range(0, 181, 20))
WIDTH = 256
FEATURES = (32, 128, 512, 2048)


def _collect(source: Source) -> pd.DataFrame:
    count, rows = source.effort(64, 512), []
    for activation in ("relu", "identity"):
        setting = {"panel": activation, "features": WIDTH}
        nodes = np.linspace(0, 180, 121)
        values = np.asarray(closed.kappa(STORED[None], _at(nodes), activation))
        rows += [law(value, x=degrees, **setting) for degrees, value in zip(nodes, values, strict=True)]
        for degrees in DEGREES:
            read, key = _at(degrees), seeds.key(2, degrees)
            runs = twin.kappa(STORED, read, activation, key=key, features=WIDTH, draws=count)
            rows.append(point(closed.kappa(STORED, read, activation), np.asarray(runs), x=degrees, **setting))
    read, variance = _at(60), closed.kappa_variance(math.radians(60))
    rows += [law(variance / m, panel="error", x=m, features=m) for m in np.geomspace(24, 2800, 20)]
    for m in FEATURES:
        runs = np.asarray(twin.kappa(STORED, read, key=seeds.key(5, m), features=m, draws=count))
        squares = np.square(runs - closed.kappa(STORED, read))
        rows.append(point(variance / m, squares, panel="error", x=m, features=m))
    return pd.DataFrame(rows)


@figure(
    "How strongly an edit acts at another prompt is the arc-cosine kernel of their angle, with an error that "
    "falls as one over the root of the features.",
    "Drawn feature maps." + LINES,
    _collect,
    section="section 4",
    panels=("One edit read at an angle, 256 features.", "Root mean square error at 60 degrees, relu."),
)
def crosstalk(table: pd.DataFrame):
    """Measured kappa against the arc-cosine curve, and its error against the number of features."""
    picture, (left, right) = style.figure(style.COLUMN, 2.6, ncols=2, width_ratios=(1.5, 1))
    for look, activation in zip(style.levels(2), ("relu", "identity"), strict=True):
        rows = table[table["panel"] == activation]
        line(left, rows, "x", look)
        points(left, rows, "x", look, activation)
    left.set(xlabel="angle, degrees", ylabel="crosstalk κ", xticks=[0, 60, 120, 180], title="angle")
    squares = table[table["panel"] == "error"]
    names = ["predicted", "measured", "low", "high"]
    roots = squares.assign(**{name: np.sqrt(squares[name].clip(lower=1e-12)) for name in names})
    line(right, roots, "x", style.levels(2)[0])
    points(right, roots, "x", style.levels(2)[0])
    right.set(yscale="log", xlabel="features m", ylabel="error of κ (rms)")
    style.sizes(right, (32, 256, 2048))
    right.set_yticks([0.03, 0.1], ["0.03", "0.1"])
    right.set_title("features", loc="left")
    style.key(picture, [left])
    return picture
