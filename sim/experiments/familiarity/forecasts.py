"""Claims about forecasts of merges, read from the main experiment."""

from collections.abc import Mapping

from sim.experiments.common.cells import of_seeds
from sim.experiments.common.claim import Cell, Reading, Rule, claim
from sim.experiments.common.predicted import OPEN, PREDICTORS, SLIGHT, errors
from sim.experiments.familiarity import RANGES, outcomes
from sim.lab.figure import Source
from sim.worlds.two_hop import ENTITIES, TEMPLATES

FIXED = "2026-11-29"
HALF, WHOLE = (name for _, _, name in RANGES[:2])
CHAINS = "chains alone"
"""Label of the undecided outcomes that the product of step accuracies predicts."""


def _error(predictor: str, *ranges: str, label: str = OPEN) -> tuple[Cell, ...]:
    return tuple(Cell("familiarity", label, predictor, f"error, {name}") for name in ranges)


def collect_errors(source: Source) -> Mapping[Cell, Reading]:
    """Errors of every predictor by range of λ: on all undecided outcomes, and on those that the product
    predicts."""
    rows, measured = outcomes(source), {}
    for low, high, name in RANGES[:2]:
        part = rows[(rows["lam"] > low) & (rows["lam"] <= high)]
        for label, cells in ((OPEN, part), (CHAINS, part.dropna(subset=["product"]))):
            each = errors(cells, PREDICTORS)
            measured |= {_error(p, name, label=label)[0]: value for p, value in each.items()}
    return measured


claim(
    "5+a",
    "Single adapters predict their merge",
    "prediction_and_outcome",
    "familiarity",
    fixed=FIXED,
    collect=collect_errors,
    rules=(
        Rule(
            "better",
            "mean absolute error of the disentangled forecast, less that of no change",
            _error("disentangled", HALF, WHOLE),
            _error("base", HALF, WHOLE),
            below=-SLIGHT,
        ),
        Rule("close", "its mean absolute error", _error("disentangled", HALF, WHOLE), below=0.05),
    ),
    numbers={
        "product": _error("product", WHOLE, label=CHAINS)[0],
        "chains": _error("disentangled", WHOLE, label=CHAINS)[0],
    },
    evidence="Where the merge is neither at floor nor at ceiling, the forecast that adds up what each "
    "adapter "
    f"does by itself (disentangled) misses its accuracy by {{close.lines[0]}} at {HALF} and by "
    f"{{close.lines[1]}} at {WHOLE}. The forecast that merging changes nothing misses it by "
    f"{{better.lines[0].readings[1]}} and "
    "{better.lines[1].readings[1]}.",
    limits="The product of step accuracies speaks of written chains alone, and cannot be set against the "
    "means of "
    f"the others: of the chains, at {WHOLE}, it misses {{product}} and the disentangled forecast {{chains}}.",
)

SETTINGS = tuple(f"{entities}/{template}" for entities in ENTITIES for template in TEMPLATES)


def _regret(label: str) -> Cell:
    return Cell("familiarity", label, "chosen", "regret")


def collect_regrets(source: Source) -> Mapping[Cell, Reading]:
    """Loss of the coefficient with the best forecast against the coefficient with the best measurement. Best:
    by the mean of edited and untouched recall."""
    recall = outcomes(source).set_index(["label", "lam", "seed", "metric"])[["disentangled", "measured"]]
    recall = recall.unstack("metric")
    liked = {of: (recall[of]["hop1"] + recall[of]["hop2"]) / 4 + recall[of]["untouched"] / 2
             for of in ("disentangled", "measured")}  # fmt: skip
    measured, best = {}, 0
    for label in SETTINGS:
        forecast, outcome = (liked[of].loc[label].unstack("seed") for of in ("disentangled", "measured"))
        first, chosen = outcome.mean(axis=1).idxmax(), forecast.mean(axis=1).idxmax()
        measured[_regret(label)] = of_seeds(outcome.loc[first] - outcome.loc[chosen])
        best += measured[_regret(label)].measured < 1e-9
    return measured | {_regret("best"): Reading(best / len(SETTINGS), trials=len(SETTINGS))}


claim(
    "5+d",
    "... and the best coefficient",
    "retention_and_damage",
    "familiarity",
    fixed=FIXED,
    collect=collect_regrets,
    rules=(
        Rule(
            "regret",
            "mean of edited and untouched recall that the coefficient with the best forecast loses to the "
            "best one",
            tuple(map(_regret, SETTINGS)),
            below=0.05,
        ),
    ),
    numbers={"best": _regret("best")},
    evidence="Of a grid of common coefficients, the one with the best forecast is the measured best in "
    "{best.count} settings. Where it costs most it loses {regret} of the mean of edited and untouched "
    "recall.",
    limits="Which coefficient is best is read off the same seeds, which makes the loss look larger than it "
    "is.",
)
