"""How many facts a rank-r adapter overwrites or inserts in the one-layer model."""

import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.one_layer.config import OneLayerConfig, recalled, row
from theory import model as one_layer
from theory.edits import exact_adapter, starved_adapter
from theory.lowrank import apply


def draws(config: OneLayerConfig, facts: int) -> int:
    """Independently started adapters per seed and F: enough that ``fact_trials`` facts are read."""
    return -(-config.fact_trials // facts)


def rows(config: OneLayerConfig) -> list[dict]:
    """overwrite_recall at each lambda and insertion_recall, for each F."""
    table = []
    for facts in config.facts:
        trials = draws(config, facts) * facts
        for lam in config.strengths:
            table.append(row("least_squares", "overwrite_recall", lam, facts, trials))
        table.append(row("least_squares", "insertion_recall", 1.0, facts, trials))
    return table


def measure(config: OneLayerConfig, key: Array) -> Float[Array, "rows"]:
    """Recall of F facts overwritten (relation 1, held by the base) and inserted (relation 2, unknown to it).

    Overwritten facts compete with every old and new bridge, inserted ones with every answer.
    """
    model_config = config.model(max(config.facts))
    model = one_layer.make(model_config, jax.random.fold_in(key, 0))
    everyone = jnp.arange(model_config.entities)
    stored = one_layer.features(model_config, model, one_layer.prompt1(model_config, everyone))
    fresh = one_layer.features(model_config, model, one_layer.prompt2(model_config, everyone))
    begin = starts(jax.random.fold_in(key, 1), [(2 * draws(config, n), config.rank, n) for n in config.facts])
    values = [_recalls(config, stored[: a0.shape[-1]], fresh[: a0.shape[-1]], a0) for a0 in begin]
    return jnp.concatenate(values)


def starts(key: Array, shapes: list[tuple[int, int, int]]) -> list[Float[Array, "draws rank facts"]]:
    """Random LoRA starts A0 in the span of the facts, for each (draws, rank, F); row spaces are Haar.

    The rank is cut at F. One draw serves all shapes, because every draw is compiled anew.
    """
    shapes = [(count, min(rank, facts), facts) for count, rank, facts in shapes]
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    parts = jnp.split(one_layer.gaussian(key, (ends[-1],)), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _recalls(config: OneLayerConfig, stored: Array, fresh: Array, begin: Array) -> Float[Array, "rows"]:
    facts = stored.shape[0]
    numbers = jnp.arange(facts)
    old = one_layer.one_hot(numbers, 2 * facts)
    new = one_layer.one_hot(numbers + facts, 2 * facts)
    overwriting = exact_adapter(stored, new - old)
    # The base holds no fact of relation 2, so its answer rows are zero; its bridge rows are i_old Phi^+.
    base = stored @ (old.T @ overwriting.a).T
    inserting = exact_adapter(fresh, one_layer.one_hot(numbers, facts))

    def recall(pair: Array) -> Array:
        moved = apply(starved_adapter(overwriting, pair[0]), stored)
        scores = [jnp.mean(recalled(base + lam * moved, numbers + facts)) for lam in config.strengths]
        added = apply(starved_adapter(inserting, pair[1]), fresh)
        return jnp.stack([*scores, jnp.mean(recalled(added, numbers))])

    # A loop, not vmap: batched LAPACK calls run side by side can block each other's threads on a CPU.
    return jax.lax.map(recall, begin.reshape(-1, 2, *begin.shape[1:])).mean(0)
