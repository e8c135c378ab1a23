"""Every question put to every model: greedy answers, scored by what the probe says of itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.model import decoding, lora, routing
from sim.model.transformer import (
    Decoder,
    Params,
    Project,
    completion_logits,
    no_cache,
    plain,
    read_on,
)
from sim.reuse.library import Factors, adapter_of, scaled
from sim.worlds import Probe
from sim.worlds.probe import UNIFORM_BASELINE, score

Probes = Mapping[str, Probe]
ProjectFor = Callable[[tuple[str, ...]], Callable[[Array], Project]]
"""Names of the probes that are decoded together -> position of the first token at hand -> the projection the
decoder runs with on their rows."""


def always(project: Project) -> ProjectFor:
    """The same projection for every probe and position."""
    return lambda names: lambda start: project


ASIS = always(plain)


def oracle(library: Sequence[lora.Adapter], probes: Probes) -> ProjectFor:
    """W x + sum_i g_i(probe, position) Delta W_i x with the gates that the layout of each probe names."""

    def project_for(names):
        rows = [
            jnp.broadcast_to(probes[name].gates(len(library)), (*probes[name].tokens.shape, len(library)))
            for name in names
        ]
        weights = jnp.concatenate(rows)

        def at(start):
            def project(name, weight, x):
                y = plain(name, weight, x)
                if name not in library[0]:
                    return y
                updates = [adapter[name] for adapter in library]
                gates = jax.lax.dynamic_slice_in_dim(weights, start, x.shape[1], axis=1)
                return y + routing.route(updates, gates, x)

            return project

        return at

    return project_for


def ask(decoder: Decoder, params: Params, probes: Probes, project_for: ProjectFor = ASIS) -> dict[str, Array]:
    """Outcomes of the greedy answers to every probe: metric -> (S,) int8 (``probe.score``).

    Probes of one shape are decoded together, rows in the order of the names.
    """

    def write(names, rows):
        at = project_for(names)
        return decoding.answers(
            lambda tokens, start, cache: read_on(decoder, params, tokens, start, cache, at(start)),
            rows,
            no_cache(decoder, *rows.tokens.shape),
        )

    return _scored(probes, write)


def composed(
    decoder: Decoder, params: Params, probes: Probes, library: Sequence[Factors], lam: Float[Array, " K"]
) -> dict[str, Array]:
    """``ask`` of the logits f_0 + sum_i lam_i (f_i - f_0): K + 1 models read each token that is written.

    The tangent predictor as a model (theory/README.md, section 12; arXiv 2605.28304): no weights are merged.
    """
    rows = jnp.concatenate([jnp.zeros_like(lam)[None], jnp.eye(len(lam), dtype=lam.dtype)])
    models = jax.vmap(lambda strengths: scaled(params, library, strengths))(rows)

    def read(tokens, start, cache):
        logits, cache = jax.vmap(lambda model, own: read_on(decoder, model, tokens, start, own))(
            models, cache
        )
        return logits[0] + jnp.tensordot(lam, logits[1:] - logits[:1], 1), cache

    def write(names, rows):
        empty = no_cache(decoder, *rows.tokens.shape)
        return decoding.answers(read, rows, jnp.broadcast_to(empty, (len(lam) + 1, *empty.shape)))

    return _scored(probes, write)


def _scored(probes: Probes, write: Callable[[tuple[str, ...], Probe], Array]) -> dict[str, Array]:
    """Outcomes of what is written, probes of one shape together."""
    outcomes = {}
    for names in of_one_shape(probes):
        written = write(names, stacked_rows([probes[name] for name in names]))
        for name, completions in split_rows(written, names, probes).items():
            outcomes |= score(name, probes[name], completions)
    return outcomes


class Losses(NamedTuple):
    """Of a probe's S questions: -log p(right answer | prompt) in nats, (S,); its nulls, (S,) by name; whether
    the likeliest of the probe's answers is right; and how likely it is to be, by each of the probe's nulls.

    A null is the mean of -log p(answer | prompt) over the answers of all the probe's questions: for
    ``UNIFORM_BASELINE`` what the same probabilities give if answers are matched with questions at random, for
    each of ``Probe.nulls`` with its weights. A loss below it is knowledge of which answer belongs where, even
    where the most likely answer shows none.
    """

    loss: Array
    nulls: dict[str, Array]
    right: Array
    by_luck: dict[str, Array]


def losses(decoder: Decoder, params: Params, probes: Probes) -> dict[str, Losses]:
    """The losses of every probe with a chance level, and what they are held against."""
    losses_of = {}
    for name, probe in probes.items():
        if probe.layout.chance is not None:
            paired = _paired(decoder, params, probe)
            nulls = {null: jnp.sum(weights * paired, axis=1) for null, weights in probe.nulls.items()}
            likeliest = probe.target[jnp.argmin(paired, axis=1)]
            same = jnp.all(likeliest[:, None] == probe.target[None], axis=-1)
            losses_of[name] = Losses(
                jnp.diagonal(paired),
                {UNIFORM_BASELINE: jnp.mean(paired, axis=1)} | nulls,
                jnp.diagonal(same),
                {null: jnp.sum(weights * same, axis=1) for null, weights in probe.nulls.items()},
            )
    return losses_of


def _paired(decoder: Decoder, params: Params, probe: Probe) -> Float[Array, "S S"]:
    """-log p(answer of question j | prompt of question i)."""
    count, length = probe.target.shape
    # What an answer's tokens are read after: one context for all answers of one token.
    before = probe.target[:, :-1] if length > 1 else probe.target[:1, :-1]
    prompts = jnp.repeat(probe.tokens[:, : probe.prompt], len(before), axis=0)
    tokens = jnp.concatenate([prompts, jnp.tile(before, (count, 1)), prompts[:, :1]], axis=1)
    logits = completion_logits(decoder, params, tokens, probe.prompt)  # the last token is not read
    log_probabilities = jax.nn.log_softmax(logits).reshape(count, len(before), length, -1)
    log_probabilities = jnp.broadcast_to(log_probabilities, (count, count, *log_probabilities.shape[2:]))
    target = jnp.broadcast_to(probe.target[None, :, :, None], (count, count, length, 1))
    return -jnp.sum(jnp.take_along_axis(log_probabilities, target, axis=-1)[..., 0], axis=-1)


def routed(
    decoder: Decoder, router: str, params: Params, probes: Probes, library: Sequence[Factors]
) -> dict[str, Array]:
    """``ask`` of the base with a library of adapters that a router chooses from, token by token."""
    project = routing.routed([adapter_of(factors) for factors in library], router)
    return ask(decoder, params, probes, always(project))


def sent(decoder: Decoder, params: Params, probes: Probes, library: Sequence[Factors]) -> dict[str, Array]:
    """``ask`` of the base with the adapters that the layout of each probe names (``oracle``)."""
    return ask(decoder, params, probes, oracle([adapter_of(factors) for factors in library], probes))


def of_one_shape(probes: Probes) -> list[tuple[str, ...]]:
    """Names of the probes that share prompt and total length, group by group."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name, probe in probes.items():
        groups.setdefault((probe.prompt, probe.tokens.shape[1]), []).append(name)
    return [tuple(names) for names in groups.values()]


def stacked_rows(probes: Sequence[Probe]) -> Probe:
    """Probes of one shape as one, rows one after the other, without a layout."""
    tokens = jnp.concatenate([probe.tokens for probe in probes])
    return Probe(tokens, jnp.concatenate([probe.weight for probe in probes]), probes[0].prompt)


def split_rows(rows: Array, names: Sequence[str], probes: Probes) -> dict[str, Array]:
    """The inverse of ``stacked_rows`` for anything computed row by row."""
    ends = np.cumsum([len(probes[name].tokens) for name in names])[:-1]
    return dict(zip(names, jnp.split(rows, ends), strict=True))
