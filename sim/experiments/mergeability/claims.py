"""The claim about published metrics of the pair."""

from collections.abc import Mapping

from sim.experiments.common.claim import Cell, Reading, Rule, claim
from sim.experiments.common.predicted import HALF, SLIGHT, WHOLE, error_cells, errors_by_range
from sim.experiments.mergeability import ALL, FITS, NULL, OURS, PUBLISHED, fit, outcomes, with_fits
from sim.lab.figure import Source

FIXED = "2026-11-29"


def _error(forecast: str, *ranges: str) -> tuple[Cell, ...]:
    return error_cells("mergeability", forecast, *ranges)


def collect_fits(source: Source) -> Mapping[Cell, Reading]:
    """Errors by range of λ of every forecast, and of every fit to published metrics."""
    return errors_by_range(with_fits(outcomes(source)), (*OURS, *map(fit, FITS)), "mergeability")


def _less(name: str, others: tuple[str, ...], what: str) -> tuple[Rule, Rule]:
    return tuple(
        Rule(
            f"{name}{place}",
            f"mean absolute error of the disentangled forecast, less that of a fit to {what}, {lams}",
            _error("disentangled", lams),
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
