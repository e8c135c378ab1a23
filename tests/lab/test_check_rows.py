"""A row of a check says whether its prediction lies in its interval, and is false where it does not."""

import numpy as np
import pytest

from sim.lab import check, intervals


@pytest.mark.parametrize(
    ("predicted", "slack", "inside"),
    [
        (0.5, 0.0, True),
        (0.4, 0.0, True),  # the ends belong to it
        (0.6, 0.0, True),
        (0.4 - 1e-9, 0.0, False),
        (0.6 + 1e-9, 0.0, False),
        (0.0, 0.0, False),
        (1.0, 0.0, False),
        (0.35, 0.05, True),
        (0.65, 0.05, True),
        (0.34, 0.05, False),
        (0.66, 0.05, False),
        (float("nan"), 0.0, False),
    ],
)
def test_inside(predicted, slack, inside):
    assert check.Row("", predicted, 0.5, 0.4, 0.6, 3, slack).inside is inside


def test_rounding_is_no_disagreement():
    assert check.limit("", 0.3, 0.1 + 0.2, 0.0).inside
    assert not check.limit("", 0.3, 0.3001, 0.0).inside
    assert check.limit("", 0.3, 0.3001, 0.001).inside


def test_an_exact_row_holds_to_its_tolerance():
    assert check.exact("", 1.0, 1.0 + 5e-10, 1e-9).inside
    assert not check.exact("", 1.0, 1.0 + 2e-9, 1e-9).inside
    assert check.exact("n = 2", 1.0, 1.0, 1e-9).setting == "n = 2; tolerance 1e-09"


def test_rates_and_averages_carry_their_intervals():
    row = check.rate("", 0.5, [0.25, 0.5, 0.75], 8)
    assert (row.measured, row.low, row.high) == intervals.proportion([2, 4, 6], [8, 8, 8])
    assert row.seeds == 3
    row = check.average("", 0.5, np.array([1.0, 2.0, 4.0]), 0.1)
    assert (row.measured, row.low, row.high) == intervals.mean([1.0, 2.0, 4.0])
    assert (row.seeds, row.slack) == (3, 0.1)
