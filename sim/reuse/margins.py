"""What the base's margins and the first steps of training say of how a merge keeps its facts (section 3).

Along an adapter whose logits are linear in lambda the lead of a right answer goes from the base's, -M, to
that of the adapter alone: (1 - lambda) lead_0 + lambda lead_i. The metrics are ours: arXiv 2601.06672 finds
that what the base knows better survives a merge, arXiv 2606.19549 that retention shows in the first percents
of training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.model.training import lead
from sim.model.transformer import Decoder, Params, completion_logits
from sim.reuse.config import Recipe
from sim.reuse.library import Factors, scaled
from sim.worlds import Probe

EARLY = 5
"""Steps after which adapters are early: about 5% of the hundred that one takes to know its facts."""

METHODS = ("average", "sum")
"""Linear merges that are looked at."""

PREDICTORS = {"knowledge": "law", "retention": "early"}
"""Metric -> its predictor."""


class Compared(NamedTuple):
    """A measurement of a merge beside its prediction."""

    measured: Float[Array, ""]
    predicted: Float[Array, ""]


def first_steps(recipe: Recipe) -> Recipe:
    """The recipe whose training is the first ``EARLY`` steps of this one's, which are not looked at."""
    few = replace(recipe.finetuning, steps=EARLY, look=EARLY, cooling=1, margin=None)
    return replace(recipe, finetuning=few)


def measure(
    decoder: Decoder,
    names: tuple[str, ...],
    margin: float,
    params: Params,
    probes: Mapping[str, Probe],
    parts: Sequence[Factors],
    early: Sequence[Factors],
    lam: Float[Array, ""],
) -> dict[str, Compared]:
    """Of the sum of all parts at lambda, over the facts of all parts:

    knowledge: correlation of the base's lead with the merge's; predicted, with (1 - lambda) lead_0 +
               lambda lead_i: no prediction sees the merge.
    retention: facts that the merge answers, over those that their own adapters answer; predicted from
               ``early``, the adapters after a few steps, alone. What an adapter does to its own facts has to
               grow by g = mean(margin - lead_0) / mean(early_i - lead_0) until it knows them, and what it
               does to those of others grows alike:
               lead = (1 - lambda) lead_0 + lambda (margin + sum_j g_j (early_j - lead_0)).
    """
    count = len(names)
    of = [probes[name] for name in names]

    def leads(strengths: Array) -> list[Array]:
        model = scaled(params, [*parts, *early], strengths)
        return [lead(completion_logits(decoder, model, one.tokens, one.prompt), one) for one in of]

    alone = jnp.eye(2 * count, dtype=jnp.float32)
    every = jnp.concatenate([0 * alone[:1], lam * jnp.sum(alone[:count], axis=0)[None], alone])
    base, merged, *each = zip(*jax.vmap(leads)(every), strict=True)
    own, first = [each[i][i] for i in range(count)], each[count:]
    growth = [jnp.mean(margin - base[i]) / jnp.mean(first[i][i] - base[i]) for i in range(count)]
    growing = []
    for i in range(count):
        others = sum(growth[j] * (first[j][i] - base[i]) for j in range(count) if j != i)
        growing.append((1 - lam) * base[i] + lam * (margin + others))
    base, merged, own, growing = (jnp.concatenate(group) for group in (base, merged, own, growing))
    along = (1 - lam) * base + lam * own
    answered = jnp.maximum(jnp.mean(own > 0), 1 / len(own))
    return {
        "knowledge": Compared(_correlation(base, merged), _correlation(base, along)),
        "retention": Compared(jnp.mean(merged > 0) / answered, jnp.mean(growing > 0)),
    }


def _correlation(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    """Pearson's, 0 where one does not vary."""
    x, y = x - jnp.mean(x), y - jnp.mean(y)
    size = jnp.sqrt(jnp.sum(x * x) * jnp.sum(y * y))
    return jnp.sum(x * y) / jnp.where(size > 0, size, 1)
