"""Merges that need data: RegMean, Fisher, and task arithmetic with its coefficient fitted.

Not data-free: they read Gram matrices of a module's inputs, or Fisher information, which an adapter's
owner would have to publish. Here they are the ceiling that data-free merges are held against.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.elementwise import map_rows
from sim.merge.methods.linear import combination
from sim.merge.registry import method
from theory.lowrank import LowRank, absorbed, inner, scaled


@method("data", data_free=False, normalises=True, identity={"shrink": 1.0})
def regmean(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    grams: Sequence[Float[Array, "in in"]],
    shrink: float = 0.9,
) -> LowRank:
    """RegMean: the update whose outputs match each adapter's on that adapter's own inputs. In factors.

    Jin et al. 2023 (arXiv 2212.09849): D = (sum_i w_i Delta W_i G_i)(sum_i w_i G_i)^-1 with G_i = X_i^T X_i
    and off-diagonal entries multiplied by ``shrink``. Over a common base this equals the merge of the full
    weights. Solved in float64. weights scale the Grams: how much each adapter's inputs count.
    """
    _one_each(updates, grams, "grams")
    dtype = updates[0].a.dtype
    scaled_grams = [
        weight * (shrink * gram + (1 - shrink) * jnp.diag(jnp.diag(gram)))
        for weight, gram in zip(weights.astype(jnp.float64), grams, strict=True)
    ]
    total = jax.scipy.linalg.cho_factor(sum(scaled_grams))
    parts = [absorbed(update) for update in updates]
    a = jnp.concatenate([part.a @ gram for part, gram in zip(parts, scaled_grams, strict=True)], axis=0)
    a = jax.scipy.linalg.cho_solve(total, a.T).T.astype(dtype)
    return LowRank(jnp.concatenate([part.b for part in parts], axis=1), a, 1.0)


@method("data", data_free=False, dense=True, normalises=True)
def fisher(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    fishers: Sequence[Float[Array, "out in"]],
) -> Float[Array, "out in"]:
    """Fisher merging: the mean of the Delta W entry by entry, weighted by diagonal Fisher information.

    Matena and Raffel 2022 (arXiv 2111.09832): sum_i w_i F_i Delta W_i / sum_i w_i F_i; 0 where no adapter
    has information.
    """
    _one_each(updates, fishers, "fishers")
    return map_rows(updates, _informed, weights, jnp.stack(list(fishers)).astype(updates[0].b.dtype))


def _informed(entries: Array, rows: Array, weights: Array, fishers: Float[Array, "K out in"]) -> Array:
    mass = weights[:, None, None] * fishers[:, jnp.minimum(rows, fishers.shape[1] - 1)]
    total = jnp.sum(mass, axis=0)
    return jnp.sum(mass * entries, axis=0) / jnp.where(total != 0, total, 1)


@method("data", data_free=False)
def task_arithmetic_fitted(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, grams: Sequence[Float[Array, "in in"]]
) -> LowRank:
    """Task arithmetic with the coefficient that best matches every adapter on its own inputs. In factors.

    The search over lambda in closed form: with S = sum_i w_i Delta W_i, the minimum of
    sum_i |(lambda S - Delta W_i) X_i^T|^2 is lambda = sum_i <S, Delta W_i>_i / sum_i <S, S>_i,
    <P, Q>_i = tr(P G_i Q^T).
    """
    _one_each(updates, grams, "grams")
    total = absorbed(combination(updates, weights))
    wanted = energy = jnp.zeros((), total.a.dtype)
    for update, gram in zip(updates, grams, strict=True):
        seen = total._replace(a=total.a @ gram.astype(total.a.dtype))
        wanted += inner(seen, update)
        energy += inner(seen, total)
    return scaled(total, wanted / jnp.where(energy > 0, energy, 1))


def _one_each(updates: Sequence[LowRank], statistics: Sequence, name: str) -> None:
    if len(statistics) != len(updates):
        raise ValueError(f"{len(updates)} adapters need {len(updates)} {name}, not {len(statistics)}")
