"""Every subset of a library at common strengths, run; and what sums of effects in the logits say of them."""

import functools
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sim.model import llama_adapters
from sim.model.llama import Llama, Params
from sim.model.llama_adapters import Adapter, Questions

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
RIVALS = 8
"""Tokens of each run of a single adapter, and of the base, that stand for the vocabulary in sums of effects."""


def merges(adapters: int) -> Float[np.ndarray, "C K"]:
    """The base, and every subset at each of ``STRENGTHS``."""
    subsets = [np.array(one) for one in itertools.product((0, 1), repeat=adapters) if any(one)]
    return np.array([np.zeros(adapters), *(lam * one for lam in STRENGTHS for one in subsets)])


class Measured(NamedTuple):
    """Leads (C, S) of every merge, right token over the best other, the least over an answer's tokens; and
    predicted ones by the name of the sum."""

    lead: Float[np.ndarray, "C S"]
    sums: Mapping[str, Float[np.ndarray, "C S"]]


@functools.partial(jax.jit, static_argnames="model")
def _logits(model: Llama, params: Params, library: Adapter, questions: Questions, weights) -> jax.Array:
    """(S, L, V) of the merge at weights (K,); the adapters' factors side by side, exact."""
    one = {
        kind: type(u)(
            jnp.concatenate([b * w for b, w in zip(u.b, weights, strict=True)], -1),
            jnp.concatenate(list(u.a), -2),
            u.scale[0],
        )
        for kind, u in library.items()
    }
    return llama_adapters.answer_logits(model, params, one, questions)


@functools.partial(jax.jit, static_argnames="model")
def _leads(model: Llama, params: Params, library: Adapter, questions: Questions, weights) -> jax.Array:
    def one(at):
        logits = _logits(model, params, library, questions, at)
        right = jnp.take_along_axis(logits, questions.target[..., None], -1)[..., 0]
        others = jnp.where(jnp.arange(logits.shape[-1]) == questions.target[..., None], -jnp.inf, logits)
        lead = jnp.where(questions.mask > 0, right - others.max(-1), jnp.inf)
        return lead.min(-1)

    return jax.lax.map(one, weights)


def measure(model: Llama, params: Params, library: Adapter, questions: Questions) -> Measured:
    """Leads of all ``merges`` and what sums of effects predict. library: leaves (K, ...); scales 1.

    questions: of all adapters, in one list. The sums take the logits of single adapters and of pairs at each
    strength: "first order" and "pairs" are the truncated interactions of section 12, "tangent" the effects at
    strength 1 times the strength.
    """
    count = next(iter(library.values())).b.shape[0]
    every = merges(count)
    questions = jax.tree.map(jnp.asarray, questions)
    lead = np.asarray(_leads(model, params, library, questions, jnp.asarray(every, jnp.float32)))

    def run(weights) -> np.ndarray:
        return np.asarray(_logits(model, params, library, questions, jnp.asarray(weights, jnp.float32)))

    units = np.eye(count)
    first = [run(np.zeros(count)), *(run(unit) for unit in units)]
    target = np.asarray(questions.target)
    rivals = np.concatenate([np.argpartition(-logits, RIVALS, -1)[..., :RIVALS] for logits in first], -1)
    places = np.concatenate([target[..., None], rivals], -1)

    def at(weights) -> np.ndarray:
        return np.take_along_axis(run(weights), places, -1)

    base = at(np.zeros(count))
    singles = {(i, lam): at(lam * units[i]) - base for i in range(count) for lam in STRENGTHS}
    pairs = {
        (i, j, lam): at(lam * (units[i] + units[j])) - base - singles[i, lam] - singles[j, lam]
        for i, j in itertools.combinations(range(count), 2)
        for lam in STRENGTHS
    }
    sums = {"first order": [], "tangent": [], "pairs": []}
    for weights in every:
        used, lam = np.flatnonzero(weights), weights.max()
        one = base + sum(singles[i, lam] for i in used)
        both = sum(pairs[i, j, lam] for i, j in itertools.combinations(used, 2))
        slope = base + sum(lam * singles[i, 1.0] for i in used)
        for name, logits in (("first order", one), ("tangent", slope), ("pairs", one + both)):
            sums[name].append(_least_lead(logits, places, np.asarray(questions.mask)))
    return Measured(lead, {name: np.array(values) for name, values in sums.items()})


def _least_lead(logits: np.ndarray, places: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(S,) from logits (S, L, C) of the tokens ``places``, the right one first."""
    others = np.where(places[..., 1:] == places[..., :1], -np.inf, logits[..., 1:])
    return np.where(mask > 0, logits[..., 0] - others.max(-1), np.inf).min(-1)
