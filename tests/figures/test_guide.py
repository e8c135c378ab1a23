"""The guide for data sets and the page of what does not hold: what scripts say of the committed runs."""

import math
import re

import pandas as pd
import pytest

from sim.experiments.common import claim
from sim.experiments.common.claim import Cell, Claim, Reading, Rule
from sim.figures import claims_page, exceptions_page, guide_page
from sim.figures.advice import ADVICE, LANGUAGE, MINIATURE, PLACES, Advice
from sim.figures.claims import Line, Part, judge, verdict
from sim.lab.figure import Source, committed
from sim.lab.registry import Registry

RUNS = committed() / "experiments"
SOURCE = Source(RUNS)


@pytest.fixture(scope="module")
def guide():
    return guide_page.page(SOURCE, committed())


def test_the_committed_guide_is_written_by_the_script(guide):
    assert (committed() / "GUIDE.md").read_text() == guide


@pytest.mark.slow
def test_the_committed_exceptions_are_written_by_the_script():
    assert (committed() / "EXCEPTIONS.md").read_text() == exceptions_page.page(SOURCE, committed())


def share(run, label, library, method):
    rows = pd.read_csv(RUNS / run / "summary.csv.gz")
    chosen = rows["label"].eq(label) & rows["method"].eq(method) & rows["library"].eq(library)
    return rows[chosen & rows["metric"].eq("cot_answer") & rows["adapter"].eq("lora")].iloc[0]


def by_seed(run, label, library, method):
    rows = pd.read_csv(RUNS / run / "counts.csv").query("metric == 'cot_answer'")
    chosen = rows["label"].eq(label) & rows["method"].eq(method) & rows["library"].eq(library)
    return (rows["right"] / rows["trials"])[chosen].set_axis(rows["seed"][chosen])


@pytest.mark.parametrize(
    ("number", "place", "of", "to"),
    [
        (6, MINIATURE, ("stopping", "both/times16", "sum"), ("stopping", "both/times1", "sum")),
        (10, LANGUAGE, ("people", "real/shared", "joint_2r"), ("people", "real/shared", "sum")),
        (9, LANGUAGE, ("people", "real/shared", "average"), ("people", "real/shared", "sum")),
    ],
)
def test_an_effect_is_the_difference_of_two_shares_of_the_tables(guide, number, place, of, to):
    """Newcombe's interval, with the correlation over seeds where both were counted by seed."""
    cells = [(run, label, "single" if method.startswith("joint") else "parts", method)
             for run, label, method in (of, to)]  # fmt: skip
    first, second = (share(*cell) for cell in cells)
    seeds = [by_seed(*cell) for cell in cells]
    both = all(len(each) for each in seeds)
    r = seeds[0].corr(seeds[1]) if both and min(each.std() for each in seeds) > 0 else 0.0
    value = first["measured"] - second["measured"]
    below, above = first["measured"] - first["low"], second["high"] - second["measured"]
    low = value - math.sqrt(below**2 + above**2 - 2 * r * below * above)
    up, down = first["high"] - first["measured"], second["measured"] - second["low"]
    high = value + math.sqrt(up**2 + down**2 - 2 * r * up * down)
    section = guide.split(f"## {number}. ")[1].split("\n## ")[0]
    assert f"{value:+.3f} [{low:+.3f}, {high:+.3f}], from {second['measured']:.3f} [" in section
    row = next(line for line in guide.splitlines() if line.startswith(f"| [{number}]"))
    assert f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" in row.split(" | ")[1 + PLACES.index(place)]


def line(low, high, rule):
    cells = (Cell("a", "b", "sum"), Cell("a", "b", "average"))
    interval, region = ((low + high) / 2, low, high), rule.region(0.0)
    return Line(cells, (Reading(0.5, 0.4, 0.6),) * 2, interval, 0.0, region, verdict(interval, region))


@pytest.mark.parametrize(
    ("bound", "low", "high", "words"),
    [
        ({"above": 0.0}, 0.1, 0.2, "as the rule says"),
        ({"above": 0.0}, -0.2, -0.1, "against the rule"),
        ({"above": 0.0}, -0.1, 0.2, "open"),
        ({"below": 0.0}, -0.2, -0.1, "as the rule says"),
        ({"below": 0.0}, 0.1, 0.2, "against the rule"),
        ({}, 0.1, 0.2, "sum is better"),
        ({}, -0.2, -0.1, "average is better"),
        ({}, -0.1, 0.2, "open"),
    ],
)
def test_the_sign_of_an_effect_says_what_it_is_for(bound, low, high, words):
    rule = Rule("effect", "", (), **bound)
    assert guide_page._verdict(Part(rule, (line(low, high, rule),))) == words


