"""Every check and every figure of the laws at a small size: a computation that breaks, or a sign, shows."""

import numpy as np
import pytest

import sim.laws  # noqa: F401  (registers checks and figures)
from sim.lab.check import CHECKS
from sim.lab.figure import COMMON, FIGURES, Source
from sim.lab.seeds import EFFORTS

SMOKE = EFFORTS["smoke"]

REACH = 0.05
"""How far outside the interval of a few draws a prediction may lie: less than a wrong sign moves it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_every_check_holds_at_a_small_size(name):
    check = CHECKS[name]
    rows = list(check.rows(SMOKE))
    assert len(rows) >= 2
    for row in rows:
        numbers = np.array([row.predicted, row.measured, row.low, row.high])
        assert np.isfinite(numbers).all(), row
        assert row.low - 1e-12 <= row.measured <= row.high + 1e-12, row
        if check.tag == "exact":
            assert row.inside, row
        else:
            reach = REACH + row.slack
            assert row.low - reach <= row.predicted <= row.high + reach, row


LAWS = [name for name, item in FIGURES.items() if item.section.startswith("section")]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_every_figure_collects_and_draws_what_it_collected(name, tmp_path):
    table = FIGURES[name].collect(Source(tmp_path, SMOKE))
    assert set(COMMON) <= set(table.columns)
    assert np.isfinite(table["predicted"]).all()
    measured = table.dropna(subset="measured")
    assert len(measured) >= 4 and np.isfinite(measured[list(COMMON)]).all(axis=None)
    assert (measured["low"] <= measured["measured"] + 1e-9).all()
    assert (measured["measured"] <= measured["high"] + 1e-9).all() and (measured["seeds"] >= 1).all()
    FIGURES[name].draw(table).savefig(tmp_path / "drawn.pdf")
