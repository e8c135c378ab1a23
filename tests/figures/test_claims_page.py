"""The claims page is what a script says of the committed runs."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from sim.experiments.common import claim
from sim.experiments.common.claim import CLAIMS, Cell, Claim, Reading, Rule
from sim.figures import captions, claims, claims_page
from sim.lab.figure import Source, committed
from sim.lab.registry import Registry

RUNS = committed() / "experiments"
SOURCE = Source(RUNS)


@pytest.fixture(scope="module")
def page():
    return claims_page.page(SOURCE, committed())


@pytest.fixture
def only(monkeypatch):
    """Claims that are all there are."""

    def register(*items):
        registry = Registry("claim")
        for item in items:
            registry.add(item.number, item)
        for module in (claims_page, claim):
            monkeypatch.setattr(module, "CLAIMS", registry)

    return register


@pytest.mark.slow
def test_the_committed_page_is_written_by_the_script(page):
    assert (committed() / "CLAIMS.md").read_text() == page


@pytest.mark.slow
def test_every_claim_has_a_line_with_a_verdict_and_its_figure(page):
    lines = [line for line in page.splitlines() if line.startswith("| [")]
    ran = {item.number for item in CLAIMS.values() if not claims_page.missing(item, SOURCE)}
    assert (
        len(lines) == len(CLAIMS) == page.count("\n### ") and page.count("(rules of 2026-") == len(ran) >= 19
    )
    for item, line in zip(claims_page.ordered(), lines, strict=True):
        name, statement, verdict, number, figure = (cell.strip() for cell in line.strip("|").split("|"))
        assert name == f"[{item.number}](#claim-{item.number.replace('+', '-plus')})"
        assert statement == item.statement
        if item.number not in ran:
            assert verdict == "**not run**" and not number
            continue
        assert (committed() / re.search(r"\((.*)\)", figure)[1]).exists()
        assert verdict in [f"**{each}**" for each in ("holds", "holds in part", "does not hold", "undecided")]
        assert re.search(r"\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\].*, to be (above|below)", number), number
        section = page.split(f"### {item.number}. ")[1].split("\n### ")[0]
        assert f'<a id="{re.search("#(.*)[)]", name)[1]}"></a>' in page and verdict in section
        evidence = section.split("\n\n")[1]
        assert evidence.count(". ") <= 3 + evidence.startswith(f"{verdict}.") and "nan" not in section
    assert "{" not in page and page.count("<details markdown") == page.count("</details>") == len(ran) + 2


def test_claims_stand_in_the_order_of_the_paper():
    numbers = [item.number for item in claims_page.ordered()]
    of_paper = [number for number in numbers if number < "6"]
    assert of_paper == numbers[: len(of_paper)] and of_paper[-1] == "5+e"
    assert numbers[:8] == ["1a", "1b", "1+a", "1+b", "1+c", "1+d", "2a", "2b"]


@pytest.mark.slow
def test_setting_words_and_rules_come_first(page):
    setting = page.split("## Setting")[1].split("## Words")[0]
    assert [line[:2] for line in setting.strip().splitlines()] == ["1.", "2.", "3.", "4.", "5."]
    rules = page.split("## How a claim is judged")[1].split("## A line a claim")[0]
    assert "one-sided, at 0.025" in rules and "fewer than 20 answers" in rules
    assert "*History.* The null of who lacks a hop" in page.split("### 1+b.")[1].split("\n### ")[0]


def example(**rest):
    cells = Cell("rank", "rank4", "sum"), Cell("rank", "rank8", "joint", library="single")
    rules = (
        Rule("reach", "sum over joint", cells[:1], cells[1:], above=0.5, ratio=True, history="Seen before."),
        Rule("at", "the sum", (cells[0],), above=0.1),
    )
    item = Claim("9", "So", "rank", ("rank",), "2026-01-01", rules, "{reach.of}; {joint}.", "Not {at}.",
                 numbers={"joint": cells[1]})  # fmt: skip
    return replace(item, **rest)


def test_a_section_has_its_parts_cells_and_counts(only):
    only(example())
    section = claims_page.page(SOURCE, committed()).split("### 9. So\n\n")[1]
    rows = SOURCE.summary("rank")
    rows = rows[rows["metric"] == "cot_answer"].set_index(["label", "library", "method"])
    total, joint = (rows.loc[key] for key in (("rank4", "parts", "sum"), ("rank8", "single", "joint")))
    right = round(total["measured"] * 320)
    first = f"{total['measured']:.3f} [{total['low']:.3f}, {total['high']:.3f}] ({right} of 320)"
    assert section.startswith(f"**holds** (parts that hold: 2 of 2). {first}; {joint['measured']:.3f} [")
    assert f"*Limits.* Not {first}.\n\n*History.* Seen before.\n" in section
    assert f"| {right} of 320; {round(joint['measured'] * 320)} of 320 | to be above 0.5 | holds |" in section
    assert "| `rank rank4: parts/sum, cot_answer` / `rank rank8: single/joint, cot_answer` |" in section
    command = f"`python -m sim.sweep rank --profile paper`: {captions.of_run(RUNS / 'rank').cost}"
    assert command in section


def test_a_claim_whose_run_is_not_there_is_not_judged(only):
    only(example(experiments=("rank", "unmade")))
    page = claims_page.page(SOURCE, committed())
    assert "| [9](#claim-9) | So | **not run** |  | [rank](rank.pdf) |" in page
    assert "**not run**: make it with `python -m sim.sweep unmade --profile paper`" in page


def test_a_missing_cell_is_named(only):
    wrong = example(numbers={"joint": Cell("rank", "rank5", "sum")})
    with pytest.raises(ValueError, match="rank has no cot_answer of parts/sum at rank5: run it again"):
        claims.judge(wrong, SOURCE)


@pytest.mark.parametrize(
    ("rule", "null", "words"),
    [
        (Rule("a", "", (), above=0.7), 0.0, "to be above 0.7"),
        (Rule("a", "", (), below=0.05), 0.0625, "to be below 0.1125 (null 0.0625 + 0.05)"),
        (Rule("a", "", (), below=-0.01), 0.0, "to be below -0.01"),
        (Rule("a", "", (), within=0.05), 0.0, "to be between -0.05 and 0.05"),
    ],
)
def test_bounds_are_in_words(rule, null, words):
    line = claims.Line((), (Reading(),), (0, 0, 0), null, rule.region(null), None)
    assert claims_page.bound(rule, line) == words


def test_command_and_cost_are_those_of_the_run(tmp_path):
    assert captions.of_run(SOURCE.runs / "rank").options == "--profile paper"
    config = {"experiment": "rank", "profile": "quick", "seeds": 5}
    manifest = {"config": config, "seconds": 90.0, "device": "2 x cpu"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    origin = captions.of_run(tmp_path)
    assert origin.command == "python -m sim.sweep rank --seeds 5" and origin.cost == "90 s on 2 x cpu"
    other = captions.Origin("", "", 7200.0, "1 x H100")
    assert claims_page.cost([origin, other, origin]) == "120 min on 1 x H100, 3 min on 2 x cpu"


def test_results_of_the_theory_are_listed_from_their_table(only, tmp_path):
    only(example())
    assert "## Theory" not in claims_page.page(SOURCE, tmp_path)
    rows = pd.read_csv(committed() / "fidelity.csv")
    part = claims_page.page(SOURCE, committed()).split("## Theory")[1].split("\n## ")[0]
    assert f"{rows['inside'].sum()} of {len(rows)} predictions" in part
    rows_of_page = [line for line in part.splitlines() if line.startswith("| ")]
    assert len(rows_of_page) - 1 == rows["result"].nunique()


def summary_of(tmp_path, *rows):
    """A source with one run, "familiarity", of single adapters: (label, adapter, metric, measured)."""
    table = pd.DataFrame(rows, columns=["label", "method", "metric", "measured"])
    table = table.assign(experiment="familiarity", adapter="lora", library="single", predictor="")
    (tmp_path / "familiarity").mkdir(exist_ok=True)
    table.to_csv(tmp_path / "familiarity" / "summary.csv", index=False)
    return Source(tmp_path)


def listed(lines):
    """The rows of a page's table."""
    return [line for line in lines if line.startswith("| ") and "Setting" not in line]