def test_there_are_ten_rules_and_each_has_section_effect_and_command(guide):
    sections = guide.split("\n## ")[1:]
    assert len(sections) == len(ADVICE) == 10 and "{" not in guide and "nan" not in guide
    theory = (committed().parent / "theory" / "README.md").read_text()
    for number, (section, advice) in enumerate(zip(sections, ADVICE, strict=True), 1):
        assert section.startswith(f"{number}. {advice.text}\n")
        title = re.search(rf"\[theory, section {advice.section}\]\(\S+\): ([^.]+)\.\)", section)[1]
        assert f"\n## {advice.section}. {title}" in theory
        for place in PLACES:
            measured = place in advice.effects
            assert (f"* *{place}.* not measured." in section) is not measured
        assert "*Where it fails.*" in section and "*Shown by.* " in section
        there = {name for name in advice.runs if (RUNS / name / "manifest.json").exists()}
        assert there <= set(re.findall(r"\w+", section.split("*Shown by.*")[1]))


def test_a_run_that_is_not_there_is_not_measured(monkeypatch):
    pair = Cell("unmade", "x", "sum"), Cell("unmade", "y", "sum")
    rule = Rule("effect", "x, less y", (pair[0],), (pair[1],), above=0.0)
    advice = Advice("Do.", "So.", "9", {MINIATURE: rule}, "Then {case}.", {"case": pair})
    monkeypatch.setattr(guide_page, "ADVICE", (advice,))
    page = guide_page.page(SOURCE, committed())
    assert "| [1](#rule-1) Do. | not measured | not measured | 9 |" in page
    assert "* *Where it fails.* Then not measured.\n* *Shown by.* not measured." in page


@pytest.fixture
def three(monkeypatch):
    """A claim with a part that holds, one that is refuted, one that is open; one without a run."""
    total, joint = Cell("rank", "rank4", "sum"), Cell("rank", "rank8", "joint", library="single")
    value = judge(Claim("9", "", "", (), "", (Rule("x", "", (total,), above=0),), ""), SOURCE)
    middle = value.parts[0].deciding.interval[0]
    rules = (
        Rule("sure", "sure part", (total,), above=0.0),
        Rule("never", "refuted part", (total, joint), above=middle + 0.2),
        Rule("perhaps", "open part", (total,), above=middle),
        Rule("few", "scarce part", (total,), above=0.0, answers=10**6),
    )
    items = (
        Claim("8", "Mixed", "rank", ("rank",), "2026-01-01", rules, "", "Not {sure}."),
        Claim("9", "Unmade", "rank", ("unmade",), "2026-01-01", rules, ""),
    )
    registry = Registry("claim")
    for item in items:
        registry.add(item.number, item)
    for module in (claims_page, claim):
        monkeypatch.setattr(module, "CLAIMS", registry)
    return value.parts[0].deciding, middle


def test_every_part_that_does_not_hold_has_its_place(three, tmp_path):
    deciding, middle = three
    page = exceptions_page.page(SOURCE, tmp_path)
    assert "The 2 claims: holds in part 1, not run 1." in page and "of the theory outside" not in page
    blocks = {block.split("\n")[0]: block for block in page.split("\n## ")[1:]}
    row = f"| [8](CLAIMS.md#claim-8) Mixed | refuted part | {deciding}, to be above {middle + 0.2:.4g} |"
    assert row + " `rank rank4: parts/sum, cot_answer` | 1 of 2 |" in blocks["Refuted"]
    assert blocks["Refuted"].count("| [8]") == 1 and blocks["Open"].count("| [8]") == 2
    assert f"| open part | {deciding}, to be above {middle:.4g} |" in blocks["Open"]
    assert "| scarce part | no number (too few answers) |" in blocks["Open"] and "0 of 0 |" in blocks["Open"]
    assert "`python -m sim.sweep unmade --profile paper`" in blocks["Not run"] and "sure part" not in page
    limits = blocks["Limits of claims that hold, in whole or in part"]
    assert f"* [8](CLAIMS.md#claim-8) **holds in part**: Mixed. Not {deciding}." in limits


def test_what_the_theory_leaves_open_is_quoted():
    text = "# T\n\n## 1. A\nNot covered: b\nc.\n\nd\n## 2. E\n1. f\n2. *Open: g.* h\ni.\n3. j\n"
    lines = exceptions_page._gaps(text)[2:-1]
    assert lines == ["* Section 1: Not covered: b c.", "* Section 2: *Open: g.* h i."]


def test_predictions_outside_their_interval_are_listed(three, tmp_path):
    rows = [
        ("law A", "3", "law", "x", 0.5, 0.4, 0.3, 0.45, False),
        ("law B", "4", "exact", "y", 1, 1, 1, 1, True),
    ]
    names = ["result", "section", "tag", "setting", "predicted", "measured", "low", "high", "inside"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "fidelity.csv", index=False)
    page = exceptions_page.page(SOURCE, tmp_path)
    assert "1 of 2; luck alone" in page and "law B" not in page
    assert "| law A | 3 | law | x | 0.500 | 0.400 [0.300, 0.450] |" in page
