"""Libraries of random adapters, strong enough to change what is written."""

import jax

from sim.hf.weights import read_shape
from sim.model import llama_adapters
from sim.reuse.language.folders import NAMES, Library, place, write_library
from sim.worlds import build
from sim.worlds.people import Config, Setting

KINDS = ("q", "v", "down")


def write(out, base, facts=2, entities=("real",), size=0.3, kinds=KINDS, rank=2, seed=5):
    """Write a library for each kind of names; the adapters of the last as they were before rounding."""
    model = read_shape(base)
    for number, names in enumerate(entities):
        adapters = {}
        for index, name in enumerate(NAMES):
            key = jax.random.fold_in(jax.random.key(number), index)
            start = llama_adapters.init(model, rank, key, kinds)
            adapters[name] = {
                kind: update._replace(b=size * jax.random.normal(key, update.b.shape, "float32"))
                for kind, update in start.items()
            }
        setting = Setting(names, "shared", 4 * facts)
        recall = {name: {"facts": 1.0, "traces": 0.99} for name in NAMES}
        steps = dict(zip(NAMES, (50, 75, 100), strict=True))
        library = Library(f"{base.name} abc", facts, setting, seed, rank, kinds, steps, recall)
        world = build(Config(facts), seed, setting)
        write_library(place(out, names), library, adapters, world, "float16")
    return adapters
