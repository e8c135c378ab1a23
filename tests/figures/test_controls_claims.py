"""The claim about controls in the other worlds: what turns its verdict, and what does not."""

import pandas as pd
import pytest

from sim.experiments.controls.lines import LINK, against_nulls, controls_of
from sim.figures import controls_claims
from sim.worlds.controls import without

PARTS = ("one", "two")
NULLS = {"direct_given_among_answers": 0.1, "direct_loss_gain": 0.0, "direct_loss_gain_over_base": 0.0}


def summary(**above):
    """A run in which everything is at its null but ``above``: {(library, method, metric): measured}."""
    models = [("parts", "sum"), ("parts", "average"), ("single", "joint"), ("single", "base")]
    models += [("single", part) for part in PARTS]
    models += [
        (f"{other}_for_{part}", how)
        for other in ("random", "unrelated")
        for part in PARTS
        for how in ("sum", "average")
    ]
    rows = []
    for library, method in models:
        for metric, null in NULLS.items():
            value = above.get("values", {}).get((library, method, metric), null)
            where = {"label": "linked/none", "library": library, "method": method, "metric": metric}
            told = {"measured": value, "low": value - 0.05, "high": value + 0.05, "seeds": 4}
            rows.append(where | told | {"predictor": "chance", "predicted": null})
    return pd.DataFrame(rows)


def judged(values=None):
    rows = against_nulls(summary(values=values or {}), controls_of(PARTS, proved=False))
    return controls_claims.of_world("toy", rows)[:2]


LACKING = ("random_for_one", "sum")
OTHER = ("unrelated_for_two", "average")
GAIN, OVER = "direct_loss_gain", "direct_loss_gain_over_base"
ACCURACY = "direct_given_among_answers"


@pytest.mark.parametrize(
    ("values", "models", "holds"),
    [
        ({}, 0, True),
        ({(*LACKING, ACCURACY): 0.5}, 1, True),  # one of ten is luck
        ({(*LACKING, ACCURACY): 0.5, (*OTHER, ACCURACY): 0.5}, 2, False),
        ({(*model, metric): 1.0 for model in (LACKING, OTHER) for metric in (GAIN, OVER)}, 2, False),
        ({(*model, GAIN): 1.0 for model in (LACKING, OTHER)}, 0, True),  # the base gains as much
        ({(*model, OVER): 1.0 for model in (LACKING, OTHER)}, 0, True),  # the base is worse than a guess
        ({("parts", "sum", metric): 0.5 for metric in NULLS}, 0, True),  # told, and no part of the verdict
        ({("single", "base", ACCURACY): 0.9}, 0, True),
    ],
)
def test_what_nobody_was_taught_decides(values, models, holds):
    shown, text = judged(values)
    assert shown == holds and f"of 10 models with a hop that nobody was taught {models} lie above" in text


def test_a_model_is_held_against_the_null_of_who_lacks_the_hop_where_there_is_one():
    """A stand-in for hop one against ``without_one``, whatever all answers alike, or the other null, say."""
    values = {(*model, metric): 1.0 for model in (LACKING, OTHER) for metric in NULLS}
    table = summary(values=values)
    own = table.assign(measured=0.0, low=-0.05, high=0.05)

    def with_nulls(**said):
        more = [rows.assign(metric=rows["metric"] + f"_{without(part)}") for part, rows in said.items()]
        found = against_nulls(pd.concat([table, *more]), controls_of(PARTS, proved=False))
        return controls_claims.of_world("toy", found)[1]

    assert "of 10 models with a hop that nobody was taught 0 lie above" in with_nulls(one=own, two=own)
    assert (
        "1 lie above a guess, in accuracy or in a loss that the base does not have as well (random in pla"
        in (with_nulls(one=table, two=own))
    )
    assert "1 lie above" in with_nulls(one=own, two=table)


def test_lines_above_are_told_by_what_the_control_takes_away():
    _, text = judged({("parts", "sum", ACCURACY): 0.5})
    assert (
        f"above, without {LINK}: both hops edited; joint adapter, sum, accuracy 0.500 [0.450, 0.550]" in text
    )
    assert "(above" not in judged()[1] and text.startswith("`toy` (4 seeds): ")


def test_theorems_are_named_where_they_are_about_the_world_alone():
    assert {line.theorem for line in controls_of(PARTS, proved=True)} == {"", "2a", "2d"}
    assert {line.theorem for line in controls_of(PARTS, proved=False)} == {""}
    for line in controls_of(PARTS, proved=True):  # a null is proved, or an assumption is taken away
        assert bool(line.theorem) != bool(line.removes), line.name
    assert sum(bool(line.lacks) for line in controls_of(PARTS, proved=True)) == 4
