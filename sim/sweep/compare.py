"""``python -m sim.sweep --compare A B``: the rows of two runs that differ beyond their intervals."""

import json
from pathlib import Path

import pandas as pd

from sim.lab import report
from sim.lab.store import read_table, table_path

KEYS = ["world", "label", "adapter", "library", "method", "lam", "metric"]
"""What names one measurement of a run."""


def compare(first: Path, second: Path) -> str:
    """The comparison as text: who is who, a table, and how many rows are alike.

    Raises:
        ValueError: a folder is no run, both are the same one, or they share no row.
    """
    if first.resolve() == second.resolve():
        raise ValueError(f"--compare has {first} twice; which is the other run?")
    runs = [measured(folder) for folder in (first, second)]
    pair = runs[0].merge(runs[1], on=KEYS, suffixes=(" A", " B"))
    if pair.empty:
        names = " and ".join(sorted({name for run in runs for name in run["experiment"]}))
        raise ValueError(f"--compare {first} {second}: no setting, model and metric is in both ({names})")
    rows = differing(pair)
    lines = [
        f"{letter}: {folder}{origin(folder)}" for letter, folder in zip("AB", (first, second), strict=True)
    ]
    extra = [len(run) - len(pair) for run in runs]
    count = f"{len(rows)} of {len(pair)} rows differ beyond their 95% intervals"
    rest = f"; {extra[0]} rows are in A alone, {extra[1]} in B alone" if any(extra) else ""
    return "\n".join([*lines, "", *([rows.to_string(index=False), ""] if len(rows) else []), count + rest])


def measured(folder: Path) -> pd.DataFrame:
    """What a run measured, a row a setting, model and metric.

    Raises:
        ValueError: the folder holds no finished run.
    """
    path = table_path(folder, "summary")
    if not path.exists():
        inside = sorted(path.parent.name for path in folder.glob("*/summary.csv*"))
        hint = f"; did you mean {folder / inside[0]}?" if inside else ""
        raise ValueError(f"--compare {folder}: no summary.csv there; give the folder of one run{hint}")
    rows = read_table(path)
    if not {*KEYS, "experiment", "measured", "low", "high"} <= set(rows):
        raise ValueError(
            f"--compare {folder}: its summary.csv is none of python -m sim.sweep; give such a run"
        )
    return rows.drop_duplicates(KEYS)[["experiment", *KEYS, "measured", "low", "high"]]


def differing(pair: pd.DataFrame) -> pd.DataFrame:
    """The rows whose intervals do not meet, the largest difference first, as text."""
    outside = (pair["low A"] > pair["high B"]) | (pair["high A"] < pair["low B"])
    change = (pair["measured B"] - pair["measured A"])[outside]
    rows = pair.loc[change.abs().sort_values(ascending=False, kind="stable").index]
    models = [
        method if library in ("", "parts", "single") or pd.isna(library) else f"{library}: {method}"
        for library, method in zip(rows["library"], rows["method"], strict=True)
    ]
    table = {"setting": rows["label"], "model": models, "metric": rows["metric"]}
    if pair["adapter"].nunique() > 1:
        table["adapter"] = rows["adapter"]
    for letter in "AB":
        three = rows[[f"{name} {letter}" for name in ("measured", "low", "high")]]
        table[letter] = [report.cell(*row) for row in three.to_numpy()]
    return pd.DataFrame(table | {"B - A": change.loc[rows.index].map("{:+.2f}".format)})


def origin(folder: Path) -> str:
    """ " (command, commit abc)" of a run, from its manifest; empty without one."""
    path = folder / "manifest.json"
    if not path.exists():
        return ""
    manifest = json.loads(path.read_text())
    words = [
        str(manifest.get("command", "")),
        f"commit {manifest['commit']}" if manifest.get("commit") else "",
    ]
    return f" ({', '.join(filter(None, words))})" if any(words) else ""
