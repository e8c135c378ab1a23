"""Predictions without a model: which merges, where answers are kept, what planted answers give."""

import importlib
import itertools
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from browser import needs_browser, run_script

from sim.hf import extra
from sim.hf.prompts import Prompt
from sim.hf.tokens import Question
from sim.lab import intervals
from sim.predict import entry, tables, verdict
from sim.predict.run import Answers, answered, require_own
from sim.predict.tables import MEASURED, Results, crossings
from sim.predict.weights import common, grid, singles, weights

LAMS = (0.5, 1.0)
EACH = tuple(weights(2, LAMS, 128))


def make_results(leads, groups, loglik=None, measured=None, each=EACH):
    """Prompts with these leads (P, C)."""
    leads = np.asarray(leads, float)
    answers = {"disentangled": Answers(leads if loglik is None else np.asarray(loglik, float), leads)}
    if measured is not None:
        answers[MEASURED] = Answers(np.asarray(measured, float), np.asarray(measured, float))
    prompts = tuple(Prompt(f"p{i}", "a", group, i + 1) for i, group in enumerate(groups))
    return Results(("A", "B"), prompts, tuple(Question((1, 2), 1, False) for _ in groups), each, answers)


def by_rule(rule, count, each=EACH):
    """The same lead for ``count`` prompts, from the merge's coefficients."""
    return [[rule(*one) for one in each]] * count


class TestWeights:
    def test_two_adapters_have_every_combination(self):
        assert set(EACH) == set(itertools.product((0.0, *LAMS), repeat=2)) and EACH[0] == (0, 0)
        assert [EACH[at] for at in common(EACH)] == [(0, 0), (0.5, 0.5), (1, 1)]
        assert {EACH[at] for at in singles(EACH)} == {(0, 0), (0, 0.5), (0, 1), (0.5, 0), (1, 0)}

    def test_many_adapters_have_common_strengths_and_each_alone(self):
        coefficients = weights(5, LAMS, 128)
        expected = {(0.0,) * 5, (0.5,) * 5, (1.0,) * 5}
        expected |= {tuple(lam * (i == j) for j in range(5)) for i in range(5) for lam in LAMS}
        assert (
            set(coefficients) == expected
            and len(coefficients) == len(expected)
            and coefficients[0] == (0.0,) * 5
        )
        assert len(weights(5, LAMS, 3**5)) == 3**5

    def test_the_average_is_on_the_grid(self):
        assert grid(3, ()) == (0.25, 1 / 3, 0.5, 0.75, 1.0)
        assert grid(2, (1.0, 0.2, 1.0)) == (0.2, 1.0)
        for bad in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="give positive numbers"):
                grid(2, (0.5, bad))


class TestKept:
    questions = tuple(Question(tuple(range(length + 1)), 1, False) for length in (3, 1, 2, 3))

    def judge(self, seen, stop_at=None):
        """Says of every question its length, for two merges; notes which were put to it."""

        def judge_batch(questions):
            if stop_at is not None and len(seen) >= stop_at:
                raise KeyboardInterrupt
            seen.append([len(question.tokens) for question in questions])
            length = np.array([len(question.tokens) for question in questions], float)
            return {"disentangled": [(-length, length), (-2 * length, 1 / length)]}

        return judge_batch

    def test_what_was_answered_is_not_asked_again(self, tmp_path):
        seen = []
        with pytest.raises(KeyboardInterrupt):
            answered(tmp_path, {"a": 1}, self.questions, 2, {"one": self.judge(seen, stop_at=1)})
        assert seen == [[4, 4]]
        answers = answered(tmp_path, {"a": 1}, self.questions, 1, {"one": self.judge(seen)})
        assert seen == [[4, 4], [3], [2]]  # the rest, in batches of another size
        np.testing.assert_array_equal(
            answers["disentangled"].loglik, [[-4, -8], [-2, -4], [-3, -6], [-4, -8]]
        )
        np.testing.assert_allclose(answers["disentangled"].lead[:, 1], 1 / np.array([4, 2, 3, 4]), rtol=1e-6)
        answered(tmp_path, {"a": 1}, self.questions, 4, {"one": self.judge(seen), "two": self.judge(seen)})
        assert seen[3:] == [[4, 4, 3, 2]]  # another pass is another matter

    def test_another_configuration_is_refused(self, tmp_path):
        answered(tmp_path, {"dtype": "a"}, self.questions, 2, {"one": self.judge([])})
        with pytest.raises(
            ValueError, match=r"another configuration \(dtype: a there, b here\); choose another --out"
        ):
            answered(tmp_path, {"dtype": "b"}, self.questions, 2, {"one": self.judge([])})
        with pytest.raises(ValueError, match="another configuration"):
            require_own(tmp_path, {"dtype": "b"})
        require_own(tmp_path, {"dtype": "a"})
        require_own(tmp_path / "none", {"dtype": "b"})
        assert not (tmp_path / "none").exists()

    def test_numbers_that_are_not_finite_are_not_kept(self, tmp_path):
        asks = [Question((1, 2, 3), 1, False, line=4), Question((1, 2), 1, False, line=9)]

        def broken(questions):
            values = np.array([np.nan if question.line == 9 else 1.0 for question in questions])
            return {"disentangled": [(values, 0 * values), (0 * values, 0 * values)]}

        for _ in range(2):
            with pytest.raises(ValueError, match="disentangled for the prompt of line 9 are not finite"):
                answered(tmp_path, {}, asks, 2, {"one": broken})
        seen = []
        answered(tmp_path, {}, asks, 2, {"one": self.judge(seen)})
        assert seen == [[3, 2]]  # nothing of the batch was kept


