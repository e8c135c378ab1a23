"""Predicted gaps and accuracies: exact where the covariance holds, intervals that cover, left-out runs."""

import itertools

import numpy as np
import pytest
from scipy.special import ndtr

from sim.forecast import accuracy, design, kriging
from sim.forecast.candidates import candidates, first
from sim.forecast.outcomes import choose_rivals, joined, of_leads, of_logits

ALL = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3)))


def pulled(weights, rng, pairs=0.0):
    """Gaps of six prompts, two an adapter: linear in the strengths, and in their products."""
    effect = rng.normal(size=(3, 6)) + 6 * np.repeat(np.eye(3), 2, axis=1)
    both = pairs * rng.normal(size=(3, 6))
    products = np.stack([weights[:, i] * weights[:, j] for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    return -3 + weights @ effect + products @ both


class TestKriging:
    def test_the_owner_is_the_adapter_that_alone_makes_it_right(self):
        weights = np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]])
        lead = np.array([[-1, 2, -1, -1], [3, 3, -2, -1], [1, -1, 4, -1], [-9, 9, -9, 9.0]])
        assert kriging.owners(weights, lead).tolist() == [0, kriging.NOBODY, 1, kriging.NOBODY]

    @pytest.mark.parametrize(("name", "pairs"), [("first order", 0.0), ("pairs", 1.0)])
    def test_a_function_of_its_order_is_predicted_exactly(self, name, pairs):
        gap = pulled(ALL, np.random.default_rng(0), pairs)
        some = [0, 1, 2, 3, 6, 9, 12, 18, 4, 10, 16, 26, 13]
        owner = kriging.owners(ALL[some], gap[some])
        model = kriging.fit(name, ALL[some], gap[some], owner)
        gaps = kriging.predict(model, ALL)
        assert np.abs(gaps.mean - gap).max() < 0.25 and gap.std() > 2
        if name == "pairs":
            lower = kriging.fit("first order", ALL[some], gap[some], owner)
            assert np.abs(kriging.predict(lower, ALL).mean - gap).max() > 0.5

    def test_leaving_out_is_predicting_from_the_others(self):
        rng = np.random.default_rng(1)
        half = rng.normal(size=(len(ALL), 3)).cumsum(axis=0)
        gap = np.concatenate([half, -half], axis=1)  # the mean of all is 0 whatever is left out
        owner = np.array([0, 1, kriging.NOBODY] * 2)
        model = kriging.fit("saturating", ALL, gap, owner)
        left_out = kriging.leave_one_out(model)
        for run in (0, 5, 26):
            rest = np.arange(len(ALL)) != run
            other = kriging.Kriging("saturating", ALL[rest], gap[rest], owner, model.parameters)
            predicted = kriging.predict(other, ALL[[run]]).mean[0]
            np.testing.assert_allclose(left_out.mean[run], predicted, rtol=5e-3)

    def test_runs_themselves_are_predicted_as_they_were(self):
        gap = pulled(ALL, np.random.default_rng(2), 1.0)
        model = kriging.fit("saturating", ALL[::5], gap[::5], np.repeat(np.arange(3), 2))
        gaps = kriging.predict(model, ALL)
        assert np.abs(gaps.mean - gap)[::5].max() < 0.4
        assert gaps.deviation[::5].mean() < 0.8 * gaps.deviation[2::5].mean()


def drawn(rng, each, prompts=16, gains=(6.0, 1.0)):
    """Leads of ``prompts`` prompts of each adapter, drawn from the saturating covariance."""
    parts = []
    for owner in range(each.shape[1]):
        gain = np.where(np.arange(each.shape[1]) == owner, *gains)
        inner = kriging.COVARIANCES["saturating"](each, each, gain)
        root = np.linalg.cholesky(inner + 1e-6 * np.eye(len(each)))
        parts.append(8 * root @ rng.normal(size=(len(each), prompts)))
    return np.concatenate(parts, axis=1)