def test_the_unlearned_are_those_of_runs_that_claims_read(only):
    """Bridge and expert adapters too; a run that is not there, or that no claim reads, adds nothing."""
    only(example(experiments=("familiarity", "relays")))
    names = {line.split(" | ")[0] for line in claims_page.unlearned(SOURCE) if line.startswith("| ")}
    assert names <= {"| Run", "| familiarity"}


def test_the_unlearned_lack_facts_or_traces(only, tmp_path):
    only(example(experiments=("familiarity",)))
    source = summary_of(
        tmp_path,
        ("real/both", "bridge", "trace_recall", 0.35),
        ("real/none", "joint", "own_recall", 0.96),
        ("real/none", "joint", "trace_recall", 1.0),
        ("fake/data", "hop1", "own_recall", 0.98),
        ("fake/data", "hop1", "training_steps", 0.5),
    )
    assert listed(claims_page.unlearned(source)) == [
        "| familiarity | bridge | `real/both` 0.35 |",
        "| familiarity | joint | `real/none` 0.96 |",
    ]
    learned = summary_of(tmp_path, ("real/both", "bridge", "trace_recall", 0.99))
    assert claims_page.unlearned(learned)[-1] == "None."


def test_low_ceilings_are_of_joint_adapters_that_know_all_they_were_taught(only, tmp_path):
    only(example(experiments=("familiarity",)))
    rows = [
        (label, "joint", metric, value)
        for label, own, traces, accuracy in (
            ("low", 1.0, 0.99, 0.73),
            ("high", 1.0, 1.0, 0.91),
            ("facts unlearned", 0.9, 1.0, 0.5),
            ("traces unlearned", 1.0, 0.9, 0.5),
        )
        for metric, value in (("own_recall", own), ("trace_recall", traces), ("cot_answer", accuracy))
    ]
    source = summary_of(
        tmp_path, *rows, ("low", "hop1", "own_recall", 1.0), ("low", "hop1", "cot_answer", 0.0)
    )
    assert listed(claims_page.ceilings(source)) == ["| familiarity | joint | `low` 0.73 |"]
    strict = summary_of(tmp_path, *rows, ("low", "joint", "cot_runs", 0.4))
    assert "| familiarity | joint | `low` 0.40 |" in claims_page.ceilings(strict)
