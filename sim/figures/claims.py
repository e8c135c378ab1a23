"""The claims page: each claim of the paper against what the committed runs measured.

No number and no verdict is typed by hand: a claim is a function from the runs to lines of evidence, and its
verdict is a rule on intervals. ``write`` makes figures/CLAIMS.md.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sim.experiments import EXPERIMENTS
from sim.experiments.common import DEFAULT
from sim.experiments.controls import LINES
from sim.experiments.controls.lines import against_nulls
from sim.experiments.controls.worlds import LINES as WORLD_LINES
from sim.experiments.controls.worlds import RUNS
from sim.experiments.familiarity import DIRECT, RANGES, outcomes, prediction_errors
from sim.experiments.mergeability import outcomes as merges_foretold
from sim.figures import controls_claims, mergeability_claims, worlds_claims
from sim.figures.worlds_claims import number
from sim.lab import files, intervals
from sim.lab.figure import Source
from sim.reuse.config import KNOWN

CHANCE = 1 / DEFAULT.world.edits

OTHERS = (*worlds_claims.WORLD_CELLS, "controls", *RUNS.values(), "mergeability")

TWO_HOP = tuple(name for name in EXPERIMENTS if name not in OTHERS)
"""The paper's experiment on the two-hop world; controls have nulls of their own, other worlds a claim, and
mergeability repeats merges of familiarity."""

DATA_FREE = ("parts", "bridge", "expert")
"""Libraries whose merges and routers see no data; the oracle router is none of them."""


@dataclass(frozen=True)
class Claim:
    """A line of the table: ``number`` of the paper's claim, its statement, and where it is shown."""

    number: str
    statement: str
    figure: str
    experiments: tuple[str, ...]
    evidence: Callable[["Runs"], tuple[str, str]]


CLAIMS: list[Claim] = []


def claim(number: str, statement: str, figure: str, *experiments: str):
    """Register ``evidence(runs) -> (verdict, text)`` as a line of the page, in the order of the file."""

    def register(evidence: Callable[["Runs"], tuple[str, str]]) -> Callable[["Runs"], tuple[str, str]]:
        CLAIMS.append(Claim(number, statement, figure, experiments, evidence))
        return evidence

    return register


class Runs:
    """Cells of the committed runs, by name."""

    def __init__(self, source: Source):
        self.source = source
        self._tables: dict[tuple[str, str], pd.DataFrame] = {}

    def table(self, experiment: str, table: str = "summary") -> pd.DataFrame:
        """A table of a run, read once."""
        key = experiment, table
        if key not in self._tables:
            self._tables[key] = self.source.summary(experiment, table)
        return self._tables[key]

    def options(self, experiment: str) -> str:
        """The options of ``sim.sweep`` that made a run."""
        known = json.loads((self.source.runs / experiment / "manifest.json").read_text())["config"]
        return "--profile paper" if known["profile"] == "paper" else f"--seeds {known['seeds']}"

    def cell(
        self, experiment: str, label: str, method: str, metric: str = "cot_answer", library: str = "parts"
    ):
        """One measurement: measured, low, high, seeds."""
        rows = self.table(experiment)
        chosen = rows["label"].eq(label) & rows["library"].eq(library) & rows["method"].eq(method)
        found = rows[chosen & rows["metric"].eq(metric)]
        if found.empty:
            raise ValueError(f"{experiment} has no {metric} of {library}/{method} at {label}: run it again")
        return found.iloc[0]


def apart(*cells) -> bool:
    """Whether the intervals of the cells rise without overlap."""
    return all(low["high"] < high["low"] for low, high in itertools.pairwise(cells))


def holds(whole: bool, part: bool = False) -> str:
    """The verdict of a rule."""
    return "**holds**" if whole else "**holds in part**" if part else "**does not hold**"


@claim("1", "Data-agnostic reuse does not join the knowledge of disjoint data sets in its weights",
       "library_and_familiarity", *TWO_HOP)  # fmt: skip
