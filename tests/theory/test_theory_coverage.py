"""Sections 3 and 5: retention and the coverage law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.twins import coverage as twin
from theory import coverage, crosstalk, edits
from theory.lowrank import apply
from theory.model import gaussian


def test_critical_lambda_is_where_the_argmax_flips(key):
    margin = jnp.array([1.0, 0.4, 2.0, 1.0, 0.5])
    swing = jnp.array([2.0, 3.0, 2.5, -1.0, 0.0])
    np.testing.assert_allclose(
        coverage.critical_lambda(margin, swing), twin.critical_lambda(margin, swing, key=key), atol=1e-10
    )


@pytest.mark.parametrize("margin, swing", [(1.0, 2.0), (0.5, 2.5), (2.0, 3.0)])
def test_retention_against_a_scaled_edit(key, margin, swing):
    tie = margin / swing
    lam = jnp.array([0.05, tie - 1e-6, tie, tie + 1e-6, 0.9, 1.0])
    predicted = coverage.retention(lam, margin, swing)
    np.testing.assert_array_equal(predicted, twin.retention(lam, margin, swing, key=key))
    assert predicted[2] == 0.5


def test_exact_overwrites_survive_above_one_half():
    np.testing.assert_array_equal(coverage.retention(jnp.array([0.49, 0.5, 0.51])), [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(coverage.retention(1 / jnp.array([1.0, 2.0, 3.0])), [1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    "critical, largest",
    [(0.5, 1), (1 / 3, 2), (0.3, 3), (0.1, 9), (1 / 49, 48), (1.2, 0), (jnp.inf, 0)],
)
def test_largest_library(critical, largest):
    assert coverage.largest_library(critical) == largest
    if largest:
        assert coverage.retention(1 / largest, critical, 1.0) == 1.0
    assert coverage.retention(1 / (largest + 1), critical, 1.0) < 1.0


def test_largest_library_is_set_by_the_weakest_fact():
    assert coverage.largest_library(jnp.array([0.1, 0.3, 0.2])) == 3
    assert coverage.largest_library() == 1  # of exact overwrites
    with pytest.raises(ValueError, match="no largest size"):
        coverage.largest_library(jnp.zeros(2))


@pytest.mark.parametrize(
    ("margin", "swing", "largest"),
    [
        ([0.3, -1.0], [2.0, -2.0], 6),  # from 3 on: up to 2 the second fact is lost
        ([1.0, -1.0], [2.5, -2.0], 0),  # "1/K > lambda_c" says 2, where the second fact ties
        ([1.0, -1.0], [3.5, -2.0], 3),
        ([1.0, -0.3], [3.5, -2.0], 0),  # kept below 0.15, gained above 0.286
        ([1.0, -2.0], [2.0, -1.0], 1),  # lost beyond 2 alone
        ([1.0, 1.0], [2.0, -1.0], 0),
    ],
)
def test_a_fact_that_is_lost_at_an_upper_end_needs_a_library_large_enough(margin, swing, largest, key):
    """By averaging and reading: the law's largest size, and its range against every size."""
    margin, swing = np.array(margin), np.array(swing)
    low, high = coverage.lambda_range(margin, swing)
    assert coverage.largest_library(low, high) == largest
    assert twin.largest_library(margin, swing, key=key) == largest
    if largest:
        assert twin.largest_library(margin, swing, key=key, most=largest) == largest
    for size in range(1, 12):
        keeps = bool((coverage.retention(1 / size, margin, swing) == 1).all())
        assert keeps == bool(low.max() < 1 / size < high.min())


def test_reading_shows_the_sizes_that_keep_a_fact_of_negative_margin_and_swing():
    """(M, Delta) = (-1, -2): lambda_c is 0 and 1/K > 0 for every K, yet K = 1 loses it and K = 2 ties."""
    assert coverage.critical_lambda(-1.0, -2.0) == 0
    np.testing.assert_array_equal(
        coverage.retention(1 / jnp.array([1.0, 2.0, 3.0, 9.0]), -1.0, -2.0), [0, 0.5, 1, 1]
    )


