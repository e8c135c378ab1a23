"""One cell of the experiment: train a library, reuse it in every way, ask everything, predict."""

import jax
from jaxtyping import Array

from sim.model import lora, routing
from sim.model.transformer import Params
from sim.reuse import ask, library
from sim.reuse.config import BASE, FAMILIES, ReuseConfig
from sim.reuse.forecast import forecast, kappas
from sim.worlds import World
from theory import lowrank


def run(config: ReuseConfig, params: Params, world: World, key: Array, ranks: dict | None = None) -> dict:
    """One cell, as arrays; ``sim.reuse.rows`` reads them.

    Returns:
        outcomes:  {(family, library, method): {metric: (S,) int8}}: what every model answered.
        forecasts: {family: {predictor: {metric: (strengths, S)}}}: ``forecast.forecast``.
        kappa:     {family: {trace: {step: number}}} of adapters of every matrix.
        training:  {family: {"losses" (adapters, steps), "cycles", "recall" (adapters,)}}: ``library.Made``.
    """
    decoder, models = config.decoder, {BASE: params}
    outcomes, forecasts, kappa, training = {}, {}, {}, {}
    for family in config.families:
        own_key = jax.random.fold_in(key, FAMILIES.index(family))
        adapters, made = library.library(config, params, world, family, own_key, ranks)
        training[family] = {"losses": made.losses, "cycles": made.cycles, "recall": made.recall}
        parts = [adapters[part] for part in world.parts]
        for name, adapter in adapters.items():
            models[family, "single", name] = lora.fold(params, adapter)
        for label, members in config.libraries(world).items():
            held = [adapters[name] for name in members]
            for method in config.methods:
                models[family, label, method] = lora.fold(params, library.merged(config, held, method))
            for router in config.routers:
                project = ask.always(routing.routed(held, router))
                outcomes[family, label, router] = ask.ask(decoder, params, world.probes, project)
        if config.oracle:
            project = ask.oracle(parts, world.probes)
            outcomes[family, "parts", "oracle"] = ask.ask(decoder, params, world.probes, project)
        if config.lambdas:
            total = {
                name: lowrank.dense(update)
                for name, update in library.linear(parts, (1.0,) * len(parts)).items()
            }
        for lam in config.lambdas:
            scaled = {name: lam * delta for name, delta in total.items()}
            models[family, "parts", f"lambda={lam:g}"] = lora.fold(params, scaled)
        forecasts[family] = forecast(config, params, world, family, parts)
        if family == "lora":
            kappa[family] = kappas(config, params, world, parts)
    outcomes |= ask.ask_each(decoder, models, world.probes)
    return {"outcomes": outcomes, "forecasts": forecasts, "kappa": kappa, "training": training}