class TestAccuracy:
    def test_a_groups_accuracy_is_the_mean_chance_of_its_prompts(self):
        gaps = kriging.Gaps(np.array([[1.0, 2.0, -1.0]]), np.array([[1.0, 2.0, 0.5]]))
        of = np.array(["a", "b"])
        cells = accuracy._cells(gaps, np.array([0, 0, 1]), of, ("a", "b"), 2.0)
        chance = np.array([ndtr(1.0) ** 2, ndtr(-2.0)])
        np.testing.assert_allclose(cells.mean[0], chance)
        deviation = np.sqrt(chance * (1 - chance)) + accuracy.GRAIN
        np.testing.assert_allclose(cells.deviation[0], deviation)
        np.testing.assert_allclose(cells.high[0], np.minimum(chance + 2 * deviation, 1))

    def test_the_conformal_quantile_covers_the_next_score(self):
        rng = np.random.default_rng(0)
        scores = rng.exponential(size=(4000, 30))
        inside = [accuracy.quantile(one[:-1], 0.9) >= one[-1] for one in scores]
        assert np.mean(inside) == pytest.approx(27 / 30, abs=4 * (0.09 / 4000) ** 0.5)
        assert accuracy.quantile(np.array([1.0, 3.0, 2.0]), 0.9) == 3.0
        assert accuracy.quantile(np.arange(1.0, 20.0), 0.9) == 18.0

    @pytest.mark.slow
    def test_intervals_cover_nine_of_ten(self):
        """Accuracies of merges that were not run, functions drawn anew: 87 to 93% of the cells."""
        each, groups = candidates(5, (0.25, 0.5, 0.75, 1.0)), tuple("abcde")
        of = np.repeat(groups, 16)
        places = design.spread(each, first(each), design.size(5) + 1)
        rest = np.setdiff1d(np.arange(len(each)), places)
        rng, inside, width = np.random.default_rng(3), [], []
        for _ in range(25):
            lead = drawn(rng, each)
            model = accuracy.forecast(each[places], of_leads(lead[places]), of, None, ["saturating"])
            cells, truth = accuracy.accuracies(model, each[rest]), accuracy.shares(lead > 0, of, groups)[rest]
            inside.append(((cells.low <= truth + 1e-9) & (truth <= cells.high + 1e-9)).mean())
            width.append((cells.high - cells.low).mean())
        assert 0.87 <= np.mean(inside) <= 0.93
        assert np.mean(width) < 0.25  # and say something

    def test_left_out_runs_choose_the_covariance(self):
        rng = np.random.default_rng(4)
        of, places = np.repeat(["a", "b", "c"], 2), [0, 1, 2, 3, 6, 9, 12, 18, 4, 10, 16, 26, 13, 14, 22]
        linear, each = pulled(ALL, rng), candidates(3, (0.25, 0.5, 0.75, 1.0))
        model = accuracy.forecast(ALL[places], of_leads(linear[places]), of)
        assert model.errors["first order"] <= min(model.errors.values()) + 0.02
        wide = design.spread(each, first(each), 30)
        lead = drawn(rng, each)
        groups = np.repeat(["a", "b", "c"], 16)
        model = accuracy.forecast(each[wide], of_leads(lead[wide]), groups)
        assert model.best == "saturating" and model.errors["first order"] > 1.5 * model.errors["saturating"]
        differs = accuracy.undecided(model, each)
        assert differs.shape == (len(each), 3) and differs.dtype == bool

    def test_an_earlier_forecast_lends_its_parameters(self):
        lead, of = pulled(ALL, np.random.default_rng(5)), np.repeat(["a", "b", "c"], 2)
        early = accuracy.forecast(ALL[:20], of_leads(lead[:20]), of)
        later = accuracy.forecast(ALL, of_leads(lead), of, early)
        assert later.models["pairs"].parameters == early.models["pairs"].parameters
        assert len(later.weights) == len(ALL)

    def test_without_a_merge_nothing_is_said(self):
        with pytest.raises(ValueError, match="no merge was run"):
            accuracy.forecast(np.eye(3), of_leads(np.ones((3, 2))), ["a", "b"])


class TestOutcomes:
    def test_rivals_are_those_that_come_nearest_most_often(self):
        nearest = np.array([[[7, 5, 3, 1]], [[5, 7, 2, 1]], [[5, 2, 7, 9]]])
        # token 7 is right: the runs give 5, 3, 1, then 5, 2, 1, then 5, 2, 9 the points 1, 1/2, 1/3
        assert choose_rivals(nearest, np.array([7]), 4)[0].tolist() == [5, 2, 1, 3]
        assert choose_rivals(nearest[:1], np.array([7]), 5)[0].tolist() == [5, 3, 1, 5, 5]

    def test_leads_and_margins_of_logits(self):
        logits = np.array([[[0.0, 2, 1], [5, 4, 1], [1, 1, 9]], [[3.0, 2, 1], [0, 4, 1], [1, 2, 0]]])
        target, row = np.array([1, 0, 2]), np.array([0, 0, 1])
        outcomes = of_logits(logits, target, row, np.array([[0], [2], [0]]))
        np.testing.assert_array_equal(outcomes.lead, [[1, 8], [-4, -2]])
        np.testing.assert_array_equal(outcomes.gap[..., 0], [[2, 4, 8], [-1, -1, -1]])
        both = joined([outcomes.take([1]), outcomes.take([0])])
        np.testing.assert_array_equal(both.lead, outcomes.lead[::-1])