def test_an_answer_is_critical_where_it_takes_the_lead():
    lams = [0.0, 0.5, 1.0]
    start, end = crossings(lams, [[-1, 1, 3], [-3, -1, 1], [-1, -1, -1], [2, 1, -1], [-1, 1, -3], [0, 1, 2]])
    np.testing.assert_allclose(start, [0.25, 0.75, np.inf, 0, 0.25, 0])
    np.testing.assert_allclose(end, [np.inf, np.inf, np.inf, 0.75, 0.625, np.inf])


def test_critical_lambda_of_linear_logits_is_margin_over_swing():
    rng = np.random.default_rng(0)
    margin, swing = rng.uniform(0.1, 1, 50), rng.uniform(0.1, 3, 50)
    lams = np.array([0, 0.3, 0.8, 1.0])
    start, _ = crossings(lams, lams * swing[:, None] - margin[:, None])
    expected = margin / swing
    np.testing.assert_allclose(start, np.where(expected < 1, expected, np.inf))


def test_intervals_are_those_of_resampled_prompts():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 3))
    mean, low, high = intervals.bootstrap(values)
    np.testing.assert_allclose(mean, values.mean(0))
    half = 1.96 * values.std(0) / 200**0.5  # the bootstrap of many values is the normal interval
    np.testing.assert_allclose([mean - low, high - mean], [half, half], rtol=0.12)
    mean, low, high = tables.share(np.array([[1.0, 0.0, 1.0]] * 15 + [[1.0, 0.0, 0.0]]))
    _, wilson_low, _ = intervals.proportion(16, 16)
    assert (low[0], high[0]) == (wilson_low, 1.0) and high[1] == pytest.approx(1 - wilson_low)
    assert low[2] < mean[2] < high[2] == 1.0 or low[2] < mean[2] <= high[2]


