"""What theory/README.md, section 12, predicts of a cell's linear merges, from base and single adapters alone.

The merged model is never run here.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sim.model import closed_form, lora
from sim.model.transformer import Params, completion_logits
from sim.reuse import predictors
from sim.reuse.ask import Probes, of_one_shape, split_rows, stacked_rows
from sim.reuse.config import LAST, ReuseConfig, linear_models
from sim.worlds import Probe, World
from sim.worlds.probe import whole
from theory import lowrank

Logits = dict[str, Array]
"""Completion logits (S, L, V) of one model at every probe, by its name."""


def strengths(config: ReuseConfig, family: str, world: World) -> list[tuple[float, ...]]:
    """The coefficients (one a part) whose linear merge is predicted, each once.

    Single adapters are among them only where their readout is linear; elsewhere they are an ingredient.
    """
    models = linear_models(config, family, world)
    return sorted({c for (_, library, _), c in models.items() if library == "parts" or family in LAST})


def forecast(
    config: ReuseConfig, params: Params, world: World, family: str, parts: Sequence[lora.Adapter]
) -> dict[str, dict[str, Array]]:
    """{predictor: {metric: (strengths, S) bool}}: whether each question is predicted to be answered rightly.

    Metrics are those of whole completions. The predictor "product" gives a share (strengths,) instead.
    For adapters of the last MLP output the tangent prediction is exact, and made of the parts' own probes.
    """
    coefficients = strengths(config, family, world)
    if not coefficients:
        return {}
    lams = jnp.asarray(coefficients, jnp.float32)
    if family in LAST:
        return _of_linear_readout(config, params, world, parts, lams)
    probes = {name: probe for name, probe in world.probes.items() if probe.layout.forecast}
    base, *singles = (teacher_forced(config, params, probes, adapter) for adapter in ({}, *parts))

    def at(lam):
        scaled = [
            teacher_forced(
                config, params, probes, {name: lowrank.scaled(u, by) for name, u in adapter.items()}
            )
            for adapter, by in zip(parts, lam, strict=True)
        ]
        ok: dict = {"tangent": {}, "disentangled": {}}
        for name, probe in probes.items():
            of = [single[name] for single in singles]
            ok["tangent"][name] = predictors.right(predictors.tangent(base[name], of, lam), probe.target)
            of = [single[name] for single in scaled]
            ok["disentangled"][name] = predictors.right(predictors.disentangled(base[name], of), probe.target)
        ok["coverage"] = covered(world, probes, base, singles, lam)
        said = {
            predictor: {whole(name, probes[name]): value.all(axis=-1) for name, value in found.items()}
            for predictor, found in ok.items()
        }
        said["product"] = {
            whole(name, probe): _product(probe, ok["disentangled"][name])
            for name, probe in probes.items()
            if probe.is_trace
        }
        return said

    return jax.lax.map(at, lams)


def _of_linear_readout(config, params, world, parts, lams) -> dict[str, dict[str, Array]]:
    """Tangent predictions of adapters of the last MLP output, from logits that are linear in them."""
    last, found = closed_form.last_module(config.decoder), {}
    for part in world.parts:
        probe = world.probes[part]
        held = closed_form.remember(config.decoder, params, probe)
        streams = [held.stream, *(closed_form.adapted_stream(held, adapter[last]) for adapter in parts)]
        base, *singles = (closed_form.linear_logits(params, stream) for stream in streams)

        def right(lam, base=base, singles=singles, target=probe.target):
            return predictors.right(predictors.tangent(base, singles, lam), target).all(axis=-1)

        found[whole(part, probe)] = jax.vmap(right)(lams)
    return {"tangent": found}


def teacher_forced(config: ReuseConfig, params: Params, probes: Probes, adapter: lora.Adapter) -> Logits:
    """Completion logits (S, L, V) of the adapted base at every probe, the right completion as context."""
    project, logits = lora.adapted(adapter), {}
    for names in of_one_shape(probes):
        together = stacked_rows([probes[name] for name in names])
        found = completion_logits(config.decoder, params, together.tokens, together.prompt, project)
        logits |= split_rows(found, names, probes)
    return logits


def _product(probe: Probe, ok: Array) -> Array:
    """Section 9: the product of how often each step, and the rest of the trace, is right."""
    spans = [probe.kept, *(step.positions for step in probe.layout.steps)]
    return predictors.product(*(ok[:, probe.at(span)].all(axis=-1) for span in spans))


def steps_of(probes: Probes, each: Callable[[str, Probe, object], Array]) -> dict[str, list[Array]]:
    """``each(name, probe, step)`` for every step that the layout of a probe names."""
    return {
        name: [each(name, probe, step) for step in probe.layout.steps]
        for name, probe in probes.items()
        if probe.layout.steps
    }


def covered(
    world: World, probes: Probes, base: Logits, singles: Sequence[Logits], lam: Array
) -> dict[str, Array]:
    """The coverage law, token by token: lambda * (swing measured there) > M_old for the step's own adapter.

    The swing in a trace is kappa times the swing at the training prompt (section 5). Says nothing of
    the template, which it takes as kept, nor of what the other adapters do.
    """

    def decided(name, probe, step):
        margin, swing = predictors.margin_and_swing(base[name], singles[step.part][name], probe.target)
        return (lam[step.part] * swing > margin)[:, probe.at(step.positions)]

    return {name: jnp.concatenate(parts, axis=-1) for name, parts in steps_of(probes, decided).items()}


def kappas(
    config: ReuseConfig, params: Params, world: World, parts: Sequence[lora.Adapter]
) -> dict[str, dict[str, Array]]:
    """Empirical kappa {trace: {step: mean swing there over mean swing at the part's own probe}}."""
    probes = {name: probe for name, probe in world.probes.items() if probe.layout.steps}
    base, *singles = (teacher_forced(config, params, probes, adapter) for adapter in ({}, *parts))

    def swing(name, probe, step):
        _, found = predictors.margin_and_swing(base[name], singles[step.part][name], probe.target)
        return jnp.mean(found[:, probe.at(step.positions)])

    found = steps_of(probes, swing)
    return {
        name: {
            step.name: value / found[world.parts[step.part]][0]
            for step, value in zip(probe.layout.steps, found[name], strict=True)
        }
        for name, probe in probes.items()
        if probe.is_trace
    }
