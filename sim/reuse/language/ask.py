"""Questions put to many models at once: greedy answers, and the likelihood of every answer."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sim.hf.tokens import Question
from sim.model import llama
from sim.model.llama import Llama, Params, adapted
from sim.model.llama_adapters import answer_logits, as_it_is, write
from sim.reuse.ask import Losses
from sim.reuse.language.base import Base, Room, behind, in_front
from sim.reuse.language.models import at_position, gated, with_delta
from sim.worlds.probe import UNIFORM_BASELINE
from sim.worlds.text import Text, TextProbe, TextQuestion, score

SLACK = 8
"""Tokens that a model may write beyond the longest right answer: names of others may be longer."""


class Sheet(NamedTuple):
    """Questions of probes that are asked together, prompts padded in front.

    length: tokens to write. rows: the slice of each probe's questions.
    """

    prompts: Int[np.ndarray, "B P"]
    padding: Int[np.ndarray, " B"]
    length: int
    rows: dict[str, slice]
    questions: list[Question]


def sheets(base: Base, probes: Mapping[str, TextProbe], rooms: Sequence[Room]) -> list[Sheet]:
    """The probes on two sheets, of answers of one sentence and of traces."""
    asked_together = []
    for names, room in zip(split(probes), rooms, strict=True):
        questions = [
            one for name in names for one in base.questions([q.text for q in probes[name].questions])
        ]
        ends = np.cumsum([0, *(probes[name].count for name in names)])
        rows = {name: slice(*map(int, ends[place : place + 2])) for place, name in enumerate(names)}
        asked_together.append(Sheet(*in_front(questions, room), room.answer + SLACK, rows, questions))
    return asked_together


def split(probes: Mapping[str, TextProbe]) -> tuple[list[str], list[str]]:
    """Names of the probes with answers of one sentence, and of those with traces."""
    names = [name for name, probe in probes.items() if not probe.is_trace]
    return names, [name for name in probes if name not in names]


@functools.partial(jax.jit, static_argnames=("model", "length", "project", "at"))
def write_all(
    model: Llama,
    params: Params,
    states: Any,
    prompts: Int[Array, "B P"],
    padding: Int[Array, " B"],
    length: int,
    project: Callable,
    at: Callable,
    weights: Float[Array, "M K"] | None = None,
) -> Int[Array, "M B length"]:
    """``llama_adapters.write`` of M models: their states, and weights, carry one more axis in front."""
    return jax.vmap(
        lambda state, own: write(model, params, state, prompts, padding, length, project, at, own)
    )(states, weights)


PROJECTS = {
    "factors": (adapted, as_it_is),
    "dense": (with_delta, as_it_is),
    "routed": (gated, at_position),
}
"""How a matrix is run with the state of a kind, and how the state of one position comes of it."""


def answers(
    base: Base,
    probes: Mapping[str, TextProbe],
    sheets: Sequence[Sheet],
    states: Any,
    kind: str = "dense",
    weights: np.ndarray | None = None,
) -> list[dict[str, Array]]:
    """Outcomes of the greedy answers of each of the M models: metric -> (S,) int8 (``text.score``).

    states: of adapters (kind "factors"), of ``models.Delta`` ("dense"), or of ``models.Routed`` ("routed"),
    these with the oracle's weights sheet by sheet.
    weights (M, K): each of the M models is K models, whose logits have these weights.
    """
    project, at = PROJECTS[kind]
    outcomes: list[dict[str, Array]] = []
    for number, sheet in enumerate(sheets):
        state = states[number] if kind == "routed" else states
        tokens = np.asarray(
            write_all(
                base.model,
                base.params,
                state,
                *sheet[:2],
                sheet.length,
                project=project,
                at=at,
                weights=weights,
            )
        )
        outcomes = outcomes or [{} for _ in tokens]
        for model, rows in enumerate(tokens):
            texts = [
                base.continuation(one.tokens[: one.start], row)
                for one, row in zip(sheet.questions, rows, strict=True)
            ]
            for name, place in sheet.rows.items():
                outcomes[model] |= score(name, probes[name], texts[place])
    return outcomes


def oracle_gates(base: Base, probes: Mapping[str, TextProbe], sheet: Sheet, parts: int) -> np.ndarray:
    """(B, T, parts): 1 for the owner of each token's piece of text, 0 elsewhere.

    What is written beyond the right answer belongs to its last piece.
    """
    gates = np.zeros((*sheet.prompts.shape[:1], sheet.prompts.shape[1] + sheet.length, parts), np.float32)
    texts = [question for name in sheet.rows for question in probes[name].questions]
    for row, (one, question) in enumerate(zip(sheet.questions, texts, strict=True)):
        places, start = pieces(base, one, question), sheet.prompts.shape[1] - one.start
        for token in range(gates.shape[1] - start):
            owner = question.pieces[places[min(token, len(places) - 1)]].owner
            if owner >= 0:
                gates[row, start + token, owner] = 1
    return gates


def pieces(base: Base, one: Question, question: TextQuestion) -> list[int]:
    """Index of the piece of every token of question and answer: the one that its last letter stands in."""
    letters = [len(base.tokenizer.text(one.tokens[: count + 1])) for count in range(len(one.tokens))]
    ends = np.cumsum([len(piece.text) for piece in question.pieces])
    return np.minimum(np.searchsorted(ends, letters), len(ends) - 1).tolist()


@functools.partial(jax.jit, static_argnames="model")
def paired(
    model: Llama,
    params: Params,
    states: Any,
    prompts: Int[Array, "S P"],
    padding: Int[Array, " S"],
    targets: Int[Array, "S L"],
    mask: Float[Array, "S L"],
) -> Float[Array, "M S S"]:
    """-log p(answer of question j | prompt of question i) of M models, the prompt read once."""
    count, length = targets.shape

    def of_model(state):
        room = llama.empty_cache(model, count, prompts.shape[1] + length - 1, params["embed"].dtype)
        x, cache = llama.hidden(model, params, prompts, state, with_delta, padding_B=padding, cache=room)
        first = x[:, -1:]
        cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=1), cache)
        rest, _ = llama.hidden(
            model,
            params,
            jnp.tile(targets[:, :-1], (count, 1)),
            state,
            with_delta,
            padding_B=jnp.repeat(padding, count),
            cache=cache,
            start=prompts.shape[1],
        )
        stream = jnp.concatenate([jnp.repeat(first, count, axis=0), rest], axis=1)
        logits = llama.read_out(model, params, stream)
        target = jnp.tile(targets, (count, 1))
        right = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        losses = jax.nn.logsumexp(logits, axis=-1) - right
        return jnp.sum(losses * jnp.tile(mask, (count, 1)), axis=1).reshape(count, count)

    return jax.vmap(of_model)(states)


class Likelihoods(NamedTuple):
    """Of a probe's S questions: losses and nulls, and the place of the right answer among all of the probe's
    answers by likelihood, 1 for the likeliest; answers of equal likelihood share the mean of their places."""

    losses: Losses
    rank: Float[np.ndarray, " S"]


def likelihoods(
    base: Base, probes: Mapping[str, TextProbe], room: Room, states: Any
) -> list[dict[str, Likelihoods]]:
    """Of every probe with a chance level, for each of the M models."""
    of_models: list[dict[str, Likelihoods]] = []
    for name, probe in probes.items():
        if probe.chance is None:
            continue
        questions = base.questions([question.text for question in probe.questions])
        rows = behind(questions, room, len(questions))
        pairs = paired(base.model, base.params, states, *in_front(questions, room), rows.target, rows.mask)
        pairs = np.asarray(pairs, np.float64)
        of_models = of_models or [{} for _ in pairs]
        for model, matrix in enumerate(pairs):
            of_models[model][name] = _likelihoods(matrix)
    return of_models


def _likelihoods(pairs: Float[np.ndarray, "S S"]) -> Likelihoods:
    right = np.diagonal(pairs)
    rank = 0.5 + np.sum(pairs < right[:, None], axis=1) + 0.5 * np.sum(pairs == right[:, None], axis=1)
    best = np.argmin(pairs, axis=1) == np.arange(len(pairs))
    return Likelihoods(Losses(right, {UNIFORM_BASELINE: np.mean(pairs, axis=1)}, best, {}), rank)


def name_losses(base: Base, names: Mapping[str, Sequence[str]], room: Room) -> dict[str, float]:
    """Role -> mean -log p of its names in nats, as the base writes them after "The name is"."""
    texts = {role: [Text("The name is", f" {name}") for name in group] for role, group in names.items()}
    return {role: float(np.mean(losses(base, of_role, room))) for role, of_role in texts.items()}


def losses(base: Base, texts: Sequence[Text], room: Room) -> Float[np.ndarray, " S"]:
    """-log p of each text's answer in nats, as the base writes it after the prompt."""
    rows = behind(base.questions(texts), room, len(texts))
    return np.asarray(_losses(base.model, base.params, rows))


@functools.partial(jax.jit, static_argnames="model")
def _losses(model: Llama, params: Params, questions: Any) -> Float[Array, " S"]:
    logits = answer_logits(model, params, None, questions)
    right = jnp.take_along_axis(logits, questions.target[..., None], axis=-1)[..., 0]
    return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - right) * questions.mask, axis=1)
