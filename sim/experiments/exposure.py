"""Familiarity as a dose on two axes: facts and traces about the names that pretraining saw."""

from collections.abc import Iterator

import pandas as pd

from sim.experiments.common import DEFAULT, SETTING, SMALL, chance, curves, of_method, reader
from sim.experiments.common.claim import NOTHING, Cell, Rule, claim
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import figure
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
from sim.worlds.two_hop import Setting


@experiment(
    quick={"config": SMALL, "facts": (0, 4), "traces": (0, 16)},
    paper={"config": DEFAULT, "facts": (0, 1, 2, 4), "traces": (0, 1, 4, 16)},
)
def exposure(config: ReuseConfig, facts: tuple[int, ...], traces: tuple[int, ...]) -> Iterator[Part]:
    """Familiarity as a dose on two axes: facts and traces about the names that pretraining saw."""
    yield Part.of(
        config,
        {
            f"facts{f}/traces{t}": Setting("fake", "both", facts_seen=f, traces_seen=t)
            for f in facts
            for t in traces
        },
    )


@figure(
    "Familiarity begins with traces: names seen in facts and no trace are not copied and not reused; names "
    "that traces show are, and better where facts about them are known as well.",
    SETTING
    + " Otherwise unseen names; sum of the two adapters, template in pretraining and data. Points: one "
    "marker a number of facts, with 95% intervals; thin lines guide the eye; dashed: the most that "
    "one hop allows.",
    reader("exposure", ("cot_answer", "cot_copied"), (("parts", "sum"), ("single", "joint"))),
    ("exposure",),
    panels=("Final answers of chains of thought that are right.", "Chains that copy all names."),
)
def familiarity_dose(rows: pd.DataFrame):
    """Chain-of-thought accuracy against traces seen, one series for each number of facts seen."""
    picture, panels = style.figure(style.COLUMN, 2.6, ncols=2, sharey=True)
    facts, of_sum = sorted(rows["facts_seen"].unique()), of_method(rows, "parts", "sum")
    titles = (("cot_answer", "answers right"), ("cot_copied", "names copied"))
    for axes, (metric, title) in zip(panels, titles, strict=True):
        by_facts = of_sum[of_sum["metric"] == metric].set_index("facts_seen", drop=False)
        looks = zip(facts, style.levels(len(facts)), strict=True)
        curves(axes, rows, "traces_seen", [(by_facts.loc[[n]], look, f"{n:g}") for n, look in looks])
        axes.set(xlabel="traces per name", title=title)
    chance(panels[0])
    panels[0].set_ylabel("share of queries")
    style.key(picture, panels, "facts seen per name")
    return picture


def _sum(facts: int, traces: int) -> Cell:
    return Cell("exposure", f"facts{facts}/traces{traces}")


claim(
    "2+",
    "Familiarity is a dose of traces, not of facts",
    "familiarity_dose",
    "exposure",
    fixed="2026-11-29",
    rules=(
        Rule(
            "traces",
            "accuracy step by step of the sum: names seen in 16 traces and no fact, less in 4 facts and no "
            "trace",
            _sum(0, 16),
            _sum(4, 0),
            above=NOTHING,
        ),
        Rule("facts", "without traces: 4 facts, less none", _sum(4, 0), _sum(0, 0), within=NOTHING),
        Rule(
            "facts_too",
            "with 4 and with 16 traces: 4 facts, less none",
            (_sum(4, 4), _sum(4, 16)),
            (_sum(0, 4), _sum(0, 16)),
            within=NOTHING,
            history="Written after the tables had shown that facts help where there are traces.",
        ),
    ),
    evidence="Names that pretraining saw in four facts and no trace leave the sum at {traces.to}, names in "
    "sixteen traces and no fact take it to {traces.of}. Four facts besides take it from "
    "{facts_too.lines[0].readings[1]} to {facts_too.lines[0].readings[0]} at four traces, and from "
    "{facts_too.lines[1].readings[1]} to {facts_too.lines[1].readings[0]} at sixteen.",
)
