"""Every subset of a library at common strengths, run; and what sums of effects in the logits say of them."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sim.forecast.outcomes import RIVALS, Outcomes, choose_rivals
from sim.model import llama_adapters
from sim.model.llama import Llama, Params
from sim.model.llama_adapters import Adapter, Questions
from theory import interactions

STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def merges(adapters: int) -> Float[np.ndarray, "C K"]:
    """The base, and every subset at each of ``STRENGTHS``."""
    subsets = [np.array(one) for one in itertools.product((0, 1), repeat=adapters) if any(one)]
    return np.array([np.zeros(adapters), *(lam * one for lam in STRENGTHS for one in subsets)])


@functools.partial(jax.jit, static_argnames="model")
def _logits(model: Llama, params: Params, library: Adapter, questions: Questions, weights) -> jax.Array:
    """(S, L, V) of the merge at weights (K,)."""
    adapters = [jax.tree.map(lambda leaf, i=i: leaf[i], library) for i in range(len(weights))]
    return llama_adapters.answer_logits(model, params, llama_adapters.combine(adapters, weights), questions)


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
) -> Outcomes:
    """All ``merges``, or ``some``, run. library: leaves (K, ...).

    questions: of all adapters, in one list. places: the merges that rivals are chosen from.
    """
    count = next(iter(library.values())).b.shape[0]
    every, mask = merges(count) if some is None else some, np.asarray(questions.mask) > 0
    questions, weights = jax.tree.map(jnp.asarray, questions), jnp.asarray(every, jnp.float32)
    runs = (_logits(model, params, library, questions, weights[place]) for place in places)
    nearest = np.array([np.asarray(jax.lax.top_k(logits, 5)[1])[mask] for logits in runs])
    target = np.asarray(questions.target)
    rivals = np.zeros((*target.shape, RIVALS), np.int32)
    rivals[mask] = choose_rivals(nearest, target[mask])
    lead, gap = _read(model, params, library, questions, jnp.asarray(rivals), weights)
    lead = np.where(mask, np.asarray(lead), np.inf).min(-1)
    return Outcomes(lead, np.asarray(gap)[:, mask], np.nonzero(mask)[0])


def sums_of_effects(values: Float[np.ndarray, "C ..."], adapters: int) -> dict[str, np.ndarray]:
    """What sums of effects say of the values of all ``merges(adapters)``: "first order" and "pairs" are
    the truncated interactions of section 12 at each strength, "tangent" the effects at strength 1 times the
    strength. values: linear in the logits."""
    base, rest = values[:1], values[1:].reshape(len(STRENGTHS), -1, *values.shape[1:])

    def cut(some: np.ndarray, order: int) -> np.ndarray:
        table = np.concatenate([base, some]).reshape((2,) * adapters + values.shape[1:])
        return interactions.truncated(table, adapters, order).reshape(-1, *values.shape[1:])[1:]

    effects = cut(rest[-1], 1) - base
    sums = {"first order": [cut(some, 1) for some in rest], "pairs": [cut(some, 2) for some in rest]}
    sums["tangent"] = [base + lam * effects for lam in STRENGTHS]
    return {name: np.concatenate([base, *parts]) for name, parts in sums.items()}


def leads_of_sums(outcomes: Outcomes, adapters: int) -> dict[str, Float[np.ndarray, "C P"]]:
    """Leads over the rivals that ``sums_of_effects`` say of the outcomes of all ``merges``."""
    first = np.flatnonzero(np.diff(outcomes.row, prepend=-1))
    sums = sums_of_effects(outcomes.gap.astype(float), adapters)
    return {name: np.minimum.reduceat(gaps.min(-1), first, axis=1) for name, gaps in sums.items()}
