"""figures/EXCEPTIONS.md, what does not hold: refuted expectations, open questions, exceptions and limits."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sim.experiments.common.claim import Claim
from sim.figures import claims_page
from sim.figures.claims import FAILS, HOLDS, UNDECIDED, Judgement
from sim.figures.guide_page import THEORY
from sim.lab import report
from sim.lab.figure import Source

TEMPLATE = Path(__file__).parent / "exceptions.md"

GAP = re.compile(r"^(?:\d+\. )?(\*Open: .*?|Not covered: .*?)(?=\n\n|\n\d+\. |\Z)", re.M | re.S)
"""A paragraph or point of the theory about what it leaves open."""

Judged = list[tuple[Claim, Judgement | None]]


def page(source: Source, folder: Path) -> str:
    """The whole page as Markdown, from the judgements of the claims and the tables of the folder.

    Raises:
        ValueError: a cell that a claim reads is missing.
    """
    judged = claims_page.judged(source)
    whole = [judgement.verdict if judgement else "not run" for _, judgement in judged]
    return report.markdown(
        TEMPLATE,
        count=len(judged),
        verdicts=", ".join(f"{verdict} {whole.count(verdict)}" for verdict in dict.fromkeys(whole)),
        refuted=_parts(judged, FAILS),
        open=_parts(judged, UNDECIDED),
        unrun=_unrun(judged, source),
        limits=_limits(judged),
        theory=_theory(folder),
        gaps=_gaps(THEORY.read_text(encoding="utf-8")),
    )


def _parts(judged: Judged, verdict: str) -> list[str]:
    """A table with a row for each part of this verdict: the number that decides it, and its bound."""
    rows = list(_rows(judged, verdict))
    if not rows:
        return ["Nothing."]
    head = ["| Claim | Part | Number that decides it | Cell | Lines |", "|---|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _rows(judged: Judged, verdict: str) -> Iterator[tuple[str, ...]]:
    for item, judgement in judged:
        for part in judgement.parts if judgement else ():
            if part.verdict != verdict:
                continue
            deciding = part.deciding
            number = str(part)
            if deciding.verdict:
                number += f", {claims_page.bound(part.rule, deciding)}"
            same = sum(each.verdict == verdict for each in part.judged)
            cells = " against ".join(f"`{cell}`" for cell in deciding.cells)
            claim = f"{_link(item)} {item.statement}"
            yield claim, part.rule.says, number, cells, f"{same} of {part.count}"


def _unrun(judged: Judged, source: Source) -> list[str]:
    lines = [
        f"* {_link(item)} {item.statement}: `{claims_page.command(claims_page.missing(item, source)[0])}`."
        for item, judgement in judged
        if judgement is None
    ]
    return lines or ["Nothing."]


def _limits(judged: Judged) -> list[str]:
    """The limits that each claim states of itself, in the order of the claims."""
    lines = [
        f"* {_link(item)} **{judgement.verdict}**: {item.statement}. {judgement.limits}"
        for item, judgement in judged
        if judgement and judgement.limits and HOLDS in {part.verdict for part in judgement.parts}
    ]
    return lines or ["None."]


def _gaps(theory: str) -> list[str]:
    """What the theory says of itself that it does not cover or leaves open, with its section."""
    lines = ["## Open in the theory", ""]
    for section in re.split(r"^## ", theory, flags=re.M)[1:]:
        number = section.partition(".")[0]
        lines += [f"* Section {number}: {' '.join(text.split())}" for text in GAP.findall(section)]
    return [*lines, ""]


def _link(item: Claim) -> str:
    return f"[{item.number}](CLAIMS.md#{claims_page.anchor(item)})"


def _theory(folder: Path) -> list[str]:
    """Predictions of closed forms outside the intervals of their twins, if the folder has their table."""
    path = folder / "fidelity.csv"
    if not path.exists():
        return []
    table = pd.read_csv(path, dtype={"section": str})
    off = table[~table["inside"].astype(bool)]
    lines = ["## Predictions of the theory outside their intervals", ""]
    lines += [f"{len(off)} of {len(table)}; luck alone puts one in 20 of the laws outside."]
    if off.empty:
        return lines
    lines += ["", "| Result | Section | Kind | Setting | Predicted | Measured |", "|---|---|---|---|---|---|"]
    for row in off.itertuples():
        measured = f"{row.measured:.3f} [{row.low:.3f}, {row.high:.3f}]"
        cells = (row.result, row.section, row.tag, row.setting, f"{row.predicted:.3f}", measured)
        lines.append(f"| {' | '.join(cells)} |")
    return lines
