"""The search finds the best merge of functions whose best is known; the design leaves little uncertain."""

import itertools

import numpy as np
import pytest

from sim.forecast import design, kriging
from sim.forecast.candidates import candidates, first, grid, near
from sim.forecast.outcomes import of_leads
from sim.forecast.search import MEAN, WORST, Objective, require_objective, search

LAMS = (0.25, 0.5, 0.75, 1.0)


class TestCandidates:
    def test_few_adapters_have_every_combination_and_many_common_strengths(self):
        each = candidates(2, (0.5, 1.0))
        assert {tuple(one) for one in each} == set(itertools.product((0.0, 0.5, 1.0), repeat=2))
        assert not each[0].any()
        each = candidates(6, LAMS)
        assert len(each) == 4 * 63 + 1 and not each[0].any()
        assert all(len(set(one[one > 0])) == 1 for one in each[1:])
        assert candidates(12, LAMS).shape[0] <= 2 * 2048 + 100

    def test_first_are_base_singles_average_and_sum(self):
        each = candidates(3, grid(3, ()))
        expected = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3] * 3, [1, 1, 1]]
        np.testing.assert_allclose(each[first(each)], expected)

    def test_the_average_is_on_the_grid(self):
        assert grid(3, ()) == (0.25, 1 / 3, 0.5, 0.75, 1.0) and grid(2, (1.0, 0.2, 1.0)) == (0.2, 1.0)
        for bad in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="give positive numbers"):
                grid(2, (0.5, bad))

    def test_neighbours_are_one_step_away(self):
        close = near(np.array([0.5, 0.0, 1.0]), LAMS)
        assert len(np.unique(close, axis=0)) == len(close) and [0.5, 0.0, 1.0] in close.tolist()
        assert [0.25, 0.25, 1.0] in close.tolist() and [0.5, 0.0, 0.75] in close.tolist()
        assert close.max() == 1.0 and (np.abs(close - [0.5, 0, 1]) <= 0.25 + 1e-9).all()


def remaining(each, places):
    """Mean variance left by runs, over prompts of each adapter in the merges that it is in."""
    total = 0.0
    for owner in range(each.shape[1]):
        gains = np.exp(np.where(np.arange(each.shape[1]) == owner, kriging.START[0], kriging.START[1]))
        covariance = kriging.COVARIANCES["saturating"]
        inner = covariance(each[places], each[places], gains) + np.exp(kriging.START[2]) * np.eye(len(places))
        cross = covariance(each, each[places], gains)
        left = covariance(each, each, gains).diagonal() - np.sum(cross @ np.linalg.inv(inner) * cross, axis=1)
        inside = each[:, owner] > 0
        total += np.sum(left[inside] / np.count_nonzero(each[inside], axis=1))
    return total


class TestDesign:
    def test_its_size(self):
        assert [design.size(k) for k in (2, 6, 8)] == [11, 29, 44]

    def test_it_begins_with_the_first_and_repeats_none(self):
        each = candidates(5, LAMS)
        places = design.spread(each, first(each), 24)
        assert places[: len(first(each))] == first(each) and len(set(places)) == len(places) == 24
        assert design.spread(each[:6], [3], 99)[0] == 3 and len(design.spread(each[:6], [3], 99)) == 6

    def test_it_leaves_less_variance_than_runs_at_random(self):
        each = candidates(5, LAMS)
        start = first(each)
        spread = remaining(each, design.spread(each, start, 24))
        rng = np.random.default_rng(0)
        others = [
            remaining(each, [*start, *rng.choice(np.arange(1, len(each)), 24 - len(start), replace=False)])
            for _ in range(10)
        ]
        assert spread < 0.9 * min(others)


