"""The claim about published metrics of the pair."""

from collections.abc import Mapping, Sequence

import pandas as pd

from sim.experiments.common.claim import Cell, Reading, Rule, claim
from sim.experiments.common.predicted import OPEN, RANGES, SLIGHT, errors
from sim.experiments.mergeability import ALL, FITS, NULL, OURS, PUBLISHED, fit, outcomes, with_fits
from sim.lab.figure import Source

FIXED = "2026-11-29"
HALF, WHOLE = (name for _, _, name in RANGES[:2])


def _error(forecast: str, *ranges: str) -> tuple[Cell, ...]:
    return tuple(Cell("mergeability", OPEN, forecast, f"error, {name}") for name in ranges)


def _errors(rows: pd.DataFrame, forecasts: Sequence[str]) -> Mapping[Cell, Reading]:
    measured = {}
    for low, high, name in RANGES[:2]:
        each = errors(rows[(rows["lam"] > low) & (rows["lam"] <= high)], forecasts)
        measured |= {_error(forecast, name)[0]: value for forecast, value in each.items()}
    return measured


def collect_fits(source: Source) -> Mapping[Cell, Reading]:
    """The same with the errors of every fit to published metrics."""
    return _errors(with_fits(outcomes(source)), (*OURS, *map(fit, FITS)))


def _less(name: str, others: tuple[str, ...], what: str) -> tuple[Rule, Rule]:
    return tuple(
        Rule(
            f"{name}{place}",
            f"mean absolute error of the disentangled forecast, less that of a fit to {what}, {lams}",
            _error("disentangled", lams) * len(others),
            tuple(_error(fit(other), lams)[0] for other in others),
            below=-SLIGHT,
        )
        for place, lams in enumerate((HALF, WHOLE))
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
