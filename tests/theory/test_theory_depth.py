"""Depth: stacked memories against their law, layer order by enumeration, familiarity (section 8)."""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from sim.twins import depth as twin
from theory import depth


@pytest.mark.parametrize("alignment", [0.8, 0.6, 0.4, 0.2])
def test_two_hop_accuracy_against_stacked_memories(key, alignment):
    """d = N = 256, 6 draws: within 0.01 plus 3 standard errors."""
    runs = np.asarray(twin.accuracy(256, 256, alignment, key=key, draws=6))
    error = runs.std(ddof=1) / 6**0.5
    assert abs(runs.mean() - depth.accuracy(256, 256, alignment)) < 0.01 + 3 * error


@pytest.mark.parametrize(("facts", "dim"), [(48, 96), (128, 64)])
def test_law_at_other_loads(key, facts, dim):
    """N < d and N > d, 80 draws: within 0.02 plus 3 standard errors."""
    runs = np.asarray(twin.accuracy(facts, dim, 0.5, key=key, draws=80))
    slack = 0.02 + 3 * runs.std(ddof=1) / 80**0.5
    assert abs(runs.mean() - depth.accuracy(facts, dim, 0.5)) < slack


@pytest.mark.slow
def test_gap_shrinks_with_size(key):
    """rho_b = 0.8, d = N = 32, 128 (300, 40 draws): the law's gap falls, and beats the leading order's."""
    gaps, leading, errors = [], [], []
    for dim, draws in ((32, 300), (128, 40)):
        runs = np.asarray(twin.accuracy(dim, dim, 0.8, key=key, draws=draws))
        gaps.append(abs(runs.mean() - depth.accuracy(dim, dim, 0.8)))
        leading.append(abs(runs.mean() - depth.accuracy_leading(dim, dim, 0.8)))
        errors.append(runs.std(ddof=1) / draws**0.5)
    assert gaps[0] > gaps[1] + 2 * np.hypot(*errors)
    assert gaps[1] < 0.01 + 3 * errors[1] and leading[1] > gaps[1] + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_coefficient_matters_only_with_residuals(key, lam):
    """128 x 128, 20 draws: within 0.02 plus 3 standard errors with the residual; lambda cancels without."""
    runs = np.asarray(twin.accuracy(128, 128, 0.7, lam, True, key=key, draws=20))
    slack = 0.02 + 3 * runs.std(ddof=1) / 20**0.5
    assert abs(runs.mean() - depth.accuracy(128, 128, 0.7, lam, True)) < slack
    assert depth.accuracy(128, 128, 0.7, lam) == pytest.approx(depth.accuracy(128, 128, 0.7), abs=1e-12)
    plain = [twin.accuracy(32, 32, 0.7, value, key=key, draws=4) for value in (1.0, lam)]
    assert jax.numpy.array_equal(*plain)  # powers of two scale without rounding


@pytest.mark.parametrize(("lam", "residual"), [(1.0, False), (0.7, True)])
def test_traces_against_stacked_memories(lam, residual):
    """s^2 and s_self^2 of real score matrices, 40 draws of d = 64, N = 96: within 6%, and the mean score."""
    rng = np.random.default_rng(0)
    rho, rows, skip = 0.6, [], np.eye(64) * residual
    for _ in range(40):
        a, w, other, c = rng.normal(size=(4, 64, 96)) / 8
        k = c.T @ (skip + lam * c @ (rho * w + 0.8 * other).T) @ (skip + lam * w @ a.T) @ a
        right = np.diag(k)
        rows.append([right.mean(), (np.sum(k**2) - np.sum(right**2)) / (96 * 95), right.var()])
    law = depth.noise(96, 64, rho, lam, residual)
    assert np.mean(rows, 0) == pytest.approx([law.signal, law.rival, law.own], rel=0.06)


@pytest.mark.parametrize("residual", [False, True])
def test_leading_order_is_an_integral_over_the_noise_of_the_right_score(residual):
    noise = depth.noise(24, 32, 0.6, 0.8, residual)

    def recall(own):
        return (
            stats.norm.pdf(own)
            * stats.norm.cdf((noise.signal + noise.own**0.5 * own) / noise.rival**0.5) ** 23
        )

    expected, _ = integrate.quad(recall, -12, 12)
    assert depth.accuracy_leading(24, 32, 0.6, 0.8, residual) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("residual", [True, False])
def test_wrong_layer_order_is_chance_exactly(residual):
    """All bijections of 2, 3, 4 entities, a nonlinear base: right = trials / N to the unit."""
    for entities in (2, 3, 4):
        right, trials = twin.wrong_order_count(entities, jax.random.key(entities), residual)
        assert right == trials * depth.wrong_order_accuracy(entities)


def test_wrong_layer_order_in_large_memories(key):
    """N = 64, rho_b = 1, 100 draws: 1/N within 3 standard errors, while the right order is near 0.8."""
    wrong = np.asarray(twin.accuracy(64, 64, 1.0, 1.0, False, key=key, draws=100, wrong_order=True))
    assert abs(wrong.mean() - 1 / 64) < 3 * wrong.std(ddof=1) / 10
    right = np.asarray(twin.accuracy(64, 64, 1.0, key=key, draws=20))
    assert right.mean() > 0.7


def test_familiarity_is_the_cosine_of_a_mean_of_exposures(key):
    """Twin at width 400, 200 draws: within 0.01."""
    for exposures in (1, 8):
        cosine = np.asarray(twin.familiarity(exposures, 4.0, dim=400, key=key, draws=200))
        assert abs(cosine.mean() - depth.familiarity(exposures, 4.0)) < 0.01
    assert depth.familiarity(0, 4.0) == 0.0 and depth.familiarity(4, 4.0) ** 2 == pytest.approx(0.5)


def test_a_fake_bridge_leaves_chance():
    assert depth.accuracy(64, 64, 0.0) == pytest.approx(1 / 64, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: depth.accuracy(1, 64, 0.5), "facts is 1; give a whole number of at least 2"),
        (lambda: depth.accuracy(64, 64, 1.5), "alignment is 1.5; it lies between -1 and 1"),
        (lambda: depth.familiarity(1, 0.0), "half is 0.0; give a finite number above 0"),
        (lambda: depth.wrong_order_accuracy(0), "at least 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