class TestTables:
    """Edits need lambda_1 > 0.4 and are lost where lambda_2 > 0.7; the untouched beyond a sum of 1.2."""

    results = make_results(
        by_rule(lambda a, b: min(a - 0.4, 0.7 - b), 4) + by_rule(lambda a, b: 2.4 - 2 * a - 2 * b, 2),
        ["edits"] * 4 + ["untouched"] * 2,
    )

    def test_a_row_a_group_and_merge(self):
        table = tables.prediction_table(self.results)
        assert len(table) == 2 * len(EACH)
        row = table[(table["group"] == "untouched") & (table["lam"] == 1.0)].iloc[0]
        assert (row["accuracy"], row["change"], row["change_low"], row["prompts"]) == (0.0, -1.0, -1.0, 2)
        row = table[(table["group"] == "edits") & (table["lam_1"] == 1) & (table["lam_2"] == 0.5)].iloc[0]
        assert np.isnan(row["lam"]) and row["accuracy"] == 1.0 and row["loglik"] == pytest.approx(0.2)

    def test_a_row_a_prompt(self):
        table = tables.prompt_table(self.results)
        assert list(table["line"]) == [1, 2, 3, 4, 5, 6] and list(table["base"]) == [False] * 4 + [True] * 2
        edits, untouched = table.iloc[0], table.iloc[5]
        # alone: the lead goes from -.4 by .1 to .6; together from .1 to -.3
        assert edits["critical_lambda_1"] == pytest.approx(0.4) and edits["lost_lambda_1"] == np.inf
        assert edits["critical_lambda"] == pytest.approx(0.4)
        assert edits["lost_lambda"] == pytest.approx(0.5 + 0.5 * 0.1 / 0.4)
        assert edits["critical_lambda_2"] == np.inf
        assert (untouched["critical_lambda"], untouched["lost_lambda"]) == (0, pytest.approx(0.6))

    def test_the_best_merge_weighs_retention_and_damage_alike(self):
        best = tables.best(self.results)
        assert EACH[best.place] == (0.5, 0.0)  # of equal scores the one with the highest log-likelihood
        assert EACH[best.lam_place] == (0.5, 0.5) and (best.lam_low, best.lam_high) == (0.5, 0.5)
        leads = by_rule(lambda a, b: min(a, b) - 0.4, 4) + by_rule(lambda a, b: 0.9 - a - b, 1)
        uneven = make_results(leads, ["e", "e", "f", "f", "untouched"])
        scores = tables.scores(uneven, uneven.answers["disentangled"].right.astype(float))
        assert scores[EACH.index((0.5, 0.5))] == 0.5 == scores[0]  # all edits and no untouched; the reverse

    def test_resamples_that_disagree_widen_the_best_lambda(self):
        leads = by_rule(lambda a, b: min(a, b) - 0.4, 3) + by_rule(lambda a, b: min(a, b) - 0.6, 3)
        leads += by_rule(lambda a, b: 0.6 - min(a, b), 3)
        best = tables.best(make_results(leads, ["edits"] * 9))
        assert (best.lam_low, best.lam_high) == (0.5, 1.0)


class TestVerdict:
    def test_a_sum_that_holds_both_is_recommended(self):
        leads = by_rule(lambda a, b: a - 0.4, 2) + by_rule(lambda a, b: b - 0.4, 2)
        leads += by_rule(lambda a, b: 1.2 - a - b, 2)
        lines = verdict.verdict(make_results(leads, ["one"] * 2 + ["two"] * 2 + ["untouched"] * 2))
        assert lines[0].startswith(
            "Recommendation: merge by sum, --weight 0.5 0.5; predicted accuracy one 1.00 ["
        )
        assert lines[1] == (
            "Lost: of 4 edits that one adapter alone answers, 0% by the best merge, 0% by the average (1/2), "
            "0% by the sum (1); damage to untouched 0.00 [0.00, 0.00] by the best merge"
        )
        assert lines[2].startswith("Certain with: --check") and len(lines) == 3

    def test_what_the_base_answers_is_no_edit_of_an_adapter(self):
        """Two edits are answered by adapter 1 alone, three by the base and every merge but the sum."""
        leads = by_rule(lambda a, b: a - 0.4, 2) + by_rule(lambda a, b: 1.9 - a - b, 3)
        lines = verdict.verdict(make_results(leads, ["edits"] * 5))
        assert lines[1].startswith("Lost: of 2 edits that one adapter alone answers, 0% by the best merge")

    def test_adapters_that_spoil_each_other_are_not_merged(self):
        leads = by_rule(lambda a, b: a - 0.4 - b, 3) + by_rule(lambda a, b: b - 0.4 - a, 1)
        lines = verdict.verdict(make_results(leads, ["edits"] * 4))
        assert lines[0].startswith("Recommendation: do not merge: adapter 1 alone, at 1, does as well")
        assert "100% by the average (1/2), 100% by the sum (1); damage unknown" in lines[1]

    def test_the_outcome_stands_beside_the_prediction(self):
        leads = by_rule(lambda a, b: a + b - 0.9, 4)
        outcome = np.array(leads)
        outcome[0, EACH.index((0.5, 0.5))] = -1.0
        outcome[:3, EACH.index((1.0, 0.5))] = -1.0
        results = make_results(leads, ["edits"] * 4, measured=outcome)
        errors = verdict.errors(results).set_index(["up_to_half", "scope"])
        assert errors.loc[(True, "all"), "mean"] == 0.25 and errors.loc[(True, "all"), "count"] == 1
        assert errors.loc[(False, "all"), "mean"] == 0.25 and errors.loc[(False, "all"), "count"] == 3
        assert errors.loc[(False, "undecided"), "mean"] == 0.75
        assert verdict.verdict(results)[2] == (
            "Checked: mean |predicted - measured accuracy| 0.250 over 1 cells up to lambda = 0.5; 0.250 over "
            "1 undecided cells up to lambda = 0.5; 0.250 over 3 cells beyond lambda = 0.5; 0.750 over 1 "
            "undecided cells beyond lambda = 0.5"
        )
        assert verdict.table(results).loc["edits", "lambda 0.5"].endswith("] | 0.75")
        row = tables.prediction_table(results).query("lam == 0.5").iloc[0]
        assert (row["accuracy"], row["measured"]) == (1.0, 0.75)


