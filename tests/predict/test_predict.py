"""The search without a model: outcomes kept on disk, tables, verdicts from measurement, bad options."""

import importlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from browser import needs_browser, run_script

from sim.forecast.accuracy import forecast
from sim.forecast.candidates import candidates
from sim.forecast.outcomes import of_leads
from sim.forecast.search import WORST, Objective
from sim.hf import extra
from sim.hf.prompts import Prompt
from sim.hf.tokens import Question
from sim.lab import intervals
from sim.predict import entry, run, tables, verdict
from sim.predict.run import Answer, Runner, require_own
from sim.predict.tables import Results, crossings

LAMS = (0.5, 1.0)
EACH = candidates(2, LAMS)


def make_results(rules, groups, objective=None, each=EACH, places=None, still_open=0):
    """Prompts whose leads are these functions of the strengths; the first that is best of the merges run."""
    lead = np.array([[rule(*one) for rule in rules] for one in each], float)
    places = tuple(range(len(each)) if places is None else places)
    outcomes = of_leads(lead[list(places)])
    prompts = tuple(Prompt(f"p{i}", "a", group, i + 1) for i, group in enumerate(groups))
    model = None if len(places) == len(each) else forecast(each[list(places)], outcomes, groups)
    names = tuple("ABCDEF"[: each.shape[1]])
    asked_for = tuple(Question((1, 2), 1, False) for _ in groups)
    given = (
        names,
        prompts,
        asked_for,
        each,
        places,
        outcomes,
        outcomes.lead,
        objective or Objective(),
        model,
    )
    results = Results(*given, 0, still_open)
    scores = results.score(results.measured())
    return Results(*given, places[int(np.argmax(scores))], still_open)


class TestKept:
    questions = tuple(Question(tuple(range(length + 1)), 1, False, line=length) for length in (3, 1, 2, 3))

    def ask(self, seen, stop_at=None):
        """Says of every question its length times the sum of strengths; notes what was put to it."""

        def ask_batch(items, weights, rivals, advance):
            if stop_at is not None and len(seen) >= stop_at:
                raise KeyboardInterrupt
            seen.append(([len(item.answer) for item in items], weights.tolist(), rivals))
            answers = []
            for item in items:
                count = len(item.answer)
                lead = [float(count * one.sum()) for one in weights]
                answers.append([Answer(-value, value, [[value]] * count) for value in lead])
            advance(len(weights))
            return answers, [[[7]] * len(item.answer) for item in items]

        return ask_batch

    def test_what_was_run_is_not_run_again(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(run, "MERGES", 1)
        seen, weights = [], np.array([[0.0, 0.0], [1.0, 0.5]])
        with (
            pytest.raises(KeyboardInterrupt),
            Runner(tmp_path, {"a": 1}, self.questions, 2, self.ask(seen, 1)) as runner,
        ):
            runner.run(weights)
        assert [lengths for lengths, _, _ in seen] == [[3, 3]]
        with Runner(tmp_path, {"a": 1}, self.questions, 1, self.ask(seen)) as runner:
            outcomes = runner.run(weights)
            assert [lengths for lengths, _, _ in seen] == [[3, 3], [2], [1]]  # the rest, the longest first
            np.testing.assert_array_equal(outcomes.lead, [[0] * 4, [4.5, 1.5, 3, 4.5]])
            np.testing.assert_array_equal(runner.loglik(weights), -outcomes.lead)
            assert outcomes.row.tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3] and outcomes.gap.shape == (2, 9, 1)
            capsys.readouterr()
            runner.phase = "search"
            runner.run(np.array([[0.0, 0.0], [2.0, 0.0]]))
            assert {tuple(one) for _, each, _ in seen[3:] for one in each} == {(2.0, 0.0)}
            assert seen[-1][2] == [[[7]]]  # the rivals chosen before
            assert "search: 1 runs: 100%" in capsys.readouterr().err

    def test_another_configuration_is_refused(self, tmp_path):
        with Runner(tmp_path, {"dtype": "a"}, self.questions, 2, self.ask([])):
            pass
        for opening in (
            lambda: Runner(tmp_path, {"dtype": "b"}, self.questions, 2, self.ask([])).__enter__(),
            lambda: require_own(tmp_path, {"dtype": "b"}),
        ):
            with pytest.raises(ValueError, match=r"another configuration \(dtype: a there, b here\)"):
                opening()
        require_own(tmp_path, {"dtype": "a"})
        require_own(tmp_path / "none", {"dtype": "b"})
        assert not (tmp_path / "none").exists()

    def test_numbers_that_are_not_finite_are_not_kept(self, tmp_path):
        asks = [Question((1, 2, 3), 1, False, line=4), Question((1, 2), 1, False, line=9)]

        def broken(items, weights, rivals, advance):
            values = [np.nan if item.line == 9 else 1.0 for item in items]
            answers = [
                [Answer(value, value, [[value]] * len(item.answer))]
                for value, item in zip(values, items, strict=True)
            ]
            return answers, [[[7]] * len(item.answer) for item in items]

        for _ in range(2):
            with (
                pytest.raises(ValueError, match="for the prompt of line 9 are not finite"),
                Runner(tmp_path, {}, asks, 2, broken) as runner,
            ):
                runner.run(np.zeros((1, 2)))
        seen = []
        with Runner(tmp_path, {}, asks, 2, self.ask(seen)) as runner:
            runner.run(np.zeros((1, 2)))
        assert [lengths for lengths, _, _ in seen] == [[2, 1]]  # nothing of the batch was kept


