"""The report in words: one row a module, and what theory says of merging the library."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

KEY = """\
eff. rank, arrow gap (1 - s2/s1): the least of the adapters; the other columns: the largest
cos: of two Delta W; row cos, col cos: largest cosine between two row or column spaces
interf.: |DW_j V_i| / |DW_i|; arrow cos: of two prototypes; cross: cross terms / average, norms
min lambda: keeps every direction"""
FEATURE_KEY = """
kappa: median over tokens of |DW_i x| / full swing, largest of the adapters
covered: share of tokens that some adapter decides under the average, 2 kappa / K > 1"""


def module_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a module. Over pairs and adapters the worst case is shown: the largest overlap or lambda."""
    rows = []
    for name, found in report["modules"].items():
        norms = np.sqrt(found["norm2"])
        apart = ~np.eye(len(norms), dtype=bool)
        row = {"module": name}
        row |= {f"norm {i + 1}": value for i, value in enumerate(norms)}
        row |= {
            "eff. rank": -most(-np.array(found["effective_rank"])),
            "cos": most(np.abs(_over(found["inner"], np.outer(norms, norms)))[apart]),
            "row cos": _largest(found["row_cosines"], norms),
            "col cos": _largest(found["column_cosines"], norms),
            "interf.": most(_over(np.sqrt(found["interference2"]), norms[:, None])[apart]),
            "arrow gap": -most(-np.array(found["arrow_gap"])),
            "arrow cos": most(np.array(found["prototype_cosine"])[apart]),
            "cross": float(np.sqrt(_over(found.get("cross2", np.nan), found["sum2"]))) * len(norms),
            "min lambda": most([most(values) for values in found["critical_lambda"]]),
        }
        if "features" in found:
            row["kappa"] = np.max(np.median(found["features"]["kappa"], axis=1))
            row["covered"] = found["features"]["covered_by_any"]
        rows.append(row)
    return pd.DataFrame(rows).set_index("module")


def most(values: Sequence[float] | np.ndarray) -> float:
    """The largest of the values that are known; NaN if none is."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    return float(values.max()) if values.size else np.nan


def _over(values: Any, sizes: Any) -> np.ndarray:
    """values / sizes, NaN where the size is 0."""
    values, sizes = np.broadcast_arrays(np.asarray(values, float), np.asarray(sizes, float))
    return np.divide(values, sizes, out=np.full(values.shape, np.nan), where=sizes > 0)


def _largest(cosines: Sequence[Sequence[Sequence[float]]], norms: np.ndarray) -> float:
    """The largest cosine between two adapters that have directions."""
    pairs = [(i, j) for i in range(len(norms)) for j in range(i)]
    return most([cosines[i][j][0] if norms[i] * norms[j] > 0 else np.nan for i, j in pairs])


def verdict(report: Mapping[str, Any]) -> list[str]:
    """What theory says of this library, in sentences: exact merges, ties, largest K, smallest lambda."""
    total, count = report["total"], len(report["adapters"])
    apart = ~np.eye(count, dtype=bool)
    interference = np.array(total["interference"])[apart].max()
    tie = "a tie of old and new" if count == 2 else f"below 1/2, as for every library of {count} > 2"
    lines = [
        *_zero_modules(report),
        "norms: " + ", ".join(f"{value:.4g}" for value in total["norm"]),
        f"interference |DW_j V_i| / |DW_i|: at most {interference:.3f}; largest cosine of two Delta W: "
        f"{np.abs(np.array(total['cosine'])[apart]).max():.3f}",
        f"Arrow: mean |cosine| of two prototypes {np.array(total['prototype_cosine'])[apart].max():.3f} "
        "(1: the adapters look alike to it, 0: told apart)",
        f"average, sum, concat: exact, rank adds up; svd at the largest rank loses {total['svd_lost']:.1%} "
        "of the squared norm",
    ]
    if total["cross_term_norm"] is None:
        lines.append("linear_factors: undefined, the ranks differ")
    elif total["average_norm"] > 0:
        ratio = total["cross_term_norm"] / total["average_norm"]
        lines.append(f"linear_factors: the average plus cross terms of {ratio:.1%} of the average's norm")
    lines += [
        f"exact overwrites: the average has lambda = 1/{count}, {tie}; energy in surviving directions: "
        + _shares(total["kept_average"])
        + "; under the sum: "
        + _shares(total["kept_sum"]),
        f"smallest lambda that keeps the typical direction: {max(total['smallest_lambda_typical']):.3f}, "
        f"every direction: {total['smallest_lambda_worst']:.3f}",
        f"largest library that uniform averaging keeps: K = {total['largest_library_typical']} (typical "
        f"direction), {total['largest_library_worst']} (every direction)",
    ]
    return lines


def _zero_modules(report: Mapping[str, Any]) -> list[str]:
    """A line on the modules in which some adapter changes nothing, the first of them by name."""
    zero = report["zero"]
    if not zero:
        return []
    shown = [f"{name} (adapter {', '.join(str(i + 1) for i in at)})" for name, at in list(zero.items())[:3]]
    listed = ", ".join(shown) + (", ..." if len(zero) > len(shown) else "")
    return [f"Delta W = 0 (untrained?) in {len(zero)} of {len(report['modules'])} modules: {listed}"]


def _shares(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0%}" for value in values)
