"""Sentences of the notebooks: their numbers are those of the tables, their outcomes follow the intervals."""

import pandas as pd
import pytest

from sim.lab import intervals
from sim.lab.figure import Source, committed
from sim.tour.readings import Readings, against, at_once, data_free, number, pooled, text

COLUMNS = ("label", "library", "method", "metric", "measured", "low", "high")
RUN = Readings(
    pd.DataFrame(
        [
            ("both", "parts", "sum", "cot_answer", 0.5, 0.4, 0.6),
            ("both", "parts", "average", "cot_answer", 0.1, 0.05, 0.2),
            ("both", "parts", "oracle", "cot_answer", 0.9, 0.8, 0.95),
            ("both", "bridge", "sum", "cot_answer", 0.55, 0.3, 0.8),
            ("both", "single", "sum", "cot_answer", 0.2, 0.1, 0.3),
            ("both", "single", "joint", "cot_answer", 0.7, 0.5, 0.9),
            ("both", "parts", "sum", "cot_copied", 0.9, 0.8, 1.0),
            ("both", "parts", "sum", "cot_hop1", 0.6, 0.5, 0.7),
            ("none", "parts", "sum", "cot_answer", 0.0, 0.0, 0.1),
        ],
        columns=COLUMNS,
    )
)


def test_a_cell_is_of_the_parts_or_else_of_a_single_model():
    assert RUN.number("both", "sum") == "0.500 [0.400, 0.600]"
    assert RUN.number("both", "sum", library="bridge") == "0.550 [0.300, 0.800]"
    assert RUN.number("both", "joint") == "0.700 [0.500, 0.900]"
    assert RUN.number("both", "sum", "cot_copied") == "0.900 [0.800, 1.000]"
    with pytest.raises(ValueError, match="no cot_hop1 of  joint at both"):
        RUN.cell("both", "joint", "cot_hop1")


def test_the_best_is_data_free_and_the_weakest_is_the_smallest_factor():
    assert RUN.best("both")["library"] == "bridge"  # neither the oracle nor the joint adapter
    assert RUN.weakest("both", "sum", ("cot_copied", "cot_hop1", "cot_hop2_given_hop1")) == (
        "`cot_hop1` 0.600 [0.500, 0.700]"
    )
    assert set(data_free(RUN.rows)["method"]) == {"sum", "average"}


def test_an_outcome_follows_the_intervals():
    assert (
        RUN.compare("both", "sum", "average")
        == "sum 0.500 [0.400, 0.600], above average 0.100 [0.050, 0.200]"
    )
    assert "below oracle" in RUN.compare("both", "sum", "oracle")
    assert "not distinguishable from joint" in RUN.compare("both", "sum", "joint")
    cell = RUN.cell("both", "sum")
    verdicts = [against(cell, null) for null in (0.39, 0.4, 0.6, 0.61)]
    assert verdicts == ["above", "not distinguishable from", "not distinguishable from", "below"]


def guesses(*rows):
    columns = ("seed", "library", "method", "right", "asked")
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(metric="direct_given_among_answers", predicted=0.1)


def test_answers_are_pooled_seed_by_seed():
    rows = guesses((0, "parts", "sum", 3, 10), (0, "parts", "svd", 2, 10), (1, "parts", "sum", 1, 20))
    cell = pooled(rows)
    assert (cell["measured"], cell["low"], cell["high"]) == intervals.proportion([5, 1], [20, 20])
    assert cell["asked"] == 40


def test_what_is_above_a_guess_is_not_yet_above_what_one_adapter_has():
    seeds = range(6)
    rows = [(seed, "parts", "sum", 200, 1000) for seed in seeds]
    rows += [(seed, "parts", "average", 100, 1000) for seed in seeds]
    rows += [(seed, "parts", "oracle", 900, 1000) for seed in seeds]
    rows += [(seed, "single", name, 950, 1000) for seed in seeds for name in ("base", "joint")]
    rows += [(seed, "single", "silent", 0, 0) for seed in seeds]
    half = [
        (seed, "single", name, right, 1000) for seed in seeds for name, right in (("hop1", 200), ("hop2", 50))
    ]
    sentence = at_once(guesses(*rows, *half))
    every = intervals.proportion([300] * 6, [2000] * 6)
    assert (
        f"right in {every[0]:.3f} [{every[1]:.3f}, {every[2]:.3f}] of 12000 cases: above a guess, 0.1000"
        in sentence
    )
    assert "1 of 2 ways of reuse are above a guess, and 0 above the better of the adapters alone" in sentence
    numbers = ", ".join(number(pooled(guesses(*half[part::2]))) for part in (0, 1))
    assert sentence.endswith(f"half each: {numbers}.")
    weak = [(seed, "single", "hop1", 100, 1000) for seed in seeds]
    assert "1 of 2 ways of reuse are above a guess, and 1 above the better" in at_once(guesses(*rows, *weak))


def test_at_once_no_merge_of_a_committed_run_is_beyond_what_one_adapter_has():
    """The first answer of the README, whose words are not made from the tables."""
    for world in ("familiarity", "math_word", "crosslingual", "atlas"):
        table = Source(committed() / "experiments").summary(world, "guesses")
        for metric in table["metric"].unique():
            assert "and 0 above the better of the adapters alone" in at_once(table, metric), (world, metric)


def test_the_committed_runs_can_be_read():
    assert Readings.of("familiarity").cell("real/both", "sum")["seeds"] >= 3
    assert text("One.", "Two.").data == "One. Two."
