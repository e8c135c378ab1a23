"""The claims of the paper against what the committed runs measured.

No number and no verdict is typed by hand: a claim is a function from the runs to its evidence, and its
verdict is a rule on intervals. ``sim.figures.claims_page`` writes them as figures/CLAIMS.md.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
from sim.figures.worlds_claims import number, share
from sim.lab.figure import Source

CHANCE = 1 / DEFAULT.world.edits

OTHERS = (*worlds_claims.WORLD_CELLS, "controls", *RUNS.values(), "mergeability")

TWO_HOP = tuple(name for name in EXPERIMENTS if name not in OTHERS)
"""The paper's experiment on the two-hop world; controls have nulls of their own, other worlds a claim, and
mergeability repeats merges of familiarity."""

DATA_FREE = ("parts", "bridge", "expert")
"""Libraries whose merges and routers see no data; the oracle router is none of them."""


class Evidence(NamedTuple):
    """What was measured of a claim.

    text:      all numbers that bear on it, with intervals.
    number:    the one that says most, with its interval and its null.
    exception: where it is otherwise, or what the claim does not say.
    """

    verdict: str
    text: str
    number: str = ""
    exception: str = ""


@dataclass(frozen=True)
class Claim:
    """``number`` of the paper's claim, its statement, and where it is shown."""

    number: str
    statement: str
    figure: str
    experiments: tuple[str, ...]
    evidence: Callable[["Runs"], Evidence]


CLAIMS: list[Claim] = []


def claim(number: str, statement: str, figure: str, *experiments: str):
    """Register ``evidence(runs)`` as a claim, in the order of the file."""

    def register(evidence: Callable[["Runs"], Evidence]) -> Callable[["Runs"], Evidence]:
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
def direct(runs: Runs) -> Evidence:
    """Two-sided: where a model answers inside the edited set, is it right more or less often than a guess?"""
    cells = pd.concat([runs.table(name) for name in TWO_HOP], ignore_index=True)
    cells = cells[
        (cells["metric"] == DIRECT) & cells["library"].isin(DATA_FREE) & (cells["method"] != "oracle")
    ]
    above, below = (cells["low"] > CHANCE).sum(), (cells["high"] < CHANCE).sum()
    told = pd.concat([runs.table(name, "guesses").assign(run=name) for name in TWO_HOP])
    told = told[told["library"].isin(DATA_FREE) & (told["method"] != "oracle")]
    by_seed = told.groupby("seed")[["right", "asked"]].sum()
    pooled = share(*by_seed.to_numpy().T)
    most = cells.loc[cells["measured"].idxmax()]
    inside = pooled["low"] <= CHANCE <= pooled["high"]
    text = (
        f"Where a merged or routed model answers with one of the edited answers, it is right in "
        f"{number(pooled)} of {by_seed['asked'].sum()} cases; a guess among them is right in {CHANCE:.4f}. "
        f"Of {len(cells)} cells (setting × library × method) {above} have a 95% interval above that and "
        f"{below} below, {0.05 * len(cells):.0f} being expected of exact intervals; the largest cell is "
        f"{number(most)} ({most['label']}, {most['library']}/{most['method']})."
    )
    silent = (
        "Theorems 2a to 2e say why; they are silent where the base itself was shown two-hop answers, as it "
        "was here for half of all other queries."
    )
    verdict = holds(inside and above <= 0.05 * len(cells), above <= 0.05 * len(cells))
    return Evidence(verdict, text, f"direct answers {number(pooled)}; guess {CHANCE:.4f}", silent)


@claim("1", "... nor step by step, if neither pretraining nor any data set holds a template",
       "library_and_familiarity", "familiarity")  # fmt: skip
def no_template(runs: Runs) -> Evidence:
    """Chain of thought without a template anywhere, against a guess among the answers."""
    cells = {m: runs.cell("familiarity", "real/none", m) for m in ("sum", "average", "arrow")}
    joint = runs.cell("familiarity", "real/none", "joint", library="single")
    text = "Real entities, no template: " + ", ".join(f"{m} {number(c)}" for m, c in cells.items())
    text += f"; the adapter that was taught both data sets {number(joint)}. A guess: {CHANCE:.4f}."
    best = max(cells, key=lambda name: cells[name]["measured"])
    short = f"{best} {number(cells[best])}; guess {CHANCE:.4f}"
    return Evidence(holds(all(cell["low"] <= CHANCE for cell in cells.values())), text, short)


@claim("1+", "Controls are at their nulls where a theorem says so, in the answer and in the loss",
       "referee", "controls")  # fmt: skip
