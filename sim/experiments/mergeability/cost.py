"""Cost of forecasts of merges, in forward passes of a merge over the same prompts."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab.figure import certain
from sim.model import closed_form
from sim.reuse import interaction
from sim.reuse.config import ReuseConfig
from sim.worlds import build
from sim.worlds.two_hop import REAL

STRENGTHS = (1, 2, 4, 8, 16)
"""Numbers of coefficients an adapter."""


def cost(config: ReuseConfig) -> pd.DataFrame:
    """Forward passes of every predictor for all merges of a grid of strengths of two adapters.

    The compiler's count of operations of each ingredient, over that of one forward pass of a merge with the
    same prompts. There is no sampling error, hence no interval.
    """
    each, table = ingredients(config), []
    for strengths in STRENGTHS:
        merges, singles = strengths**2, 1 + 2 * strengths
        across = each["tangent"] * (2 + 2 * strengths)
        passes = {
            "merge": merges,
            "disentangled": singles,
            "stream": singles + each["readout"] * merges,
            "second_order": singles + each["bend"] + each["readout"] * merges,
            "crossed": singles + across + each["readout"] * merges,
            "composed": singles + across + each["last_mlp"] * merges,
        }
        table += [
            certain(np.nan, count, predictor=name, strengths=strengths) for name, count in passes.items()
        ]
    return pd.DataFrame(table)


def ingredients(config: ReuseConfig) -> dict[str, float]:
    """Operations of the ingredients of predictors, over those of one forward pass of a merge.

    tangent: a derivative in one direction, without the value at its point. bend: a second one. readout:
    logits from the stream. last_mlp: logits from what enters the last ReLU.
    """
    decoder = config.decoder
    world = jax.tree.map(jnp.asarray, build(config.world, 0, REAL))
    probes = {name: probe for name, probe in world.probes.items() if probe.layout.forecast}
    shapes = {name: decoder.shape(name) for name in decoder.modules()}
    wide = {"embed": (decoder.vocab, decoder.width), "unembed": (decoder.vocab, decoder.width)}
    norms = [
        "final_norm",
        *(f"{i}.{kind}_norm" for i in range(decoder.layers) for kind in ("attention", "mlp")),
    ]
    params = {
        name: _empty(shape)
        for name, shape in (shapes | wide | dict.fromkeys(norms, (decoder.width,))).items()
    }
    part = {
        name: (_empty((out, config.rank)), _empty((config.rank, into)))
        for name, (out, into) in shapes.items()
    }
    one = _empty((2,))

    def seen(params, parts, lam):
        return interaction.seen(decoder, params, probes, parts, lam)

    def slope(params, parts, lam, along):
        return jax.jvp(lambda at: seen(params, parts, at), (lam,), (along,))

    def bend(params, parts, lam, along):
        return jax.jvp(lambda at: slope(params, parts, at, along), (lam,), (along,))

    def readout(params, states):
        return {name: closed_form.linear_logits(params, each.stream) for name, each in states.items()}

    def last_mlp(params, parts, lam, states):
        return {
            name: closed_form.linear_logits(params, interaction.last_mlp(decoder, params, parts, lam, each))
            for name, each in states.items()
        }

    def operations(function, *arguments) -> float:
        with jax.default_device(jax.devices("cpu")[0]):  # others do not count before they compile
            return jax.jit(function).lower(*arguments).cost_analysis()["flops"]

    parts, states = [part, part], jax.eval_shape(seen, params, [part, part], one)
    body, unembedding = operations(seen, params, parts, one), operations(readout, params, states)
    tangent = operations(slope, params, parts, one, one)
    counted = {
        "tangent": tangent - body,
        "bend": operations(bend, params, parts, one, one) - body,
        "readout": unembedding,
        "last_mlp": operations(last_mlp, params, parts, one, states),
    }
    return {name: count / (body + unembedding) for name, count in counted.items()}


def _empty(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