def test_an_answer_is_critical_where_it_takes_the_lead():
    lams = [0.0, 0.5, 1.0]
    start, end = crossings(lams, [[-1, 1, 3], [-3, -1, 1], [-1, -1, -1], [2, 1, -1], [-1, 1, -3], [0, 1, 2]])
    np.testing.assert_allclose(start, [0.25, 0.75, np.inf, 0, 0.25, 0])
    np.testing.assert_allclose(end, [np.inf, np.inf, np.inf, 0.75, 0.625, np.inf])


def test_critical_lambda_of_linear_logits_is_margin_over_swing():
    rng = np.random.default_rng(0)
    gap, swing = rng.uniform(0.1, 1, 50), rng.uniform(0.1, 3, 50)
    lams = np.array([0, 0.3, 0.8, 1.0])
    start, _ = crossings(lams, lams * swing[:, None] - gap[:, None])
    expected = gap / swing
    np.testing.assert_allclose(start, np.where(expected < 1, expected, np.inf))


def own(i, need=0.4, push=0.0):
    """A prompt that adapter i makes right above a strength, and the other one pushes."""
    return lambda *lam: lam[i] - need - push * (sum(lam) - lam[i])


class TestTables:
    results = make_results([own(0)] * 4 + [lambda a, b: 1.2 - a - b] * 2, ["edits"] * 4 + ["untouched"] * 2)

    def test_a_row_a_group_and_merge(self):
        table = tables.prediction_table(self.results)
        assert len(table) == 2 * len(EACH) and table["run"].all() and not table["undecided"].any()
        row = table[(table["group"] == "untouched") & (table["lam"] == 1.0)].iloc[0]
        assert (row["accuracy"], row["low"], row["prompts"]) == (0.0, 0.0, 2) and row["high"] > 0.5
        row = table[(table["group"] == "edits") & (table["lam_1"] == 1) & (table["lam_2"] == 0.5)].iloc[0]
        assert np.isnan(row["lam"]) and row["accuracy"] == 1.0

    def test_a_row_a_prompt(self):
        table = tables.prompt_table(self.results)
        assert list(table["line"]) == [1, 2, 3, 4, 5, 6] and list(table["base"]) == [False] * 4 + [True] * 2
        assert list(table["adapter"]) == [1] * 4 + [0] * 2
        edits, untouched = table.iloc[0], table.iloc[5]
        assert edits["critical_lambda_1"] == pytest.approx(0.4) and edits["lost_lambda_1"] == np.inf
        assert edits["critical_lambda_2"] == np.inf
        assert (untouched["critical_lambda"], untouched["lost_lambda"]) == (0, pytest.approx(0.6))

    def test_predicted_cells_have_wider_intervals_than_measured_ones(self):
        each = candidates(3, (0.25, 0.5, 0.75, 1.0))
        rules = [own(i, need, 0.3) for i in range(3) for need in np.linspace(0.1, 0.8, 8)]
        groups = [group for group in "abc" for _ in range(8)]
        results = make_results(rules, groups, each=each, places=[*range(0, 125, 6), 4, 20, 100])
        cells = tables.every_accuracy(results)
        truth = np.array(
            [
                [np.mean([rule(*one) > 0 for rule in rules[8 * g : 8 * g + 8]]) for g in range(3)]
                for one in each
            ]
        )
        ran = cells["run"]
        np.testing.assert_array_equal(cells["accuracy"][ran], truth[ran])
        assert np.abs(cells["accuracy"] - truth)[~ran].mean() < 0.1
        assert ((cells["low"] <= truth) & (truth <= cells["high"]))[~ran].mean() > 0.9
        least, most = tables.sampled(cells["accuracy"], results.counts())
        assert (cells["low"] <= least + 1e-9).all() and (cells["high"] >= most - 1e-9).all()
        np.testing.assert_allclose(cells["low"][ran], least[ran], atol=1e-9)
        assert (cells["high"] - most)[~ran].mean() > 0.001


