"""figures/CLAIMS.md: the setting, the words, how claims are judged, a line a claim, and its evidence."""

import math
from itertools import groupby
from pathlib import Path

import pandas as pd

from sim.experiments.common import DEFAULT
from sim.experiments.common.cells import STEP_BY_STEP
from sim.experiments.common.claim import CLAIMS, FEWEST, LEVEL, NOTHING, Claim, Rule
from sim.experiments.people import WHOLE as LANGUAGE
from sim.figures import captions
from sim.figures.claims import HOLDS, UNDECIDED, Judgement, Line, Part, judge
from sim.figures.fidelity import summary
from sim.lab import files
from sim.lab.figure import COMMANDS, Source, command_of
from sim.lab.store import table_path
from sim.reuse.config import MASTERY
from sim.reuse.language.base import NOTE
from sim.worlds import JOINT

GLOSSARY = {
    "edit": "a fact that an adapter is taught over what pretraining said, or as a new one",
    "hop, bridge": "a two-hop question goes by one fact to the bridge entity and by another to the answer; "
    "the two adapters know one hop each",
    "trace, template": "a solution written step by step, and the form in which it is written",
    "at once, step by step": "the answer directly after the question, or after a trace (chain of thought)",
    "real, unseen (fake)": "whether pretraining saw the entities of the edited facts",
    "parts": "the library of the two adapters; `bridge` and `expert` add one on other traces or facts",
    "sum, average, λ": "the two updates added with coefficient 1, ½, or λ each",
    "Arrow, oracle": "a router by the adapters' own directions, and one that knows whose step it is",
    "joint": "one adapter that is taught both data sets: the ceiling",
    "base": "the model before any adapter",
    "null": "what is reached without composing: a guess among the answers, unless a rule says otherwise",
    "κ": "how strongly an edit acts inside a trace, relative to its own prompt",
    "setting": "one variant of the data, named by entities/template: `real/both` has real entities and the "
    "template in pretraining and in both data sets",
    "shared, same": "templates on the language model: `real/shared` has worked solutions with one step of an "
    "adapter's own facts and one about another relation, `real/same` solutions of both relations about other "
    "people",
    "familiar, doubtful, obscure": "countries of `capitals` whose capital is the language model's own "
    "answer, and others whose capital is likely or unlikely to it",
}

CEILING = 0.9
"""Share of questions from which on the joint adapter counts as a ceiling."""


def write(source: Source, folder: Path) -> None:
    """Write CLAIMS.md into ``folder`` from the runs of ``source`` and the tables of the folder.

    Raises:
        ValueError: a cell that a claim reads is missing.
    """
    files.write_text(folder / "CLAIMS.md", page(source, folder))


def page(source: Source, folder: Path) -> str:
    """The whole page as Markdown."""
    judgements = [(item, _judged(item, source)) for item in ordered()]
    lines = ["# The paper's claims, measured in miniature", ""]
    lines += ["Written by `python -m sim.figures` from the tables beside it; no number is typed by hand.", ""]
    lines += ["## Setting", "", *_setting(source), "", "## Words", ""]
    lines += [f"* **{word}**: {meaning}." for word, meaning in GLOSSARY.items()]
    lines += ["", "## How a claim is judged", "", *_judging(), "", "## A line a claim", ""]
    lines += [
        "| # | Claim | Verdict | Number that decides the first part | Figure |",
        "|---|---|---|---|---|",
    ]
    for item, judgement in judgements:
        first = judgement.parts[0] if judgement else None
        number = f"{first.deciding}, {bound(first.rule, first.deciding)}" if first else ""
        row = (
            f"[{item.number}](#{_anchor(item)})",
            item.statement,
            _verdict(judgement),
            number,
            _figure(item) if judgement or (folder / f"{item.figure}.pdf").exists() else "",
        )
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "## Evidence", ""]
    for item, judgement in judgements:
        lines += _section(item, judgement, source)
    lines += [*_theory(folder), "## Adapters that do not know what they were taught", "", *unlearned(source)]
    return "\n".join([*lines, "", "## Low ceilings", "", *ceilings(source), ""])