def direct(runs: Runs) -> tuple[str, str]:
    """Two-sided: where a model answers inside the edited set, is it right more or less often than a "
    "guess?"""
    cells = pd.concat([runs.table(name) for name in TWO_HOP], ignore_index=True)
    cells = cells[
        (cells["metric"] == DIRECT) & cells["library"].isin(DATA_FREE) & (cells["method"] != "oracle")
    ]
    above, below = (cells["low"] > CHANCE).sum(), (cells["high"] < CHANCE).sum()
    told = pd.concat([runs.table(name, "guesses").assign(run=name) for name in TWO_HOP])
    told = told[told["library"].isin(DATA_FREE) & (told["method"] != "oracle")]
    by_seed = told.groupby("seed")[["right", "asked"]].sum()
    pooled = dict(zip(("measured", "low", "high"), intervals.proportion(*by_seed.to_numpy().T), strict=True))
    most = cells.loc[cells["measured"].idxmax()]
    inside = pooled["low"] <= CHANCE <= pooled["high"]
    text = (
        f"Where a merged or routed model answers with one of the edited answers, it is right in "
        f"{number(pooled)} of "
        f"{by_seed['asked'].sum()} cases; a guess among them is right in {CHANCE:.4f}. Of {len(cells)} "
        f"cells "
        f"(setting × library × method) {above} have a 95% interval above that and {below} below, "
        f"{0.05 * len(cells):.0f} being expected of exact intervals; the largest cell is {number(most)} "
        f"({most['label']}, {most['library']}/{most['method']}). Theorems 2a to 2e say why; they are "
        f"silent where the "
        "base itself was shown two-hop answers, as it was here for half of all other queries."
    )
    return holds(inside and above <= 0.05 * len(cells), above <= 0.05 * len(cells)), text


@claim("1", "... nor step by step, if neither pretraining nor any data set holds a template",
       "library_and_familiarity", "familiarity")  # fmt: skip
def no_template(runs: Runs) -> tuple[str, str]:
    """Chain of thought without a template anywhere, against a guess among the answers."""
    cells = {m: runs.cell("familiarity", "real/none", m) for m in ("sum", "average", "arrow")}
    joint = runs.cell("familiarity", "real/none", "joint", library="single")
    text = "Real entities, no template: " + ", ".join(f"{m} {number(c)}" for m, c in cells.items())
    text += f"; the adapter that was taught both data sets {number(joint)}. A guess: {CHANCE:.4f}."
    return holds(all(cell["low"] <= CHANCE for cell in cells.values())), text


@claim("1+", "Controls are at their nulls where a theorem says so, in the answer and in the loss",
       "referee", "controls")  # fmt: skip
def referees(runs: Runs) -> tuple[str, str]:
    """Every line of the figure against its null, apart by whether the null is proved.

    It is where a theorem names it, and for the base asked about edits, of which it knows nothing.
    """
    rows = against_nulls(runs.table("controls"), LINES)
    unseen = (rows["series"] == "base") & rows["metric"].isin((DIRECT, "direct_loss_gain"))
    proved = unseen | ((rows["theorem"] != "") & (rows["series"] != "base"))
    text = f"{int(rows['seeds'].max())} seeds. " + controls_claims.told(rows[proved], "with a proved null")
    text += controls_claims.told(rows[~proved], "without")
    sums = rows[(rows["series"] == "sum") & (rows["panel"] == "over base")].set_index("control")
    pairs = (
        ("hop 1 edited, hop 2 known", "the same, hop 2 known"),
        ("hop 1 known, hop 2 edited", "the same, hop 1 known"),
    )
    for name, other in pairs:
        without = sums.loc[other]
        text += f"{name}, sum, gain over the base: {number(sums.loc[name])}; "
        text += f"{number(without)} if it was shown no two-hop answers. "
    return holds(controls_claims.within(rows[proved])), text + controls_claims.ENDING


