"""Sparsify, then combine: magnitude pruning, breadcrumbs, DARE, DELLA, SCE, on the entries of Delta W."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.elementwise import (
    check_density,
    count_entries,
    map_rows,
    reduce_rows,
    sum_updates,
    threshold,
    threshold_of,
    uniform_rows,
)
from sim.merge.methods.sign import elected, elected_mean, rounding, trimmed
from sim.merge.registry import method
from theory.lowrank import LowRank, norm


def _entries(updates: Sequence[LowRank]) -> int:
    return updates[0].b.shape[0] * updates[0].a.shape[1]


@method("sparse", dense=True, identity={"density": 1.0})
def magnitude_prune(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, density: float = 0.5
) -> Float[Array, "out in"]:
    """Keep the largest entries of each Delta W (a share ``density``), then take the weighted sum."""
    return map_rows(updates, _pruned, weights, *threshold(updates, count_entries(density, _entries(updates))))


def _pruned(entries: Array, rows: Array, weights: Array, at: Array) -> Array:
    return sum_updates(weights[:, None, None] * trimmed(entries, at))


@method("sparse", dense=True, identity={"density": 1.0, "gamma": 0.0})
def breadcrumbs(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, density: float = 0.85, gamma: float = 0.01
) -> Float[Array, "out in"]:
    """Model breadcrumbs: drop the largest entries (share gamma) and the smallest, keep ``density``; sum.

    Davari and Belilovsky 2023 (arXiv 2312.06795), per tensor: of n entries the floor(gamma n) largest go,
    the next floor(density n) are kept (never none, however small the tensor). density + gamma <= 1.
    """
    total = _entries(updates)
    if gamma < 0 or density + gamma > 1.0 + 1e-9:
        raise ValueError(f"breadcrumbs needs gamma >= 0, density + gamma <= 1; got {density} and {gamma}")
    top = min(int(gamma * total + 1e-9), total - 1)
    at, above = threshold(updates, min(top + count_entries(density, total), total), top)
    return map_rows(updates, _crumbs, weights, at, above)


def _crumbs(entries: Array, rows: Array, weights: Array, at: Array, above: Array) -> Array:
    outlier = jnp.abs(entries) >= above[:, None, None]
    return sum_updates(weights[:, None, None] * jnp.where(outlier, 0, trimmed(entries, at)))


def _draws(entries: Array, rows: Array, key: Array) -> Array:
    return uniform_rows(key, rows, len(entries), entries.shape[-1], entries.dtype)


def _dropped(entries: Array, draws: Array, keep: float | Array) -> Array:
    """DARE's step: an entry stays with probability ``keep`` and is divided by it: unchanged in mean."""
    return jnp.where(draws < keep, entries / keep, 0)


@method("sparse", dense=True, identity={"density": 1.0})
def dare(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, key: Array, density: float = 0.5
) -> Float[Array, "out in"]:
    """DARE: drop entries at random, rescale the kept by 1/density, take the weighted sum. Seeded.

    Yu et al. 2024 (arXiv 2311.03099), on Delta W (not on A and B apart). Its mean over seeds is the sum.
    """
    check_density(density)
    return map_rows(updates, _thinned, weights, key, density=density)


def _thinned(entries: Array, rows: Array, weights: Array, key: Array, *, density: float) -> Array:
    return sum_updates(weights[:, None, None] * _dropped(entries, _draws(entries, rows, key), density))


@method("sparse", dense=True, identity={"density": 1.0})
def dare_ties(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    key: Array,
    density: float = 0.5,
    vote: str = "mass",
) -> Float[Array, "out in"]:
    """DARE-TIES: DARE's random drop in place of the trim, then TIES' election and disjoint mean. Seeded."""
    check_density(density)
    return map_rows(updates, _thinned_elected, weights, key, density=density, vote=vote)


def _thinned_elected(
    entries: Array, rows: Array, weights: Array, key: Array, *, density: float, vote: str
) -> Array:
    left = _dropped(entries, _draws(entries, rows, key), density)
    return elected_mean(weights[:, None, None] * left, vote)


