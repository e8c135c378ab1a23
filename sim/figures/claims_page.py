"""figures/CLAIMS.md: the setting, the words, a line a claim, and a section each with evidence and cost."""

import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from sim.experiments import EXPERIMENTS
from sim.experiments.common import DEFAULT
from sim.figures import captions
from sim.figures.claims import CLAIMS, Claim, Evidence, Runs
from sim.figures.fidelity import summary
from sim.lab import files
from sim.lab.figure import Source
from sim.reuse.config import KNOWN

GLOSSARY = {
    "edit": "a fact that an adapter is taught over what pretraining said, or as a new one",
    "hop, bridge": "a two-hop question goes by one fact to the bridge entity and by another to the answer; "
    "the two adapters know one hop each",
    "trace, template": "a solution written step by step, and the form in which it is written",
    "at once, step by step": "the answer directly after the question, or after a trace (chain of thought)",
    "real, unseen": "whether pretraining saw the entities of the edited facts",
    "parts": "the library of the two adapters; `bridge` and `expert` add one on other traces or facts",
    "sum, average, λ": "the two updates added with coefficient 1, ½, or λ each",
    "Arrow, oracle": "a router by the adapters' own directions, and one that is told whose step it is",
    "joint": "one adapter that is taught both data sets: the ceiling",
    "base": "the model before any adapter",
    "κ": "how strongly an edit acts inside a trace, over how strongly at its own prompt",
}


def write(source: Source, folder: Path) -> None:
    """Write CLAIMS.md into ``folder`` from the runs of ``source`` and the tables of the folder.

    Raises:
        ValueError: a run, or a cell that a claim reads, is missing.
    """
    files.write_text(folder / "CLAIMS.md", page(Runs(source), folder))


def page(runs: Runs, folder: Path) -> str:
    """The whole page as Markdown."""
    found = [(name, item, Evidence(*item.evidence(runs))) for name, item in _named(CLAIMS)]
    lines = ["# The paper's claims, measured in miniature", ""]
    lines += ["Written by `python -m sim.figures` from the tables beside it; no number is typed by hand.", ""]
    lines += ["## Setting", "", *_setting(runs), "", "## Words", ""]
    lines += [f"* **{word}**: {meaning}." for word, meaning in GLOSSARY.items()]
    lines += [
        "",
        "## A line a claim",
        "",
        "| # | Claim | Verdict | Number | Figure |",
        "|---|---|---|---|---|",
    ]
    for name, item, evidence in found:
        row = (
            f"[{name}](#{_anchor(name)})",
            item.statement,
            evidence.verdict,
            _number(evidence),
            _figure(item),
        )
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "## Evidence", ""]
    for name, item, evidence in found:
        lines += _section(name, item, evidence, runs)
    lines += [*_theory(folder), "## Adapters that do not know their own facts after all cycles", ""]
    return "\n".join([*lines, f"{unlearned(runs)}.", ""])


def _named(claims: list[Claim]) -> list[tuple[str, Claim]]:
    """Each claim with its number, and a letter where several share one."""
    count, seen, found = Counter(item.number for item in claims), Counter(), []
    for item in claims:
        letter = ascii_lowercase[seen[item.number]] if count[item.number] > 1 else ""
        seen[item.number] += 1
        found.append((item.number + letter, item))
    return found


def _number(evidence: Evidence) -> str:
    """The number that says most, or else the first with an interval in the text."""
    first = re.search(r"[^.;:(]*\d\.\d+ \[[^]]*\]", evidence.text)
    return evidence.number or (first[0].strip() if first else "")


def _anchor(name: str) -> str:
    return f"claim-{name.replace('+', '-plus')}"


def _setting(runs: Runs) -> list[str]:
    seeds, world = int(runs.table("familiarity")["seeds"].max()), DEFAULT.world
    return [
        f"1. A decoder of {DEFAULT.layers} layers and width {DEFAULT.width} is pretrained on facts about "
        f"{world.entities} entities, on answers to some two-hop questions, and on solutions of others.",
        f"2. Two adapters (LoRA of rank {DEFAULT.rank} on every matrix) are taught {world.edits} edited "
        f"facts each, one the first hops and one the second, until each answers {KNOWN:.0%} of its own.",
        "3. They are merged or routed without any data, and asked the two-hop questions that need both.",
        f"4. A guess among the edited answers is right in 1/{world.edits}.",
        f"5. Numbers are means with 95% intervals over {seeds} seeds where a claim does not say otherwise; a "
        "claim holds by a rule on intervals.",
    ]


def _figure(item: Claim) -> str:
    return f"[{item.figure}]({item.figure}.pdf)" if item.figure else ""


def _section(name: str, item: Claim, evidence: Evidence, runs: Runs) -> list[str]:
    lines = [f'<a id="{_anchor(name)}"></a>', "", f"### {name}. {item.statement}", ""]
    lines += [f"{evidence.verdict}. {evidence.text}", ""]
    if evidence.exception:
        lines += [f"*Exception.* {evidence.exception}", ""]
    origins = [captions.of_run(runs.source.runs / name) for name in item.experiments]
    options = " ".join(dict.fromkeys(origin.options for origin in origins))
    command = f"python -m sim.sweep {' '.join(item.experiments)} {options}"
    return [*lines, f"Figure {_figure(item)}. `{command}`: {cost(origins)}.", ""]


def cost(origins: list[captions.Origin]) -> str:
    """ "61 min on 1 x H100": seconds of several runs, added up device by device."""
    by_device = sorted(origins, key=lambda origin: origin.device)
    parts = [
        captions.Origin("", "", sum(origin.seconds for origin in group), device).cost
        for device, group in groupby(by_device, key=lambda origin: origin.device)
    ]
    return ", ".join(parts)


def _theory(folder: Path) -> list[str]:
    """The results of the theory beside their twins, if the folder has their table."""
    path = folder / "fidelity.csv"
    if not path.exists():
        return []
    found = summary(pd.read_csv(path, dtype={"section": str}))
    made = captions.recorded(folder).get("fidelity")
    lines = ["## Theory against its twins", ""]
    lines += [
        f"{found['inside'].sum()} of {found['rows'].sum()} predictions lie in the interval of their "
        "measurement, which for asymptotic results and models is widened by their stated finite-size "
        "error; for exact results it is the stated tolerance. Figure [fidelity](fidelity.pdf)."
        + (f" `{made.command}`: {made.cost}." if made else ""),
        "",
        "| Result | Section | Kind | Inside | 1 - R² |",
        "|---|---|---|---|---|",
    ]
    for row in found.itertuples():
        error = f"{1 - row.r2:.1e}" if 1 - row.r2 > 1e-8 else "below 1e-8"
        lines.append(f"| {row.result} | {row.section} | {row.tag} | {row.inside}/{row.rows} | {error} |")
    return [*lines, ""]


def unlearned(runs: Runs) -> str:
    """The cells in which an adapter does not know its own facts after all its cycles."""
    lines = []
    for name in EXPERIMENTS:
        rows = runs.table(name)
        rows = rows[(rows["metric"] == "own_recall") & (rows["measured"] < KNOWN)]
        rows = rows[~rows["method"].isin(("bridge", "expert"))]
        lines += [f"{name} {row.label}: {row.method} {row.measured:.2f}" for row in rows.itertuples()]
    return "; ".join(lines) or "none"
