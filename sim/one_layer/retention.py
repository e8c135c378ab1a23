"""Overwritten facts under a coefficient, and under averages of K adapters that hold different facts."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge import merge
from sim.one_layer.config import OneLayerConfig, recalled, row
from theory import model as one_layer
from theory.edits import exact_adapter
from theory.lowrank import LowRank, apply


def rows(config: OneLayerConfig) -> list[dict]:
    """One adapter at each lambda, the average of each library, and the sum of the largest library."""
    facts, largest = config.retained_facts, max(config.libraries)
    table = [row("scaled", "retention", lam, facts, facts) for lam in config.lambdas]
    table += [row("average", "retention", 1 / size, size * facts, size * facts) for size in config.libraries]
    return [*table, row("sum", "retention", 1.0, largest * facts, largest * facts)]


def measure(config: OneLayerConfig, key: Array) -> Float[Array, "rows"]:
    """Mean of ``recalled`` over each row's facts: new answer against every bridge, ties split evenly.

    Each adapter holds its own subjects of one relation; all old and new answers differ, so only dilution
    and the crosstalk between the adapters act.
    """
    facts, largest = config.retained_facts, max(config.libraries)
    total = largest * facts
    model_config = config.model(2 * total)
    model = one_layer.make(model_config, key)
    subjects = jnp.arange(total)
    keys = one_layer.features(model_config, model, one_layer.prompt1(model_config, subjects))
    old = one_layer.one_hot(subjects, 2 * total)
    new = one_layer.one_hot(subjects + total, 2 * total)
    base = keys @ one_layer.base_weights(keys, old).T
    parts = [slice(index * facts, (index + 1) * facts) for index in range(largest)]
    updates = [exact_adapter(keys[part], new[part] - old[part]) for part in parts]

    def mean_recall(update: LowRank, count: int) -> Array:
        logits = base[:count] + apply(update, keys[:count])
        return jnp.mean(recalled(logits, subjects[:count] + total))

    own = keys[:facts]
    scaled = base[None, :facts] + jnp.asarray(config.lambdas)[:, None, None] * apply(updates[0], own)[None]
    target = jnp.broadcast_to(subjects[:facts] + total, scaled.shape[:2])
    single = jnp.mean(recalled(scaled, target), axis=1)
    averaged = [mean_recall(merge("average", updates[:size]), size * facts) for size in config.libraries]
    return jnp.concatenate([single, jnp.stack([*averaged, mean_recall(merge("sum", updates), total)])])
