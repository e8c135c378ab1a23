"""The claims page is what a script says of the committed runs, and its verdicts can be otherwise."""

import json
import re

import pandas as pd
import pytest

from sim.figures import captions, claims, claims_page
from sim.lab.figure import Source, committed

pytestmark = pytest.mark.slow

SOURCE = Source(committed() / "experiments")


@pytest.fixture(scope="module")
def runs():
    return claims.Runs(SOURCE)


def test_the_committed_page_is_written_by_the_script(runs):
    assert (committed() / "CLAIMS.md").read_text() == claims_page.page(runs, committed())


def test_every_claim_has_a_line_with_a_verdict_and_its_figure(runs):
    page = claims_page.page(runs, committed())
    lines = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(lines) == len(claims.CLAIMS)
    for item, line in zip(claims.CLAIMS, lines, strict=True):
        name, statement, verdict, number, figure = (cell.strip() for cell in line.strip("|").split("|"))
        assert name.startswith(f"[{item.number}") and statement == item.statement
        assert verdict.startswith("**holds") or verdict.startswith("**does not hold")
        assert re.search(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]", number), number  # one number, with its interval
        assert (committed() / re.search(r"\((.*)\)", figure)[1]).exists()
        assert f'<a id="{re.search("#(.*)[)]", name)[1]}"></a>' in page  # the link leads to its section
    assert page.count("Figure [") == len(lines) + 1 and page.count("\n### ") == len(lines)
    setting = page.split("## Setting")[1].split("## Words")[0]
    assert [line[:2] for line in setting.strip().splitlines()] == ["1.", "2.", "3.", "4.", "5."]


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


def test_command_and_cost_are_those_of_the_run(runs, tmp_path):
    assert captions.of_run(SOURCE.runs / "rank").options == "--profile paper"
    config = {"experiment": "rank", "profile": "quick", "seeds": 5}
    known = {"config": config, "seconds": 90.0, "device": "2 x cpu"}
    (tmp_path / "manifest.json").write_text(json.dumps(known))
    origin = captions.of_run(tmp_path)
    assert origin.command == "python -m sim.sweep rank --seeds 5" and origin.cost == "90 s on 2 x cpu"
    other = captions.Origin("", "", 7200.0, "1 x H100")
    assert claims_page.cost([origin, other, origin]) == "120 min on 1 x H100, 3 min on 2 x cpu"
    section = claims_page.page(runs, committed()).split("### 2b.")[1].split("<a id")[0]
    assert captions.of_run(SOURCE.runs / "names").cost in section and "python -m sim.sweep names" in section


def test_results_of_the_theory_are_listed_from_their_table(runs, tmp_path):
    assert "## Theory" not in claims_page.page(runs, tmp_path)
    rows = pd.read_csv(committed() / "fidelity.csv")
    part = claims_page.page(runs, committed()).split("## Theory")[1]
    assert f"{rows['inside'].sum()} of {len(rows)} predictions" in part
    listed = [line for line in part.splitlines() if line.startswith("| ")]
    assert len(listed) - 1 == rows["result"].nunique()


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
    verdict, text, *_ = claims.referees(changed(runs, "controls", **gain, method="sum", **joined))
    assert (
        verdict == "**does not hold**" and "random in place of hop 1, sum, gain 2.000 [1.000, 3.000]" in text
    )
    known = gain | {"metric": "direct_known_second_loss_gain"}
    before = claims.referees(runs)[0]
    verdict, _, _, but = claims.referees(changed(runs, "controls", **known, method="hop1", **joined))
    assert verdict == before and "hop 1 edited, hop 2 known, one adapter, gain 2.000" in but


def test_a_missing_cell_is_named(runs):
    with pytest.raises(ValueError, match="familiarity has no cot_answer of parts/alchemy at real/both"):
        runs.cell("familiarity", "real/both", "alchemy")


def test_rising_intervals_are_apart_only_without_overlap():
    low, high = {"low": 0.1, "high": 0.2}, {"low": 0.21, "high": 0.3}
    assert claims.apart(low, high) and not claims.apart(high, low)
    assert not claims.apart(low, {"low": 0.2, "high": 0.3})
