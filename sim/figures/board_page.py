"""figures/BOARD.md: merge, route, compose logits, or retrain? By the rule of ``sim.experiments.board``."""

import json
from pathlib import Path

import pandas as pd

from sim.experiments import board
from sim.experiments.board import BETTER, FIXED, NO_BETTER, OPEN, PLACES, WAYS, verdict
from sim.experiments.common.claim import NOTHING
from sim.figures import captions
from sim.lab import report
from sim.lab.figure import Source, command_of
from sim.reuse.margins import EARLY, PREDICTORS
from sim.worlds import JOINT

TIMES = Path("bench") / "reuse.csv"
"""Table of ``python -m sim.bench reuse``, in the folder of figures."""

LABELS = {way.method: way.label for way in WAYS}


def page(source: Source, folder: Path) -> str:
    """The whole page as Markdown; what was not run is said not to be."""
    runs = list(dict.fromkeys(place.experiment for place in PLACES))
    missing = {run for run, _ in source.missing(runs, ("counts",))}
    table = board.collect(source) if len(missing) < len(runs) else pd.DataFrame()
    lines = [
        "# Merge, route, compose logits, or retrain?",
        "",
        "Written by `python -m sim.figures` from the tables of `experiments/`; no number is typed by hand.",
        "",
        f"* The rule is of {FIXED}, before the run. Statistic: share of the questions that need both "
        "adapters, solved step by step, less that of the reference, with a 95% interval over paired seeds. "
        "Reference: the best of each adapter alone and of the same method on random adapters of the same "
        f"norms or spectra. A way is *{BETTER}* if the interval lies above {NOTHING}, *{NO_BETTER}* if it "
        f"lies below, else *{OPEN}*.",
        "* Ways that need data are held against single adapters; the last row has the largest gain first.",
        "* Theory: [sections 2 and 12](../theory/README.md).",
        "",
        *_verdicts(table),
        "## Earlier runs",
        "",
        "They were known when the rule was written and show sizes, with the same words for the same bounds. "
        "The reference is the best adapter alone; none has composed logits or libraries of random adapters.",
        "",
        *_verdicts(board.earlier(source)),
        "## What it costs",
        "",
        *_costs(folder / TIMES),
    ]
    for name in dict.fromkeys(table["place"]) if len(table) else ():
        lines += ["", f"## {name[0].upper()}{name[1:]}", "", *_place(table[table["place"] == name])]
    if "board" not in missing:
        lines += ["", "## What the base and the first steps foretell", "", *_foretold(source)]
    lines += ["", "## Runs", ""]
    for run in runs:
        if run in missing:
            lines.append(f"* `{command_of(run)} --profile paper`: not run.")
        else:
            origin = captions.of_run(source.runs / run)
            lines.append(f"* `{origin.command}` ({origin.cost}).")
    return "\n".join(lines) + "\n"


def _verdicts(table: pd.DataFrame) -> list[str]:
    """A table of gains, a row a way, a column a place."""
    if table.empty:
        return ["Not run.", ""]
    gains = table[table["panel"] == "gain"].set_index(["method", "place"])
    places = list(dict.fromkeys(table["place"]))
    lines = [f"| Way | {' | '.join(places)} |", "|---" * (len(places) + 1) + "|"]
    for way in WAYS:
        cells = [_gain(gains.loc[(way.method, p)]) if (way.method, p) in gains.index else "" for p in places]
        lines.append(f"| {' | '.join([_name(way), *cells])} |")
    best = [_best(gains.xs(place, level="place")) for place in places]
    return [*lines, f"| **best without data** | {' | '.join(best)} |", ""]


def _best(gains: pd.DataFrame) -> str:
    """The data-free ways that are better, the largest gain first."""
    free = gains[gains.index.isin([way.method for way in WAYS if way.data_free])]
    better = free[[verdict(row) == BETTER for row in free.itertuples()]]
    names = better.sort_values("measured", ascending=False).index
    return ", ".join(LABELS[name] for name in names) or "none"


def _name(way: board.Way) -> str:
    return way.label + ("" if way.data_free else " (needs data)")


def _gain(row: pd.Series) -> str:
    word = verdict(row)
    number = f"{row['measured']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
    return f"**{number}**" if word == BETTER else f"{number} ({word})"


def _share(row: pd.Series) -> str:
    return report.cell(row["measured"], row["low"], row["high"])


def _costs(times: Path) -> list[str]:
    seconds = pd.read_csv(times).set_index("method") if times.exists() else None
    head = ["Way", "needs beside the adapters", "kept beside the base", "forward passes a token"]
    lines = [f"| {' | '.join([*head, 'seconds to merge', 'seconds to answer'])} |", "|---" * 6 + "|"]
    for way in WAYS:
        measured = ["not measured"] * 2
        if seconds is not None:
            one = seconds.loc[way.method]
            measured = [f"{one['make']:.2g}", f"{one['answer']:.2g} ({one['ratio']:.1f} times one model)"]
        if way.method == "joint":
            measured[0] = "training"
        lines.append(f"| {' | '.join([_name(way), way.needs, way.weights, way.passes, *measured])} |")
    note = "K adapters. Seconds: one world's questions in the miniature, `python -m sim.bench reuse`"
    if seconds is not None:
        machine = json.loads(times.with_suffix(".json").read_text())["machine"]
        note += f" on {machine['device']}; Arrow's hold its prototypes, an SVD of every matrix"
    return [*lines, "", f"{note}."]


def _place(table: pd.DataFrame) -> list[str]:
    """What a place measured: a row a way, a column a statistic, each with its interval."""
    panels = {"questions": "questions by steps", "facts": "taught facts", "untouched": "untouched facts"}
    lines = [f"| Way | {' | '.join(panels.values())} | gain | reference |", "|---" * (len(panels) + 3) + "|"]
    for way in WAYS:
        rows = table[table["method"] == way.method].set_index("panel")
        if rows.empty:
            continue
        cells = [_share(rows.loc[panel]) for panel in panels]
        gain = rows.loc["gain"]
        lines.append(f"| {' | '.join([_name(way), *cells, _gain(gain), gain['reference']])} |")
    return lines


def _foretold(source: Source) -> list[str]:
    """The metrics of ``sim.reuse.margins``, measured beside their predictions, a row a world and merge."""
    rows = source.summary("board")
    steps = rows[(rows["metric"] == "training_steps") & (rows["method"] != JOINT)]["measured"]
    lines = [
        "*Knowledge*: correlation over facts of the base's lead of the right answer with the merge's; the "
        "law is section 12's, without interactions. *Retention*: taught facts that the merge keeps; foretold "
        f"from the first {EARLY} steps of training, of {steps.min():.0f} to {steps.max():.0f} in the mean of "
        "an adapter. Both metrics are ours.",
        "",
        "| World | Merge | knowledge | by the law | retention | from the first steps |",
        "|---" * 6 + "|",
    ]
    for world, group in rows[rows["metric"].isin(PREDICTORS)].groupby("label", sort=False):
        for merge, each in group.groupby("method", sort=False):
            cells = [world, LABELS[merge]]
            for metric in PREDICTORS:
                row = each[each["metric"] == metric].iloc[0]
                cells += [_share(row), f"{row['predicted']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
