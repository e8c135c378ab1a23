"""``python -m sim.site.readme``: write the generated blocks of three pages called README.md.

They stand between markers: the quickstart with its output and the example in that of the project, where the
planner's law holds in theory's, the costs and the recipes of training in that of sim/bench. The rest is
written by hand. The picture is ``figures/example.svg``.
"""

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from sim.figures import captions
from sim.lab import files
from sim.lab.figure import Source
from sim.plan.miniature import compared, domains
from sim.worlds import Probe, build, two_hop
from sim.worlds.two_hop.writer import words

ROOT = Path(__file__).resolve().parents[2]

QUESTIONS = {
    "hop1": "adapter 1 is taught",
    "hop2": "adapter 2 is taught",
    "direct": "asked directly",
    "cot": "asked for a trace",
}
"""The four sequences of the example, by the question of the two-hop world."""

ADAPTERS, GREY = ("#0072B2", "#D55E00"), "#555555"
"""Colours of the example's two adapters, both dark enough for white letters."""


def example() -> dict[str, tuple[list[str], Probe]]:
    """The four sequences about the first pair of edits of world 0, in words, as its writer wrote them."""
    config = two_hop.Config()
    world = build(config, 0, two_hop.Setting("real", "both"))
    return {name: (words(config, world.probes[name].tokens[0]), world.probes[name]) for name in QUESTIONS}


def sequences() -> str:
    """The four sequences as text; | ends the prompt."""
    lines = []
    for name, (tokens, probe) in example().items():
        prompt, completion = " ".join(tokens[: probe.prompt]), " ".join(tokens[probe.prompt :])
        lines.append(f"{QUESTIONS[name]:20}{prompt} | {completion}")
    return "\n".join(["```text", *lines, "```"])


def picture() -> str:
    """The four sequences as SVG, each token in the colour of its adapter under an oracle router."""
    examples, parts = example(), []

    def text(x: float, y: float, label: str, **look: object) -> None:
        given = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in look.items())
        parts.append(f'<text x="{x:g}" y="{y:g}"{given}>{escape(label)}</text>')

    def rectangle(x: float, y: float, width: float, height: float, fill="none", stroke="none") -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        parts.append(f'<rect {place} rx="5" fill="{fill}" stroke="{stroke}"/>')

    def line(path: str) -> None:
        parts.append(f'<path d="{path}" stroke="{GREY}" stroke-width="1.5"/>')

    def tokens(name: str, x: float, y: float) -> float:
        """One sequence, a bar where its prompt ends; returns where it ends."""
        sequence, probe = examples[name]
        for place, (word, owner) in enumerate(zip(sequence, probe.layout.owner, strict=True)):
            if place == probe.prompt:
                line(f"M{x + 2:g} {y - 18:g}v26")
                x += 9
            width = 16 + 8.4 * len(word)
            rectangle(x, y - 16, width, 22, fill=ADAPTERS[owner])
            text(x + width / 2, y, word, text_anchor="middle", fill="white", font_family="monospace")
            x += width + 5
        return x

    def panel(name: str, x: float, y: float, width: float, heading: str, note: str = "") -> None:
        rectangle(x, y, width, 76, stroke=GREY)
        text(x + 14, y + 24, f"{QUESTIONS[name]}{heading}", font_weight="bold")
        text(tokens(name, x + 14, y + 56) + 8, y + 56, note, fill=GREY, font_size="13")

    panel("hop1", 10, 10, 360, " (an edit)", "the bridge is written")
    panel("hop2", 470, 10, 360, " (an edit)", "the bridge is read")
    line("M190 86L381 116M650 86L459 116M420 150v22")
    rectangle(300, 116, 240, 34, stroke=GREY)
    text(420, 138, "merge or route, without data", text_anchor="middle", font_weight="bold")
    note = "no merge and no router beats a guess among the edited answers"
    panel("direct", 10, 172, 820, ": the bridge is never written", note)
    panel("cot", 10, 262, 820, ": each step is a prompt that an adapter was taught")
    body = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 348" width="840" height="348" role="img" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14">\n'
        "<title>What two adapters are taught, and the two ways of asking</title>\n"
        f'<rect width="840" height="348" fill="white"/>\n{body}\n</svg>\n'
    )