class TestObjective:
    groups, base = ("a", "b", "untouched"), np.array([0.0, 0.0, 0.9])
    cells = np.array([[0.8, 0.4, 0.9], [1.0, 1.0, 0.5], [0.5, 0.5, 0.85]])

    def test_scores(self):
        def score(aim, **protect):
            return Objective(aim, protect).score(self.cells, self.groups, self.base)

        np.testing.assert_allclose(score(MEAN), self.cells.mean(1))
        np.testing.assert_allclose(score(WORST), self.cells.min(1))
        np.testing.assert_allclose(score("b"), [0.4, 1.0, 0.5])
        np.testing.assert_allclose(score(MEAN, untouched=0.1), [0.6, 1 - 1.3, 0.5], atol=1e-6)
        np.testing.assert_allclose(score(WORST, untouched=0.02), [0.4, 1 - 1.38, 0.5 - 1.03], atol=1e-6)

    def test_groups_must_be_there(self):
        with pytest.raises(ValueError, match="no group 'c' in the prompts; there are a, b, untouched"):
            require_objective(Objective("c"), self.groups)
        with pytest.raises(ValueError, match="no group 'x'"):
            require_objective(Objective(MEAN, {"x": 0.1}), self.groups)
        with pytest.raises(ValueError, match="every group is protected"):
            require_objective(Objective(MEAN, {"a": 0.1}), ("a",))


def spoiling(rng, each, prompts=16):
    """Leads where each adapter pulls its prompts, some pairs push each other's, and all of it saturates."""
    count = each.shape[1]
    leads = []
    for owner in range(count):
        push = rng.gamma(0.5, 2.0, size=count) * (np.arange(count) != owner)
        ease = rng.normal(3.0, 1.0, size=prompts)
        level = np.tanh(2 * each[:, [owner]]) * 8 - np.tanh(each @ push)[:, None] * 5
        leads.append(level - ease + 0.5 * rng.normal(size=prompts)[None] * each.sum(1)[:, None])
    return np.concatenate(leads, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("aim", [MEAN, WORST, "2"])
def test_the_best_of_known_functions_is_found_within_the_budget(aim):
    each = candidates(5, LAMS)
    of = np.repeat(np.arange(5).astype(str), 16)
    places = design.spread(each, first(each), design.size(5) + 1)
    regrets, runs = [], []
    for seed in range(6):
        lead = spoiling(np.random.default_rng(seed), each)
        cells = np.stack([(lead[:, of == group] > 0).mean(1) for group in "01234"], axis=1)
        objective, calls = Objective(aim), []

        def run(weights, lead=lead, calls=calls):
            at = [int(np.flatnonzero((each == one).all(1))[0]) for one in weights]
            calls.extend(at)
            return of_leads(lead[at])

        scores = objective.score(cells, tuple("01234"), cells[0])
        *_, state = search(run, each, places, of, objective, 50)
        assert len(calls) == len(set(calls)) == len(state.places) <= 50  # none is run twice
        assert scores[state.best] == max(scores[list(state.places)])
        regrets.append(scores.max() - scores[state.best])
        runs.append(len(calls))
    assert np.mean(regrets) <= 0.01 and max(regrets) <= 0.03
    if aim == "2":  # one adapter by itself is best, and that is soon clear
        assert np.mean(runs) < 30


def test_a_budget_that_ends_the_search_leaves_merges_open():
    each, of = candidates(4, LAMS[1::2]), np.repeat(list("abcd"), 16)
    lead = spoiling(np.random.default_rng(1), each)

    def run(weights):
        return of_leads(lead[[int(np.flatnonzero((each == one).all(1))[0]) for one in weights]])

    states = list(search(run, each, first(each), of, Objective(), 9))
    assert [len(state.places) for state in states] == [*range(len(first(each)), 10)]
    assert states[-1].open > 0
    every = list(search(run, each, range(len(each)), of, Objective(), len(each)))
    assert len(every) == 1 and every[0].open == 0 and every[0].model is None


def test_of_equal_scores_the_smaller_merge_is_best():
    each = candidates(2, (0.5, 1.0))
    lead = np.where(each[:, :1] > 0, 1.0, -1.0) * np.ones((1, 4))
    *_, state = search(
        lambda weights: of_leads(np.where(weights[:, :1] > 0, 1.0, -1.0) * np.ones((1, 4))),
        each, range(len(each)), ["a"] * 4, Objective(), 9,
    )  # fmt: skip
    assert each[state.best].tolist() == [0.5, 0.0] and lead.shape == (9, 4)
