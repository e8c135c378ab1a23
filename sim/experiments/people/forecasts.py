"""Claims about predictions of the merges of a language model. The rules were committed before any run that
recorded a prediction, a margin or a swing on this model."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from sim.experiments.common.cells import of_seeds
from sim.experiments.common.claim import NOTHING, POOLED, SHARE, Cell, Reading, Rule, claims_of
from sim.experiments.common.predicted import (
    HALF,
    OPEN,
    RANGES,
    SLIGHT,
    WHOLE,
    error_cells,
    errors_by_range,
    linear,
)
from sim.lab.figure import Source

FIXED = "2026-11-30"
FIGURE, TABLES = "people_predictions", ("summary", "predictions")

HISTORY = (
    "Written before any run of this experiment that recorded a prediction, a margin or a swing. Accuracies "
    "of an earlier run of the same settings (4 seeds) were known, and what the predictors do in the "
    "miniature: first order misses merges by 0.065 at λ ≤ ½ and 0.147 beyond, the coverage law overrates."
)

NEAR = 0.1
"""A forecast that is nearer tells which way a merge goes: it misses fewer than two of 16 questions."""

EDITS = "open edits"
"""Label of the undecided cells that the coverage law speaks of: the taught facts and the traces."""

PREDICTORS = ("disentangled", "tangent", "coverage", "base")


_error = partial(error_cells, "people")


def _excess(predictor: str) -> Cell:
    return Cell("people", EDITS, predictor, f"predicted less measured, {WHOLE}")


def _carried(hop: str) -> Cell:
    return Cell("people", POOLED, "coverage", f"{hop} at λ = ½")


def collect(source: Source) -> Mapping[Cell, Reading]:
    """Errors of every predictor by range of λ, on all undecided cells and on those of the edits; how far
    predictions of the edits exceed the outcome; and the share of facts that λ = ½ carries by the coverage
    law, of all settings."""
    rows, readings = linear(source, "people"), {}
    edits = rows.dropna(subset="coverage")
    for label, cells in ((OPEN, rows), (EDITS, edits)):
        readings |= errors_by_range(cells, PREDICTORS, "people", label)
    low, high, _ = RANGES[1]
    some = edits[edits["undecided"] & (edits["lam"] > low) & (edits["lam"] <= high)]
    for predictor in ("coverage", "disentangled"):
        readings[_excess(predictor)] = _by_seed(some, some[predictor] - some["measured"])
    half = rows[rows["lam"] == 0.5]
    for hop in ("hop1", "hop2"):
        facts = half[half["metric"] == hop]
        readings[_carried(hop)] = _by_seed(facts, facts["coverage"])
    return readings


def _by_seed(rows: pd.DataFrame, values: pd.Series) -> Reading:
    return of_seeds(values.groupby(rows["seed"]).mean())


_claim = claims_of(FIGURE, "people", fixed=FIXED, history=HISTORY, tables=TABLES, collect=collect)

_claim(
    "L5+a",
    "On a real language model: single adapters predict their merge",
    rules=(
        Rule(
            "better",
            "mean absolute error of first order (disentangled), less that of no change",
            _error("disentangled", HALF, WHOLE),
            _error("base", HALF, WHOLE),
            below=-SLIGHT,
        ),
        Rule(
            "close",
            "its mean absolute error where the merge is neither at floor nor at ceiling",
            _error("disentangled", HALF, WHOLE),
            below=NEAR,
        ),
    ),
    numbers={
        f"{predictor}_{place}": _error(predictor, name)[0]
        for predictor in PREDICTORS
        if predictor != "coverage"
        for place, name in (("half", HALF), ("whole", WHOLE))
    },
    evidence="Where the merge is neither at floor nor at ceiling, the forecast that adds up what each "
    f"adapter does to the logits by itself misses its accuracy by {{disentangled_half}} at {HALF} and by "
    f"{{disentangled_whole}} at {WHOLE}; from strength 1 alone (tangent) by {{tangent_half}} and "
    "{tangent_whole}. The forecast that merging changes nothing misses it by {base_half} and {base_whole}.",
    limits="One base, two adapters. Forecasts are of whole answers, the right tokens before each, and of "
    "merges that are linear.",
)

_claim(
    "L5+b",
    "On a real language model: what breaks a merge is the other adapter, not the dilution",
    rules=(
        Rule(
            "overshoot",
            "share of the taught facts that half an adapter carries by itself (λ Δ > M at λ = ½)",
            tuple(map(_carried, ("hop1", "hop2"))),
            above=SHARE,
        ),
        Rule(
            "blind",
            f"forecast of the own adapter alone (coverage) less the outcome, at {WHOLE}",
            _excess("coverage"),
            above=NOTHING,
        ),
        Rule(
            "worse",
            "mean absolute error of the own adapter alone, less that of first order, on the same outcomes",
            _error("coverage", WHOLE, label=EDITS),
            _error("disentangled", WHOLE, label=EDITS),
            above=SLIGHT,
        ),
    ),
    numbers={
        f"{effect}_{hop}": Cell("people", "real/shared", model, f"{effect}_{hop}", "single")
        for hop, other in (("hop1", "hop2"), ("hop2", "hop1"))
        for effect, model in (("margin", "base"), ("swing", hop), ("disturbance", other), ("kappa", hop))
    }
    | {"first": _excess("disentangled")},
    evidence="By its own adapter alone, half the strength carries {overshoot} of the facts of the harder "
    f"hop; at {WHOLE} this law exceeds the outcome by {{blind}}, first order by {{first}}. With real names "
    "and worked solutions the base prefers its own answer by {margin_hop1} and {margin_hop2} nats (first and "
    "second hop), the own adapter moves that by {swing_hop1} and {swing_hop2}, the other one by "
    "{disturbance_hop1} and {disturbance_hop2}.",
    limits="κ, the swing in a trace over that where it was taught, is {kappa_hop1} and {kappa_hop2}. Of an "
    "answer of several tokens margins and swings are read where the base resists most.",
)