@pytest.mark.parametrize("adapters, steps", [(2, 3), (3, 2), (4, 4)])
def test_covers_library_by_library(key, adapters, steps):
    """Random coefficients, overlaps and shares, each its own: half of the traces are solved or so."""
    solved = []
    for draw in range(40):
        lam, overlap, share = (
            jax.random.uniform(jax.random.fold_in(key, 3 * draw + i), shape, jnp.float64)
            for i, shape in enumerate([(adapters,), (adapters, steps), (adapters, steps)])
        )
        lam = 3 * lam
        assert coverage.covers(lam, overlap, share) == twin.covers(lam, overlap, share, key=key)
        solved.append(bool(coverage.covers(lam, overlap, share)))
    assert 4 < sum(solved) < 36


SIGNED = st.sampled_from([-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0])
GRID = np.concatenate([np.linspace(0, 8, 1601)[1:], [0.15, 20 / 3]])


def _leads(margin, swing, lam, third=-100.0):
    """A memory of three logits, old, new and ``third``, plus lambda times its change: does new lead alone?"""
    logits = np.array([margin, 0.0, third]) + lam * np.array([-swing / 2, swing / 2, 0.0])
    return logits[1] - max(logits[0], logits[2]) > 1e-9


@pytest.mark.parametrize("swing", [-2.0, -0.3, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("margin", [-2.0, -0.3, 0.0, 0.3, 2.0])
def test_every_case_of_the_range_by_brute_force(margin, swing):
    """All signs of M and Delta, two and three logits, 1603 coefficients: lead, tie or loss at each."""
    low, high = (float(end) for end in coverage.lambda_range(margin, swing))
    predicted = coverage.retention(jnp.asarray(GRID), margin, swing)
    for lam, chance in zip(GRID, np.asarray(predicted), strict=True):
        lead = lam * swing - margin  # two logits
        expected = 0.5 if abs(lead) < 1e-9 else float(lead > 0)
        assert chance == expected, (lam, chance)
        assert (low < lam < high and expected != 0.5) == _leads(margin, swing, lam)
    assert float(coverage.critical_lambda(margin, swing)) == low


def test_ranges_of_the_nine_cases():
    margin, swing = np.repeat([1.0, 0.0, -1.0], 3), np.tile([2.0, 0.0, -2.0], 3)
    low, high = coverage.lambda_range(margin, swing)
    inf = np.inf
    np.testing.assert_array_equal(low, [0.5, inf, inf, 0, inf, inf, 0, 0, 0])
    np.testing.assert_array_equal(high, [inf] * 8 + [0.5])


def test_a_tie_is_a_tie_at_any_scale():
    for scale in (1e-15, 1.0, 1e15):
        chances = coverage.retention(jnp.array([0.1, 0.3, 0.7]), 0.3 * scale, scale)
        np.testing.assert_array_equal(chances, [0.0, 0.5, 1.0])


@st.composite
def _facts(draw):
    sizes = draw(st.sampled_from([(4, 4), (4, 1)]))
    drawn = st.one_of(SIGNED, st.floats(-2, 2))
    return [np.array(draw(st.lists(drawn, min_size=n, max_size=n))) for n in sizes for _ in range(2)]


@settings(max_examples=30, deadline=None)
@given(_facts(), st.sampled_from([0.4, 1.0, 3.0]))
def test_best_lambda_and_window_beat_a_fine_grid(facts, largest):
    """Signed margins and swings, zeros and ties among them, against 2000 coefficients in (0, largest]."""
    edit_margin, edit_swing, untouched_margin, untouched_swing = facts
    lam, accuracy = (float(value) for value in coverage.best_lambda(*facts, largest=largest))
    low, high = (float(end) for end in coverage.lambda_window(*facts))

    def right(lam):
        """Edits whose new answer leads, and kept facts whose right answer leads (right - rival > 0)."""
        lam = np.asarray(lam)[..., None]
        gained = lam * edit_swing - edit_margin > 0
        return (gained.sum(-1) + (untouched_margin - lam * untouched_swing > 0).sum(-1)) / (
            edit_margin.size + untouched_margin.size
        )

    grid = np.linspace(0, largest, 2001)[1:]
    assert 0 < lam <= largest
    assert float(right(lam)) == pytest.approx(accuracy, abs=1e-12)
    assert right(grid).max() <= accuracy + 1e-12
    inside = (low < grid) & (grid < high)
    assert (right(grid[inside]) == 1.0).all()
    outside = (grid < low * (1 - 1e-9)) | (grid > high * (1 + 1e-9))
    assert (right(grid[outside]) < 1.0).all()
    if low < min(high, largest) * (1 - 1e-12):
        assert low < lam < high and accuracy == 1.0


def test_coverage_law_decides_every_fact_with_orthogonal_keys(key):
    draws = jax.random.uniform(key, (3, 3000), jnp.float64)
    lam, overlap, share = draws
    predicted = coverage.decides(lam, overlap, share)
    np.testing.assert_array_equal(predicted, twin.decides(lam, overlap, share, key=key))
    assert 0.02 < predicted.mean() < 0.5


def test_threshold_in_each_factor_is_sharp(key):
    ones = jnp.ones(2)
    edge = jnp.array([0.5 - 1e-6, 0.5 + 1e-6])
    for cells in ((edge, ones, ones), (ones, edge, ones), (ones, ones, edge)):
        np.testing.assert_array_equal(twin.decides(*cells, key=key), [False, True])
        np.testing.assert_array_equal(coverage.decides(*cells), [False, True])


def test_margin_form():
    assert coverage.decides(0.5, 1.0, 1.0, margin=0.9, swing=2.0)
    assert not coverage.decides(0.5, 1.0, 1.0, margin=1.1, swing=2.0)


def test_covers_needs_every_step_and_adds_adapters(key):
    lam = jnp.array([0.6, 0.6])
    overlap = jnp.array([[1.0, 0.0, 0.7], [0.0, 1.0, 0.7]])
    share = jnp.ones((2, 3))
    assert coverage.covers(lam, overlap, share)  # step 3 by both together: 2 (0.42 + 0.42) > 1
    assert twin.covers(lam, overlap, share, key=key)
    weaker = overlap.at[1, 2].set(0.0)
    assert not coverage.covers(lam, weaker, share)
    assert not twin.covers(lam, weaker, share, key=key)
    assert coverage.covers(1.0, weaker, share) == twin.covers(jnp.ones(2), weaker, share, key=key)


def test_whitened_form_decides_new_against_old_with_correlated_keys(key):
    """2 lambda (P c_k)_k > 1 with c = Phi^+ phi, whatever the keys; the split form errs on some facts."""
    facts = 10
    shared = gaussian(jax.random.fold_in(key, 0), (1, 60))
    keys = gaussian(jax.random.fold_in(key, 1), (facts, 60)) + shared
    read = 0.8 * keys + 0.6 * gaussian(jax.random.fold_in(key, 2), (facts, 60))
    residual = jnp.concatenate([-jnp.eye(facts), jnp.eye(facts)], axis=1)
    exact = edits.exact_adapter(keys, residual)
    overlap = crosstalk.edit_overlap(keys, read)
    right = 0
    for index in range(20):
        start = gaussian(jax.random.fold_in(key, 3 + index), (6, facts))
        frame = jnp.linalg.qr(start.T)[0]
        whole = jnp.diagonal(frame @ frame.T @ overlap)
        logits = apply(edits.starved_adapter(exact, start), read)
        logits = logits.at[:, :facts].add(jnp.eye(facts))  # the base holds the old answer at the prompt too
        leads = jnp.diagonal(logits[:, facts:]) > jnp.diagonal(logits[:, :facts])
        np.testing.assert_array_equal(2 * whole > 1, leads)
        shares = edits.shares(edits.starved_adapter(exact, start), keys, residual)
        right += int((coverage.decides(1.0, jnp.diagonal(overlap), shares) == leads).sum())
    assert 0.8 < right / 200 < 1.0