def costs(root: Path = ROOT) -> str:
    """A table of costs, one row a recorded job (``sim.bench sweep --out figures/costs``, or a committed
    manifest).

    Cold is on an empty cache, warm the same again; a manifest does not record the state of the cache. Missing
    numbers are empty cells, and empty columns are left out.
    """
    rows = [_timed(json.loads(path.read_text())) for path in sorted((root / "figures/costs").glob("*.json"))]
    manifests = sorted((root / "figures" / "experiments").glob("*/manifest.json"))
    rows += [_ran(captions.of_run(path.parent)) for path in manifests]
    head = ["Job", "On", "Seconds, cold", "Seconds, warm", "Seconds, as it was run", "Memory"]
    table = pd.DataFrame(rows, columns=head)
    return markdown_table(table.loc[:, table.ne("").any()])


def _timed(record: Mapping) -> tuple[str, ...]:
    """The row of a record of ``sim.bench sweep``."""
    cold, warm = (next(row for row in record["rows"] if row["state"] == state) for state in ("cold", "warm"))
    memory = f"{max(cold['peak_mb'], warm['peak_mb']):.0f} MB"
    seconds = (f"{cold['seconds']:.0f}", f"{warm['seconds']:.0f}", "")
    return f"`python -m {cold['job']}`", _device(record["machine"]["device"]), *seconds, memory


def _ran(run: captions.Origin) -> tuple[str, ...]:
    """The row of an experiment's run."""
    return f"`{run.command}`", _device(run.device), "", "", f"{run.seconds:.0f}", ""


def _device(devices: str) -> str:
    """The devices of a manifest in words: "2 x cpu" is "2 cores"."""
    return re.sub(r"^(\d+) x cpu$", r"\1 cores", devices)


QUICKSTART = """\
from sim.diagnose import diagnose_folders
from sim.merge import merge_folders
from theory.starvation import overwrite_recall

home, emblem = "notebooks/adapters/home", "notebooks/adapters/emblem"  # a real pair
print(*diagnose_folders(home, emblem).verdict, sep="\\n")  # from the files alone
merged = merge_folders(home, emblem, method="average")  # exact, in factors
print(merged)
merged.write("merged")  # a folder that PEFT loads
share = overwrite_recall(facts=32, rank=20, lam=1.0)
print("rank 20 overwrites", round(share, 2), "of 32 facts")
"""
"""Ten lines of Python for the top of the page."""


def quickstart() -> str:
    """The ten lines and what they print, run in a folder of their own that holds the notebooks' adapters."""
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("notebooks").symlink_to(ROOT / "notebooks")
        with contextlib.redirect_stdout(output):
            exec(QUICKSTART, {})
    code = f"Ten lines, after [set up](#set-up), and what they print:\n\n```python\n{QUICKSTART}```"
    return f"{code}\n\n```text\n{output.getvalue().rstrip()}\n```"


def planner(root: Path = ROOT) -> str:
    """The error of section 6d's law in the miniature by domain, from the committed run on rank."""
    rows = domains(compared(Source(root / "figures" / "experiments"))).reset_index(names="domain")
    cells = (
        [row.domain, str(row.rows), f"{row.error:.3f}", f"{row.excess:.3f}"] for row in rows.itertuples()
    )
    head = ["Domain ($F$ facts an adapter)", "Cells", "mean of abs(law − measured)", "largest law − measured"]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells))


def recipes(root: Path = ROOT) -> dict[str, str]:
    """{benchmark of ``sim.bench.recipes``: its committed table}."""
    tables = {name: pd.read_csv(root / f"figures/bench/{name}.csv") for name in ("steps", "bases")}
    return {name: markdown_table(rows, "`{}`") for name, rows in tables.items()}


def markdown_table(rows: pd.DataFrame, head: str = "{}") -> str:
    """A table in Markdown, numbers in three digits, no number an empty cell. head: the form of a name."""
    cells = [["" if pd.isna(value) else _digits(value) for value in row] for row in rows.to_numpy(object)]
    lines = [[head.format(name) for name in rows], ["---"] * len(rows.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _digits(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def filled(text: str, blocks: Mapping[str, str], page: str = "README.md") -> str:
    """The page with each block between its markers. Raises ValueError for a marker that is not there."""
    for name, block in blocks.items():
        begin, end = f"<!-- {name}: python -m sim.site.readme -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page} must hold {begin} and {end} once each")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def write(root: Path = ROOT) -> None:
    """Renew the blocks and ``figures/example.svg``."""
    files.write_text(root / "figures" / "example.svg", picture())
    blocks = {
        "README.md": {"quickstart": quickstart(), "example": sequences()},
        "theory/README.md": {"planner": planner(root)},
        "sim/bench/README.md": {"costs": costs(root), **recipes(root)},
    }
    for page, own in blocks.items():
        files.write_text(root / page, filled((root / page).read_text(), own, page))


if __name__ == "__main__":
    write()