def referees(runs: Runs) -> Evidence:
    """Every line of the figure against its null, apart by whether the null is proved.

    It is where a theorem names it, and for the base asked about edits, of which it knows nothing.
    """
    rows = against_nulls(runs.table("controls"), LINES)
    unseen = (rows["series"] == "base") & rows["metric"].isin((DIRECT, "direct_loss_gain"))
    proved = unseen | ((rows["theorem"] != "") & (rows["series"] != "base"))
    text, without = f"{int(rows['seeds'].max())} seeds. ", controls_claims.told(rows[~proved], "without")
    text += controls_claims.told(rows[proved], "with a proved null")
    sums = rows[(rows["series"] == "sum") & (rows["panel"] == "over base")].set_index("control")
    pairs = (
        ("hop 1 edited, hop 2 known", "the same, hop 2 known"),
        ("hop 1 known, hop 2 edited", "the same, hop 1 known"),
    )
    for name, other in pairs:
        without += f" {name}, sum, gain over the base: {number(sums.loc[name])}; "
        without += f"{number(sums.loc[other])} if it was shown no two-hop answers."
    found, lines = controls_claims.share_above(rows[proved])
    part = share([found], [lines])
    short = f"{found} of {lines} lines above a proved null, {number(part)}; 0.05 expected"
    return Evidence(
        holds(controls_claims.within(rows[proved])), text + controls_claims.ENDING, short, without
    )


for _world, _cells in worlds_claims.WORLD_CELLS.items():

    @claim(
        "1+", f"... and in {_cells.subject}, where a hop is known to nobody", "referee_worlds", RUNS[_world]
    )
    def controls_of_world(runs: Runs, world: str = _world) -> Evidence:
        """The same in a world that no theorem is about."""
        rows = against_nulls(runs.table(RUNS[world]), WORLD_LINES[world])
        shown, text, short = controls_claims.of_world(world, rows)
        return Evidence(f"{holds(shown)} in {int(rows['seeds'].max())} seeds", text, short)


@claim("2", "Worst where pretraining barely saw the entities", "library_and_familiarity", "familiarity")
def unseen(runs: Runs) -> Evidence:
    """Sum of the two adapters, shared template, by who was seen."""
    fake, half, real = (runs.cell("familiarity", f"{e}/both", "sum") for e in ("fake", "half_fake", "real"))
    joint = runs.cell("familiarity", "fake/both", "joint", library="single")
    text = (
        f"Shared template, sum: real {number(real)}, bridge unseen {number(half)}, both unseen "
        f"{number(fake)}. Joint training, to the same recall of its facts, does not help: {number(joint)} "
        "for unseen."
    )
    short = f"sum, both unseen {number(fake)}; real {real['measured']:.3f}"
    return Evidence(holds(apart(half, real) and apart(fake, real)), text, short)


@claim("2", "fake < half fake < real", "two_token_names", "names")
def order(runs: Runs) -> Evidence:
    """The order with separated intervals, where names are pairs of known pieces."""
    fake, half, subject, real = (
        runs.cell("names", label, "sum") for label in ("fake", "half_fake", "half_fake_subject", "real")
    )
    copied = {e: runs.cell("names", e, "sum", "cot_copied") for e in ("real", "half_fake", "fake")}
    text = (
        f"Names of two tokens, sum: both unseen {number(fake)}, bridge unseen {number(half)}, real "
        f"{number(real)}. What fails first is copying the names: "
        + ", ".join(f"{e} {number(c)}" for e, c in copied.items())
        + "."
    )
    short = f"sum, bridge unseen {number(half)}; between {fake['measured']:.3f} and {real['measured']:.3f}"
    other = f"With only the subject unseen the sum has {number(subject)}."
    other += "" if apart(fake, half) else " The intervals of unseen and half unseen names overlap."
    verdict = holds(apart(fake, half, real), apart(fake, real) and fake["measured"] < half["measured"])
    return Evidence(verdict, text, short, other)


@claim("2+", "Familiarity is a dose of traces, not of facts", "familiarity_dose", "exposure")
def dose(runs: Runs) -> Evidence:
    """Four facts and no trace against no fact and sixteen traces."""
    facts, traces, both = (
        runs.cell("exposure", label, "sum")
        for label in ("facts4/traces0", "facts0/traces16", "facts4/traces16")
    )
    text = (
        f"Unseen names, sum: four facts and no trace in pretraining {number(facts)}; no fact and 16 traces "
        f"{number(traces)}; both {number(both)}."
    )
    short = f"sum, traces alone {number(traces)}; facts alone {facts['measured']:.3f}"
    return Evidence(holds(apart(facts, traces)), text, short)


