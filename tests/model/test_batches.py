"""Batches: who is in them how often, with which weight, and what sums over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.model import batches
from sim.model.sequences import Sequences


def deck_of(weight, seed=0):
    weight = jnp.asarray(weight, jnp.float32)
    return batches.shuffle(weight, jax.random.key(seed)), weight


def dealt(weight, most, steps, seed=0):
    """Numbers of the sequences of each step."""
    deck, weight = deck_of(weight, seed)
    drawn = [batches.deal(deck, weight, most, jnp.int32(step)) for step in range(steps)]
    return [np.asarray(batch.rows)[: int(batch.count)] for batch in drawn]


def test_a_group_that_fits_is_taken_whole_with_its_weights():
    weight = [0.0, 2.0, 0.0, 0.5, 1.0]
    for most in (3, 4, 5, 9):
        deck, weights = deck_of(weight)
        batch = batches.deal(deck, weights, most, jnp.int32(7))
        rows = np.asarray(batch.rows)[: int(batch.count)]
        assert sorted(rows) == [1, 3, 4]
        np.testing.assert_array_equal(np.asarray(batch.weight)[:3], np.asarray(weight)[rows])


@pytest.mark.parametrize("most", [2, 4, 6])
def test_equal_weights_are_drawn_without_replacement(most):
    weight = np.where(np.arange(17) % 3 == 0, 0.0, 3.0)  # 11 of 17
    steps = dealt(weight, most, 11)
    assert all(len(set(rows)) == most for rows in steps)
    stream = np.concatenate(steps)
    for start in range(0, len(stream) - 10, 11):
        assert sorted(stream[start : start + 11]) == sorted(np.flatnonzero(weight))


def test_the_order_is_random():
    orders = {tuple(np.concatenate(dealt(np.ones(12), 3, 4, seed))) for seed in range(20)}
    assert len(orders) == 20


def test_unequal_weights_are_drawn_as_often_as_they_say():
    """Within one of 20 w / sum w in any 20 draws, and exactly so in the long run."""
    weight = np.concatenate([np.arange(1.0, 21.0), np.zeros(5)])
    steps = dealt(weight, 4, 5)
    counts = np.bincount(np.concatenate(steps), minlength=25)
    expected = 20 * weight / weight.sum()
    assert np.abs(counts - expected).max() < 1
    assert counts[20:].sum() == 0


def test_normal_weights_sum_to_one():
    deck, weight = deck_of([0.0, 2.0, 0.0, 0.5, 1.5])
    batch = batches.normalise(batches.all_of(deck, weight))
    np.testing.assert_allclose(np.asarray(batch.weight), np.asarray(weight)[np.asarray(batch.rows)] / 4.0)
    empty = batches.normalise(batches.all_of(*deck_of(np.zeros(4))))
    np.testing.assert_array_equal(empty.weight, 0)


@pytest.mark.parametrize("tile", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_a_sum_over_tiles_is_the_sum(tile, count):
    values = np.asarray([3.0, 5.0, 7.0, 11.0, 13.0], np.float32)
    weight = np.where(np.arange(5) < count, np.arange(1.0, 6.0), 0.0).astype(np.float32)
    deck, weights = deck_of(weight)
    group = Sequences(jnp.asarray(values)[:, None], weights, 0)
    total = batches.sum_over(
        batches.all_of(deck, weights),
        group,
        lambda part: jnp.sum(part.weight * part.tokens[:, 0]),
        tile,
        jnp.float32(0),
    )
    np.testing.assert_allclose(total, np.sum(weight * values), rtol=1e-6)


def test_a_sum_costs_what_a_batch_holds():
    """As many tiles as the sequences with a weight fill."""
    for count, tiles in ((0, 0), (1, 1), (4, 1), (5, 2), (12, 3)):
        deck, weights = deck_of(np.where(np.arange(12) < count, 1.0, 0.0))
        group = Sequences(jnp.zeros((12, 1), jnp.int32), weights, 0)
        ones = batches.sum_over(
            batches.all_of(deck, weights), group, lambda part: jnp.int32(1), 4, jnp.int32(0)
        )
        assert int(ones) == tiles
