"""What advice of the files is worth: the sentence against the runs of the test bed."""

import re

import numpy as np
import pandas as pd
import pytest

from sim.diagnose.verdict import LOW, nearest_merge, worth, worth_sentence
from sim.lab.figure import TABLES

ROWS = pd.read_csv(TABLES / "experiments" / "merge_forecast" / "pairs_measured.csv")


@pytest.mark.parametrize(
    ("lam", "merge"), [(0.25, "average"), (0.75, "average"), (0.76, "sum"), (1.0, "sum")]
)
def test_the_sentence_says_what_the_runs_of_the_nearer_strength_kept(lam, merge):
    answers = np.sort(ROWS["answers"][ROWS["merge"] == merge].to_numpy())
    numbers = [int(word) for word in re.findall(r"\d+", worth_sentence(lam))]
    assert nearest_merge(lam) == merge
    assert numbers == [258, round(100 * np.median(answers)), round(100 * np.quantile(answers, LOW))]


def test_runs_do_not_contradict_it():
    """The bound of one case in twenty, from all libraries but one, holds for the one that is left out."""
    below = []
    for merge in ("average", "sum"):
        rows = ROWS[ROWS["merge"] == merge]
        for _, own in rows.groupby(["adapters", "design", "seed"]):
            bound = rows.drop(own.index)["answers"].quantile(LOW)
            below += (own["answers"] < bound).tolist()
    assert np.mean(below) <= 1.5 * LOW


def test_energy_does_not_rank_answers():
    """Why the next command is a run: the share of energy that is kept says nothing of the answers."""
    for merge in ("average", "sum"):
        rows = ROWS[ROWS["merge"] == merge]
        rank = rows[["answers", "energy"]].rank().corr().iloc[0, 1]
        assert abs(rank) < 0.15
        assert rows["energy"].mean() - worth(merge).median > 0.3
