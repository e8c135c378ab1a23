"""Interactions by order: the law against deep linear networks that are run merge by merge (section 12)."""

import itertools
import math

import numpy as np
import pytest

from sim.lab import seeds
from sim.twins import interactions as twin
from theory import interactions as closed

GAINS = np.array([0.3, 0.5, 0.2, 0.4])


def table(depth, adapters=4, strength=0.7, draws=1):
    """f of every subset, as a table, of ``draws`` networks."""
    each = twin.subset_weights(adapters, strength)
    values = twin.outputs(each, GAINS[:adapters], depth, 6, seeds.key(71, depth), draws)
    return values.T.reshape((2,) * adapters + (draws,))


def test_interactions_are_alternating_sums_over_subsets():
    values = np.random.default_rng(0).normal(size=(2, 2, 2, 5))
    terms = closed.interactions(values, 3)
    for at in itertools.product((0, 1), repeat=3):
        subsets = itertools.product(*(range(inside + 1) for inside in at))
        expected = sum((-1) ** (sum(at) - sum(sub)) * values[sub] for sub in subsets)
        np.testing.assert_allclose(terms[at], expected, atol=1e-12)
    np.testing.assert_allclose(closed.sums(terms, 3), values, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_order_of_the_depth_is_exact_for_a_linear_network_and_no_lower_one_is(depth):
    values = table(depth)
    np.testing.assert_allclose(closed.truncated(values, 4, depth), values, atol=1e-10)
    if depth > 1:
        assert np.abs(closed.truncated(values, 4, depth - 1) - values).max() > 0.05


def test_a_truncated_sum_has_the_stated_coefficients():
    values = table(5)
    for order in range(5):
        cut = closed.truncated(values, 4, order)
        for at in itertools.product((0, 1), repeat=4):
            total = np.zeros(1)
            for sub in itertools.product(*(range(inside + 1) for inside in at)):
                total += closed.coefficient(sum(at), sum(sub), order) * values[sub]
            np.testing.assert_allclose(cut[at], total, atol=1e-10)


def test_the_truncated_sum_reads_no_larger_subset():
    values = table(4)
    sizes = np.indices((2,) * 4).sum(0)
    spoilt = np.where((sizes > 2)[..., None], 1e3, values)
    np.testing.assert_allclose(closed.truncated(spoilt, 4, 2), closed.truncated(values, 4, 2))


@pytest.mark.parametrize(
    ("size", "order", "growth"), [(1, 1, 1), (2, 1, 3), (5, 1, 9), (6, 2, 15 + 6 * 4 + 10)]
)
def test_errors_of_runs_of_the_worst_signs_grow_as_stated(size, order, growth):
    signs = np.sign([closed.coefficient(size, k, order) for k in range(size + 1)])
    sizes = np.indices((2,) * size).sum(0)
    assert closed.truncated(signs[sizes], size, order)[(1,) * size] == growth


def test_the_remainder_is_bounded_by_mixed_derivatives():
    """f = exp(a w) has mixed derivatives of at most prod a_i exp(sum a_i lambda)."""
    rates, strength, count = np.array([0.5, 0.3, 0.4, 0.6]), 0.8, 4
    each = twin.subset_weights(count, strength)
    values = np.exp(each @ rates).reshape((2,) * count)
    most = [math.comb(count, k) * (strength * max(rates)) ** k for k in range(count + 1)]
    for order in range(count):
        error = abs(closed.truncated(values, count, order) - values)[(1,) * count]
        bound = np.exp(strength * rates.sum()) * sum(most[order + 1 :])
        assert 0.1 * bound < error <= bound
    equal = np.exp(0.5 * each.sum(1)).reshape((2,) * count)  # the bound is attained up to the exponential
    assert abs(closed.truncated(equal, count, 1) - equal)[(1,) * count] >= 1.2416


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_covariance_and_variance_by_order_are_those_of_drawn_networks(depth):
    strength, draws = 0.9, 5000
    each = twin.subset_weights(3, strength)
    gains = np.full(3, 0.3)
    values = twin.outputs(each, gains, depth, 5, seeds.key(72, depth), draws)
    products = values[:, :, None] * values[:, None, :]
    expected = closed.covariance(each, each, gains, depth)
    error = products.std(0) / draws**0.5
    assert (np.abs(products.mean(0) - expected) < 4.5 * error).all()
    terms = closed.interactions(values.T.reshape(2, 2, 2, draws), 3)
    sizes, orders = np.indices((2, 2, 2)).sum(0), closed.order_variances(3, 0.3 * strength**2, depth)
    for order in range(4):
        squares = np.square(terms[sizes == order]).sum(0)
        assert abs(squares.mean() - orders[order]) < 4.5 * squares.std() / draws**0.5 + 1e-12
    assert (orders[depth + 1 :] < 1e-12).all()


def test_saturating_covariance_is_that_of_drawn_units():
    each, gains, draws = np.array([[0, 0], [1, 0], [0.5, 1.5], [2, 2.0]]), np.array([0.7, 3.0]), 40000
    values = twin.saturating_outputs(each, gains, seeds.key(74), draws)
    products = values[:, :, None] * values[:, None, :]
    error = products.std(0) / draws**0.5
    expected = closed.saturating_covariance(each, each, gains)
    assert (np.abs(products.mean(0) - expected) < 4.5 * error).all()
    strong = closed.saturating_covariance([[9, 9.0]], [[9, 0.0]], np.array([100.0, 1e-9]))
    assert strong[0, 0] == pytest.approx(1, abs=0.02)  # what is saturated does not grow


def test_orders_add_up_to_the_variance_of_the_merge():
    orders = closed.order_variances(6, 0.2, 30)
    total = sum(np.outer(orders, 1)[:, 0])
    full = closed.covariance(np.ones((1, 6)), np.ones((1, 6)), np.full(6, 0.2), 30)[0, 0]
    assert total == pytest.approx(full)


@pytest.mark.slow
def test_kriging_errs_as_it_says():
    """From base, singles and pairs it is the truncated sum; merges of three besides make it better."""
    depth, draws, gains = 8, 4000, np.full(4, 0.1)
    each = twin.subset_weights(4, 1.0)
    values = twin.outputs(each, gains, depth, 5, seeds.key(73), draws)
    target, sizes = each.sum(1) == 4, each.sum(1)
    for most in (2, 3):
        rows = sizes <= most
        weights, error = closed.kriging(
            closed.covariance(each[rows], each[rows], gains, depth),
            closed.covariance(each[target], each[rows], gains, depth),
            closed.covariance(each[target], each[target], gains, depth).diagonal(),
        )
        expected = [closed.coefficient(4, int(size), most) for size in sizes[rows]]
        np.testing.assert_allclose(weights[0], expected, atol=1e-6)
        left_out = closed.order_variances(4, 0.1, depth)[most + 1 :].sum()
        assert error[0] == pytest.approx(left_out)
        squares = np.square(values[:, target][:, 0] - values[:, rows] @ weights[0])
        assert abs(squares.mean() - left_out) < 4.5 * squares.std() / draws**0.5


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="3 axes of length 2 in front"):
        closed.interactions(np.zeros((2, 2, 3)), 3)
    with pytest.raises(ValueError, match="subset 3 is larger"):
        closed.coefficient(2, 3, 1)
    with pytest.raises(ValueError, match="depth"):
        closed.order_variances(3, 0.2, -1)
