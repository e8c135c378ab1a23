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
from sim.lab import report
from sim.lab.figure import COMMANDS, Source, command_of
from sim.lab.store import table_path
from sim.reuse.config import MASTERY
from sim.reuse.language.base import NOTE
from sim.worlds import JOINT

TEMPLATE = Path(__file__).parent / "claims.md"

CEILING = 0.9
"""Share of questions from which on the joint adapter counts as a ceiling."""


def page(source: Source, folder: Path) -> str:
    """The whole page as Markdown, from the runs of ``source`` and the tables of the folder.

    Raises:
        ValueError: a cell that a claim reads is missing.
    """
    judgements = judged(source)
    return report.markdown(
        TEMPLATE,
        miniature=DEFAULT,
        language=LANGUAGE,
        note=NOTE,
        seeds=int(source.summary("familiarity")["seeds"].max()),
        mastery=f"{MASTERY:.0%}",
        level=f"{LEVEL:g}",
        nothing=f"{NOTHING:g}",
        fewest=FEWEST,
        rows=[f"| {' | '.join(_row(item, judgement, folder))} |" for item, judgement in judgements],
        evidence=[line for item, judgement in judgements for line in _section(item, judgement, source)],
        theory=_theory(folder),
        unlearned=unlearned(source),
        ceilings=ceilings(source),
    )


def _row(item: Claim, judgement: Judgement | None, folder: Path) -> tuple[str, ...]:
    """A claim in a line: number, statement, verdict, the number that decides its first part, figure."""
    number = f"[{item.number}](#{anchor(item)})"
    if judgement is None:
        drawn = (folder / f"{item.figure}.pdf").exists()
        return number, item.statement, _verdict(None), "", _figure(item) if drawn else ""
    first = judgement.parts[0]
    decided = f"{first.deciding}, {bound(first.rule, first.deciding)}"
    return number, item.statement, _verdict(judgement), decided, _figure(item)


def ordered() -> list[Claim]:
    """All claims by number: 1a, 1b, 1+a, 2a, ..."""
    return sorted(CLAIMS.values(), key=lambda item: (item.number[0], "+" in item.number, item.number))


def missing(item: Claim, source: Source) -> list[str]:
    """The runs of a claim that lack a table of it."""
    return [name for name, _ in source.missing(item.experiments, item.tables)]


def judged(source: Source) -> list[tuple[Claim, Judgement | None]]:
    """Every claim with its judgement; None where a run is missing."""
    return [(item, None if missing(item, source) else judge(item, source)) for item in ordered()]


def _verdict(judgement: Judgement | None) -> str:
    return f"**{judgement.verdict}**" if judgement else "**not run**"


def anchor(item: Claim) -> str:
    """Anchor of a claim's section on the page."""
    return f"claim-{item.number.replace('+', '-plus')}"


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
    lines = [f'<a id="{anchor(item)}"></a>', "", f"### {item.number}. {item.statement}", ""]
    if judgement is None:
        return [*lines, f"{_verdict(None)}: make it with `{command(missing(item, source)[0])}`.", ""]
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
    used = COMMANDS.get(item.experiments[0], of_sweep)
    return [*lines, f"Figure {_figure(item)}. `{used}`: {cost(origins)}.", ""]


def command(name: str) -> str:
    """The command that makes a run of the paper profile."""
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
    return lines


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