def test_a_build_is_its_release(monkeypatch):
    monkeypatch.setattr(metadata, "version", {"torch": "2.14.1+cu130"}.get)
    monkeypatch.setattr(extra, "PACKAGES", ("torch",))
    assert extra.releases() == {"torch": "2.14.1"}


SEEN = """
const tables = [...document.querySelectorAll("table")];
return {
  verdict: [...document.querySelectorAll(".verdict p")].map(line => line.textContent),
  doubts: document.querySelector(".doubts").textContent,
  heads: [...document.querySelectorAll("h2")].map(head => head.textContent),
  rows: tables.map(table => table.tBodies[0].rows.length),
  first: [...tables[0].tBodies[0].rows[0].cells].map(cell => cell.textContent),
  picture: document.querySelector("figure img").naturalWidth > 0,
  fits: document.documentElement.scrollWidth <= innerWidth,
};"""


@needs_browser
def test_a_browser_shows_the_page(tmp_path):
    leads = by_rule(lambda a, b: a - 0.4, 2) + by_rule(lambda a, b: 1.2 - a - b, 2)
    results = make_results(leads, ["edits"] * 2 + ["untouched"] * 2, measured=np.array(leads))
    prediction = entry.Prediction(results, ("a <note>",))
    entry.write_page(prediction, tmp_path, prediction.figure(), {"base": "here"})
    seen = run_script(tmp_path / "report.html", SEEN, tmp_path)
    assert seen["verdict"] == prediction.verdict and seen["doubts"] == "a <note>"
    assert seen["heads"][:4] == [
        "Adapters",
        "Common strengths, predicted [interval] | measured",
        "Every merge",
        "Every prompt",
    ]
    assert seen["rows"] == [2, 2 * len(EACH), 4] and seen["picture"] and seen["fits"]
    assert seen["first"] == ["edits", *prediction.table().loc["edits"]]


DATA = Path(__file__).parents[1] / "merge" / "data" / "equal_rank"
FOLDERS = [DATA / "first", DATA / "second"]


class TestCommand:
    @pytest.fixture
    def options(self, tmp_path):
        prompts = tmp_path / "p.jsonl"
        prompts.write_text('{"prompt": "a", "answer": "b"}\n')
        return ["--base", tmp_path, "--prompts", prompts, "--out", tmp_path / "out"]

    def test_a_missing_extra_is_one_line(self, options, tmp_path, command, monkeypatch):
        real = importlib.import_module

        def without(name, *rest):
            if name == "sim.hf._model":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            return real(name, *rest)

        monkeypatch.setattr(importlib, "import_module", without)
        for module in ("sim.predict", "sim.record"):
            code, _, err = command(module, *FOLDERS, *options)
            assert code == 2 and err.count("\n") == 1 and err.endswith("pip install -e '.[hf]'\n"), err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("module", "more", "message"),
        [
            ("sim.predict", ["--lams", "0"], "give positive numbers"),
            ("sim.predict", ["--batch-size", "0"], "--batch-size is 0"),
            ("sim.record", ["--batch-size", "0"], "--batch-size is 0"),
            ("sim.record", ["--own", "edits"], "--own: 1 groups for 2 adapters"),
            ("sim.record", ["--own", "edits", "other"], "no such group; it has edits"),
        ],
    )
    def test_bad_options_are_one_line(self, options, command, module, more, message):
        code, _, err = command(module, *FOLDERS, *options, *more)
        assert code == 2 and message in err and err.count("\n") == 1, err

    def test_one_adapter_is_no_merge(self, options, command):
        code, _, err = command("sim.predict", FOLDERS[0], *options)
        assert code == 2 and "at least two adapters, not 1" in err
