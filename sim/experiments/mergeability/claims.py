"""Claims about forecasts that include the interaction of adapters, and about metrics of the pair."""

from collections.abc import Mapping, Sequence

import pandas as pd

from sim.experiments.common.claim import Cell, Reading, Rule, claim
from sim.experiments.common.predicted import OPEN, SLIGHT, errors
from sim.experiments.familiarity import RANGES
from sim.experiments.mergeability import ALL, FITS, NULL, OURS, PUBLISHED, fit, outcomes, with_fits
from sim.lab.figure import Source

FIXED = "2026-11-29"
HALF, WHOLE = (name for _, _, name in RANGES[:2])
AIMS = {HALF: 0.03, WHOLE: 0.06}
"""Largest mean absolute error allowed to a forecast, by range of λ."""


def _error(forecast: str, *ranges: str) -> tuple[Cell, ...]:
    return tuple(Cell("mergeability", OPEN, forecast, f"error, {name}") for name in ranges)


def _errors(rows: pd.DataFrame, forecasts: Sequence[str]) -> Mapping[Cell, Reading]:
    measured = {}
    for low, high, name in RANGES[:2]:
        each = errors(rows[(rows["lam"] > low) & (rows["lam"] <= high)], forecasts)
        measured |= {_error(forecast, name)[0]: value for forecast, value in each.items()}
    return measured


def collect_errors(source: Source) -> Mapping[Cell, Reading]:
    """Errors of every forecast by range of λ."""
    return _errors(outcomes(source), OURS)


def collect_fits(source: Source) -> Mapping[Cell, Reading]:
    """The same with the errors of every fit to published metrics."""
    return _errors(with_fits(outcomes(source)), (*OURS, *map(fit, FITS)))


def _aims(name: str, forecast: str, what: str) -> tuple[Rule, Rule]:
    return tuple(
        Rule(f"{name}{place}", f"mean absolute error of {what}, {lams}", _error(forecast, lams), below=aim)
        for place, (lams, aim) in enumerate(AIMS.items())
    )


claim(
    "5+b",
    "... up to λ = 1, once a forecast knows what adapters do to each other",
    "interaction_forecast",
    "mergeability",
    fixed=FIXED,
    collect=collect_errors,
    rules=(
        *_aims("crossed", "crossed", "a forecast that runs nothing of the merge (crossed)"),
        *_aims("composed", "composed", "one that runs the last layer of the merge (composed)"),
        Rule(
            "better",
            "mean absolute error of crossed, less that of adding up (disentangled)",
            _error("crossed", HALF, WHOLE),
            _error("disentangled", HALF, WHOLE),
            below=-SLIGHT,
        ),
    ),
    evidence="Adding up what single adapters do misses the merge by {better.lines[0].readings[1]} at "
    f"{HALF} and by {{better.lines[1].readings[1]}} at {WHOLE}; with derivatives at the single adapters "
    f"(crossed) it is {{crossed0}} and {{crossed1}}, where {AIMS[HALF]} and {AIMS[WHOLE]} are the aims. A "
    f"forecast that runs the "
    "last ReLU and output matrix of the merge itself (composed) misses it by {composed0} and {composed1}.",
)


def _less(name: str, others: tuple[str, ...], what: str) -> tuple[Rule, Rule]:
    return tuple(
        Rule(
            f"{name}{place}",
            f"mean absolute error of the disentangled forecast, less that of a fit to {what}, {lams}",
            _error("disentangled", lams) * len(others),
            tuple(_error(fit(other), lams)[0] for other in others),
            below=-SLIGHT,
        )
        for place, lams in enumerate(AIMS)
    )


claim(
    "5+c",
    "... as no published metric of the pair does",
    "mergeability_metrics",
    "mergeability",
    fixed=FIXED,
    collect=collect_fits,
    rules=(*_less("one", tuple(PUBLISHED), "one metric"), *_less("all", (ALL,), "all metrics together")),
    numbers={"mean": _error(fit(NULL), WHOLE)[0]},
    evidence="Metrics of the pair (arXiv 2601.22285), fitted to the other settings, all together miss the "
    "merge "
    f"by {{all0.to}} at {HALF} and by {{all1.to}} at {WHOLE}; the disentangled forecast, fitted to nothing, "
    f"by "
    "{all0.of} and {all1.of}. The mean of the other settings, which knows no metric, misses it by {mean} "
    f"at {WHOLE}.",
)