@method("sparse", dense=True, identity={"density": 1.0, "epsilon": 0.0})
def della(
    updates: Sequence[LowRank],
    weights: Float[Array, "K"],
    *,
    key: Array,
    density: float = 0.5,
    epsilon: float = 0.2,
    vote: str = "mass",
) -> Float[Array, "out in"]:
    """DELLA: drop at random, small entries of a row more often; rescale; elect signs; disjoint mean. Seeded.

    Deep et al. 2024 (arXiv 2406.11617): the entry of rank j (0 the smallest) of n in its row is kept with
    probability density - epsilon/2 + epsilon j/(n - 1), which must lie in (0, 1], and divided by it.
    """
    if epsilon < 0 or not (density - epsilon / 2 > 0.0 and density + epsilon / 2 <= 1.0 + 1e-9):
        raise ValueError(f"della needs density +- epsilon/2 in (0, 1]; got {density} and {epsilon}")

    return map_rows(updates, _ranked, weights, key, density=density, epsilon=epsilon, vote=vote)


def _ranked(
    entries: Array, rows: Array, weights: Array, key: Array, *, density: float, epsilon: float, vote: str
) -> Array:
    last = max(entries.shape[-1] - 1, 1)
    order = jnp.argsort(jnp.abs(entries), axis=-1)
    steps = jnp.broadcast_to(jnp.arange(entries.shape[-1], dtype=entries.dtype), entries.shape)
    rank = jnp.put_along_axis(steps, order, steps, axis=-1, inplace=False)
    keep = density - epsilon / 2 + epsilon * rank / last
    return elected_mean(weights[:, None, None] * _dropped(entries, _draws(entries, rows, key), keep), vote)


@method("sparse", dense=True, identity={"density": 1.0})
def sce(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, density: float = 0.5
) -> Float[Array, "out in"]:
    """SCE: select the entries that vary most between adapters, weigh adapters by energy, erase minorities.

    FuseChat (Wan et al. 2024, arXiv 2408.07990). Select the share ``density`` of entries with the largest
    variance across the w_i Delta W_i; coefficient eta_i = energy of adapter i there / total energy; erase
    the entries whose sign is not that of the sum; merge = sum_i eta_i tau_i / sum_i eta_i over what is left.
    """
    if density < 1.0 and len(updates) > 1:
        at = threshold_of(map_rows(updates, _variances, weights), count_entries(density, _entries(updates)))
        energy = reduce_rows(updates, _energies, weights, at)
    else:
        check_density(density)
        at = jnp.zeros((), weights.dtype)  # every entry reaches it
        energy = jnp.square(weights * jnp.stack([norm(update) for update in updates]))
    eta = energy / jnp.maximum(jnp.sum(energy), jnp.finfo(energy.dtype).tiny)
    return map_rows(updates, _agreed, weights, at, eta)


def _variances(entries: Array, rows: Array, weights: Array) -> Array:
    """The variance of the weighted entries across the updates."""
    entries = weights[:, None, None] * entries
    count = len(entries)
    return sum_updates(jnp.square(entries - (sum_updates(entries) / count)[None])) / count


def _selected(entries: Array, rows: Array, weights: Array, at: Array) -> Array:
    chosen = _variances(entries, rows, weights) >= at
    return jnp.where(chosen[None], weights[:, None, None] * entries, 0)


def _energies(entries: Array, rows: Array, weights: Array, at: Array) -> Array:
    return jnp.sum(jnp.square(_selected(entries, rows, weights, at)), (1, 2))


def _agreed(entries: Array, rows: Array, weights: Array, at: Array, eta: Array) -> Array:
    """SCE's last steps: entries of the minority sign erased, the others averaged by energy."""
    entries, eta = _selected(entries, rows, weights, at), eta[:, None, None]
    winner = elected(sum_updates(entries), rounding(entries))
    agrees = (jnp.sign(entries) == winner[None]) & (entries != 0)
    mass = sum_updates(jnp.where(agrees, eta, 0))
    return sum_updates(jnp.where(agrees, eta * entries, 0)) / jnp.where(mass > 0, mass, 1)
