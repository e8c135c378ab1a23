"""Two adapters, two hops: recall of each adapter, and two-hop answers of their merges.

The design is balanced. Subject a_i is sent to bridge pi(i + k mod N), pi a random permutation, and all shifts
k = 0..N-1 are run for every seed: each subject meets each bridge exactly once. An answer that does
not depend on s1 is then right exactly once in N, seed by seed, with no sampling error; any dependence
on s1 shows at once. (One random bijection per seed would have the same mean with a standard error of
up to 1/N per seed.)
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge import METHODS, merge
from sim.one_layer.config import OneLayerConfig, recalled, row
from theory import model as one_layer
from theory.edits import least_squares_adapter
from theory.lowrank import LowRank, dense

_TIE_BREAK = 1e-8


def rows(config: OneLayerConfig) -> list[dict]:
    """hop1, hop2 and direct (two hops) for r rewired facts; direct with all N rewired."""
    entities, table = config.entities, []
    for method in _models(config):
        lam = _strength(method)
        for metric, facts in (
            ("hop1", config.hop1_facts),
            ("hop2", config.hop2_facts),
            ("direct", config.hop1_facts),
        ):
            table.append(row(method, metric, lam, facts, entities * facts))
    for method in _models(config):
        lam = _strength(method)
        table.append(row(method, "direct", lam, entities, entities**2))
    return table


def _strength(method: str) -> float:
    """Coefficient of a model's adapters; NaN for a merge that is not linear in them."""
    if method in ("base", "adapter1", "adapter2"):
        return float(method != "base")
    coefficient = METHODS[method].coefficient
    return math.nan if coefficient is None else coefficient(2)


def _models(config: OneLayerConfig) -> tuple[str, ...]:
    return ("base", "adapter1", "adapter2", *config.methods)


def measure(config: OneLayerConfig, key: Array) -> Float[Array, "rows"]:
    """One value a row of ``rows``, each a mean over subjects and shifts."""
    keys = [jax.random.fold_in(key, index) for index in range(8)]
    entities = config.entities
    model_config = config.model(entities)
    model = one_layer.make(model_config, keys[0])
    everyone = jnp.arange(entities)
    first = one_layer.features(model_config, model, one_layer.prompt1(model_config, everyone))
    second = one_layer.features(model_config, model, one_layer.prompt2(model_config, everyone))
    both = one_layer.features(model_config, model, one_layer.prompt12(model_config, everyone))
    old1 = jax.random.permutation(keys[1], entities)
    old2 = jax.random.permutation(keys[2], entities)
    order = jax.random.permutation(keys[3], entities)
    base = _base(config, first, second, both, old1, old2)

    def recalls(case: tuple[Array, Array, Array]) -> Array:
        shift, all_facts, new2 = case
        new1 = order[(everyone + shift) % entities]
        updates = [
            _adapter(
                config, first, old1, new1, (everyone < config.hop1_facts) | all_facts, all_facts, keys[4]
            ),
            _adapter(
                config, second, old2, new2, (everyone < config.hop2_facts) | all_facts, all_facts, keys[5]
            ),
        ]
        # Bridge rows come first, answer rows second; each adapter is exactly 0 in the other's.
        updates = [
            update._replace(b=jnp.pad(update.b, rows))
            for update, rows in zip(updates, ([(0, entities), (0, 0)], [(entities, 0), (0, 0)]), strict=True)
        ]
        merged = [merge(name, updates) for name in config.methods]
        deltas = [jnp.zeros_like(base), *map(dense, updates), *map(_matrix, merged)]
        weights = base[None] + jnp.stack(deltas)
        answered = [
            (first, weights, new1),
            (second, weights, new2 + entities),
            (both, weights[:, entities:], new2[new1]),
        ]
        return jnp.stack(
            [
                recalled(
                    jnp.einsum("fm,wnm->wfn", phi, rows), jnp.broadcast_to(target, (len(deltas), entities))
                )
                for phi, rows, target in answered
            ],
            axis=1,
        )

    shuffled = jax.random.permutation(keys[6], entities)
    rotated = old2.at[: config.hop2_facts].set(jnp.roll(old2[: config.hop2_facts], -1))
    every = jnp.repeat(jnp.asarray([False, True]), entities)
    # A loop, not vmap: batched LAPACK calls run side by side can block each other's threads on a CPU.
    hits = jax.lax.map(
        recalls, (jnp.tile(everyone, 2), every, jnp.where(every[:, None], shuffled[None], rotated[None]))
    )
    few, every_fact = hits.reshape(2, entities, *hits.shape[1:]).mean(1)  # (models, metrics, facts)
    counts = (config.hop1_facts, config.hop2_facts, config.hop1_facts)
    means = [few[:, metric, :count].mean(1) for metric, count in enumerate(counts)]
    return jnp.concatenate([jnp.stack(means, axis=1).reshape(-1), every_fact[:, 2].mean(1)])


def _base(
    config: OneLayerConfig, first: Array, second: Array, both: Array, old1: Array, old2: Array
) -> Float[Array, "n m"]:
    """Minimum-norm weights on all one-hop facts, and with ``two_hop_in_base`` on the two-hop facts."""
    outputs = 2 * config.entities
    keys, answers = [first, second], [old1, old2 + config.entities]
    if config.two_hop_in_base:
        keys, answers = [*keys, both], [*answers, old2[old1] + config.entities]
    targets = one_layer.one_hot(jnp.concatenate(answers), outputs)
    return one_layer.base_weights(jnp.concatenate(keys), targets)


def _adapter(
    config: OneLayerConfig, phi: Array, old: Array, new: Array, changed: Array, generic: Array, key: Array
) -> LowRank:
    """The rank-r least-squares adapter for the changed facts, on the N output rows of its own hop.

    Facts left out are zero rows and drop out. ``generic``: break ties of singular values by a random
    matrix, for edits that the rank cannot hold; an edit that fits has none to break.
    """
    mask = changed[:, None]
    residual = (one_layer.one_hot(new, config.entities) - one_layer.one_hot(old, config.entities)) * mask
    noise = generic * _TIE_BREAK * one_layer.gaussian(key, residual.shape) * mask
    return least_squares_adapter(phi * mask, residual, config.rank, noise)


def _matrix(merged: LowRank | Array) -> Array:
    return dense(merged) if isinstance(merged, LowRank) else merged
