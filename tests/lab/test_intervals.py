"""95% intervals cover 93 to 97% over clustered, balanced and rare data; degenerate data are sensible."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.lab import intervals

DRAWS = 3000
NOISE = 0.008  # two standard errors of a coverage from DRAWS draws
SEEDS = (2, 3, 5, 8, 20, 64)
TRIALS = (4, 8, 16, 64, 256)
RATES = (0.03, 0.1, 0.3, 0.5)
KINDS = (
    *(("correlation", amount) for amount in (0.0, 0.1, 0.3)),
    *(("regular", amount) for amount in (0.35, 0.56)),
)


def counts(rng, seeds, trials, rate, kind, amount):
    """Right answers, (draws, seeds): beta-binomial, or all but a share ``amount`` of trials balanced."""
    size = (DRAWS, seeds)
    if kind == "correlation":
        strength = 1 / amount - 1 if amount else np.inf
        each = rng.beta(rate * strength, (1 - rate) * strength, size) if amount else rate
        return rng.binomial(trials, each, size)
    free = round(amount * trials)
    return rng.binomial(free, rate, size) + np.floor((trials - free) * rate + rng.random(size))


def covered(right, asked, rate) -> float:
    mean, low, high = intervals.proportions(right, np.full(right.shape, asked))
    assert np.all((low <= mean) & (mean <= high) & (low >= 0) & (high <= 1))
    return float(np.mean((low <= rate) & (rate <= high)))


@pytest.mark.parametrize("seeds", SEEDS)
def test_coverage_is_93_to_97_percent(seeds):
    """600 cells in all; at least 93% in each, at most 97% where the counts are not too coarse for it."""
    failed = []
    for trials, rate, (kind, amount) in itertools.product(TRIALS, RATES, KINDS):
        rng = np.random.default_rng([seeds, trials, int(100 * rate), int(100 * amount)])
        found = covered(counts(rng, seeds, trials, rate, kind, amount), trials, rate)
        effect = 1 + (trials - 1) * amount if kind == "correlation" else 1.0
        fine = seeds >= 5 and rate * seeds * trials / effect >= 16
        if not 0.93 - NOISE <= found <= (0.97 + NOISE if fine else 1.0):
            failed.append((seeds, trials, rate, kind, amount, found))
    assert failed == []


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_coverage_of_seeds_of_unequal_size(seeds, correlation):
    rng = np.random.default_rng(seeds)
    asked = rng.integers(4, 33, (DRAWS, seeds))
    strength = 1 / correlation - 1 if correlation else np.inf
    each = rng.beta(0.3 * strength, 0.7 * strength, (DRAWS, seeds)) if correlation else 0.3
    found = covered(rng.binomial(asked, each), asked, 0.3)
    assert 0.93 - NOISE <= found <= 0.98


def test_wrong_answers_mirror_right_ones():
    right, asked = np.array([1, 0, 5, 2]), np.array([9, 8, 16, 4])
    mean, low, high = intervals.proportion(right, asked)
    np.testing.assert_allclose(intervals.proportion(asked - right, asked), [1 - mean, 1 - high, 1 - low])


def test_a_single_seed_is_wilson():
    mean, low, high = intervals.proportion([7], [20])
    wilson = stats.binomtest(7, 20).proportion_ci(method="wilson")
    np.testing.assert_allclose([mean, low, high], [0.35, wilson.low, wilson.high], atol=1e-12)
    # a seed that was asked nothing says nothing
    np.testing.assert_allclose(intervals.proportion([7, 0], [20, 0]), [mean, low, high], atol=1e-12)


def test_the_interval_by_hand():
    """8, 12, 9 and 11 of 20: dispersion (2^2 + 2^2 + 1 + 1) / 3 / (20 / 4) = 2/3, no skewness at p = 1/2."""
    _, low, high = intervals.proportion([8, 12, 9, 11], [20] * 4)
    q = stats.t.ppf(0.975, 3) * np.sqrt(2 / 3)
    half = q / 2 * np.sqrt(80 + q**2) / (80 + q**2)
    np.testing.assert_allclose([low, high], [0.5 - half, 0.5 + half], atol=1e-12)


def test_seeds_that_agree_narrow_and_seeds_that_differ_widen():
    wilson = stats.binomtest(20, 40).proportion_ci(method="wilson")
    agree, apart = (intervals.proportion(right, [10] * 4) for right in ([5, 5, 5, 5], [0, 10, 0, 10]))
    assert agree[0] == apart[0] == 0.5
    width = wilson.high - wilson.low
    assert 0.4 * width < agree[2] - agree[1] < 0.6 * width  # not clipped to independence, not to nothing
    assert apart[2] - apart[1] > 2 * width


def test_all_right_and_all_wrong():
    mean, low, high = intervals.proportion([0] * 20, [16] * 20)
    assert (mean, low) == (0, 0)
    assert 3 / 320 < high < 3 / 20  # between the rule of three for trials and for seeds
    np.testing.assert_allclose(intervals.proportion([16] * 20, [16] * 20), [1, 1 - high, 1])
    # shares multiplied back into counts carry rounding errors
    noisy = np.full(20, 16 * (1 - 1e-15))
    np.testing.assert_allclose(intervals.proportion(noisy, [16] * 20), [1, 1 - high, 1], atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8))
def test_the_interval_holds_the_mean_and_stays_in_range(pairs):
    right, asked = zip(*[(min(a, b), b) for a, b in pairs], strict=True)
    mean, low, high = intervals.proportion(right, asked)
    assert 0 <= low <= mean <= high <= 1
    assert mean == pytest.approx(sum(right) / sum(asked))


def test_no_trials_is_an_error():
    with pytest.raises(ValueError, match="at least one trial"):
        intervals.proportion([0], [0])


class TestMean:
    def test_is_student(self):
        values = [1.0, 2.0, 4.0]
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        np.testing.assert_allclose(intervals.mean(values)[1:], expected)
        assert intervals.mean([3.0]) == (3.0, -np.inf, np.inf)

    @pytest.mark.parametrize("seeds", [2, 5, 20])
    def test_covers_normal_values(self, seeds):
        rng = np.random.default_rng(seeds)
        found = [intervals.mean(values)[1:] for values in rng.normal(size=(DRAWS, seeds))]
        assert 0.94 < np.mean([low <= 0 <= high for low, high in found]) < 0.96

    @pytest.mark.parametrize("rate", [0.03, 0.1])
    def test_is_not_for_shares_of_two_seeds(self, rate):
        """What ``mean`` warns of, and that ``proportion`` mends it."""
        right = counts(np.random.default_rng(0), 2, 16, rate, "correlation", 0.1)
        found = [intervals.mean(pair / 16)[1:] for pair in right]
        assert np.mean([low <= rate <= high for low, high in found]) < 0.85
        assert covered(right, 16, rate) > 0.93