def ordered() -> list[Claim]:
    """All claims by number: 1a, 1b, 1+a, 2a, ..."""
    return sorted(CLAIMS.values(), key=lambda item: (item.number[0], "+" in item.number, item.number))


def _missing(item: Claim, source: Source) -> list[str]:
    """The runs of a claim that lack a table of it."""
    return [name for name, _ in source.missing(item.experiments, item.tables)]


def _judged(item: Claim, source: Source) -> Judgement | None:
    return None if _missing(item, source) else judge(item, source)


def _verdict(judgement: Judgement | None) -> str:
    return f"**{judgement.verdict}**" if judgement else "**not run**"


def _anchor(item: Claim) -> str:
    return f"claim-{item.number.replace('+', '-plus')}"


def _setting(source: Source) -> list[str]:
    seeds, world = int(source.summary("familiarity")["seeds"].max()), DEFAULT.world
    return [
        f"1. A decoder of {DEFAULT.layers} layers and width {DEFAULT.width} is pretrained on facts about "
        f"{world.entities} entities, on answers to some two-hop questions, and on solutions of others.",
        f"2. Two adapters (LoRA of rank {DEFAULT.rank} on every matrix) are taught {world.edits} edited "
        f"facts each, one the first hops and one the second, until each answers {MASTERY:.0%} of its own.",
        "3. They are merged or routed without any data, and asked the two-hop questions that need both.",
        "4. What stands for reuse is fixed: the sum of the two updates, beside it the average and a router.",
        f"5. Numbers are means with 95% intervals over {seeds} seeds. Claims 4 and 1+b to 1+d are about "
        f"other worlds, L1a to L5+b about a real language model ({NOTE}; adapters of rank "
        f"{LANGUAGE.rank}) with made-up and well-known names, and with capitals that it knows or does not.",
    ]


def _judging() -> list[str]:
    return [
        "A claim has parts. A part is a rule, written down as data beside its experiment: a number of every "
        "cell named in it must lie above a bound, below it, or within two.",
        "",
        "* A part **holds** if the whole 95% interval of every cell lies on the right side, **does not "
        "hold** if that of one lies wholly on the wrong side, and is **undecided** otherwise. Rules with one "
        "bound are "
        f"one-sided, at {LEVEL:g}.",
        "* That nothing is there is shown by an upper end below a null plus a margin, not by an interval "
        "that "
        f"reaches the null. An effect must exceed {NOTHING:g} of the questions.",
        "* A claim **holds** if all its parts do, and **holds in part** if some do. It **does not hold** if "
        "none does and one fails; with neither it is **undecided**.",
        f"* Shares of fewer than {FEWEST} answers are not judged. Models of one seed are one trial: "
        f"intervals are "
        "over seeds. Two models are compared seed by seed where the run kept counts by seed (`counts.csv`), "
        "and otherwise as if independent, which is wider.",
        "* Each rule has a date. The rules of 2026-11-29 were written when earlier runs, by another "
        "rule of training, were seen; the runs on this page are later. The rules of 2026-11-30 (L1a to "
        "L5+b, 5+b, 5+e) were committed before their runs; those of 5+a that are new were not.",
    ]


def _figure(item: Claim) -> str:
    return f"[{item.figure}]({item.figure}.pdf)" if item.figure else ""


def bound(rule: Rule, line: Line) -> str:
    """ "to be below 0.0825 (null 0.0625 + 0.02)"."""
    lower, upper = line.region
    if math.isfinite(lower) and math.isfinite(upper):
        return f"to be between {lower:.4g} and {upper:.4g}"
    side, end, margin = ("above", lower, rule.above) if math.isfinite(lower) else ("below", upper, rule.below)
    origin = f" (null {line.null:.4f} + {margin:g})" if line.null and margin else ""
    return f"to be {side} {end:.4g}{origin}"


