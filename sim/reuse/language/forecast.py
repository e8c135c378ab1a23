"""What base and single adapters say of a cell's linear merges and of its edits, as ``sim.reuse.forecast``
says of the miniature's (theory/README.md, section 12). No model that is run here has two adapters.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sim.model.llama import Llama, Params
from sim.model.llama_adapters import Adapter, Questions, answer_logits
from sim.reuse import predictors
from sim.reuse.config import BASE, Model
from sim.reuse.forecast import strengths
from sim.reuse.language import ask
from sim.reuse.language.base import Base, Room, behind
from sim.reuse.language.config import LanguageConfig
from sim.worlds.probe import whole
from sim.worlds.text import TextProbe, TextWorld


class Effects(NamedTuple):
    """At every answer token of S questions, the right answer given before it; L tokens, K parts, G strengths.

    margin: lead of the base's best other token over the right one, in nats. swing: what each part by itself
    adds to the lead of the right token over that other one, in nats. tangent, disentangled: whether the right
    token leads in the merge by ``predictors.tangent`` and ``predictors.disentangled``.
    """

    margin: Float[Array, "S L"]
    swing: Float[Array, "K S L"]
    tangent: Bool[Array, "G S L"]
    disentangled: Bool[Array, "G S L"]


class Forecast(NamedTuple):
    """What is read off base and single adapters.

    outcomes: {predictor: {metric: one array (S,) of bool for each of ``sim.reuse.forecast.strengths``}}, of
              whole answers. "coverage" is lambda * swing > margin for the own adapter at every token of every
              step: it says nothing of the wording, nor of what the other adapters do.
    kappa:    {trace: {step: mean swing there over mean swing at the part's own probe}}.
    effects:  {model: {metric: mean over the questions, in nats}}: of the base margin_STEP, of a step's own
              adapter swing_STEP, of the others disturbance_STEP, what they add to the same lead. STEP is the
              part of a one-hop probe, PROBE_STEP in a trace.

    kappa and effects are of the deciding token of each step: the one where the base's margin is largest.
    """

    outcomes: dict[str, dict[str, list[np.ndarray]]]
    kappa: dict[str, dict[str, float]]
    effects: dict[Model, dict[str, float]]


def forecast(
    config: LanguageConfig, base: Base, rooms: Sequence[Room], world: TextWorld, parts: Sequence[Adapter]
) -> Forecast:
    """Predictions of every linear merge of the parts, and margins, swings and kappa.

    parts: the adapters of ``world.parts``. rooms: of probes with answers of one sentence, and of traces.
    """
    merges = np.asarray(strengths(config, "lora", world), np.float32)
    library = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    result = Forecast({}, {}, {})
    swings: dict[tuple[str, str], float] = {}
    for names, room in zip(ask.split(world.probes), rooms, strict=True):
        probes = {name: world.probes[name] for name in names}
        texts = [question.text for probe in probes.values() for question in probe.questions]
        rows = behind(base.questions(texts), room, len(texts))
        every = jax.device_get(read(base.model, base.params, library, rows, merges))
        start = 0
        for name, probe in probes.items():
            own = slice(start, start + probe.count)
            start += probe.count
            effects = Effects(*(values[..., own, :] for values in every))
            steps = steps_of(base, probe, room)
            outcomes = _outcomes(effects, rows.mask[own] > 0, steps, merges)
            for predictor, right in outcomes.items():
                result.outcomes.setdefault(predictor, {})[whole(name, probe)] = list(right)
            for step, (part, mask) in steps.items():
                place = f"{name}_{step}" if probe.is_trace else name
                margin, swing = at_decision(effects, mask)
                swings[name, step] = swing[part]
                _note(result.effects, BASE, f"margin_{place}", margin)
                for other, adapter in enumerate(world.parts):
                    metric = "swing" if other == part else "disturbance"
                    _note(result.effects, ("lora", "single", adapter), f"{metric}_{place}", swing[other])
                if probe.is_trace:
                    taught = world.parts[part]
                    result.kappa.setdefault(name, {})[step] = swing[part] / swings[taught, taught]
    return result


@functools.partial(jax.jit, static_argnames="model")
def read(
    model: Llama, params: Params, library: Adapter, questions: Questions, merges: Float[Array, "G K"]
) -> Effects:
    """``Effects`` of K adapters (leaves with K in front) at G strengths of each."""

    def each(strengths):
        def single(adapter, strength):
            scaled = {kind: one._replace(scale=strength * one.scale) for kind, one in adapter.items()}
            return answer_logits(model, params, scaled, questions)

        return jax.vmap(single)(library, strengths)

    base, target = answer_logits(model, params, None, questions), questions.target
    full = each(jnp.ones(merges.shape[1]))

    def at(strengths):
        sums = predictors.tangent(base, full, strengths), predictors.disentangled(base, each(strengths))
        return tuple(predictors.right(logits, target) for logits in sums)

    leads = [predictors.margin_and_swing(base, single, target) for single in full]
    return Effects(leads[0][0], jnp.stack([swing for _, swing in leads]), *jax.lax.map(at, merges))


def steps_of(base: Base, probe: TextProbe, room: Room) -> dict[str, tuple[int, Bool[np.ndarray, "S L"]]]:
    """{step: (its part, which answer tokens write it)}; a token belongs to the piece that it ends in."""
    masks = {step: np.zeros((probe.count, room.answer), bool) for step in probe.steps}
    parts = {}
    items = base.questions([question.text for question in probe.questions])
    for row, (item, question) in enumerate(zip(items, probe.questions, strict=True)):
        for column, place in enumerate(ask.pieces(base, item, question)[item.start :]):
            piece = question.pieces[place]
            if piece.step:
                masks[piece.step][row, column], parts[piece.step] = True, piece.owner
    return {step: (parts[step], mask) for step, mask in masks.items()}


def at_decision(effects: Effects, mask: Bool[np.ndarray, "S L"]) -> tuple[float, list[float]]:
    """(mean margin, mean swing of each part) at the token of ``mask`` with the largest margin, nats."""
    place = np.argmax(np.where(mask, effects.margin, -np.inf), axis=-1)
    rows = np.arange(len(place))
    return float(effects.margin[rows, place].mean()), effects.swing[:, rows, place].mean(axis=1).tolist()


def _outcomes(effects: Effects, answer: np.ndarray, steps: Mapping, merges: np.ndarray) -> dict:
    """{predictor: (G, S)}: whether all tokens are right; "coverage" where there are steps."""
    right = {name: getattr(effects, name) for name in ("tangent", "disentangled")}
    outcomes = {name: np.all(ok | ~answer, axis=-1) for name, ok in right.items()}
    if steps:
        covered = [
            np.all((merges[:, part, None, None] * effects.swing[part] > effects.margin) | ~mask, axis=-1)
            for part, mask in steps.values()
        ]
        outcomes["coverage"] = np.all(covered, axis=0)
    return outcomes


def _note(effects: dict[Model, dict[str, float]], model: Model, metric: str, value: float) -> None:
    effects.setdefault(model, {})[metric] = value
