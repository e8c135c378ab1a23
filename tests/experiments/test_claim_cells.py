"""What claims read from the tables of runs, on tables made up by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from sim.experiments import mergeability
from sim.experiments.common import cells
from sim.experiments.common.claim import POOLED, Cell, Reading
from sim.experiments.common.predicted import errors
from sim.experiments.familiarity import claims, forecasts
from sim.experiments.people import claims as people_claims
from sim.lab import intervals
from sim.lab.figure import Source
from sim.sweep.run import counts

GIVEN = "direct_given_among_answers"


class Tables:
    """A source of made-up tables: {(experiment, table): rows}."""

    def __init__(self, tables, runs=None):
        self.tables, self.runs = tables, runs

    def summary(self, experiment, table="summary"):
        return self.tables[experiment, table]


def row(
    label, method, metric, measured, low=0.0, high=1.0, library="parts", predictor="", predicted=math.nan
):
    keys = {"label": label, "library": library, "method": method, "metric": metric, "predictor": predictor}
    return keys | {"predicted": predicted, "measured": measured, "low": low, "high": high, "seeds": 4}


def guess(seed, method, right, trials, library="parts", metric=GIVEN, predicted=0.25):
    keys = {"seed": seed, "library": library, "method": method, "metric": metric, "predicted": predicted}
    return keys | {"right": right, "asked": trials}


SUMMARY = pd.DataFrame(
    [
        # Two settings, 10 questions, 4 seeds: the sum answers 30 and 10 of 40 with one of the answers.
        row("a", "sum", "direct_among_answers", 0.75),
        row("b", "sum", "direct_among_answers", 0.25),
        row("a", "sum", "direct", 0.5, predictor="disentangled", predicted=0.9),
        row("a", "sum", "direct", 0.5, predictor="chance", predicted=0.2),
        row("a", "sum", GIVEN, 0.4, 0.3, 0.5, predictor="chance", predicted=0.25),
        row("b", "sum", GIVEN, 0.4, predictor="chance", predicted=0.25),
        row("b", "sum", GIVEN, 0.4, predictor="bound", predicted=0.27),
        row("a", "sum", f"{GIVEN}_without_one", 0.3, predictor="chance", predicted=0.28),
        row("a", "sum", "cot_answer", 0.6, 0.5, 0.7, predictor="base", predicted=0.1),
        row("a", "sum", "direct_loss_gain", 0.1, predictor="chance", predicted=0.0),
        row("a", "average", "direct_among_answers", 0.0),
        row("a", "hop1", "kappa_hop1", 0.9, library="single"),
    ]
)
GUESSES = pd.DataFrame([guess(seed, "sum", right, 10) for seed, right in enumerate((1, 2, 3, 4))])
TABLES = {("run", "summary"): SUMMARY, ("run", "guesses"): GUESSES}


class TestReadings:
    @pytest.fixture
    def read(self, tmp_path):
        (tmp_path / "run").mkdir()
        source = Tables(TABLES, tmp_path)
        return lambda *cell: cells.readings(source, [Cell("run", *cell)])[Cell("run", *cell)]

    def test_a_share_has_its_null_and_its_answers(self, read):
        assert read("a", "sum", GIVEN) == Reading(0.4, 0.3, 0.5, 0.25, 4, 30)
        assert str(read("a", "sum", GIVEN)) == "0.400 [0.300, 0.500] (12 of 30)"

    def test_the_most_that_one_hop_allows_comes_before_a_guess(self, read):
        assert read("b", "sum", GIVEN).predicted == 0.27

    def test_questions_at_once_and_step_by_step_are_as_many(self, read):
        assert read("a", "sum").trials == 40 and math.isnan(read("a", "sum").predicted)
        assert read("a", "sum", "direct").trials == 40 and read("a", "sum", "direct").predicted == 0.2

    def test_the_null_of_who_lacks_a_hop_is_of_all_questions(self, read):
        reading = read("a", "sum", f"{GIVEN}_without_one")
        assert reading.trials == 40 and reading.predicted == 0.28

    def test_a_real_number_has_none(self, read):
        assert read("a", "sum", "direct_loss_gain").trials is None
        assert read("a", "hop1", "kappa_hop1", "single").trials is None
        assert str(read("a", "hop1", "kappa_hop1", "single")) == "0.900 [0.000, 1.000]"

    def test_who_never_answers_is_no_missing_cell(self, read):
        assert read("a", "average", GIVEN).trials == 0 and str(read("a", "average", GIVEN)) == "no answer"
        with pytest.raises(ValueError, match="run has no cot_answer of parts/alchemy at a: run it again"):
            read("a", "alchemy")

    def test_all_settings_together_are_counted_by_seed(self, read):
        reading = read(POOLED, "sum", GIVEN)
        interval = intervals.proportion([1, 2, 3, 4], [10] * 4)
        assert reading == Reading(*interval, 0.25, 4, 40, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4})
        assert read(POOLED, "average", GIVEN).trials == 0

    def test_counts_by_seed_are_read_where_a_run_has_them(self, read, tmp_path):
        rows = [{"label": "a", "library": "parts", "method": "sum", "metric": "cot_answer", "seed": seed,
                 "right": seed, "trials": 4} for seed in range(3)]  # fmt: skip
        pd.DataFrame(rows).to_csv(tmp_path / "run" / "counts.csv", index=False)
        assert read("a", "sum").by_seed == {0: 0.0, 1: 0.25, 2: 0.5} and read("a", "sum", GIVEN).by_seed == {}

    def test_a_table_is_read_once_until_it_changes(self, tmp_path):
        (tmp_path / "run").mkdir()
        source = Source(tmp_path)
        for measured in (0.25, 0.5):
            rows = SUMMARY.assign(measured=measured)
            rows.to_csv(tmp_path / "run" / "summary.csv", index=False)
            GUESSES.to_csv(tmp_path / "run" / "guesses.csv", index=False)
            run = cells.run_of(source, "run")
            assert run is cells.run_of(Source(tmp_path), "run")
            assert run.reading(Cell("run", "a", "sum")).measured == measured

    def test_a_null_is_the_mean_of_answers(self):
        rows = pd.DataFrame(
            [guess(0, "sum", 1, 30), guess(0, "sum", 0, 10, predicted=0.5), guess(1, "sum", 0, 0)]
        )
        assert cells.pooled(rows).predicted == pytest.approx((30 * 0.25 + 10 * 0.5) / 40)
        assert cells.pooled(rows).seeds == 1 and cells.pooled(rows.iloc[:0]).trials == 0


def test_a_run_keeps_counts_of_what_claims_compare():
    keys = {"experiment": "rank", "label": "rank4", "library": "parts", "method": "sum"}
    rows = [keys | {"metric": "cot_answer", "seed": seed, "measured": 0.75, "trials": 16} for seed in (0, 1)]
    rows += [keys | {"metric": "cot_exact", "seed": 0, "measured": 0.75, "trials": 16}]
    rows += [keys | {"metric": "cot_answer", "seed": 2, "measured": 1.0, "trials": math.nan}]
    table = counts(pd.DataFrame(rows * 2))  # a row a predictor
    assert table[["metric", "seed", "right", "trials"]].values.tolist() == [
        ["cot_answer", 0, 12, 16],
        ["cot_answer", 1, 12, 16],
    ]
    assert counts(pd.DataFrame(rows).assign(experiment="other")).empty


def test_answers_at_once_are_those_of_data_free_models():
    """The oracle and single adapters are left out; each run adds its counts."""
    guesses = [
        guess(0, "sum", 2, 10),
        guess(1, "sum", 4, 10),
        guess(0, "average", 1, 5, library="bridge"),
        guess(0, "arrow", 3, 6),
        guess(0, "oracle", 10, 10),
        guess(0, "joint", 10, 10, library="single"),
        guess(0, "sum", 9, 9, metric="direct3_given_among_answers"),
    ]
    rows = [row("a", "sum", GIVEN, 0.5, low, 0.9, predictor="chance", predicted=0.25) for low in (0.24, 0.26)]
    rows += [row("a", "oracle", GIVEN, 1.0, 0.9, predictor="chance", predicted=0.25)]
    rows += [row("a", "average", "cot_answer", 0.2), row("a", "sum", "cot_answer", 0.6)]
    tables = {(name, "guesses"): pd.DataFrame(guesses) for name in claims.TWO_HOP}
    tables |= {(name, "summary"): pd.DataFrame(rows) for name in claims.TWO_HOP}
    measured = {cell.method if cell.metric == GIVEN else cell.metric: r
                for cell, r in claims.collect_at_once(Tables(tables)).items()}  # fmt: skip
    runs = len(claims.TWO_HOP)
    assert runs == 8 and measured["data-free"].trials == 31 * runs
    assert measured["data-free"].measured == pytest.approx(10 / 31)
    assert measured["sum"].by_seed == {0: 0.2, 1: 0.4} and measured["sum"].trials == 20 * runs
    assert measured["average"].trials == 0 and measured["arrow"].measured == 0.5
    assert measured["above"].count == f"{runs} of {2 * runs}" and measured["cot_answer"].measured == 0.4
    assert measured["by luck"].measured == 0.025


def test_on_the_language_model_stand_ins_are_counted_apart():
    """They lack a hop: what they answer stands beside the merges of the parts, and in no sum with them."""
    rows = [
        guess(seed, method, right, 100, library)
        for seed in range(4)
        for library, method, right in (
            ("parts", "sum", 30),
            ("bridge", "average", 10),
            ("parts", "oracle", 90),
            ("single", "hop2", 70),
            ("random_for_hop1", "sum", 2),
            ("unrelated_for_hop2", "sum", 6),
        )
    ]
    rows += [row | {"metric": "direct_question_given_among_answers", "right": 50} for row in rows]
    readings = people_claims.collect_at_once(Tables({("people", "guesses"): pd.DataFrame(rows)}))
    addresses = (*map(people_claims._data_free, people_claims.ONCE), people_claims.STAND_IN)
    once, question, stand_in = map(readings.get, addresses)
    assert (once.measured, once.trials) == (pytest.approx(0.2), 800)
    assert (question.measured, question.trials) == (pytest.approx(0.5), 800)
    assert (stand_in.measured, stand_in.trials) == (pytest.approx(0.04), 800)


def outcomes(**predictors):
    """Two seeds, one setting, λ = 0.5 and 1: the merge has 0.5."""
    rows = [
        {"label": "real/both", "lam": lam, "seed": seed, "metric": metric, "measured": 0.5, "undecided": True}
        for lam in (0.5, 1.0)
        for seed in (0, 1)
        for metric in ("hop1", "cot_exact")
    ]
    return pd.DataFrame(rows).assign(**predictors)


def test_errors_are_of_open_outcomes_seed_by_seed():
    rows = outcomes(base=[0.4, 0.9, 0.5, 0.5] * 2, none=math.nan)
    rows.loc[1, "undecided"] = False
    measured = errors(rows, ("base", "none"))
    assert set(measured) == {"base"}
    np.testing.assert_allclose(list(measured["base"].by_seed.values()), [(0.1 + 0.1 + 0.4) / 3, 0.0])
    assert measured["base"].measured == pytest.approx(0.1) and measured["base"].seeds == 2


def test_the_product_is_set_against_others_on_its_own_cells(monkeypatch):
    rows = outcomes(
        base=0.0, disentangled=[0.4, 0.2] * 4, product=[math.nan, 0.3] * 4, tangent=0.5, coverage=0.5
    )
    monkeypatch.setattr(forecasts, "linear", lambda source, experiment: rows)
    depths = [rows.assign(label=label) for label in (forecasts.DEEP, forecasts.SHALLOW)]
    source = Tables({("mergeability", "predictions"): pd.concat(depths)})
    readings = forecasts.collect_errors(source)
    measured = {(c.label, c.method, c.metric): r.measured for c, r in readings.items()}
    half = "error, λ ≤ ½"
    assert measured["open outcomes", "disentangled", half] == pytest.approx(0.2)
    assert measured["chains alone", "disentangled", half] == pytest.approx(0.3)
    assert measured["chains alone", "product", half] == pytest.approx(0.2)


def test_regret_is_what_the_coefficient_with_the_best_forecast_loses(monkeypatch):
    """Measured 0.5 and 0.8 at λ = ½ and 1; the forecast is right in all settings but one."""
    rows = []
    for label in forecasts.SETTINGS:
        for lam, value in ((0.5, 0.5), (1.0, 0.8)):
            for seed in (0, 1):
                forecast = 1 - value if label == "fake/none" else value
                for metric, share in (("hop1", 0.9), ("hop2", 1.1), ("untouched", 1.0)):
                    keys = {"label": label, "lam": lam, "seed": seed, "metric": metric}
                    outcome = (value + 0.01 * seed) * share
                    rows.append(keys | {"disentangled": forecast * share, "measured": outcome})
    monkeypatch.setattr(forecasts, "linear", lambda source, experiment: pd.DataFrame(rows))
    measured = {cell.label: reading for cell, reading in forecasts.collect_regrets(None).items()}
    assert len(forecasts.SETTINGS) == 16 and measured["best"].count == "15 of 16"
    assert measured["fake/none"].measured == pytest.approx(0.3) and measured["real/both"].measured == 0
    assert measured["fake/none"].seeds == 2


def test_fits_and_forecasts_stand_side_by_side(monkeypatch):
    rows = outcomes(**dict.fromkeys(mergeability.OURS, 0.4))
    fits = {mergeability.fit(name): 0.2 for name in mergeability.FITS}
    monkeypatch.setattr(mergeability, "outcomes", lambda source: rows)
    monkeypatch.setattr(mergeability, "with_fits", lambda table: table.assign(**fits))
    measured = mergeability.collect_fits(None)
    assert len(measured) == 2 * (7 + len(fits))
    measured = {(cell.method, cell.metric): reading.measured for cell, reading in measured.items()}
    assert measured["composed", "error, λ ≤ ½"] == pytest.approx(0.1)
    assert measured["cosine, fitted", "error, ½ < λ ≤ 1"] == pytest.approx(0.3)
    assert measured["all of them, fitted", "error, λ ≤ ½"] == pytest.approx(0.3)
    assert len(measured) == 2 * (26 + 2 + 7)