def _section(item: Claim, judgement: Judgement | None, source: Source) -> list[str]:
    lines = [f'<a id="{_anchor(item)}"></a>', "", f"### {item.number}. {item.statement}", ""]
    if judgement is None:
        return [*lines, f"{_verdict(None)}: make it with `{_command(_missing(item, source)[0])}`.", ""]
    lines += [f"{_verdict(judgement)}{_score(judgement)}. {judgement.evidence}", ""]
    lines += [f"*Limits.* {judgement.limits}", ""] if judgement.limits else []
    history = dict.fromkeys(rule.history for rule in item.rules if rule.history)
    lines += [f"*History.* {' '.join(history)}", ""] if history else []
    lines += [_fold(f"Parts, cells and counts (rules of {item.fixed})"), ""]
    for part in judgement.parts:
        lines += _table(part)
    lines += ["</details>", ""]
    origins = [captions.of_run(source.runs / name) for name in item.experiments]
    options = " ".join(dict.fromkeys(origin.options for origin in origins))
    of_sweep = f"python -m sim.sweep {' '.join(item.experiments)} {options}"
    command = COMMANDS.get(item.experiments[0], of_sweep)
    return [*lines, f"Figure {_figure(item)}. `{command}`: {cost(origins)}.", ""]


def _command(name: str) -> str:
    return command_of(name) + (" --profile paper" if name not in COMMANDS else "")


def _fold(summary: str) -> str:
    """Begins a block that a reader can open; ``markdown`` makes the site format the tables inside."""
    return f'<details markdown="1"><summary>{summary}</summary>'


def _score(judgement: Judgement) -> str:
    """ " (parts that hold: 2 of 4; undecided: 1)"; empty for a single part."""
    verdicts = [part.verdict for part in judgement.parts]
    undecided = f"; undecided: {verdicts.count(UNDECIDED)}" if UNDECIDED in verdicts else ""
    score = f" (parts that hold: {verdicts.count(HOLDS)} of {len(verdicts)}{undecided})"
    return score if len(verdicts) > 1 else ""


def _table(part: Part) -> list[str]:
    """The rule of a part, and a table with a row a line."""
    rule = part.rule
    lines = [f"**{part.verdict}**: {rule.says}.", ""]
    lines += ["| Cell | Number | Answers | Rule | |", "|---|---|---|---|---|"]
    for line in part.lines:
        count = "; ".join(filter(None, (reading.count for reading in line.readings)))
        words = line.verdict or f"fewer than {rule.answers} answers"
        number = "" if math.isnan(line.interval[0]) else "{:.3f} [{:.3f}, {:.3f}]".format(*line.interval)
        to_be = bound(rule, line) if line.verdict else ""
        lines.append(f"| {_cells(rule, line)} | {number} | {count} | {to_be} | {words} |")
    return [*lines, ""]


def _cells(rule: Rule, line: Line) -> str:
    first, *second = (f"`{cell}`" for cell in line.cells)
    if not second:
        return first
    factor = "" if rule.times == 1 else f"{rule.times:g} × "
    return f"{first} {'/' if rule.ratio else '−'} {factor}{second[0]}"


def cost(origins: list[captions.Origin]) -> str:
    """ "61 min on 1 x H100": seconds of several runs, added up device by device."""
    by_device = sorted(origins, key=lambda origin: origin.device)
    parts = [
        captions.Origin("", "", sum(origin.seconds for origin in group), device).cost
        for device, group in groupby(by_device, key=lambda origin: origin.device)
    ]
    return ", ".join(parts)


