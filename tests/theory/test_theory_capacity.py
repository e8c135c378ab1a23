"""Capacity of a rank-r memory: closed forms, anchors, and real truncated memories (section 7)."""

import jax
import numpy as np
import pytest
from scipy import integrate, special

from sim.twins import capacity as twin
from theory import capacity, starvation


def test_quarter_circle_edge_and_captured_energy():
    for share in (0.02, 0.3, 0.9):
        low = capacity.edge(share)
        mass = integrate.quad(lambda s: np.sqrt(4 - s * s) / np.pi, low, 2)[0]
        energy = integrate.quad(lambda s: s * s * np.sqrt(4 - s * s) / np.pi, low, 2)[0]
        assert mass == pytest.approx(share, abs=1e-7)
        assert capacity.captured(share) == pytest.approx(energy, abs=1e-7)
    assert capacity.captured(1.0) == pytest.approx(1.0, abs=1e-10)
    assert capacity.captured(1e-5) / 1e-5 == pytest.approx(4.0, rel=2e-3)


def test_traces_reach_their_limits():
    full = capacity.traces(2.0, 1.0)
    near = capacity.traces(2.0, 1 - 1e-7)
    for name, value in (("signal", 1.0), ("energy", 9.0), ("square", 5.0)):
        assert getattr(full, name) == value
        assert getattr(near, name) == pytest.approx(value, rel=1e-4)
    heavy = capacity.traces(1e4, 0.1)
    assert heavy.signal == pytest.approx(capacity.captured(0.1), rel=1e-3)
    assert heavy.energy / 1e8 == pytest.approx(capacity.captured(0.1), rel=1e-3)
    light = capacity.traces(1e-6, 0.25e-6)  # nearly orthogonal facts: K is a projector of rank r = F/4
    assert [light.signal, light.energy, light.square] == pytest.approx([0.25] * 3, rel=5e-3)


@pytest.mark.parametrize(("load", "share"), [(0.5, 0.125), (2.0, 0.5), (8.0, 0.25)])
def test_traces_against_random_memories(key, load, share):
    """16 memories of width 64: within 2% or 4 standard errors (the finite-width bias is O(1/d))."""
    runs = np.asarray(twin.traces(load, share, dim=64, key=key, draws=16))
    limit = capacity.traces(load, round(share * 64) / 64)
    expected = np.array([limit.signal, limit.energy, limit.square])
    error = runs.std(0, ddof=1) / 16**0.5
    assert (np.abs(runs.mean(0) - expected) < 0.02 * expected + 4 * error).all()


@pytest.mark.parametrize(
    ("facts", "dim", "rank", "candidates", "draws"),
    [
        (100, 64, 8, None, 40),
        (256, 64, 16, None, 20),
        (320, 64, 64, None, 20),
        (430, 128, 4, None, 4),
        (600, 64, 8, 8, 60),
    ],
)
def test_recall_against_random_memories(key, facts, dim, rank, candidates, draws):
    """Any load, small and full rank, few candidates: within 0.015 plus 3 standard errors."""
    runs = np.asarray(twin.recall(facts, dim, rank, candidates, key=key, draws=draws))
    slack = 0.015 + 3 * runs.std(ddof=1) / draws**0.5
    assert abs(runs.mean() - capacity.recall(facts, dim, rank, candidates)) < slack


NEAR = [(5, 64, 8, 40), (16, 16, 16, 200), (12, 24, 12, 200)]
NEAR_SLOW = [
    *(
        (5, 64, 4, 300),
        (9, 12, 10, 300),
        (16, 16, 8, 200),
        (20, 20, 19, 200),
        (32, 16, 16, 200),
        (32, 64, 28, 40),
    ),
    *((32, 64, 32, 40), (32, 64, 48, 40), (64, 32, 32, 100), (200, 100, 90, 10), (200, 100, 100, 8)),
]


@pytest.mark.parametrize(
    ("facts", "dim", "rank", "draws"),
    [*NEAR, *(pytest.param(*size, marks=pytest.mark.slow) for size in NEAR_SLOW)],
)
def test_recall_where_the_rank_is_near_or_above_the_facts_or_full(key, facts, dim, rank, draws):
    """Within the stated finite-size error 1.5/d plus 3 standard errors."""
    runs = np.asarray(twin.recall(facts, dim, rank, key=key, draws=draws))
    slack = 1.5 / dim + 3 * runs.std(ddof=1) / draws**0.5
    assert abs(runs.mean() - capacity.recall(facts, dim, rank)) < slack


def test_recall_is_continuous_at_full_rank_and_constant_beyond_the_facts():
    """From r = F on nothing is cut; for F just above r almost nothing is; recall rises with the rank."""
    for facts, dim in ((5, 64), (32, 64)):
        recalls = [capacity.recall(facts, dim, rank) for rank in (facts, facts + 1, dim)]
        assert recalls[0] == recalls[1] == recalls[2]
        assert capacity.recall(facts + 1e-6, dim, facts) == pytest.approx(recalls[0], abs=1e-4)
    rising = [capacity.recall(48, 48, rank) for rank in (2, 6, 12, 24)]
    assert rising == sorted(rising)
    assert capacity.recall(5, 64, 8) > 0.999 and capacity.recall(32, 64, 64) > 0.998


