"""95% intervals cover 93 to 97%, pooled and by themselves; degenerate data are sensible."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from sim.lab import intervals
from sim.lab.figure import Source, committed

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


def covered(right, questions, rate) -> float:
    mean, low, high = intervals.proportions(right, np.full(right.shape, questions))
    assert np.all((low <= mean) & (mean <= high) & (low >= 0) & (high <= 1))
    return float(np.mean((low <= rate) & (rate <= high)))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
def test_coverage_is_93_to_97_percent(seeds):
    """600 cells in all; at least 93% in each, at most 97% where the counts are not too coarse for it."""
    failed = []
    for trials, rate, (kind, amount) in itertools.product(TRIALS, RATES, KINDS):
        rng = np.random.default_rng([seeds, trials, int(100 * rate), int(100 * amount)])
        coverage = covered(counts(rng, seeds, trials, rate, kind, amount), trials, rate)
        effect = 1 + (trials - 1) * amount if kind == "correlation" else 1.0
        fine = seeds >= 5 and rate * seeds * trials / effect >= 16
        if not 0.93 - NOISE <= coverage <= (0.97 + NOISE if fine else 1.0):
            failed.append((seeds, trials, rate, kind, amount, coverage))
    assert failed == []


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_coverage_of_seeds_of_unequal_size(seeds, correlation):
    rng = np.random.default_rng(seeds)
    questions = rng.integers(4, 33, (DRAWS, seeds))
    strength = 1 / correlation - 1 if correlation else np.inf
    each = rng.beta(0.3 * strength, 0.7 * strength, (DRAWS, seeds)) if correlation else 0.3
    coverage = covered(rng.binomial(questions, each), questions, 0.3)
    assert 0.93 - NOISE <= coverage <= 0.98


def test_wrong_answers_mirror_right_ones():
    right, questions = np.array([1, 0, 5, 2]), np.array([9, 8, 16, 4])
    mean, low, high = intervals.proportion(right, questions)
    mirrored = intervals.proportion(questions - right, questions)
    np.testing.assert_allclose(mirrored, [1 - mean, 1 - high, 1 - low])


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
    agree, differ = (intervals.proportion(right, [10] * 4) for right in ([5, 5, 5, 5], [0, 10, 0, 10]))
    assert agree[0] == differ[0] == 0.5
    width = wilson.high - wilson.low
    assert 0.4 * width < agree[2] - agree[1] < 0.6 * width  # not clipped to independence, not to nothing
    assert differ[2] - differ[1] > 2 * width


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
    right, questions = zip(*[(min(a, b), b) for a, b in pairs], strict=True)
    mean, low, high = intervals.proportion(right, questions)
    assert 0 <= low <= mean <= high <= 1
    assert mean == pytest.approx(sum(right) / sum(questions))


def test_no_trials_is_an_error():
    with pytest.raises(ValueError, match="at least one trial"):
        intervals.proportion([0], [0])


def test_one_right_answer_is_no_reason_to_believe_that_a_seed_has_one_answer():
    """1 of 48 in three seeds: dispersion 1 at one degree of freedom, cut at a correlation of 1/2."""
    _, low, high = intervals.proportion([1, 0, 0], [16] * 3)
    q2 = intervals.Z**2 * (1 + 15 / 2)
    roots = np.roots([1 + q2 / 48, -(2 / 48 + q2 / 48), 1 / 48**2])  # (p - 1/48)^2 = q^2 p (1 - p) / 48
    np.testing.assert_allclose([high, low], roots, atol=1e-12)
    assert high < 0.45
    # seeds that are seen to be all one or the other are believed
    ends = intervals.proportion([16, 0, 16, 0, 0, 16], [16] * 6)
    assert ends[2] - ends[1] > 2 * intervals.Z * np.sqrt(0.25 / 6) / (1 + intervals.Z**2 / 6)


class TestPool:
    """Tables of settings whose rows share their seeds; every row of a table has one correlation."""

    RATES = np.array([0.02, 0.06, 0.3, 0.8])
    SETTINGS, TABLES, TRIALS = 10, 200, 16

    def table(self, rng, seeds, rho):
        """(p, right, setting, table) of ``TABLES`` tables, flat.

        A seed is as lucky in one row of a setting as in the other, as its models are the same. p is drawn
        within a quarter of its rate: with three seeds .02 is one right answer, and coverage at a single p
        is a matter of whether it is just inside of an end.
        """
        shape = self.TABLES, self.SETTINGS, len(self.RATES)
        p = np.minimum(self.RATES * rng.uniform(0.75, 1.25, shape), 0.98)[..., None]
        luck = np.broadcast_to(rng.random((*shape[:2], 1, seeds)), (*shape, seeds))
        each = special.betaincinv(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), luck) if rho else p
        right = rng.binomial(self.TRIALS, each, luck.shape)
        table, setting, _ = np.indices(shape)
        return p.ravel(), right.reshape(-1, seeds), setting.ravel(), table.ravel()

    @pytest.mark.parametrize("rho", [0.0, 0.05, 0.15, 0.3])
    @pytest.mark.parametrize("seeds", [3, 5, 10, 20])
    def test_coverage_is_93_to_97_percent(self, seeds, rho):
        p, right, setting, table = self.table(np.random.default_rng([seeds, int(100 * rho)]), seeds, rho)
        pool = intervals.correlation(right, self.TRIALS, table, setting=setting)

        def coverage(pool):
            mean, low, high = intervals.proportions(right, self.TRIALS, pool)
            assert np.all((low <= mean) & (mean <= high) & (low >= 0) & (high <= 1))
            return ((low <= p) & (p <= high)).reshape(-1, len(self.RATES)).mean(0)

        noise = 2 * np.sqrt(0.05 * 0.95 / (self.TABLES * self.SETTINGS))
        share = coverage(pool)
        assert np.all((share > 0.93 - noise) & (share < 0.97 + noise)), share
        assert pool.rho.mean() == pytest.approx(rho, abs=0.02)
        if rho == 0.3:  # independent trials would not cover
            assert np.all(coverage(pool._replace(rho=0 * pool.rho, freedom=pool.freedom + 99))[1:] < 0.85)

    def test_kinds_of_unlike_correlation_are_covered_each(self):
        """Half of the rows independent, half with correlation 0.3: a pool of all has few degrees of freedom,
        and one of either within one of all tells them apart."""
        rng, seeds = np.random.default_rng(3), 20
        (p, even, setting, table), (q, odd, *_) = (self.table(rng, seeds, rho) for rho in (0.0, 0.3))
        p, right, table = np.concatenate([p, q]), np.concatenate([even, odd]), np.tile(table, 2)
        setting = np.concatenate([setting, setting + self.SETTINGS])
        half = np.repeat([0, self.TABLES], len(even))

        def coverage(pool):
            _, low, high = intervals.proportions(right, self.TRIALS, pool)
            return ((low <= p) & (p <= high)).reshape(2, -1).mean(1)

        pool = intervals.correlation(right, self.TRIALS, table, setting=setting)
        assert np.all(coverage(pool) > 0.93)
        assert np.median(pool.freedom) < 0.1 * (seeds - 1) * 2 * self.SETTINGS  # what seeds alone would give
        both = intervals.correlation(right, self.TRIALS, table + half, table, setting=setting)
        assert np.all((coverage(both) > 0.93) & (coverage(both) < 0.97))

    def test_no_right_answer_in_48(self):
        """0 of 48: Wilson's end with t at the pool's degrees of freedom and 48 / (1 + 15 rho) trials."""
        freedom = 12.0
        for rho, most in ((0.0, 0.1), (0.03, 0.13), (0.05, 0.15), (0.3, 0.36)):
            pool = intervals.Correlation(np.array([rho]), np.array([freedom]))
            _, low, high = intervals.proportions([[0, 0, 0]], [[16] * 3], pool)
            q2 = stats.t.ppf(0.975, freedom) ** 2
            assert low[0] == 0.0 and high[0] < most
            np.testing.assert_allclose(high, q2 / (48 / (1 + 15 * rho) + q2))
            all_right = intervals.proportions([[16] * 3], [[16] * 3], pool)
            np.testing.assert_allclose(np.ravel(all_right), [1, 1 - high[0], 1])

    def test_a_row_is_weighed_beside_its_pool(self):
        """8, 12, 9, 11 of 20: S = 10 / 3 / 20 = 1/6, V = 1/4 + S / 80, 3 degrees of freedom, no skewness.

        The pool has dispersion 1 + 19 / 19 at 5 degrees of freedom.
        """
        pool = intervals.Correlation(np.array([1 / 19]), np.array([5.0]))
        _, low, high = intervals.proportions([[8, 12, 9, 11]], [[20] * 4], pool)
        shown = (1 / 6) / (1 / 4 + 1 / 480)
        q = stats.t.ppf(0.975, 8) * np.sqrt((5 * 2 + 3 * shown) / 8)
        half = q / 2 * np.sqrt(80 + q**2) / (80 + q**2)
        np.testing.assert_allclose([low[0], high[0]], [0.5 - half, 0.5 + half], atol=1e-12)

    def test_correlation_is_the_analysis_of_variance(self):
        """(MSB - MSW) / (MSB + (m - 1) MSW) of one row; and the ratio of sums of two."""

        def squares(right):
            answers = [np.repeat([1.0, 0.0], (count, 16 - count)) for count in right]
            between = 16 * np.var([one.mean() for one in answers], ddof=1)
            within = sum(np.square(one - one.mean()).sum() for one in answers) / (15 * len(right))
            return between, within

        rows = [[3, 9, 1, 8], [16, 14, 9, 12]]
        (b1, w1), (b2, w2) = map(squares, rows)
        np.testing.assert_allclose(intervals.correlation(rows[:1], 16).rho, (b1 - w1) / (b1 + 15 * w1))
        both = (b1 - w1 + b2 - w2) / (b1 + 15 * w1 + b2 + 15 * w2)
        np.testing.assert_allclose(intervals.correlation(rows, 16).rho, [both, both])
        each = intervals.correlation(rows, 16, ["a", "b"])
        np.testing.assert_allclose(each.rho, [(b1 - w1) / (b1 + 15 * w1), (b2 - w2) / (b2 + 15 * w2)])
        wider = intervals.correlation(rows, 16, ["a", "b"], ["", ""])
        both, weight = intervals.correlation(rows, 16), each.freedom
        np.testing.assert_allclose(wider.freedom, weight + both.freedom)
        expected = (weight * each.rho + both.freedom * both.rho) / wider.freedom
        np.testing.assert_allclose(wider.rho, expected)

    def test_freedom_counts_settings_not_rows(self):
        right = np.random.default_rng(0).binomial(16, 0.4, (40, 3))
        many = intervals.correlation(right, 16)
        assert 40 < many.freedom[0] <= 80  # 40 settings of two degrees of freedom
        for copies in (1, 5):
            rows, setting = np.tile(right, (copies, 1)), np.tile(np.arange(40), copies)
            np.testing.assert_allclose(
                intervals.correlation(rows, 16, setting=setting).freedom, many.freedom[0]
            )
        one = intervals.correlation(right, 16, setting=np.zeros(40))
        np.testing.assert_allclose(one.freedom, 2.0)

    def test_what_shows_nothing_leaves_rows_to_themselves(self):
        """Kinds of which all answers are the same, and of one seed."""
        right = np.array([[0, 0, 0], [16, 16, 16], [3, 0, 0]])
        questions = np.array([[16, 16, 16], [16, 16, 16], [16, 0, 0]])
        pool = intervals.correlation(right, questions)
        np.testing.assert_array_equal(pool.freedom, 0.0)
        expected = intervals.proportions(right, questions)
        np.testing.assert_array_equal(intervals.proportions(right, questions, pool), expected)

    def test_seeds_that_were_not_drawn_are_covered(self):
        """Three seeds of the committed run against the mean of the 17 others: 95% of intervals of exact width
        would cover 93% of such means, which have errors of their own. By themselves they cover more."""
        rows = Source(committed() / "experiments").summary("familiarity", "predictions")
        cell = ["metric", "label", "adapter", "library", "method", "lam"]
        wide = rows.pivot(index=cell, columns="seed", values="measured").dropna()
        questions = np.where(wide.index.get_level_values("metric") == "untouched", 32, 16)[:, None]
        metric, label = (wide.index.get_level_values(name) for name in ("metric", "label"))
        shares, rng, shares_inside = wide.to_numpy(), np.random.default_rng(0), []
        for _ in range(20):
            drawn, others = np.split(rng.permutation(shares.shape[1]), [3])
            right, truth = np.round(shares[:, drawn] * questions), shares[:, others].mean(1)
            pool = intervals.correlation(right, questions, metric, setting=label)
            some = (truth > 0.05) & (truth < 0.95)
            for among in (pool, None):
                _, low, high = intervals.proportions(right, questions, among)
                shares_inside.append(((low <= truth) & (truth <= high))[some].mean())
        whole, single = np.reshape(shares_inside, (-1, 2)).mean(0)
        assert 0.92 < whole < 0.96 and whole < single


class TestBootstrap:
    def test_is_scipys(self):
        values = np.random.default_rng(0).exponential(size=(30, 3))
        mean, low, high = intervals.bootstrap(values)
        expected = stats.bootstrap(
            (values,),
            np.mean,
            axis=0,
            method="percentile",
            n_resamples=intervals.RESAMPLES,
            rng=np.random.default_rng(0),
        ).confidence_interval
        np.testing.assert_allclose([mean, low, high], [values.mean(0), expected.low, expected.high])
        np.testing.assert_allclose(intervals.bootstrap(values[:, 1]), [mean[1], low[1], high[1]])

    def test_resamples_are_shares(self):
        shares = intervals.resamples(7, 5)
        assert shares.shape == (5, 7)
        np.testing.assert_allclose(shares.sum(1), 1.0)


class TestMean:
    def test_is_student(self):
        values = [1.0, 2.0, 4.0]
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        np.testing.assert_allclose(intervals.mean(values)[1:], expected)
        assert intervals.mean([3.0]) == (3.0, -np.inf, np.inf)

    @pytest.mark.parametrize("seeds", [2, 5, 20])
    def test_covers_normal_values(self, seeds):
        rng = np.random.default_rng(seeds)
        bounds = [intervals.mean(values)[1:] for values in rng.normal(size=(DRAWS, seeds))]
        assert 0.94 < np.mean([low <= 0 <= high for low, high in bounds]) < 0.96

    @pytest.mark.parametrize("rate", [0.03, 0.1])
    def test_is_not_for_shares_of_two_seeds(self, rate):
        """What ``mean`` warns of, and that ``proportion`` mends it."""
        right = counts(np.random.default_rng(0), 2, 16, rate, "correlation", 0.1)
        bounds = [intervals.mean(pair / 16)[1:] for pair in right]
        assert np.mean([low <= rate <= high for low, high in bounds]) < 0.85
        assert covered(right, 16, rate) > 0.93
