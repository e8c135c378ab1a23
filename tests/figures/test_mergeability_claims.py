"""Verdicts on forecasts and metrics of merges follow the numbers."""

import pytest

from sim.experiments.mergeability import METRICS, compared, outcomes
from sim.figures import mergeability_claims
from sim.lab.figure import Source, committed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows():
    return outcomes(Source(committed() / "experiments"))


def test_a_forecast_that_is_right_holds_and_one_that_adds_up_does_not(rows):
    right = rows.assign(composed=rows["measured"])
    assert mergeability_claims.forecasts(right)[:2] == (True, True)
    assert mergeability_claims.forecasts(rows.assign(composed=rows["disentangled"]))[:2] == (False, False)
    # Better than adding up and yet beyond the aim: in part.
    near = rows.assign(composed=rows["measured"] + 0.1, disentangled=rows["measured"] + 0.2)
    whole, part, text, _ = mergeability_claims.forecasts(near)
    assert (whole, part) == (False, True) and "composed 0.100 [0.100, 0.100]" in text


def test_a_metric_that_tells_the_outcome_ends_the_claim(rows):
    assert mergeability_claims.metrics(rows.assign(disentangled=rows["measured"]))[:2] == (True, True)
    whole, part, text, _ = mergeability_claims.metrics(rows.assign(cosine=rows["measured"]))
    assert (whole, part) == (False, False) and "strongest is cosine, 1.000" in text


def test_a_run_in_which_nothing_is_open_has_a_table_without_rows(rows):
    table = compared(rows.assign(undecided=False))
    assert table.empty or set(table["quantity"]) == {"rank"}
    names = {name for group in METRICS.values() for name in group}
    assert names <= set(rows.columns) and rows[sorted(names)].notna().all(axis=None)