def test_the_interval_of_a_mean_adds_those_of_its_groups():
    """Half of its groups' sum of squares; that of one group is Wilson's."""
    results = make_results([own(0)] * 3 + [own(1)] * 5, ["one"] * 3 + ["two"] * 5)
    accuracy = np.array([2 / 3, 0.4])
    (_, low, high), (_, other_low, other_high) = intervals.proportion(2, 3), intervals.proportion(2, 5)
    mean = accuracy.mean()
    expected = (
        mean - np.hypot(2 / 3 - low, 0.4 - other_low) / 2,
        mean + np.hypot(high - 2 / 3, other_high - 0.4) / 2,
    )
    np.testing.assert_allclose(tables.score_interval(results, accuracy), expected)
    worst = make_results([own(0)] * 3 + [own(1)] * 5, ["one"] * 3 + ["two"] * 5, Objective(WORST))
    np.testing.assert_allclose(tables.score_interval(worst, accuracy), (other_low, other_high))


class TestVerdict:
    def test_a_sum_that_holds_both_is_recommended(self):
        rules = [own(0)] * 2 + [own(1)] * 2 + [lambda a, b: 1.2 - a - b] * 2
        lines = verdict.verdict(
            make_results(
                rules, ["one"] * 2 + ["two"] * 2 + ["untouched"] * 2, Objective("mean", {"untouched": 0.05})
            )
        )
        assert lines[0].startswith("Recommendation: merge A, B at 0.5, 0.5: mean accuracy 1.00 [")
        assert "measured; best single adapter (B at 0.5) 0.50 [" in lines[0]
        assert lines[0].endswith("all at 1 breaks the protection of untouched")
        assert lines[1] == (
            "Lost: of 4 edits that one adapter alone answers, 0% (A 0%, B 0%); damage to untouched 0.00 "
            "[0.00, 0.00]"
        )
        assert lines[2] == "Certain: all 9 merges were run"
        assert lines[3] == "Next: python -m sim.merge A B --method sum --weight 0.5 0.5 --out merged"

    def test_adapters_that_exclude_each_other_are_named_and_not_merged(self):
        rules = [own(0, push=1.0)] * 3 + [own(1, push=0.1)]
        lines = verdict.verdict(make_results(rules, ["one"] * 3 + ["two"]))
        assert lines[0].startswith("Recommendation: do not merge: B at 0.5: mean accuracy 0.50 [")
        assert "A and B exclude each other: 1.00 of A's answers are lost to B at 0.5 each" in lines[1]
        assert "of 4 edits that one adapter alone answers, 75% (A 100%, B 0%)" in lines[1]
        assert len(lines) == 3 and "damage unknown" in lines[1]

    def test_the_best_single_adapter_is_named(self):
        rules = [own(0)] * 3 + [own(1)] + [own(0)] * 2
        line = results_line(make_results(rules, ["one"] * 4 + ["two"] * 2))
        assert (
            "; best single adapter (A at 0.5) 0.88 [" in line
            and "merge A, B at 0.5, 0.5: mean accuracy 1.00" in line
        )

    def test_the_objective_decides(self):
        rules = [own(0, push=0.5)] * 3 + [own(1, 0.2, push=0.1)] * 3
        groups = ["one"] * 3 + ["two"] * 3
        best = {}
        for aim in ("one", "two", WORST):
            results = make_results(rules, groups, Objective(aim))
            best[aim] = results.candidates[results.best].tolist()
            assert f"accuracy of {'the worst group' if aim == WORST else aim} 1.00 [" in results_line(results)
        assert best == {"one": [0.5, 0.0], "two": [0.0, 0.5], WORST: [1.0, 0.5]}

    def test_what_is_open_is_said_with_the_budget_that_decides_it(self):
        each = candidates(3, (0.25, 0.5, 0.75, 1.0))
        rules = [own(i, need, 0.3) for i in range(3) for need in np.linspace(0.1, 0.8, 8)]
        groups = [group for group in "abc" for _ in range(8)]
        places = [*range(0, 125, 6), 4, 20, 100]
        lines = verdict.verdict(make_results(rules, groups, each=each, places=places, still_open=7))
        assert lines[2].startswith(
            f"Certain with: --budget {len(places) + 7}; {len(places)} of 125 merges were run"
        )
        assert lines[2].endswith("7 that were not run may be better")

    def test_no_verdict_contradicts_what_was_measured(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            rules = [own(i, rng.uniform(0.1, 1.2), rng.normal(0, 0.5)) for i in range(2) for _ in range(6)]
            results = make_results(rules, ["one"] * 6 + ["two"] * 6)
            line, scores = results_line(results), results.score(results.measured())
            assert f"{scores.max():.2f} [" in line
            sizes = np.count_nonzero(results.weights, axis=1)
            best = scores == scores.max()
            assert line.startswith("Recommendation: merge ") == (sizes[results.best] > 1)
            assert best[results.best]


def results_line(results):
    return verdict.verdict(results)[0]


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
    rules = [own(0)] * 2 + [lambda a, b: 1.2 - a - b] * 2
    results = make_results(rules, ["edits"] * 2 + ["untouched"] * 2)
    prediction = entry.Prediction(results, ("a <note>",))
    entry.write_page(prediction, tmp_path, prediction.figure(), {"base": "here"})
    seen = run_script(tmp_path / "report.html", SEEN, tmp_path)
    assert seen["verdict"] == prediction.verdict and seen["doubts"] == "a <note>"
    assert seen["heads"][:4] == [
        "Adapters",
        "The best merge beside others",
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
            ("sim.predict", ["--objective", "other"], "no group 'other' in the prompts; there are edits"),
            ("sim.predict", ["--protect", "edits"], "write GROUP:SHARE with a share of 0 to 1"),
            ("sim.predict", ["--protect", "edits:2"], "write GROUP:SHARE with a share of 0 to 1"),
            ("sim.predict", ["--protect", "edits:0.1"], "every group is protected"),
            ("sim.predict", ["--budget", "3"], "--budget 3: give 6 or more"),
            ("sim.predict", ["--method", "other"], "unknown merge method 'other'; "),
            ("sim.record", ["--batch-size", "0"], "--batch-size is 0"),
            ("sim.record", ["--own", "edits"], "--own: 1 groups for 2 adapters"),
            ("sim.record", ["--own", "edits", "other"], "no such group; it has edits"),
        ],
    )
    def test_bad_options_are_one_line(self, options, command, module, more, message):
        code, _, err = command(module, *FOLDERS, *options, *more)
        assert code == 2 and message in err and err.count("\n") == 1, err

    def test_an_adapter_is_needed(self, options, command):
        code, _, err = command("sim.predict", *options)
        assert code == 2 and "give at least one adapter folder" in err
