"""One cell of the experiment: train a library, reuse it in every way, ask everything, predict.

A cell is a sequence of small programs (``parallel.program``), each compiled once for everything of the same
shapes: every adapter of a family is trained by one, every model is asked by another. All arrays here carry
the runs of a chunk along their first axis.
"""

import numpy as np

from sim.lab.parallel import brief_program, program
from sim.merge import METHODS
from sim.reuse import ask, forecast, library, margins, pairs
from sim.reuse.config import BASE, LOGITS, ReuseConfig, same_merges
from sim.worlds.controls import SPECTRUM


def run(config: ReuseConfig, job: dict) -> dict:
    """The cells of a chunk, as arrays; ``sim.reuse.rows`` reads those of one cell.

    Args:
        job: base (parameters), world, key (key data) and, for ranks module by module, ranks.

    Returns:
        outcomes:  {(family, library, method): {metric: (S,) int8}}: what every model answered.
        forecasts: {family: {predictor: {metric: (S,) for each of ``strengths``}}}: ``forecast.forecast``.
        kappa:     {family: {trace: {step: number}}} of adapters of every matrix.
        margins:   {(family, "parts", method): {metric: ``margins.Compared``}} if asked for.
        pairs:     {family: {metric: number}} of ``pairs.METRICS``, if the configuration asks for interaction.
        training:  {family: {adapter: ``library.Training`` without the factors}}.
        losses:    {model as in outcomes: {probe: ``ask.Losses``}} if asked for.
    """
    decoder, base, world, ranks = config.decoder, job["base"], job["world"], job.get("ranks")
    runs = job["key"].shape[0]
    outcomes, forecasts, kappa, training, losses, pair_metrics, leads = {}, {}, {}, {}, {}, {}, {}

    def answer(name, model):
        outcomes[name] = program(ask.ask, decoder)(model, world.probes)
        if config.losses:
            losses[name] = brief_program(ask.losses, decoder)(model, world.probes)

    def repeat(name, other):
        outcomes[other] = outcomes[name]
        if config.losses:
            losses[other] = losses[name]

    def at(*strengths):
        return np.tile(np.asarray(strengths, np.float32), (runs, 1))

    answer(BASE, base)
    for family in config.families:
        trainings = {
            name: program(library.make, config.recipe, family)(
                base, world.data[name], job["key"], np.full(runs, place, np.int32), ranks
            )
            for place, name in enumerate(config.adapters(world))
        }
        training[family] = {name: each._replace(factors=None) for name, each in trainings.items()}
        factors = {name: each.factors for name, each in trainings.items()}
        for place, (name, of) in enumerate(config.random(world).items()):
            like = brief_program(
                library.random_spectrum if name.startswith(SPECTRUM) else library.random_like
            )
            factors[name] = like(factors[of], job["key"], np.full(runs, place, np.int32))
        parts = [factors[part] for part in world.parts]
        scaled = brief_program(library.scaled)
        for name, each in trainings.items():
            answer((family, "single", name), scaled(base, [each.factors], at(1.0)))
        for label, names in config.libraries(world).items():
            members = [factors[name] for name in names]
            if len(members) == 1:  # asked already, as a single adapter
                continue
            for method, same in same_merges(config.methods, len(members)).items():
                if same != method:
                    repeat((family, label, same), (family, label, method))
                    continue
                model = brief_program(library.merged, config.rank, method)(base, members)
                answer((family, label, method), model)
            for method in config.composed:
                common = METHODS[method].coefficient(len(members))
                compose = program(ask.composed, decoder)
                strengths = at(*[common] * len(members))
                outcomes[family, label, LOGITS + method] = compose(base, world.probes, members, strengths)
            for router in config.routers:
                routed = brief_program(ask.routed, decoder, router)
                outcomes[family, label, router] = routed(base, world.probes, members)
        if config.oracle:
            outcomes[family, "parts", "oracle"] = brief_program(ask.sent, decoder)(base, world.probes, parts)
        for lam in config.lambdas:
            model = scaled(base, parts, at(*[lam] * len(parts)))
            answer((family, "parts", f"lambda={lam:g}"), model)
        if config.margins:
            recipe = margins.first_steps(config.recipe)
            early = [
                program(library.make, recipe, family)(
                    base, world.data[name], job["key"], np.full(runs, place, np.int32), ranks
                ).factors
                for place, name in enumerate(world.parts)
            ]
            compare = program(margins.measure, decoder, world.parts, config.finetuning.margin)
            for method in margins.METHODS:
                strength = at(METHODS[method].coefficient(len(parts)))[:, 0]
                compared = compare(base, world.probes, parts, early, strength)
                leads[family, "parts", method] = compared
        logits = forecast.force_logits(config, base, world, parts) if family == "lora" else None
        forecasts[family] = forecast.forecast(config, base, world, family, parts, logits)
        if logits:
            kappa[family] = forecast.kappas(world, logits)
            if config.interaction:
                pair_metrics[family] = pairs.measured(decoder, base, world, parts)
    result = {"outcomes": outcomes, "forecasts": forecasts, "kappa": kappa, "training": training}
    return result | {"losses": losses, "pairs": pair_metrics, "margins": leads}
