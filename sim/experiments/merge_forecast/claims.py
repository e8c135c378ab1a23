"""Claims about the predictor of ``sim.predict``: on a language model, and its domain in the miniature."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from sim.experiments.common.cells import of_seeds
from sim.experiments.common.claim import Cell, Reading, Rule, claim
from sim.experiments.common.predicted import HALF, SLIGHT, WHOLE
from sim.forecast.search import MEAN, TOLERANCE, WORST
from sim.lab.figure import COMMANDS, Source

FIXED = "2026-11-30"

ERROR = 0.05
"""Mean absolute error of the forecast over undecided cells, at most."""

COVERAGE = (0.87, 0.93)
"""Share of cells of merges that were not run whose accuracy lies in its 90% interval."""

REGRET = 0.02
"""What the merge that a search returns scores below the best of all, at most."""

SHARE = 0.15
"""Share of all merges that a search runs, at most."""

RIVALS = ("first order", "tangent", "metrics")
"""Predictors that the forecast must err less than, on the same cells."""

MODEL, MINIATURE = "merge_forecast", "merge_miniature"
"""The runs: adapters of a language model, and of the miniature."""

COMMAND = "python -m sim.experiments.merge_forecast"
STAGES = {MODEL: "prepare train measure pairs score", MINIATURE: "miniature"}
"""Of the command, that make the tables of a run."""

COMMANDS |= {run: f"{COMMAND} {stages}" for run, stages in STAGES.items()}

EVERY = "all libraries"
FORECAST, FIRST = "forecast", "first order"
SUMS = (FIRST, "tangent", "pairs")
AIMED = sum(COVERAGE) / 2
OFF = f"coverage, less {AIMED:g}"
LARGE = (6, 8)
"""Numbers of adapters at which there is something to search."""

DESIGNS = ("own", "shared")
LAYERS = (1, 2, 4)
SIZES = (4, 6, 8)


def depth(layers: int) -> str:
    """The design of the miniature's libraries by depth."""
    return f"{layers} layer{'s' * (layers > 1)}"


def label(design: str = EVERY, adapters: int = 0) -> str:
    """Name of the libraries of a design, or of a design and size."""
    return f"{design}, K = {adapters}" if adapters else design


def error(run: str, predictor: str, where: str = EVERY, lams: str = "") -> Cell:
    """Mean absolute error of a predictor over undecided cells of merges that were not run."""
    return Cell(run, where, predictor, "error" + (f", {lams}" if lams else ""))


def off(run: str, where: str = EVERY) -> Cell:
    """Share of cells inside their 90% interval, less .9."""
    return Cell(run, where, FORECAST, OFF)


def worst_search(run: str, objective: str, number: str) -> Cell:
    """The worst of all searches with an objective: "regret", "share", or how many are "contradicted"."""
    return Cell(run, EVERY, f"search for the best {objective}", number)


def collect(run: str) -> Callable[[Source], Mapping[Cell, Reading]]:
    """Collect the readings of a run from its tables ``by_library`` and ``search``.

    A library is a trial: its facts and adapters are drawn for it. Libraries of the miniature that share a
    base, those of one seed, are one trial.
    """

    def read(source: Source) -> Mapping[Cell, Reading]:
        rows, search = source.summary(run, "by_library"), source.summary(run, "search")
        trials = ["seed"] if run == MINIATURE else ["adapters", "design", "seed"]
        rows = rows.assign(trial=rows.groupby(trials).ngroup())
        parts = {EVERY: rows} | {of: part for of, part in rows.groupby("design")}
        both = rows.groupby(["design", "adapters"])
        parts |= {label(*key): part for key, part in both} | {
            label(EVERY, size): part for size, part in rows.groupby("adapters")
        }
        measured = {}
        for where, part in parts.items():
            measured |= _errors(run, where, part)
        for objective, part in search.groupby("objective"):
            wrong = (part["open"] == 0) & (part["regret"] > TOLERANCE)
            values = {name: part[name].max() for name in ("regret", "share")} | {"contradicted": wrong.sum()}
            for number, value in values.items():
                cell = worst_search(run, objective, number)
                measured[cell] = Reading(*[float(value)] * 3, seeds=len(part))
        return measured

    return read


def _errors(run: str, where: str, part: pd.DataFrame) -> dict[Cell, Reading]:
    measured = {}
    predictors = [name for name in (FORECAST, *SUMS, "metrics", "base") if name in part]
    for lams, some in part.groupby("range"):
        words = "" if lams == "all" else lams
        for name in predictors:
            measured[error(run, name, where, words)] = of_seeds(some.groupby("trial")[name].mean())
        if not words:
            measured[off(run, where)] = of_seeds(some.groupby("trial")["coverage"].mean() - AIMED)
    return measured


def _rules(
    run: str, groups: Sequence[str], rivals: Sequence[str], adapters: int, history: str
) -> tuple[Rule, ...]:
    """What a run must show of the predictor, with the bounds above."""
    searches = {
        "regret": ("what the worst search scores below the best of all merges", REGRET),
        "share": ("share of all merges that a search runs", SHARE + 1 / (4 * (2**adapters - 1) + 1)),
        "contradicted": ("searches that call no other merge likely to be better, where one is", 0.5),
    }
    return (
        Rule(
            "error",
            "mean absolute error of the forecast, undecided cells of merges that were not run",
            (error(run, FORECAST), *(error(run, FORECAST, where) for where in groups)),
            below=ERROR,
            history=history,
        ),
        Rule(
            "coverage",
            f"share of cells whose accuracy lies in its 90% interval, less {AIMED:g}",
            (off(run),),
            within=COVERAGE[1] - AIMED,
        ),
        Rule(
            "better",
            f"mean absolute error of the forecast, less that of {', '.join(rivals)}",
            error(run, FORECAST),
            tuple(error(run, rival) for rival in rivals),
            below=0.0,
        ),
        *(
            Rule(number, says, tuple(worst_search(run, aim, number) for aim in (MEAN, WORST)), below=bound)
            for number, (says, bound) in searches.items()
        ),
    )  # fmt: skip