@claim(
    "3", "Reuse works when the data sets share a solution template", "bridge_dose", "familiarity", "bridges"
)
def template(runs: Runs) -> Evidence:
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
        f"template {number(none)}. Four shared traces lift the sum from {number(before)} to {number(after)}."
    )
    but = (
        f"A template that only the adapters know does nothing, {number(only)}, and four paraphrased traces "
        f"destroy it, {number(other)}."
    )
    short = f"sum {number(total)}; joint adapter {joint['measured']:.3f}, no template {none['measured']:.3f}"
    works = total["measured"] >= 0.7 * joint["measured"] and apart(none, total)
    verdict = holds(works and apart(none, only) and apart(before, after), works)
    return Evidence(verdict, text, short, but)


@claim("3", "Averaging benefits as well", "rank", "familiarity", "rank")
def averaging(runs: Runs) -> Evidence:
    """The average with a shared template, by rank."""
    ranks = {rank: runs.cell("rank", f"rank{rank}", "average") for rank in (4, 16, 64)}
    total = runs.cell("rank", "rank64", "sum")
    text = "Shared template, average: " + ", ".join(f"{number(c)} at rank {r}" for r, c in ranks.items())
    text += f"; there the sum has {number(total)}."
    short = f"average at rank 64 {number(ranks[64])}; guess {CHANCE:.4f}"
    low = f"At rank 4 it has {number(ranks[4])}: dilution (section 3) until adapters overshoot."
    return Evidence(holds(ranks[4]["low"] > CHANCE, ranks[64]["low"] > CHANCE), text, short, low)


for _world, _cells in worlds_claims.WORLD_CELLS.items():

    @claim("4", f"The same in {_cells.subject}", _cells.figure, _world)
    def of_world(runs: Runs, world: str = _world) -> Evidence:
        """The three things that a world must show."""
        shows, text, but = worlds_claims.evidence(world, runs.table(world), runs.table(world, "guesses"))
        seeds = int(runs.table(world)["seeds"].max())
        short = worlds_claims.headline(world, runs.table(world))
        return Evidence(f"{holds(all(shows), any(shows))} in {seeds} seeds", text, short, but)


@claim("5", "Reuse is shallow pattern matching", "library_and_familiarity", "familiarity")
def matching(runs: Runs) -> Evidence:
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
        "is there, the prompt decides whether it acts."
    )
    short = f"κ of hop 1 {number(known[0])}; without template {unknown[0]['measured']:.3f}"
    return Evidence(holds(all(apart(a, b) for a, b in zip(unknown, known, strict=True))), text, short)


@claim("5+", "Single adapters predict their merge", "prediction_and_outcome", "familiarity")
def prediction(runs: Runs) -> Evidence:
    """Errors of the predictors on undecided cells, beside the prediction that merging does nothing."""
    rows = outcomes(runs.source)
    found, told = {}, {}
    for low, high, name in RANGES[:2]:
        errors = prediction_errors(rows[(rows["lam"] > low) & (rows["lam"] <= high)])
        found[name] = errors[errors["scope"] == "undecided"].set_index("predictor")
        told[name] = ", ".join(f"{p} {number(row)}" for p, row in found[name].iterrows())
    (small, low), (large, _) = list(found.items())
    text = (
        f"Mean absolute error on cells that are neither at floor nor ceiling, {small}: {told[small]}. "
        '"base" is the prediction that merging changes nothing.'
    )
    best, trivial = low.loc["disentangled"], low.loc["base"]
    verdict = holds(apart(best, trivial) and best["high"] < 0.05, apart(best, trivial))
    short = f"error at {small} {number(best)}; base {trivial['measured']:.3f}"
    return Evidence(verdict, text, short, f"Larger at {large}: {told[large]}.")


@claim("5+", "... up to λ = 1, once it is told what adapters do to each other",
       "interaction_forecast", "mergeability")  # fmt: skip
def interaction(runs: Runs) -> Evidence:
    """Forecasts with derivatives at single adapters and the last ReLU, against the aim and adding up."""
    *shows, text, short = mergeability_claims.forecasts(merges_foretold(runs.source))
    return Evidence(holds(*shows), text, short)


@claim("5+", "... as no published metric of the pair does", "mergeability_metrics", "mergeability")
def metrics(runs: Runs) -> Evidence:
    """Metrics fitted to other settings, against forecasts that are fitted to nothing."""
    *shows, text, short = mergeability_claims.metrics(merges_foretold(runs.source))
    return Evidence(holds(*shows), text, short)


@claim("5+", "... and the best coefficient", "retention_and_damage", "familiarity")
def best_coefficient(runs: Runs) -> Evidence:
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
    part = share([hit], [len(found)])
    text = (
        f"Of a grid of {liked.index.get_level_values('lam').nunique()} coefficients the predicted best is "
        f"the measured best in {hit} of {len(found)} settings; the costliest choice loses {worst:.3f} of the "
        "mean of edited and untouched recall."
    )
    short = f"best in {hit} of {len(found)}, {number(part)}; costs {worst:.3f} at most"
    return Evidence(holds(worst < 0.05), text, short)