for _world, _cells in worlds_claims.WORLD_CELLS.items():

    @claim(
        "1+", f"... and in {_cells.subject}, where a hop is known to nobody", "referee_worlds", RUNS[_world]
    )
    def controls_of_world(runs: Runs, world: str = _world) -> tuple[str, str]:
        """The same in a world that no theorem is about."""
        rows = against_nulls(runs.table(RUNS[world]), WORLD_LINES[world])
        shown, text = controls_claims.of_world(world, rows)
        return f"{holds(shown)} in {int(rows['seeds'].max())} seeds", text


@claim("2", "Worst where pretraining barely saw the entities", "library_and_familiarity", "familiarity")
def unseen(runs: Runs) -> tuple[str, str]:
    """Sum of the two adapters, shared template, by who was seen."""
    fake, half, real = (runs.cell("familiarity", f"{e}/both", "sum") for e in ("fake", "half_fake", "real"))
    joint = runs.cell("familiarity", "fake/both", "joint", library="single")
    text = (
        f"Shared template, sum: real {number(real)}, bridge unseen {number(half)}, both unseen "
        f"{number(fake)}. Joint "
        f"training, to the same recall of its facts, does not help: {number(joint)} for unseen."
    )
    return holds(apart(half, real) and apart(fake, real)), text


@claim("2", "fake < half fake < real", "two_token_names", "names")
def order(runs: Runs) -> tuple[str, str]:
    """The order with separated intervals, where names are pairs of known pieces."""
    fake, half, subject, real = (
        runs.cell("names", label, "sum") for label in ("fake", "half_fake", "half_fake_subject", "real")
    )
    copied = {e: runs.cell("names", e, "sum", "cot_copied") for e in ("real", "half_fake", "fake")}
    text = (
        f"Names of two tokens, sum: both unseen {number(fake)}, bridge unseen {number(half)}, real "
        f"{number(real)}; "
        f"with only the subject unseen {number(subject)}. What fails first is copying the names: "
        + ", ".join(f"{e} {number(c)}" for e, c in copied.items())
        + "."
    )
    return holds(apart(fake, half, real), apart(fake, real) and fake["measured"] < half["measured"]), text


@claim("2+", "Familiarity is a dose of traces, not of facts", "familiarity_dose", "exposure")
def dose(runs: Runs) -> tuple[str, str]:
    """Four facts and no trace against no fact and sixteen traces."""
    facts, traces, both = (
        runs.cell("exposure", label, "sum")
        for label in ("facts4/traces0", "facts0/traces16", "facts4/traces16")
    )
    text = (
        f"Unseen names, sum: four facts and no trace in pretraining {number(facts)}; no fact and 16 traces "
        f"{number(traces)}; both {number(both)}."
    )
    return holds(apart(facts, traces)), text


@claim(
    "3", "Reuse works when the data sets share a solution template", "bridge_dose", "familiarity", "bridges"
)
def template(runs: Runs) -> tuple[str, str]:
    """Sum against the joint adapter with a shared template; and where the template must be known."""
    total = runs.cell("familiarity", "real/both", "sum")
    joint = runs.cell("familiarity", "real/both", "joint", library="single")
    none = runs.cell("familiarity", "real/none", "sum")
    only = runs.cell("familiarity", "real/data", "sum")
    before, after = (runs.cell("bridges", f"both/shared/{dose}", "sum") for dose in (0, 4))
    other = runs.cell("bridges", "both/paraphrased/4", "sum")
    text = (
        f"Real entities, template in pretraining and in both data sets: sum {number(total)}, "
        f"{total['measured'] / joint['measured']:.2f} of the joint adapter's {number(joint)}; without "
        f"template "
        f"{number(none)}. Four shared traces lift the sum from {number(before)} to {number(after)}. But a "
        f"template that "
        f"only the adapters know does nothing, {number(only)}, and four paraphrased traces destroy it, "
        f"{number(other)}."
    )
    works = total["measured"] >= 0.7 * joint["measured"] and apart(none, total)
    return holds(works and apart(none, only) and apart(before, after), works), text


