"""Section 1: rank-one and rank-r least-squares edits, against competitors and against trained adapters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.twins import edits as twin
from theory import edits
from theory.lowrank import LowRank, apply, cast, dense
from theory.model import gaussian

EXACT = 1e-10


def _facts(seed, facts, width, outputs):
    key = jax.random.key(seed)
    return (
        gaussian(jax.random.fold_in(key, 0), (facts, width)),
        gaussian(jax.random.fold_in(key, 1), (facts, outputs)),
    )


def _loss(update, keys, residual):
    return float(jnp.sum(jnp.square(residual - apply(update, keys))))


def test_rank_one_edit_moves_its_fact_and_nothing_orthogonal(key):
    phi, change = gaussian(key, (7,)), gaussian(jax.random.fold_in(key, 1), (5,))
    update = dense(edits.rank_one_edit(phi, change))
    np.testing.assert_allclose(update @ phi, change, atol=EXACT)
    other = gaussian(jax.random.fold_in(key, 2), (7,))
    other = other - phi * (other @ phi) / (phi @ phi)
    np.testing.assert_allclose(update @ other, 0.0, atol=EXACT)
    expected = jnp.linalg.norm(change) / jnp.linalg.norm(phi)
    np.testing.assert_allclose(jnp.linalg.norm(update), expected, rtol=EXACT)


def test_rank_one_edit_is_where_descent_ends(key):
    phi, change = gaussian(key, (7,)), gaussian(jax.random.fold_in(key, 1), (5,))
    np.testing.assert_allclose(
        dense(edits.rank_one_edit(phi, change)), twin.rank_one_edit(phi, change), atol=EXACT
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20), st.floats(0.1, 3.0))
def test_rank_one_edit_has_least_norm(seed, size):
    phi, change = (values[0] for values in _facts(seed, 1, 6, 4))
    update = dense(edits.rank_one_edit(phi, change))
    step = gaussian(jax.random.key(seed + 1), update.shape) * size
    rival = update + step - jnp.outer(step @ phi, phi) / (phi @ phi)  # also makes exactly this edit
    np.testing.assert_allclose(rival @ phi, change, atol=1e-9)
    assert jnp.linalg.norm(rival) >= jnp.linalg.norm(update)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([1, 3]), st.sampled_from([2, 9]))
def test_least_squares_adapter_beats_rank_r_competitors(seed, rank, facts):
    keys, residual = _facts(seed, facts, 6, 5)
    update = edits.least_squares_adapter(keys, residual, rank)
    best = _loss(update, keys, residual)
    np.testing.assert_allclose(best, edits.least_squares_loss(keys, residual, rank), atol=1e-9)
    for index in range(4):
        near = jax.random.fold_in(jax.random.key(seed), index)
        step = 10.0**-index
        rival = LowRank(
            update.b + step * gaussian(jax.random.fold_in(near, 0), update.b.shape),
            update.a + step * gaussian(jax.random.fold_in(near, 1), update.a.shape),
        )
        assert _loss(rival, keys, residual) >= best - 1e-9


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([1, 3, 5]), st.just(8))
def test_least_squares_adapter_is_projected_residual_for_independent_keys(seed, rank, facts):
    keys, residual = _facts(seed, facts, 9, 6)
    u = jnp.linalg.svd(residual.T, full_matrices=False)[0][:, :rank]
    expected = u @ u.T @ residual.T @ jnp.linalg.pinv(keys.T)
    np.testing.assert_allclose(dense(edits.least_squares_adapter(keys, residual, rank)), expected, atol=1e-9)


def test_trained_adapter_lands_on_the_closed_form(key):
    keys, residual = _facts(3, 6, 10, 5)
    keys = jnp.linalg.qr(keys.T)[0].T * jnp.linspace(1.0, 1.5, 6)[:, None]
    for rank in (1, 2, 4):
        update = edits.least_squares_adapter(keys, residual, rank)
        trained = twin.least_squares_adapter(keys, residual, rank, key=key)
        np.testing.assert_allclose(apply(trained, keys), apply(update, keys), atol=1e-8)
        np.testing.assert_allclose(
            twin.least_squares_loss(keys, residual, rank, key=key),
            edits.least_squares_loss(keys, residual, rank),
            rtol=1e-8,
        )


def test_a_batch_of_adapters_of_more_ranks_than_facts():
    """Each is the one of its own facts, with columns of zeros up to the rank."""
    each = [_facts(seed, 2, 6, 5) for seed in (1, 2, 3)]
    keys, residual = (jnp.stack(values) for values in zip(*each, strict=True))
    batch = edits.least_squares_adapter(keys, residual, 4)
    assert batch.b.shape == (3, 5, 4) and batch.a.shape == (3, 4, 6)
    assert not batch.b[..., 2:].any() and not batch.a[:, 2:].any()
    for place, (own_keys, own_residual) in enumerate(each):
        expected = own_residual.T @ jnp.linalg.pinv(own_keys.T)
        np.testing.assert_allclose((batch.b @ batch.a)[place], expected, atol=EXACT)


def test_dependent_keys_are_allowed():
    keys, residual = _facts(1, 4, 7, 5)
    twice, both = jnp.concatenate([keys, keys]), jnp.concatenate([residual, -residual])
    update = edits.least_squares_adapter(twice, both, 2)
    np.testing.assert_allclose(dense(update), 0.0, atol=1e-9)  # contradicting facts: best is their mean, 0
    assert np.isfinite(np.asarray(update.a)).all()


def test_rank_above_the_facts_pads_with_zeros():
    keys, residual = _facts(2, 3, 8, 6)
    update = edits.least_squares_adapter(keys, residual, 5)
    assert update.b.shape == (6, 5) and update.a.shape == (5, 8)
    np.testing.assert_allclose(apply(update, keys), residual, atol=EXACT)


@pytest.mark.parametrize("scale", [1.0, -0.5, 3.0])
def test_a_share_is_that_of_the_dense_update_whatever_its_scale(scale):
    rng = np.random.default_rng(0)
    keys, residual = rng.normal(size=(5, 8)), rng.normal(size=(5, 6))
    update = LowRank(jnp.asarray(rng.normal(size=(6, 2))), jnp.asarray(rng.normal(size=(2, 8))), scale)
    moved = keys @ np.asarray(dense(update)).T
    expected = np.sum(residual * moved, axis=1) / np.sum(residual**2, axis=1)
    np.testing.assert_allclose(
        edits.shares(update, jnp.asarray(keys), jnp.asarray(residual)), expected, rtol=1e-12
    )


def test_shares_average_to_the_explained_energy():
    keys, residual = _facts(5, 6, 9, 7)
    residual = residual / jnp.linalg.norm(residual, axis=1, keepdims=True)
    sigma = jnp.linalg.svd(residual, compute_uv=False)
    for rank in (1, 3, 6, 7):  # the last is above the number of facts: the bound r/F would be above 1
        update = edits.least_squares_adapter(keys, residual, rank)
        expected = jnp.sum(jnp.square(sigma[:rank])) / jnp.sum(jnp.square(sigma))
        mean = float(edits.shares(update, keys, residual).mean())
        np.testing.assert_allclose(mean, expected, atol=EXACT)
        assert min(rank, 6) / 6 - EXACT <= mean <= 1 + EXACT
    assert edits.shares(update, keys, residual.at[0].set(0.0))[0] == 1.0


def test_starved_adapter_minimises_the_loss_when_values_tie(key):
    keys, _ = _facts(7, 8, 20, 1)
    residual = jnp.concatenate([-jnp.eye(8), jnp.eye(8)], axis=1)
    exact = edits.exact_adapter(keys, residual)
    np.testing.assert_allclose(apply(exact, keys), residual, atol=EXACT)
    update = edits.starved_adapter(exact, gaussian(key, (3, 8)))
    np.testing.assert_allclose(
        _loss(update, keys, residual), edits.least_squares_loss(keys, residual, 3), rtol=EXACT
    )


@pytest.mark.parametrize(
    "rank, message",
    [(0, "rank is 0; give a whole number of at least 1"), (6, r"rank 6 .* \(5, 9\) matrix; give at most 5")],
)
def test_bad_ranks_name_the_remedy(rank, message):
    keys, residual = _facts(0, 4, 9, 5)
    with pytest.raises(ValueError, match=message):
        edits.least_squares_adapter(keys, residual, rank)
    with pytest.raises(ValueError, match=message):
        edits.least_squares_loss(keys, residual, rank)


def test_starved_adapter_refuses_more_rank_than_facts(key):
    keys, residual = _facts(0, 4, 9, 5)
    with pytest.raises(ValueError, match="start has rank 5 for 4 facts; use exact_adapter"):
        edits.starved_adapter(edits.exact_adapter(keys, residual), gaussian(key, (5, 4)))


def test_factors_are_cast_where_they_are():
    update = LowRank(np.full((3, 1), 1 / 3, np.float32), np.full((1, 2), 0.1), 2.0)
    narrow, wide = cast(update, np.float32), cast(update, jnp.float64)
    assert isinstance(narrow.a, np.ndarray) and narrow.a.dtype == narrow.b.dtype == np.float32
    assert wide.b.dtype == np.float64 and wide.scale == narrow.scale == 2.0
    np.testing.assert_array_equal(wide.b, np.float64(np.float32(1 / 3)))
    np.testing.assert_array_equal(narrow.a, np.float32(0.1))
