"""The theory's prediction for each row of the one-layer experiment, from the row's setting alone.

Nothing here sees a measurement or draws a number. Rows the theory has no number for get NaN.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sim.merge import METHODS
from sim.one_layer.config import OneLayerConfig
from theory import coverage, crosstalk, starvation
from theory.composition import two_hop_accuracy

_TIES_DENSITY = 0.2


def predict(config: OneLayerConfig, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The prediction for every row, in order, or NaN: theory/README.md, sections 2, 3, 5 and 6.

    Rows are those of ``sim.one_layer.rows`` (or of ``run``; ``measured`` is never read).
    """
    return [_RULES[row["metric"]](config, row) for row in rows]


def _two_hop(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    return two_hop_accuracy(config.entities)


def _hop(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    """One-hop recall of facts an adapter fits exactly, under the coefficient its merge gives it.

    The other adapter leaves these logits alone: its rows of Delta W are zero there. On the first hop the
    balanced design leaves one fact in N unchanged, which every model gets right.
    """
    first = row["metric"] == "hop1"
    lam = _coefficient(config, row["method"], "adapter1" if first else "adapter2", row["facts"], first)
    if math.isnan(lam):
        return math.nan
    unchanged = 1 / config.entities if first else 0.0
    return unchanged + (1 - unchanged) * float(coverage.retention(lam))


def _coefficient(config: OneLayerConfig, method: str, own: str, facts: int, first: bool) -> float:
    if method == own:
        return 1.0
    if method in ("base", "adapter1", "adapter2"):
        return 0.0
    if METHODS[method].coefficient is not None:
        return METHODS[method].coefficient(2)
    # Adapters with disjoint output rows have no sign conflict: TIES is their sum, unless it trims. F facts
    # fill 2F of 2N rows at the first hop (old and new bridges), F at the second (answers change places).
    if method == "ties" and (2 if first else 1) * facts <= _TIES_DENSITY * 2 * config.entities:
        return 1.0
    return math.nan


def _retention(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    return float(coverage.retention(row["lam"]))


def _overwrite(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    return float(starvation.overwrite_recall(row["facts"], config.rank, row["lam"]))


def _insertion(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    return starvation.insertion_recall(row["facts"], config.rank)


def _coverage(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    """Overwrite recall at lambda * kappa, with the whitened overlap kappa from the kernel alone."""
    kappa = float(crosstalk.turned_overlap(row["facts"], float(row["template"].removeprefix("angle="))))
    return float(starvation.overwrite_recall(row["facts"], config.rank, row["lam"] * min(kappa, 1.0)))


def _right(config: OneLayerConfig, row: Mapping[str, Any]) -> float:
    return 1.0


_RULES = {
    "direct": _two_hop,
    "hop1": _hop,
    "hop2": _hop,
    "retention": _retention,
    "overwrite_recall": _overwrite,
    "insertion_recall": _insertion,
    "coverage_recall": _coverage,
    "coverage_rule": _right,
    "coverage_rule_exact": _right,
}
