"""Seconds that each way of reuse takes, to make and to answer, in the miniature."""

import jax
import numpy as np
import pandas as pd

from sim.bench.clock import benchmark, clocked
from sim.experiments.board import OPTIONS, WAYS
from sim.experiments.common import DEFAULT
from sim.merge import METHODS
from sim.model import lora
from sim.model.transformer import init
from sim.reuse import ask, library
from sim.reuse.config import LOGITS
from sim.worlds import build
from sim.worlds.two_hop import Setting


@benchmark
def reuse() -> pd.DataFrame:
    """Ways of reusing two adapters of the two-hop world: seconds to merge, and to answer every question of a
    world once, the shortest of twenty; ``ratio`` is of answering, to the model of one adapter."""
    decoder, key = DEFAULT.decoder, jax.random.key(0)
    world = build(DEFAULT.world, 0, Setting())
    params, parts = init(decoder, key), []
    for place in range(len(world.parts)):
        adapter = lora.init(decoder, decoder.modules(DEFAULT.kinds), DEFAULT.rank, key)
        drawn = {}
        for name, update in adapter.items():
            noise = jax.random.normal(jax.random.fold_in(key, place), update.b.shape, update.b.dtype)
            drawn[name] = 0.01 * noise, update.a
        parts.append(drawn)

    def shortest(function, *args) -> tuple[float, object]:
        program = jax.jit(function)
        clocked(lambda: program(*args))  # compiled
        times, results = zip(*(clocked(lambda: program(*args)) for _ in range(20)), strict=True)
        return min(times), results[-1]

    def answer(model):
        return ask.ask(decoder, model, world.probes)

    one, _ = shortest(answer, library.scaled(params, parts[:1], np.ones(1, np.float32)))
    rows = []
    for method in dict.fromkeys(("joint", *(way.method for way in WAYS))):
        makes, seconds = 0.0, one
        if method in OPTIONS["methods"]:
            makes, model = shortest(
                lambda *own, m=method: library.merged(DEFAULT.rank, m, params, own), *parts
            )
            seconds, _ = shortest(answer, model)
        elif method in OPTIONS["routers"]:
            seconds, _ = shortest(
                lambda *own, r=method: ask.routed(decoder, r, params, world.probes, own), *parts
            )
        elif method == "oracle":
            seconds, _ = shortest(lambda *own: ask.sent(decoder, params, world.probes, own), *parts)
        elif method.startswith(LOGITS):
            common = METHODS[method.removeprefix(LOGITS)].coefficient(len(parts))
            lam = np.full(len(parts), common, np.float32)
            seconds, _ = shortest(
                lambda *own, lam=lam: ask.composed(decoder, params, world.probes, own, lam), *parts
            )
        rows.append({"method": method, "make": makes, "answer": seconds, "ratio": seconds / one})
    return pd.DataFrame(rows)