def _theory(folder: Path) -> list[str]:
    """The results of the theory and of their twins, if the folder has their table."""
    path = folder / "fidelity.csv"
    if not path.exists():
        return []
    results = summary(pd.read_csv(path, dtype={"section": str}))
    origin = captions.recorded(folder).get("fidelity")
    lines = ["## Theory against its twins", ""]
    lines += [
        f"{results['inside'].sum()} of {results['rows'].sum()} predictions lie in the interval of their "
        "measurement, which for asymptotic results and models is widened by their stated finite-size "
        "error; for exact results it is the stated tolerance. Figure [fidelity](fidelity.pdf)."
        + (f" `{origin.command}`: {origin.cost}." if origin else ""),
        "",
        "| Result | Section | Kind | Inside | 1 - R² |",
        "|---|---|---|---|---|",
    ]
    for row in results.itertuples():
        error = f"{1 - row.r2:.1e}" if 1 - row.r2 > 1e-8 else "below 1e-8"
        lines.append(f"| {row.result} | {row.section} | {row.tag} | {row.inside}/{row.rows} | {error} |")
    return [*lines, ""]


def unlearned(source: Source) -> list[str]:
    """The settings of the claims' runs in which an adapter does not recall its own facts or traces."""
    rows = _adapters(source)
    rows = rows[rows["metric"].str.endswith("_recall") & (rows["measured"] < MASTERY)]
    lines = [
        f"Training ends when an adapter answers {MASTERY:.0%} of every group of data that it was taught, of "
        "facts as of traces, or at the last step of its schedule. These ended below: what they cannot do may "
        "be too little training.",
        "",
    ]
    return lines + _listed(rows, "Settings and recall", "share of its own facts or traces")


def ceilings(source: Source) -> list[str]:
    """The settings of the claims' runs in which the joint adapter knows what it was taught and still answers
    few questions that need all of it."""
    rows = _adapters(source)
    rows = rows[rows["method"] == JOINT]
    where = ["experiment", "label"]
    recall = rows[rows["metric"].str.endswith("_recall")].groupby(where)["measured"].min()
    learned = pd.MultiIndex.from_frame(rows[where]).isin(recall[recall >= MASTERY].index)
    metrics = rows.groupby("experiment")["metric"].transform(_written)
    rows = rows[learned & (rows["metric"] == metrics) & (rows["measured"] < CEILING)]
    lines = [
        f"A joint adapter is the ceiling of its setting. These answer fewer than {CEILING:.0%} of the "
        f"questions step by step although they know {MASTERY:.0%} of their facts and traces. Their data hold "
        "nothing more to be learned: what is missing is not taught, the template or words that a trace can "
        "copy. Claim 3+ says what longer training does.",
        "",
    ]
    return lines + _listed(rows, "Settings and accuracy", "share of questions answered step by step")


def _adapters(source: Source) -> pd.DataFrame:
    """What is measured of single trained adapters in the claims' runs, one row a setting and metric."""
    names = {name for item in CLAIMS.values() for name in item.experiments}
    there = [name for name in sorted(names) if table_path(source.runs / name, "summary").exists()]
    tables = [source.summary(name) for name in there]
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[rows["adapter"].eq("lora") & rows["library"].eq("single")]
    return rows.drop_duplicates(["experiment", "label", "method", "metric"])


def _written(metrics: pd.Series) -> str:
    """The metric of the questions that are answered step by step; the last of several is the strictest."""
    return next((name for name in reversed(STEP_BY_STEP) if name in set(metrics)), "")


def _listed(rows: pd.DataFrame, title: str, meaning: str) -> list[str]:
    """A folded table of measurements, a line a run and adapter."""
    if rows.empty:
        return ["None."]
    lines = [_fold(title), "", f"| Run | Adapter | Setting: {meaning} |", "|---|---|---|"]
    for (name, method), part in rows.groupby(["experiment", "method"]):
        each = ", ".join(f"`{row.label}` {row.measured:.2f}" for row in part.itertuples())
        lines.append(f"| {name} | {method} | {each} |")
    return [*lines, "", "</details>"]