def verdicts(summary: pd.DataFrame, search: pd.DataFrame) -> pd.DataFrame:
    """One row a rule and library size and design: value, bounds low and high, whether it holds.

    summary, search: as ``scoring.summary`` by size and design and ``scoring.searches`` give them. A share of
    runs may exceed its bound by one run.
    """
    table = []

    def judge(rule: str, of, value: float, low: float, high: float) -> None:
        where = {"rule": rule, "adapters": of["adapters"], "design": of["design"]}
        table.append(where | {"value": value, "low": low, "high": high})

    for of in summary.to_dict("records"):
        judge("error", of, of["forecast"], 0.0, ERROR)
        judge("coverage", of, of["coverage"], *COVERAGE)
        for name in (name for name in RIVALS if name in of):
            judge(f"error less that of {name}", of, of["forecast"] - of[name], -1.0, 0.0)
    for (adapters, design, objective), part in search.groupby(["adapters", "design", "objective"]):
        of, most = {"adapters": adapters, "design": design}, SHARE + 1 / part["merges"].min()
        judge(f"regret of the search for the best {objective}", of, part["regret"].max(), 0.0, REGRET)
        judge(f"share of merges run for the best {objective}", of, part["share"].max(), 0.0, most)
    rules = pd.DataFrame(table)
    return rules.assign(holds=rules["value"].between(rules["low"] - 1e-12, rules["high"] + 1e-12))


_GRID = tuple(label(depth(layers), size) for layers in LAYERS for size in SIZES)

claim(
    "5+b",
    "... and a few of the merges predict all others",
    "merge_miniature",
    MINIATURE,
    fixed=FIXED,
    collect=collect(MINIATURE),
    rules=(
        *_rules(
            MINIATURE,
            _GRID,
            SUMS,
            LARGE[0],
            "Until 2026-11-30 this claim was about forecasts of two adapters that run nothing of their merge "
            "(crossed, to miss it by less than 0.03 at λ ≤ ½ and 0.06 beyond) or its last layer (composed, "
            "the same aims). Crossed missed it by 0.038 and 0.068, which did not hold; composed by 0.019 and "
            "0.041, which held; the numbers stand in figure interaction_forecast. With two adapters the "
            "merge costs one pass and is run. These rules are about what is now the predictor, and were "
            "written before any run of merge_miniature.",
        ),
        Rule(
            "strength",
            "mean absolute error of the forecast by strength",
            tuple(error(MINIATURE, FORECAST, EVERY, lams) for lams in (HALF, WHOLE)),
            below=ERROR,
        ),
        Rule(
            "overshoot",
            "mean absolute error of first order at ½ < λ ≤ 1, less that at λ ≤ ½, by depth",
            tuple(error(MINIATURE, FIRST, depth(layers), WHOLE) for layers in LAYERS),
            tuple(error(MINIATURE, FIRST, depth(layers), HALF) for layers in LAYERS),
            above=SLIGHT,
        ),
        Rule(
            "number",
            f"mean absolute error of first order with {SIZES[-1]} adapters, less that with {SIZES[0]}, by "
            "depth",
            tuple(error(MINIATURE, FIRST, label(depth(layers), SIZES[-1])) for layers in LAYERS),
            tuple(error(MINIATURE, FIRST, label(depth(layers), SIZES[0])) for layers in LAYERS),
            above=SLIGHT,
        ),
    ),
    numbers={
        **{name.replace(" ", "_"): error(MINIATURE, name) for name in (FORECAST, *SUMS)},
        "covered": off(MINIATURE),
    },
    evidence="From the base, single adapters and a few merges, K + K (K - 1) / 2 + 8 runs, the forecast of "
    "sim.predict misses the other merges of 4, 6 and 8 adapters in 1, 2 and 4 layers by {forecast}, and in "
    "its worst group by {error}. Adding up single adapters misses them by {first_order}, with all pairs by "
    "{pairs}. A search that runs at most "
    f"{SHARE:.0%} of the merges loses {{regret}} to the best of all where it loses most.",
    limits="The domain: 1 to 4 layers, common strengths up to 1, 4 to 8 adapters of one relation each; the "
    "search is among 6 and 8.",
)

claim(
    "5+e",
    "... on a language model too",
    "merge_forecast",
    MODEL,
    fixed=FIXED,
    collect=collect(MODEL),
    rules=_rules(
        MODEL,
        tuple(label(design, size) for design in DESIGNS for size in LARGE),
        RIVALS,
        LARGE[0],
        "A prototype on other adapters of this model was known when the rules were written: first order "
        "missed a group's accuracy by 0.12 to 0.24, all pairs by 0.09 to 0.27. The rules were committed "
        "before any run of merge_forecast.",
    ),
    numbers={name.replace(" ", "_"): error(MODEL, name) for name in (FORECAST, *SUMS, "metrics")},
    evidence="On SmolLM2-135M, with adapters of 16 facts each that no one tuned on, the forecast misses the "
    "merges that were not run by {forecast}, and in its worst group by {error}. Adding up single adapters "
    "misses them by {first_order}, with all pairs by {pairs}, a regression on pairwise metrics by {metrics}. "
    f"A search that runs at most {SHARE:.0%} of the merges loses {{regret}} to the best of all where it "
    "loses most.",
    limits="One base, linear merges at common strengths, answers of a word or two.",
)
