"""Claim 4: what a world's run must show, read off tables made by hand."""

import pandas as pd
import pytest

from sim.experiments import EXPERIMENTS
from sim.figures import FIGURES, worlds_claims
from sim.figures.worlds_claims import WORLD_CELLS, Cells, evidence
from sim.worlds import WORLDS


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(WORLD_CELLS, "toy", Cells("toys", "toys", "seen/both", "seen/none", "new/both"))


def cell(label, library, method, measured):
    found = {"label": label, "library": library, "method": method, "metric": "cot_answer"}
    return found | {"measured": measured, "low": measured - 0.1, "high": measured + 0.1, "seeds": 3}


def summary(merged=0.75, alone=0.1, new=0.2):
    rows = [cell("seen/both", "single", "joint", 0.9), cell("seen/both", "parts", "oracle", 0.95)]
    rows += [cell("seen/both", "single", "base", 0.8)]  # neither the base nor the oracle is data-free reuse
    for label, best in (("seen/both", merged), ("seen/none", alone), ("new/both", new)):
        rows += [cell(label, "parts", "sum", best), cell(label, "parts", "average", best - 0.05)]
    return pd.DataFrame(rows)


def guesses(right, methods=("sum", "average"), asked=100):
    metric = {"metric": "direct_given_among_answers", "predicted": 0.1}
    rows = [
        metric | {"seed": s, "library": "parts", "method": m, "right": right[m], "asked": asked}
        for s in range(3)
        for m in methods
    ]
    rows.append(metric | {"seed": 0, "library": "parts", "method": "oracle", "right": 90, "asked": 100})
    for s in range(3):
        rows.append(metric | {"seed": s, "library": "single", "method": "half", "right": 12, "asked": 100})
        rows.append(metric | {"seed": s, "library": "single", "method": "joint", "right": 80, "asked": 100})
    return pd.DataFrame(rows)


AT_CHANCE = {"sum": 10, "average": 9}


def test_all_three_show():
    shows, text = evidence("toy", summary(), guesses(AT_CHANCE))
    assert shows == [True, True, True]
    assert "(3 seeds)" in text and "0.83 of the joint adapter's 0.900" in text and "(parts/sum)" in text
    assert "right in 0.095 [" in text and "of 600 cases (a guess: 0.1000; one adapter" in text
    assert "which holds half: 0.120 [" in text
    assert text.count("**not**") == 0


@pytest.mark.parametrize(
    ("changed", "shows"),
    [
        ({"merged": 0.63}, [True, True, True]),  # 0.7 of 0.9 exactly
        ({"merged": 0.62}, [True, False, True]),
        ({"alone": 0.149}, [True, True, True]),  # a guess and 0.05
        ({"alone": 0.151}, [True, True, False]),
    ],
)
def test_each_has_its_threshold(changed, shows):
    found, text = evidence("toy", summary(**changed), guesses(AT_CHANCE))
    assert found == shows and text.count("**not**") == shows.count(False)


def test_one_method_above_its_guess_is_seen_and_named():
    shows, text = evidence("toy", summary(), guesses({"sum": 30, "average": 2}))
    assert shows == [False, True, True]
    assert "of 2 pairs of question and method 1 lie above their own guess (direct of parts/sum)" in text


def test_a_missing_cell_is_named():
    rows = summary()
    with pytest.raises(ValueError, match="toy has no cot_answer at new/both: run it again"):
        evidence("toy", rows[rows["label"] != "new/both"], guesses(AT_CHANCE))
    with pytest.raises(ValueError, match="toy has no cot_answer of joint at seen/both"):
        evidence("toy", rows[rows["method"] != "joint"], guesses(AT_CHANCE))


@pytest.mark.parametrize("world", list(WORLD_CELLS))
def test_every_world_has_an_experiment_of_its_name_with_these_cells(world):
    cells = WORLD_CELLS[world]
    assert world in WORLDS and cells.figure in FIGURES and worlds_claims.SHARE == 0.7
    for profile in ("quick", "paper"):
        labels = {label for part in EXPERIMENTS[world].parts(profile) for label, _, _ in part.cells}
        assert {cells.shared, cells.alone, cells.unseen} <= labels
