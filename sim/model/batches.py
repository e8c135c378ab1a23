"""Which sequences a step of training sees: all of a group if they fit, else each as often as the others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sim.model.sequences import Sequences


class Deck(NamedTuple):
    """The sequences of a group in random order, those of weight 0 at the end.

    order: numbers of the sequences. count: how many have a weight.
    edges: where each one ends on a circle of length ``count``, on which its share is its weight's.
    """

    order: Int[Array, " S"]
    count: Int[Array, ""]
    edges: Float[Array, " S"]


class Batch(NamedTuple):
    """Sequences by their numbers, with weights; only the first ``count`` belong to the batch."""

    rows: Int[Array, " most"]
    weight: Float[Array, " most"]
    count: Int[Array, ""]


def shuffle(weight: Float[Array, " S"], key: Array) -> Deck:
    """The deck of a group with these weights."""
    has_weight = weight > 0
    count = jnp.sum(has_weight).astype(jnp.int32)
    place = jnp.where(has_weight, jax.random.uniform(key, weight.shape, jnp.float32), jnp.inf)
    order = jnp.argsort(place).astype(jnp.int32)
    share = weight[order].astype(jnp.float64) / jnp.maximum(jnp.sum(weight, dtype=jnp.float64), 1e-300)
    return Deck(order, count, jnp.cumsum(share * count))


def all_of(deck: Deck, weight: Float[Array, " S"]) -> Batch:
    """Every sequence that has a weight, once, with that weight."""
    return Batch(deck.order, weight[deck.order], deck.count)


def deal(deck: Deck, weight: Float[Array, " S"], most: int, step: Int[Array, ""]) -> Batch:
    """The batch of a step: ``all_of`` if at most ``most`` sequences have a weight, else the next ``most``.

    Step t takes the places t * most to (t + 1) * most - 1 on the circle of the deck. Sequences of equal
    weight are so drawn without replacement: each once before any comes again. With unequal weights each is
    drawn within one of its expected times a round (systematic sampling). One order serves all rounds:
    gradient descent converges as fast as with an order for each (arXiv 2006.05988, "shuffle once").
    """
    every = all_of(deck, weight)
    if len(weight) <= most:
        return every
    place = (step.astype(jnp.int64) * most + jnp.arange(most)) % jnp.maximum(deck.count, 1)
    rows = deck.order[jnp.searchsorted(deck.edges, place + 0.5)]
    fits = deck.count <= most
    return Batch(
        jnp.where(fits, every.rows[:most], rows),
        jnp.where(fits, every.weight[:most], jnp.ones(most, weight.dtype)),
        jnp.minimum(deck.count, most),
    )


def normalise(batch: Batch) -> Batch:
    """The batch with weights of sum 1."""
    weight = jnp.where(jnp.arange(len(batch.weight)) < batch.count, batch.weight, 0.0)
    return batch._replace(weight=weight / jnp.maximum(jnp.sum(weight), 1e-30))


def sum_over(
    batch: Batch, group: Sequences, function: Callable[[Sequences], Any], tile: int, nothing: Any
) -> Any:
    """Sum of ``function`` over a batch of a group, ``tile`` sequences at a time, and ``nothing``: the zero of
    what it returns.

    ``function`` takes sequences with their weights in the batch, 0 for those that only fill a tile. As many
    tiles are computed as the batch has, none if it is empty: data sets of one shape and of different sizes
    share a program and cost what they hold. The zero is given, since tracing a model once more to see its
    shape takes as long as tracing it.
    """
    tile = min(tile, len(batch.rows))

    def of_tile(index):
        at = index * tile + jnp.arange(tile)
        inside = jnp.minimum(at, len(batch.rows) - 1)
        sequences = jax.tree.map(lambda leaf: leaf[batch.rows[inside]], group)
        weight = jnp.where(at < batch.count, batch.weight[inside], 0.0)
        return function(replace(sequences, weight=weight))

    def add(index, total):
        return jax.tree.map(jnp.add, total, of_tile(index))

    return jax.lax.fori_loop(0, -(-batch.count // tile), add, nothing)
