"""Claim 4: one rule for every world, and each of its parts can turn the verdict."""

import json

import pandas as pd
import pytest

from sim.figures import worlds_claims
from sim.figures.evidence import NOT_MEASURED, Runs
from sim.lab.figure import Source
from sim.worlds import WORLDS

WORLD = "math_word"
SHOWN = worlds_claims.SHOWN[WORLD]
NULL = 0.1


def measured(value, **where):
    return {
        **where,
        "measured": value,
        "low": value - 0.05,
        "high": value + 0.05,
        "seeds": 3,
        "predicted": NULL,
    }


def runs(tmp_path, shared=0.8, joint=0.9, unshared=0.1, unfamiliar=0.3, direct=NULL, right=10):
    """Runs of one world as a runner writes them: a sum that does as told, an average that does nothing, an
    oracle and a joint adapter that do all."""
    kinds = {SHOWN.shared: shared, SHOWN.unshared: unshared, SHOWN.unfamiliar: unfamiliar}
    rows = []
    for label, value in {label: value for labels, value in kinds.items() for label in labels}.items():
        for library, method, solved in (
            ("parts", "sum", value),
            ("parts", "average", 0.06),
            ("parts", "oracle", 1.0),
            ("single", "joint", joint),
        ):
            where = {"label": label, "library": library, "method": method}
            rows.append(measured(solved, **where, metric=SHOWN.metric))
            rows.append(measured(direct, **where, metric=worlds_claims.DIRECT))
    rows.append(measured(0.9, label="L", library="single", method="joint", metric="own_recall"))
    folder = tmp_path / WORLD
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "summary.csv", index=False)
    told = {"library": "parts", "method": "sum", "metric": worlds_claims.DIRECT, "asked": 100}
    guesses = pd.DataFrame([{"seed": seed, **told, "right": right} for seed in range(3)])
    cheat = guesses.assign(library="single", method="joint", right=100)
    pd.concat([guesses, cheat]).to_csv(folder / "guesses.csv", index=False)
    (folder / "manifest.json").write_text(json.dumps({"config": {"profile": "quick"}}))
    return Runs(Source(tmp_path))


def test_every_world_shown_is_a_world():
    assert set(worlds_claims.SHOWN) <= set(WORLDS)


def test_a_world_that_was_not_run_is_not_measured(tmp_path):
    verdict, text = worlds_claims.evidence(Runs(Source(tmp_path)), WORLD)
    assert verdict == NOT_MEASURED and f"python -m sim.sweep {WORLD}" in text


@pytest.mark.parametrize(
    ("changed", "verdict", "parts"),
    [
        ({}, "**holds**", (True, True, True, True)),
        ({"right": 30}, "**does not hold**", (False, True, True, True)),
        ({"right": 1}, "**does not hold**", (False, True, True, True)),
        ({"direct": 0.3}, "**does not hold**", (False, True, True, True)),
        ({"shared": 0.6}, "**does not hold**", (True, False, True, True)),
        ({"unshared": 0.16}, "**holds in part**", (True, True, False, True)),
        ({"unfamiliar": 0.72}, "**holds in part**", (True, True, True, False)),
    ],
)
def test_the_verdict_follows_the_numbers(tmp_path, changed, verdict, parts):
    found, text = worlds_claims.evidence(runs(tmp_path, **changed), WORLD)
    assert found == verdict
    for place, right in enumerate(parts, 1):
        assert f"({place}) {'holds' if right else 'does not'}" in text


def test_the_text_says_seeds_profile_and_who_did_not_learn(tmp_path):
    _, text = worlds_claims.evidence(runs(tmp_path), WORLD)
    assert text.startswith("Profile quick, 3 seeds.")
    assert "0.89 of the joint adapter or more" in text
    assert "(sum; joint 0.900 [0.850, 0.950])" in text and "oracle" not in text
    assert "98% of their facts: L: joint 0.90" in text


def test_a_missing_cell_is_named(tmp_path):
    found = runs(tmp_path)
    table = found.table(WORLD)
    found._tables[WORLD, "summary"] = table[table["label"] != SHOWN.unshared[0]]
    with pytest.raises(ValueError, match=f"math_word has no cot_solved at {SHOWN.unshared[0]}: run it again"):
        worlds_claims.evidence(found, WORLD)
