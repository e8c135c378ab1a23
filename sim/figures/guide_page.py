"""figures/GUIDE.md: ten rules for data whose adapters are to be reused, with effects from committed runs."""

import re
from pathlib import Path

from sim.experiments.common.cells import readings
from sim.experiments.common.claim import Cell, Rule
from sim.figures import captions
from sim.figures.advice import ADVICE, PLACES, Advice, Pair, cells_of
from sim.figures.claims import FAILS, HOLDS, UNDECIDED, Line, Part, line
from sim.lab import report
from sim.lab.figure import COMMANDS, Source
from sim.lab.store import table_path
from sim.reuse.language.base import NOTE

THEORY = Path(__file__).resolve().parents[2] / "theory" / "README.md"

NOT_MEASURED = "not measured"

WORDS = {HOLDS: "as the rule says", FAILS: "against the rule", UNDECIDED: "open"}
"""What the sign of an effect says of its rule."""


def page(source: Source, folder: Path) -> str:
    """The whole page as Markdown.

    Raises:
        ValueError: a cell that a rule reads is missing.
    """
    titles = _titles(THEORY.read_text(encoding="utf-8"))
    rows, sections = [], []
    for number, advice in enumerate(ADVICE, 1):
        cells = [_short(advice.effects.get(place), source) for place in PLACES]
        rule = f"[{number}](#rule-{number}) {advice.text}"
        rows.append(f"| {' | '.join([rule, *cells, advice.section])} |")
        sections += ["", f'<a id="rule-{number}"></a>', "", *_section(number, advice, titles, source)]
    return report.markdown(
        Path(__file__).parent / "guide.md",
        note=NOTE,
        places=PLACES,
        holds=WORDS[HOLDS],
        fails=WORDS[FAILS],
        undecided=WORDS[UNDECIDED],
        rows=rows,
        sections=sections,
    )


def _titles(theory: str) -> dict[str, str]:
    """{number: title} of the sections of the theory, without their tags."""
    return dict(re.findall(r"^## (\d+)\. (.+?)(?: [\[(].*)?$", theory, re.M))


def _section(number: int, advice: Advice, titles: dict[str, str], source: Source) -> list[str]:
    title = f"[theory, section {advice.section}](../theory/README.md): {titles[advice.section]}"
    lines = [f"## {number}. {advice.text}", "", f"{advice.reason} ({title}.)", ""]
    for place in PLACES:
        lines += _effects(place, advice.effects.get(place), source)
    cases = {name: _case(case, source) for name, case in advice.cases.items()}
    lines += [f"* *Where it fails.* {advice.fails.format_map(cases)}"]
    commands = [f"`{advice.tool}` (for data of your own)"] if advice.tool else []
    return [*lines, f"* *Shown by.* {', '.join([*_commands(advice, source), *commands]) or NOT_MEASURED}."]


def _effects(place: str, rule: Rule | None, source: Source) -> list[str]:
    """A line a comparison, under what they are and what they say."""
    part = _part(rule, source)
    if part is None:
        return [f"* *{place}.* {NOT_MEASURED}."]
    lines = [f"* *{place}.* {part.rule.says}: **{_verdict(part)}**."]
    return lines + [f"    * {_name(each)}: {_numbers(each)}" for each in part.lines]


def _short(rule: Rule | None, source: Source) -> str:
    part = _part(rule, source)
    if part is None:
        return NOT_MEASURED
    each = "; ".join(f"{_name(line)} {signed(line)}" for line in part.lines)
    return f"{each}: **{_verdict(part)}**"


def _part(rule: Rule | None, source: Source) -> Part | None:
    """The comparisons of a rule, judged; None where there is no rule or no run."""
    if rule is None:
        return None
    cells = [cell for pair in rule.comparisons for cell in pair]
    if _missing({cell.experiment for cell in cells}, source):
        return None
    measured = readings(source, cells)
    return Part(rule, tuple(line(rule, pair, measured) for pair in rule.comparisons))


def _missing(runs: set[str], source: Source) -> bool:
    return any(not table_path(source.runs / name, "summary").exists() for name in runs)


def _verdict(part: Part) -> str:
    """Whether the numbers lie on the expected side of 0; for a choice of two, which one they are for."""
    if part.rule.above is None and part.rule.below is None:
        return " and ".join(dict.fromkeys(_choice(each) for each in part.lines))
    return WORDS[part.verdict]


def _choice(each: Line) -> str:
    (first, second), (_, low, high) = (cell.method for cell in each.cells), each.interval
    if low > 0 or high < 0:
        return f"{first if low > 0 else second} is better"
    return WORDS[UNDECIDED]


def _name(each: Line) -> str:
    """The method of a comparison, or both."""
    return " − ".join(dict.fromkeys(cell.method for cell in each.cells))


def signed(each: Line) -> str:
    """ "+0.278 [+0.207, +0.345]"."""
    value, low, high = each.interval
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _numbers(each: Line) -> str:
    first, second = each.readings
    return f"{signed(each)}, from {second} to {first}"


def _case(case: Pair | Cell, source: Source) -> str:
    cells = cells_of(case)
    if _missing({cell.experiment for cell in cells}, source):
        return NOT_MEASURED
    measured = readings(source, cells)
    if isinstance(case, Cell):
        return str(measured[case])
    return signed(line(Rule("case", "", (case[0],), (case[1],)), case, measured))


def _commands(advice: Advice, source: Source) -> list[str]:
    """The commands of its runs: one for all of them, with the options of the committed runs."""
    there = [name for name in advice.runs if not _missing({name}, source)]
    if not there:
        return []
    origins = [captions.of_run(source.runs / name) for name in there]
    options = " ".join(dict.fromkeys(origin.options for origin in origins))
    own = [COMMANDS[name] for name in there if name in COMMANDS]
    swept = [name for name in there if name not in COMMANDS]
    return [f"`{text}`" for text in [f"python -m sim.sweep {' '.join(swept)} {options}"] * bool(swept) + own]