@claim("3", "Averaging benefits as well", "rank", "familiarity", "rank")
def averaging(runs: Runs) -> tuple[str, str]:
    """The average with a shared template, by rank."""
    ranks = {rank: runs.cell("rank", f"rank{rank}", "average") for rank in (4, 16, 64)}
    total = runs.cell("rank", "rank64", "sum")
    text = "Shared template, average: " + ", ".join(f"{number(c)} at rank {r}" for r, c in ranks.items())
    text += f"; there the sum has {number(total)}: dilution (section 3) until adapters overshoot."
    return holds(ranks[4]["low"] > CHANCE, ranks[64]["low"] > CHANCE), text


for _world, _cells in worlds_claims.WORLD_CELLS.items():

    @claim("4", f"The same in {_cells.subject}", _cells.figure, _world)
    def of_world(runs: Runs, world: str = _world) -> tuple[str, str]:
        """The three things that a world must show."""
        shows, text = worlds_claims.evidence(world, runs.table(world), runs.table(world, "guesses"))
        seeds = int(runs.table(world)["seeds"].max())
        return f"{holds(all(shows), any(shows))} in {seeds} seeds", text


@claim("5", "Reuse is shallow pattern matching", "library_and_familiarity", "familiarity")
def matching(runs: Runs) -> tuple[str, str]:
    """Empirical kappa with and without the template, and the oracle router."""
    hops = ("hop1", "hop2")
    known, unknown = (
        [runs.cell("familiarity", f"real/{t}", hop, f"kappa_{hop}", "single") for hop in hops]
        for t in ("pretraining", "none")
    )
    oracle, total = (runs.cell("familiarity", "real/both", m) for m in ("oracle", "sum"))
    text = (
        "κ, the swing of an edit in the trace over its swing at its own prompt, template in pretraining: "
        + " and ".join(number(cell) for cell in known)
        + " (hop 1, 2); without: "
        + " and ".join(number(cell) for cell in unknown)
        + f". An oracle router reaches {number(oracle)} where the sum has {number(total)}: the knowledge "
        f"is there, the "
        "prompt decides whether it acts."
    )
    return holds(all(apart(a, b) for a, b in zip(unknown, known, strict=True))), text


@claim("5+", "Single adapters predict their merge", "prediction_and_outcome", "familiarity")
def prediction(runs: Runs) -> tuple[str, str]:
    """Errors of the predictors on undecided cells, beside the prediction that merging does nothing."""
    rows = outcomes(runs.source)
    found = {}
    for low, high, name in RANGES[:2]:
        errors = prediction_errors(rows[(rows["lam"] > low) & (rows["lam"] <= high)])
        found[name] = errors[errors["scope"] == "undecided"].set_index("predictor")
    text = "Mean absolute error on cells that are neither at floor nor ceiling, " + "; ".join(
        f"{name}: " + ", ".join(f"{p} {number(row)}" for p, row in part.iterrows())
        for name, part in found.items()
    )
    text += '. "base" is the prediction that merging changes nothing.'
    low = found[RANGES[0][2]]
    best, trivial = low.loc["disentangled"], low.loc["base"]
    return holds(apart(best, trivial) and best["high"] < 0.05, apart(best, trivial)), text


@claim("5+", "... up to λ = 1, once it is told what adapters do to each other",
       "interaction_forecast", "mergeability")  # fmt: skip
def interaction(runs: Runs) -> tuple[str, str]:
    """Forecasts with derivatives at single adapters and the last ReLU, against the aim and adding up."""
    *shows, text = mergeability_claims.forecasts(merges_foretold(runs.source))
    return holds(*shows), text


