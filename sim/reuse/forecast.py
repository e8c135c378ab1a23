"""What theory/README.md, section 12, predicts of a cell's linear merges, from base and single adapters alone.

The merged model is never run here.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sim.lab.parallel import brief_program, program
from sim.model import closed_form
from sim.model.transformer import Decoder, Params, completion_logits
from sim.reuse import interaction, predictors
from sim.reuse.ask import Probes, of_one_shape, split_rows, stacked_rows
from sim.reuse.config import LAST, ReuseConfig, linear_models
from sim.reuse.library import Factors, adapter_of, scaled
from sim.worlds import Probe, World
from sim.worlds.probe import whole

Logits = dict[str, Array]
"""Completion logits (S, L, V) of one model at every probe, by its name."""


def strengths(config: ReuseConfig, family: str, world: World) -> list[tuple[float, ...]]:
    """The coefficients (one a part) whose linear merge is predicted, each once.

    Single adapters are among them only where their readout is linear; elsewhere they are an ingredient.
    """
    models = linear_models(config, family, world)
    return sorted({c for (_, library, _), c in models.items() if library == "parts" or family in LAST})


class ForcedLogits(NamedTuple):
    """Completion logits at every probe that is forecast.

    base: of the base. singles: of each part's adapter alone at strength 1.
    """

    probes: Probes
    base: Logits
    singles: list[Logits]


def force_logits(config: ReuseConfig, base: Params, world: World, parts: Sequence[Factors]) -> ForcedLogits:
    """What base and single adapters say: all that is predicted of adapters of every matrix starts from it."""
    probes = {name: probe for name, probe in world.probes.items() if probe.layout.forecast}
    forced = program(teacher_forced, config.decoder)
    singles = [forced(_adapted(base, part, 1.0), probes) for part in parts]
    return ForcedLogits(probes, forced(base, probes), singles)


def forecast(
    config: ReuseConfig,
    base: Params,
    world: World,
    family: str,
    parts: Sequence[Factors],
    logits: ForcedLogits | None = None,
) -> dict[str, dict[str, list[Array]]]:
    """{predictor: {metric: one array (runs, S) of bool for each of ``strengths``}}: whether each question is
    predicted to be answered rightly.

    Metrics are those of whole completions. The predictor "product" gives a share (runs,) instead.
    For adapters of the last MLP output the tangent prediction is exact, and made of the parts' own probes;
    for those of every matrix all starts from ``logits``. All arrays carry the runs of a chunk first;
    every model is the base with one adapter in its weights.
    """
    predicted: dict[str, dict[str, list[Array]]] = {}
    if family in LAST:
        probes = {part: world.probes[part] for part in world.parts}
        predict = brief_program(_of_linear_readout, config.decoder)
        each = [predict(base, probes, parts, _rows(base, lam)) for lam in strengths(config, family, world)]
    else:
        each = []

        @functools.cache
        def weakened(place: int, by: float) -> Logits:
            if by == 1.0:
                return logits.singles[place]
            adapted = _adapted(base, parts[place], by)
            return program(teacher_forced, config.decoder)(adapted, logits.probes)

        for lam in strengths(config, family, world):
            of = [weakened(place, by) for place, by in enumerate(lam)]
            each.append(brief_program(_predict)(*logits, of, _rows(base, lam)))
        if config.interaction:
            at = [_rows(base, lam) for lam in strengths(config, family, world)]
            more = interaction.forecast(config.decoder, base, logits.probes, parts, at)
            each = [first | second for first, second in zip(each, more, strict=True)]
    for one in each:
        for predictor, metrics in one.items():
            for metric, values in metrics.items():
                predicted.setdefault(predictor, {}).setdefault(metric, []).append(values)
    return predicted


def _rows(base: Params, lam: Sequence[float]) -> np.ndarray:
    """The same coefficients for every run of a chunk."""
    return np.tile(np.asarray(lam, np.float32), (base["embed"].shape[0], 1))


def _adapted(base: Params, part: Factors, strength: float) -> Params:
    """The base with one adapter at a strength."""
    return brief_program(scaled)(base, [part], _rows(base, [strength]))


def _predict(
    probes: Probes, base: Logits, singles: Sequence[Logits], weakened: Sequence[Logits], lam: Array
) -> dict[str, dict[str, Array]]:
    """What every predictor says of the merge at ``lam`` (one coefficient a part), in one cell."""
    ok: dict = {"tangent": {}, "disentangled": {}}
    for name, probe in probes.items():
        of = [single[name] for single in singles]
        ok["tangent"][name] = predictors.right(predictors.tangent(base[name], of, lam), probe.target)
        of = [single[name] for single in weakened]
        ok["disentangled"][name] = predictors.right(predictors.disentangled(base[name], of), probe.target)
    ok["coverage"] = covered(probes, base, singles, lam)
    outcomes = {
        predictor: {whole(name, probes[name]): value.all(axis=-1) for name, value in by_probe.items()}
        for predictor, by_probe in ok.items()
    }
    outcomes["product"] = {
        whole(name, probe): _product(probe, ok["disentangled"][name])
        for name, probe in probes.items()
        if probe.is_trace
    }
    return outcomes


def _of_linear_readout(
    decoder: Decoder, params: Params, probes: Probes, parts: Sequence[Factors], lam: Array
) -> dict[str, dict[str, Array]]:
    """Tangent predictions of adapters of the last MLP output, from logits that are linear in them."""
    last, outcomes = closed_form.last_module(decoder), {}
    for name, probe in probes.items():
        memory = closed_form.remember(decoder, params, probe)
        adapters = [adapter_of(factors)[last] for factors in parts]
        streams = [memory.stream, *(closed_form.adapted_stream(memory, adapter) for adapter in adapters)]
        base, *singles = (closed_form.linear_logits(params, stream) for stream in streams)
        right = predictors.right(predictors.tangent(base, singles, lam), probe.target)
        outcomes[whole(name, probe)] = right.all(axis=-1)
    return {"tangent": outcomes}


def teacher_forced(decoder: Decoder, params: Params, probes: Probes) -> Logits:
    """Completion logits (S, L, V) of a model at every probe, the right completion as context."""
    logits = {}
    for names in of_one_shape(probes):
        together = stacked_rows([probes[name] for name in names])
        rows = completion_logits(decoder, params, together.tokens, together.prompt)
        logits |= split_rows(rows, names, probes)
    return logits


def _product(probe: Probe, ok: Array) -> Array:
    """Section 9: the product of how often each step, and the rest of the trace, is right."""
    spans = [probe.scaffold, *(step.positions for step in probe.layout.steps)]
    return predictors.product(*(ok[:, probe.at(span)].all(axis=-1) for span in spans))


def steps_of(probes: Probes, each: Callable[[str, Probe, object], Array]) -> dict[str, list[Array]]:
    """``each(name, probe, step)`` for every step that the layout of a probe names."""
    return {
        name: [each(name, probe, step) for step in probe.layout.steps]
        for name, probe in probes.items()
        if probe.layout.steps
    }


def covered(probes: Probes, base: Logits, singles: Sequence[Logits], lam: Array) -> dict[str, Array]:
    """The coverage law, token by token: lambda * (swing measured there) > M_old for the step's own adapter.

    The swing in a trace is kappa times the swing at the training prompt (section 5). Says nothing of
    the template, which it takes as kept, nor of what the other adapters do.
    """

    def decided(name, probe, step):
        margin, swing = predictors.margin_and_swing(base[name], singles[step.part][name], probe.target)
        return (lam[step.part] * swing > margin)[:, probe.at(step.positions)]

    return {name: jnp.concatenate(parts, axis=-1) for name, parts in steps_of(probes, decided).items()}


def kappas(world: World, logits: ForcedLogits) -> dict[str, dict[str, Array]]:
    """Empirical kappa {trace: {step: mean swing there over mean swing at the part's own probe}}."""
    return brief_program(_kappas, world.parts)(*logits)


def _kappas(
    names: tuple[str, ...], probes: Probes, base: Logits, singles: Sequence[Logits]
) -> dict[str, dict[str, Array]]:
    def swing(name, probe, step):
        _, swings = predictors.margin_and_swing(base[name], singles[step.part][name], probe.target)
        return jnp.mean(swings[:, probe.at(step.positions)])

    swings = steps_of(probes, swing)
    return {
        name: {
            step.name: value / swings[names[step.part]][0]
            for step, value in zip(probe.layout.steps, swings[name], strict=True)
        }
        for name, probe in probes.items()
        if probe.is_trace
    }
