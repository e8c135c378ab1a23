"""Claim 4: one rule for every world, and each of its parts can turn the verdict."""

import pandas as pd
import pytest

from sim.experiments import EXPERIMENTS
from sim.figures import worlds_claims
from sim.worlds import WORLDS

WORLD = "math_word"
CELLS = worlds_claims.WORLD_CELLS[WORLD]
DIRECT = "direct_given_among_answers"
NULL = 0.1


def tables(shared=0.8, joint=0.9, alone=0.1, unseen=0.3, right=10):
    """Summary and guesses of a world: a sum that does as told, an average that does nothing, an oracle and a
    joint adapter that cheat."""
    kinds = {CELLS.shared: shared, CELLS.alone: alone, CELLS.unseen: unseen}
    rows = []
    for labels, solved in kinds.items():
        of = {("parts", "sum"): solved, ("parts", "average"): 0.06, ("parts", "oracle"): 1.0}
        for (library, method), value in {**of, ("single", "joint"): joint}.items():
            where = {"library": library, "method": method, "metric": CELLS.metric, "seeds": 3}
            rows += [
                where | {"label": label, "measured": value, "low": value, "high": 1.0} for label in labels
            ]
    guesses = [
        {"library": library, "method": method, "right": count, "seed": seed}
        for (library, method), count in {
            ("parts", "sum"): right,
            ("parts", "oracle"): 100,
            ("single", "joint"): 100,
            ("single", "half"): 12,
        }.items()
        for seed in range(3)
    ]
    told = pd.DataFrame(guesses).assign(asked=100, metric=DIRECT, predicted=NULL)
    return pd.DataFrame(rows), told


def test_every_world_shown_has_an_experiment_of_its_name():
    assert set(worlds_claims.WORLD_CELLS) <= set(WORLDS) & set(EXPERIMENTS)


@pytest.mark.parametrize("profile", ["quick", "paper"])
@pytest.mark.parametrize("world", worlds_claims.WORLD_CELLS)
def test_both_profiles_have_the_cells_that_are_read(world, profile):
    cells = worlds_claims.WORLD_CELLS[world]
    labels = {label for part in EXPERIMENTS[world].parts(profile) for label, _, _ in part.cells}
    assert {*cells.shared, *cells.alone, *cells.unseen} <= labels


@pytest.mark.parametrize(
    ("changed", "shows"),
    [
        ({}, [True, True, True]),
        ({"right": 30}, [False, True, True]),
        ({"shared": 0.62}, [True, False, True]),
        ({"joint": 1.0, "shared": 0.69}, [True, False, True]),
        ({"alone": 0.16}, [True, True, False]),
    ],
)
def test_what_shows_follows_the_numbers(changed, shows):
    assert worlds_claims.evidence(WORLD, *tables(**changed))[0] == shows


@pytest.mark.parametrize("labels", [CELLS.shared, CELLS.alone])
def test_the_worst_cell_decides(labels):
    summary, guesses = tables()
    worst = 0.5 if labels is CELLS.shared else 0.2
    summary.loc[(summary["label"] == labels[-1]) & (summary["method"] == "sum"), "measured"] = worst
    assert worlds_claims.evidence(WORLD, summary, guesses)[0] == [True, worst != 0.5, worst != 0.2]


def test_the_text_says_seeds_and_numbers():
    _, text, _ = worlds_claims.evidence(WORLD, *tables())
    assert text.startswith("`math_word` (3 seeds): ")
    assert "0.89 of the joint adapter or more" in text and "of 300 cases (a guess: 0.1000;" in text
    assert "which holds half: 0.120 [" in text and text.count("**not**") == 0
    assert (
        f"{CELLS.unseen[0]} 0.300 [0.300, 1.000] by parts/sum, joint 0.900" in text and "oracle" not in text
    )


def test_a_missing_cell_is_named():
    summary, guesses = tables()
    kept = summary[summary["label"] != CELLS.alone[0]]
    with pytest.raises(
        ValueError, match=f"has no cot_solved of any method at {CELLS.alone[0]}: run it again"
    ):
        worlds_claims.evidence(WORLD, kept, guesses)


def test_a_method_above_its_guess_is_named():
    _, text, _ = worlds_claims.evidence(WORLD, *tables(right=30))
    assert "of 1 pairs of question and method 1 lie above their own guess (direct of parts/sum)" in text


@pytest.mark.parametrize(("alone", "beyond"), [(12, 1), (30, 0)])
def test_what_an_adapter_has_alone_is_no_composition(alone, beyond):
    summary, guesses = tables(right=30)
    guesses.loc[guesses["method"] == "half", "right"] = alone
    shows, text, exception = worlds_claims.evidence(WORLD, summary, guesses)
    assert shows[0] is False  # a guess is the null of the verdict all the same
    assert f", {beyond} above what the better of the adapters has alone" in text
    assert exception.startswith("Not as claimed: at once.") and ("no composition" in exception) == (
        not beyond
    )