@pytest.mark.parametrize(("facts", "dim"), [(8, 16), (16, 16), (48, 48), (5, 64)])
def test_full_rank_averages_the_lengths_of_key_and_value(facts, dim):
    """S = AB + sqrt(x AB/d) z against rivals of variance [A^2 B + A(1 + x)]/d, 4e5 draws of A, B, z: 2e-3."""
    rng, load = np.random.default_rng(facts), facts / dim
    key, value = rng.chisquare(dim, size=(2, 400_000)) / dim
    own = key * value + np.sqrt(load * key * value / dim) * rng.normal(size=400_000)
    rival = np.sqrt((key**2 * value + key * (1 + load)) / dim)
    expected = np.mean(special.ndtr(own / rival) ** (facts - 1))
    assert capacity.recall(facts, dim, dim) == pytest.approx(expected, abs=2e-3)


def test_gap_shrinks_with_size(key):
    """Full rank, load 1: the gap falls from d = 16 to d = 64 (400, 40 draws)."""
    gap, error = np.empty(2), np.empty(2)
    for index, (dim, draws) in enumerate(((16, 400), (64, 40))):
        runs = np.asarray(twin.recall(dim, dim, dim, key=jax.random.fold_in(key, index), draws=draws))
        gap[index] = runs.mean() - capacity.recall(dim, dim, dim)
        error[index] = runs.std(ddof=1) / draws**0.5
    assert abs(gap[0]) > abs(gap[1]) + 2 * np.hypot(error[0], error[1])
    assert abs(gap[1]) < 0.006 + 3 * error[1]


def test_limits_of_recall():
    # F << d: the insertion law of section 6. F >> d, full rank: the Gaussian law, whatever the rank-one part.
    for rank in (4, 8, 16):
        assert capacity.recall(64, 64000, rank) == pytest.approx(
            starvation.insertion_recall(64, rank), abs=2e-3
        )
    for facts, rank in ((5, 2), (5, 4), (8, 1)):  # at every size, not only for many facts
        assert capacity.recall(facts, 10**6, rank) == pytest.approx(
            starvation.insertion_recall(facts, rank), abs=5e-3
        )
    gap = [
        abs(capacity.recall(f, d, d, 8) - capacity.recall_large(f, d, d, 8))
        for f, d in ((4e3, 60), (1e5, 300))
    ]
    assert gap[1] < gap[0] < 0.02


def test_facts_at_recall_inverts_recall_and_respects_the_bound():
    for dim, rank in ((128, 8), (128, 128)):
        facts = capacity.facts_at_recall(dim, rank, 0.5)
        assert capacity.recall(facts, dim, rank) == pytest.approx(0.5, abs=1e-8)
    large = capacity.facts_at_recall(512, 64, 0.5, large=True)
    assert capacity.recall_large(large, 512, 64) == pytest.approx(0.5, abs=1e-8)
    # A small rank is bounded by exp(r/2) up to a constant, whatever the width.
    capacities = [capacity.facts_at_recall(dim, 4, 0.5) for dim in (256, 4096)]
    assert max(capacities) < 4 * capacity.facts_bound(4) and capacities[1] / capacities[0] < 1.2


def test_anchor_laws():
    assert capacity.facts_small_share(256, 8) * np.log(capacity.facts_small_share(256, 8)) == pytest.approx(
        4096
    )
    # The constant of the leading order is reached slowly (ln ln over ln): the ratio must approach 1 with d.
    ratio = [
        capacity.facts_at_recall(d, d, 0.5, large=True) / capacity.facts_full_rank(d) for d in (1e2, 1e4, 1e8)
    ]
    assert abs(ratio[2] - 1) < abs(ratio[1] - 1) < abs(ratio[0] - 1)


@pytest.mark.parametrize(("facts", "exponent"), [(55, 0.80), (8100, 0.90)])
def test_facts_grow_with_parameters_by_an_exponent_below_one(facts, exponent):
    """Section 7: d ln F / d ln P = ln F / (1 + ln F), so that F is no power of the parameters P = 2 r d."""
    dim = round(facts * np.log(facts) / 2)  # of rank 1
    low, here, high = (capacity.facts_small_share(d, 1) for d in (dim - 1, dim, dim + 1))
    slope = np.log(high / low) / np.log((dim + 1) / (dim - 1))
    np.testing.assert_allclose(slope, np.log(here) / (1 + np.log(here)), rtol=1e-4)
    assert round(slope, 2) == exponent


def test_self_noise_is_a_variance_of_the_right_score():
    assert capacity.recall_at_snr(50.0, 100) == pytest.approx(1.0)
    assert capacity.recall_at_snr(0.0, 7) == pytest.approx(1 / 7, abs=1e-9)
    assert capacity.recall_at_snr(3.0, 100, 0.5) > capacity.recall_at_snr(3.0, 100, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capacity.recall(100, 64, 65), "rank 65 must be a whole number from 1 to the dimension 64"),
        (lambda: capacity.recall(1, 64, 2), "facts is 1; give a finite number above 1"),
        (lambda: capacity.edge(0.0), "share is 0.0; give a finite number above 0"),
        (lambda: capacity.facts_at_recall(64, 4, 1.0), "between 0 and 1"),
        (lambda: capacity.traces(0.0, 0.5), "load is 0.0; give a finite number above 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_twin_is_the_same_whatever_the_chunk(key):
    few = twin.recall(30, 16, 4, key=key, draws=3)
    many = twin.recall(30, 16, 4, key=key, draws=5)
    assert jax.numpy.array_equal(few, many[:3])
