"""The report as tables: one row a module, one row a matrix kind, the worst modules."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

KEY = """\
eff. rank, arrow gap (1 - s2/s1): the least of the adapters; the other columns: the largest
cos: of two Delta W; row cos, col cos: largest cosine between two row or column spaces
interf.: |DW_j V_i| / |DW_i|; arrow cos: of two prototypes; cross: cross terms / average, norms
typ. lambda: keeps more than half of each adapter's energy; min lambda: keeps every direction"""
FEATURE_KEY = """
kappa: median over tokens of |DW_i x| / full swing, largest of the adapters
covered: share of tokens that some adapter decides under the average, 2 kappa / K > 1"""

SUMMARISED = ("cos", "row cos", "interf.", "typ. lambda")
"""Columns of the table of kinds, each as worst and median."""

WORST = 10
"""Modules in the printed list of the worst."""


def module_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a module. Over pairs and adapters the worst case is shown: the largest overlap or lambda."""
    rows = []
    for name, module in report["modules"].items():
        norms = np.sqrt(module["norm2"])
        pairs = ~np.eye(len(norms), dtype=bool)
        row = {"module": name}
        row |= {f"norm {i + 1}": value for i, value in enumerate(norms)}
        row |= {
            "eff. rank": -most(-np.array(module["effective_rank"])),
            "cos": most(np.abs(_divide(module["inner"], np.outer(norms, norms)))[pairs]),
            "row cos": _largest(module["row_cosines"], norms),
            "col cos": _largest(module["column_cosines"], norms),
            "interf.": most(_divide(np.sqrt(module["interference2"]), norms[:, None])[pairs]),
            "arrow gap": -most(-np.array(module["arrow_gap"])),
            "arrow cos": most(np.array(module["prototype_cosine"])[pairs]),
            "cross": float(np.sqrt(_divide(module.get("cross2", np.nan), module["sum2"]))) * len(norms),
            "typ. lambda": most(module["typical_lambda"]),
            "min lambda": most([most(values) for values in module["critical_lambda"]]),
        }
        if "features" in module:
            row["kappa"] = np.max(np.median(module["features"]["kappa"], axis=1))
            row["covered"] = module["features"]["covered_by_any"]
        rows.append(row)
    return pd.DataFrame(rows).set_index("module")


def kind(name: str) -> str:
    """A module's name with * for every number that stands alone: one matrix of all layers and experts."""
    return re.sub(r"(?<=\[)\d+(?=\])|(?:(?<=\.)|^)\d+(?=\.|$)", "*", name)


def kind_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a matrix kind: how many modules, and of each column the worst and the median of those known."""
    kinds = [kind(name) for name in table.index]
    shared = _shared([name.split(".") for name in dict.fromkeys(kinds)])
    rows = {}
    for name, group in table.groupby(np.array(kinds), sort=False):
        row: dict[tuple[str, str], Any] = {("", "modules"): len(group)}
        for column in SUMMARISED:
            row |= {(column, "worst"): group[column].max(), (column, "median"): group[column].median()}
        rows[".".join(name.split(".")[shared:])] = row
    summary = pd.DataFrame.from_dict(rows, orient="index").rename_axis("matrix kind")
    return summary.astype({("", "modules"): int})


def worst_modules(table: pd.DataFrame) -> pd.DataFrame:
    """The ten modules of largest typical lambda, of equal ones those with most interference; no norms."""
    ordered = table.sort_values(
        ["typ. lambda", "interf."], ascending=False, kind="stable", na_position="last"
    )
    return ordered.head(WORST)[[column for column in table if not column.startswith("norm ")]]


def printed(table: pd.DataFrame) -> str:
    """A table as text, three decimals, unknown as a dash."""
    return table.to_string(float_format=lambda value: f"{value:.3f}", na_rep="-")


def most(values: Sequence[float] | np.ndarray) -> float:
    """The largest of the values that are known; NaN if none is."""
    return float(pd.Series(np.ravel(values), dtype=float).max())


def _shared(names: Sequence[Sequence[str]]) -> int:
    """How many leading segments all names share, the last segment never among them."""
    count = 0
    while all(len(name) > count + 1 and name[count] == names[0][count] for name in names):
        count += 1
    return count


def _divide(values: Any, sizes: Any) -> np.ndarray:
    """values / sizes, NaN where the size is 0."""
    values, sizes = np.broadcast_arrays(np.asarray(values, float), np.asarray(sizes, float))
    return np.divide(values, sizes, out=np.full(values.shape, np.nan), where=sizes > 0)


def _largest(cosines: Sequence[Sequence[Sequence[float]]], norms: np.ndarray) -> float:
    """The largest cosine between two adapters that have directions."""
    pairs = [(i, j) for i in range(len(norms)) for j in range(i)]
    return most([cosines[i][j][0] if norms[i] * norms[j] > 0 else np.nan for i, j in pairs])
