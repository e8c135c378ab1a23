"""Every subset of a library at common strengths, run; and what sums of effects in the logits say of them."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sim.forecast.outcomes import RIVALS, Outcomes, choose_rivals
from sim.model import llama_adapters
from sim.model.llama import Llama, Params
from sim.model.llama_adapters import Adapter, Questions

STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def merges(adapters: int) -> Float[np.ndarray, "C K"]:
    """The base, and every subset at each of ``STRENGTHS``."""
    subsets = [np.array(one) for one in itertools.product((0, 1), repeat=adapters) if any(one)]
    return np.array([np.zeros(adapters), *(lam * one for lam in STRENGTHS for one in subsets)])


class Measured(NamedTuple):
    """Of every merge: what a run is read for, and the leads (C, P) that sums of effects predict, by name."""

    outcomes: Outcomes
    sums: Mapping[str, Float[np.ndarray, "C P"]]


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
def _read(model: Llama, params: Params, library: Adapter, questions: Questions, rivals, weights):
    """(the lead of every answer token (C, S, L), its gaps over rivals (C, S, L, R))."""

    def one(at):
        logits = _logits(model, params, library, questions, at)
        right = jnp.take_along_axis(logits, questions.target[..., None], -1)
        tokens = jnp.arange(logits.shape[-1])[None, None, :]
        others = jnp.where(tokens == questions.target[..., None], -jnp.inf, logits)
        return (right[..., 0] - others.max(-1)), right - jnp.take_along_axis(logits, rivals, -1)

    return jax.lax.map(one, weights, batch_size=8)


def measure(
    model: Llama,
    params: Params,
    library: Adapter,
    questions: Questions,
    places: Sequence[int],
    some: Float[np.ndarray, "C K"] | None = None,
) -> Measured:
    """All ``merges``, or ``some``, run, and what sums of effects predict. library: leaves (K, ...); scales 1.

    questions: of all adapters, in one list. places: the merges that rivals are chosen from. The sums take the
    logits of single adapters and of pairs at each strength: "first order" and "pairs" are the truncated
    interactions of section 12, "tangent" the effects at strength 1 times the strength.
    """
    count = next(iter(library.values())).b.shape[0]
    every, mask = merges(count) if some is None else some, np.asarray(questions.mask) > 0
    questions = jax.tree.map(jnp.asarray, questions)

    def run(weights) -> jax.Array:
        return _logits(model, params, library, questions, jnp.asarray(weights, jnp.float32))

    nearest = np.array([np.asarray(jax.lax.top_k(run(every[place]), 5)[1])[mask] for place in places])
    target = np.asarray(questions.target)
    rivals = np.zeros((*target.shape, RIVALS), np.int32)
    rivals[mask] = choose_rivals(nearest, target[mask])
    lead, gap = _read(model, params, library, questions, jnp.asarray(rivals), jnp.asarray(every, jnp.float32))
    lead = np.where(mask, np.asarray(lead), np.inf).min(-1)
    outcomes = Outcomes(lead, np.asarray(gap)[:, mask], np.nonzero(mask)[0])

    tokens = jnp.asarray(np.concatenate([target[..., None], rivals], -1))

    def at(weights) -> np.ndarray:
        return np.asarray(jnp.take_along_axis(run(weights), tokens, -1))

    units, base = np.eye(count), at(np.zeros(count))
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
            gaps = np.where(mask, logits[..., 0] - logits[..., 1:].max(-1), np.inf)
            sums[name].append(gaps.min(-1))
    return Measured(outcomes, {name: np.array(values) for name, values in sums.items()})
