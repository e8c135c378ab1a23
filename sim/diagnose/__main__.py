"""``python -m sim.diagnose A B [C ...]``: will merging these adapters work? No data, no base model needed."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sim.diagnose.measure import diagnose
from sim.lab import style
from sim.lab.cli import run_command
from sim.merge import read_adapter

LEGEND = {"fontsize": 6.5, "frameon": False, "handletextpad": 0.2, "columnspacing": 0.8}


@dataclass(frozen=True)
class DiagnoseCommand:
    """Compare PEFT LoRA adapters of one base model: overlap, interference, what theory says of merging."""

    adapters: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more PEFT folders. Never modified."""
    features: Path | None = None
    """A safetensors file of activations at the inputs of the adapted modules, on prompts of your own: one
    (tokens, in) tensor for a module, under its name; "<module>@<i>" for adapter i's own training prompts."""
    out: Path = Path("runs/diagnose")
    """Folder for diagnosis.json and the figure diagnosis.pdf, .png; those of an earlier run are replaced."""


def read_features(path: Path) -> dict[str, np.ndarray]:
    """Activations by module name. Raises ValueError, one line, for a file that is not whole safetensors."""
    try:
        return load_file(path)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); write it again") from None


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
            "eff. rank": min(found["effective_rank"]),
            "cos": np.max(np.abs(np.array(found["inner"]) / np.outer(norms, norms))[apart]),
            "row cos": _largest(found["row_cosines"]),
            "col cos": _largest(found["column_cosines"]),
            "interf.": np.max((np.sqrt(found["interference2"]) / norms[:, None])[apart]),
            "arrow gap": min(found["arrow_gap"]),
            "arrow cos": np.max(np.array(found["prototype_cosine"])[apart]),
            "cross": np.sqrt(found["cross2"] / found["sum2"]) * len(norms) if "cross2" in found else np.nan,
            "min lambda": max(np.nanmax(values) for values in found["critical_lambda"]),
        }
        if "features" in found:
            row["kappa"] = np.max(np.median(found["features"]["kappa"], axis=1))
            row["covered"] = found["features"]["covered_by_any"]
        rows.append(row)
    return pd.DataFrame(rows).set_index("module")


def _largest(cosines: Sequence[Sequence[Sequence[float]]]) -> float:
    return max(cosines[i][j][0] for i in range(len(cosines)) for j in range(i))


def verdict(report: Mapping[str, Any]) -> list[str]:
    """What theory says of this library, in sentences: exact merges, ties, largest K, smallest lambda."""
    total, count = report["total"], len(report["adapters"])
    apart = ~np.eye(count, dtype=bool)
    interference = np.array(total["interference"])[apart].max()
    tie = "a tie of old and new" if count == 2 else f"below 1/2, as for every library of {count} > 2"
    lines = [
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


def _shares(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0%}" for value in values)


def draw(report: Mapping[str, Any]) -> Figure:
    """Three panels over the modules: norms, overlap and interference, smallest lambda that retains."""
    modules, count = report["modules"], len(report["adapters"])
    x = np.arange(len(modules))
    drawn, (top, middle, bottom) = style.figure(height=4.4, nrows=3, sharex=True)
    size = 3.0 if len(modules) <= 40 else 1.2
    for i in range(count):
        values = [np.sqrt(found["norm2"][i]) for found in modules.values()]
        kind = {"color": style.COLOURS[i % 7], "marker": style.MARKERS[i % 7], "ms": size, "ls": "none"}
        kind |= {"mfc": "none" if i % 2 else style.COLOURS[i % 7], "mew": 0.7}
        top.plot(x, values, label=f"adapter {i + 1}", **kind)
        low = np.array([np.nanmedian(found["critical_lambda"][i]) for found in modules.values()])
        bottom.plot(x, np.where(np.isfinite(low), low, np.nan), **kind)
    table = module_table(report)
    shown = (("row cos", "row-space cosine"), ("interf.", "interference"), ("cos", "$\\Delta W$ cosine"))
    for series, (column, label) in enumerate(shown):
        kind = {"color": style.COLOURS[series], "marker": style.MARKERS[series], "ms": size, "ls": "none"}
        middle.plot(x, table[column], label=label, mfc="none", mew=0.7, **kind)
    top.set_ylabel("norm $|\\Delta W|_F$")
    top.set_ylim(bottom=0)
    middle.set_ylabel("overlap")
    middle.set_ylim(bottom=0)
    bottom.set_ylabel("smallest $\\lambda$")
    bottom.axhline(0.5, color="0.4", lw=0.8, label="no interference, 1/2")
    if count != 2:
        bottom.axhline(1 / count, color="0.4", lw=0.8, ls="--", label=f"average, 1/{count}")
    bottom.set_ylim(0, 1.05 * max(1.0, *(np.nanmax(line.get_ydata()) for line in bottom.lines)))
    if len(modules) <= 14:
        bottom.set_xticks(x, [_short(name) for name in modules], rotation=60, ha="right", fontsize=6)
    else:
        bottom.set_xlabel("module, in order of depth")
    for axes in (top, middle, bottom):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=4, borderaxespad=0, **LEGEND)
    return drawn


def _short(name: str) -> str:
    """The layer number and the matrix: enough to tell modules apart on an axis."""
    parts = name.split(".")
    return ".".join([part for part in parts[:-1] if part.isdigit()] + parts[-1:])


def _finite(value: Any) -> Any:
    """Infinity and NaN as null: JSON has neither."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write(report: Mapping[str, Any], out: Path) -> None:
    """diagnosis.json, .pdf and .png in ``out``, each replaced whole. What is infinite is null in the JSON."""
    with tempfile.TemporaryDirectory(prefix=".diagnosis.", dir=out) as scratch:
        stem = Path(scratch) / "diagnosis"
        stem.with_suffix(".json").write_text(json.dumps(_finite(report), indent=1, allow_nan=False) + "\n")
        style.save(draw(report), stem)
        for suffix in (".json", ".pdf", ".png"):
            os.replace(stem.with_suffix(suffix), (out / "diagnosis").with_suffix(suffix))


def main(command: DiagnoseCommand) -> None:
    """Read, measure, print the table and the verdict, write JSON and figure. ValueError for bad input."""
    adapters = [read_adapter(path) for path in command.adapters]
    features = read_features(command.features) if command.features else None
    report = diagnose(adapters, features)
    command.out.mkdir(parents=True, exist_ok=True)
    write(report, command.out)
    print(module_table(report).to_string(float_format=lambda value: f"{value:.3f}"))
    print(KEY + (FEATURE_KEY if features else ""))
    print("\n" + "\n".join(verdict(report)))
    print(f"\nwrote {command.out / 'diagnosis'}.json, .pdf, .png")


if __name__ == "__main__":
    run_command(DiagnoseCommand, main, "sim.diagnose")
