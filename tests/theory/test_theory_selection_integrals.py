"""Arrow's selection and gates as integrals: sums, unequal spreads, any temperature (section 10)."""

import numpy as np
import pytest
from scipy import integrate, special

from theory import selection


@pytest.mark.parametrize(
    ("mean", "spread"),
    [
        ([1.0, 2.0], [1.0, 1e-3]),
        ([0.0, 5.0, 1.0], [1e-4, 2.0, 30.0]),
        ([0.0, 0.0], [1e-8, 1.0]),
        ([100.0, 0.0], [0.01, 50.0]),
        ([3.0, 3.0 + 1e-6, 0.0], [1e-6, 1e-6, 1.0]),
    ],
)
def test_probabilities_sum_to_one_at_any_spreads_and_temperature(mean, spread):
    assert selection.selection(mean, spread).sum() == pytest.approx(1.0, abs=1e-9)
    for temperature in (1e-6, 0.01, 1.0, 100.0):
        for top_k in range(1, len(mean) + 1):
            gates = selection.expected_gate(mean, spread, temperature, top_k)
            assert gates.sum() == pytest.approx(1.0, abs=1e-9) and (gates >= 0).all()


def test_unequal_spreads_against_adaptive_integration():
    """One sharp score among broad ones: |N(1, 1)| beats a fixed 2 with probability Phi(-1) + Phi(-3)."""
    sharp = selection.selection([1.0, 2.0], [1.0, 1e-6])
    assert sharp[0] == pytest.approx(special.ndtr(-1) + special.ndtr(-3), abs=1e-6)
    three = selection.selection([0.0, 1.5, 2.0], [3.0, 1e-7, 0.5])

    def hit(score, sign):
        density = np.exp(-(((score - sign * 2) / 0.5) ** 2) / 2) / (0.5 * (2 * np.pi) ** 0.5)
        return density * (2 * special.ndtr(score / 3) - 1)

    both = [integrate.quad(hit, 1.5, 8, args=(sign,), epsabs=1e-12)[0] for sign in (1, -1)]
    assert three[2] == pytest.approx(sum(both), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
def test_gate_of_two_against_a_double_integral(temperature):
    """E[sigmoid((|s_1| - |s_2|)/T)], s_1 ~ N(2, 1), s_2 ~ N(0, .5^2), on 400 x 400 Gauss nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x, y = 2 + 8 * nodes, 4 * nodes
    density = np.exp(-((8 * nodes) ** 2) / 2)
    weights = weights * density / (weights @ density)
    exact = weights @ special.expit((np.abs(x)[:, None] - np.abs(y)[None]) / temperature) @ weights
    assert selection.expected_gate([2.0, 0.0], [1.0, 0.5], temperature)[0] == pytest.approx(exact, abs=2e-4)


def test_top_two_of_three_against_monte_carlo():
    """4e5 draws at a temperature of .3: within 4 standard errors of each gate."""
    draws = np.abs(np.random.default_rng(0).normal([2.0, 1.0, 0.0], [1.0, 0.1, 3.0], size=(400_000, 3)))
    chosen = draws >= np.sort(draws, axis=1)[:, 1:2]
    gates = np.where(chosen, np.exp(draws / 0.3), 0.0)
    gates = gates / gates.sum(1, keepdims=True)
    law = selection.expected_gate([2.0, 1.0, 0.0], [1.0, 0.1, 3.0], 0.3, 2)
    assert (np.abs(gates.mean(0) - law) < 4 * gates.std(0) / 400_000**0.5 + 1e-4).all()


def test_the_score_law_by_hand():
    """theta = 2, c = 1, tau = 1: q = 4 and a^2 = 3/4. Other means in 5 features, a seen entity read twice."""
    assert selection.alignment(2.0, 1.0) == pytest.approx(0.75)
    mean, spread = selection.score_law(2.0, 1.0, 0.5, noise=4.5, other=2.0, features=5, seen=2.0)
    assert mean == pytest.approx(0.75**0.5 * (0.5 * 2 + 2 * 1 / 2))
    assert spread**2 == pytest.approx(4.5 + 4 * (1.25**2 - 1) + 2 * 4 * 0.25 / 4)


def test_an_entity_that_is_seen_twice_as_often_spreads_four_times_as_far():
    """80 adapters of 40 facts in 40 features: <xi_k, v> of own facts, read once, twice and not at all."""
    rng, facts, theta = np.random.default_rng(0), 40, 2.0
    shift, entity = np.zeros(facts), rng.normal(size=(80, facts, facts))
    shift[0] = theta
    prototypes = np.linalg.svd(shift + entity, full_matrices=False)[2][:, 0]
    prototypes *= np.sign(prototypes[:, :1])
    own = np.einsum("akm,am->ak", entity, prototypes)
    for seen in (0.0, 1.0, 2.0):
        fresh = rng.normal(size=own.shape)
        scores = seen * own + fresh
        mean, spread = selection.score_law(theta, 1.0, 0.0, noise=1 + seen**2, seen=seen)
        assert scores.mean() == pytest.approx(mean, abs=0.05 * (1 + seen))
        assert scores.var() == pytest.approx(spread**2, rel=0.06)
