"""The claims page is what a script says of the committed runs, and its verdicts can be otherwise."""

import pandas as pd
import pytest

from sim.figures import claims
from sim.lab.figure import Source, committed

SOURCE = Source(committed() / "experiments")


@pytest.fixture(scope="module")
def runs():
    return claims.Runs(SOURCE)


def test_the_committed_page_is_written_by_the_script(runs):
    assert (committed() / "CLAIMS.md").read_text() == claims.page(runs)


def test_every_claim_has_a_line_with_a_verdict_and_its_figure(runs):
    lines = [line for line in claims.page(runs).splitlines() if line.startswith("| ") and "**" in line]
    assert len(lines) == len(claims.CLAIMS)
    for item, line in zip(claims.CLAIMS, lines, strict=True):
        assert line.startswith(f"| {item.number} | {item.statement} | **")
        assert not item.figure or (committed() / f"{item.figure}.pdf").exists()


def changed(runs, experiment, **values):
    """Runs in which every measurement of chosen cells is replaced."""
    copy = claims.Runs(SOURCE)
    copy._tables |= runs._tables
    table = runs.table(experiment).copy()
    chosen = pd.Series(True, index=table.index)
    for column in ("label", "method", "metric"):
        if column in values:
            chosen &= table[column] == values[column]
    for column in ("measured", "low", "high"):
        table.loc[chosen, column] = values[column]
    copy._tables[experiment, "summary"] = table
    return copy


def test_the_command_is_that_of_the_run(runs, tmp_path):
    assert runs.options("rank") == "--profile paper"
    (tmp_path / "rank").mkdir()
    (tmp_path / "rank" / "manifest.json").write_text('{"config": {"profile": "quick", "seeds": 5}}')
    assert claims.Runs(Source(tmp_path)).options("rank") == "--seeds 5"


def test_verdicts_follow_the_numbers(runs):
    assert claims.unseen(runs)[0] == "**holds**"
    lost = {"label": "real/both", "method": "sum", "measured": 0.03, "low": 0.01, "high": 0.06}
    assert claims.unseen(changed(runs, "familiarity", **lost))[0] == "**does not hold**"
    assert claims.template(changed(runs, "familiarity", **lost))[0] == "**does not hold**"
    assert claims.direct(runs)[0] == "**holds**"
    better = {"metric": claims.DIRECT, "measured": 0.3, "low": 0.2, "high": 0.4}
    assert claims.direct(changed(runs, "familiarity", **better))[0] == "**does not hold**"


def test_a_control_above_a_proved_null_ends_the_claim(runs):
    """And one that no theorem covers does not: it is named in the evidence."""
    joined = {"measured": 2.0, "low": 1.0, "high": 3.0}
    gain = {"label": "linked/none", "metric": "direct_loss_gain"}
    verdict, text = claims.referees(changed(runs, "controls", **gain, method="sum", **joined))
    assert (
        verdict == "**does not hold**" and "random in place of hop 1, sum, gain 2.000 [1.000, 3.000]" in text
    )
    known = gain | {"metric": "direct_known_second_loss_gain"}
    before = claims.referees(runs)[0]
    verdict, text = claims.referees(changed(runs, "controls", **known, method="hop1", **joined))
    assert verdict == before and "hop 1 edited, hop 2 known, one adapter, gain 2.000" in text


def test_a_missing_cell_is_named(runs):
    with pytest.raises(ValueError, match="familiarity has no cot_answer of parts/alchemy at real/both"):
        runs.cell("familiarity", "real/both", "alchemy")


def test_rising_intervals_are_apart_only_without_overlap():
    low, high = {"low": 0.1, "high": 0.2}, {"low": 0.21, "high": 0.3}
    assert claims.apart(low, high) and not claims.apart(high, low)
    assert not claims.apart(low, {"low": 0.2, "high": 0.3})