@claim("5+", "... as no published metric of the pair does", "mergeability_metrics", "mergeability")
def metrics(runs: Runs) -> tuple[str, str]:
    """Metrics fitted to other settings, against forecasts that are fitted to nothing."""
    *shows, text = mergeability_claims.metrics(merges_foretold(runs.source))
    return holds(*shows), text


@claim("5+", "... and the best coefficient", "retention_and_damage", "familiarity")
def best_coefficient(runs: Runs) -> tuple[str, str]:
    """In how many settings the coefficient that the disentangled prediction likes best is the measured best,
    and what choosing it costs elsewhere. Liked: the mean of edited and untouched recall."""
    rows = outcomes(runs.source)
    value = rows.groupby(["label", "lam", "metric"])[["disentangled", "measured"]].mean().unstack("metric")
    liked = pd.DataFrame(
        {
            of: (value[of]["hop1"] + value[of]["hop2"]) / 4 + value[of]["untouched"] / 2
            for of in value.columns.levels[0]
        }
    )
    found = []
    for _, setting in liked.groupby("label"):
        chosen = setting.loc[setting["disentangled"].idxmax(), "measured"]
        found.append(setting["measured"].max() - chosen)
    hit, worst = sum(loss < 1e-9 for loss in found), max(found)
    text = (
        f"Of a grid of {liked.index.get_level_values('lam').nunique()} coefficients the predicted best is "
        f"the measured "
        f"best in {hit} of {len(found)} settings; the costliest choice loses {worst:.3f} of the mean of "
        f"edited and "
        "untouched recall."
    )
    return holds(worst < 0.05), text


def unlearned(runs: Runs) -> str:
    """The cells in which an adapter does not know its own facts after all its cycles."""
    lines = []
    for name in EXPERIMENTS:
        rows = runs.table(name)
        rows = rows[(rows["metric"] == "own_recall") & (rows["measured"] < KNOWN)]
        rows = rows[~rows["method"].isin(("bridge", "expert"))]
        lines += [f"{name} {row.label}: {row.method} {row.measured:.2f}" for row in rows.itertuples()]
    return "; ".join(lines) or "none"


def write(source: Source, folder: Path) -> None:
    """Write CLAIMS.md into ``folder`` from the runs of ``source``.

    Raises:
        ValueError: a run, or a cell that a claim reads, is missing.
    """
    files.write_text(folder / "CLAIMS.md", page(Runs(source)))


def page(runs: Runs) -> str:
    """The whole page as Markdown."""
    seeds, edits = int(runs.table("familiarity")["seeds"].max()), DEFAULT.world.edits
    lines = [
        "# The paper's claims, measured in miniature",
        "",
        "Written by `python -m sim.figures` from the tables in `experiments/`; no number is typed by hand.",
        f"All numbers: {seeds} seeds (or as a claim says), {edits} edited facts a hop and seed, "
        f"{DEFAULT.layers} layers, width {DEFAULT.width}",
        f"(names of two tokens: 3), LoRA of rank {DEFAULT.rank} on every matrix, trained in cycles until "
        f"it answers {KNOWN:.0%}",
        "of its own facts; mean [95% interval]. `sum`, `average`, ... merge the two adapters, `joint` is",
        "one adapter that is taught all.",
        "",
        "| # | Claim | Verdict | Evidence | Figure | Command |",
        "|---|---|---|---|---|---|",
    ]
    for item in CLAIMS:
        verdict, text = item.evidence(runs)
        figure = f"[{item.figure}]({item.figure}.pdf)" if item.figure else ""
        options = " ".join(dict.fromkeys(map(runs.options, item.experiments)))
        words = f"python -m sim.sweep {' '.join(item.experiments)} {options}"
        command = f"`{words}`" if item.experiments else ""
        lines.append(f"| {item.number} | {item.statement} | {verdict} | {text} | {figure} | {command} |")
    lines += ["", f"Adapters that do not know their own facts after all cycles: {unlearned(runs)}.", ""]
    return "\n".join(lines)
