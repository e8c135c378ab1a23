"""Each number of a diagnosis with a mark and the values that are normal, and the next command to type."""

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

LARGEST = {
    "cosine of two updates": 0.2,
    "interference of two adapters": 0.5,
    "cosine of two Arrow prototypes": 0.5,
    "ratio of norms": 4.0,
}
"""Number -> the largest value that is normal. Unrelated random updates of rank r have about
1/sqrt(in out), sqrt(r/in), 1/sqrt(in) and 1."""

LEAST_KEPT = 0.5
"""Least share of an adapter's energy that the recommended lambda keeps, to be normal."""


def marks(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a number: value, mark (good, bad, unknown), and what is normal; the worst pair or adapter."""
    total = report["total"]
    pairs = ~np.eye(len(total["norm"]), dtype=bool)

    def worst(key: str) -> float:
        values = np.abs(np.array(total[key], float))[pairs]
        return float(np.max(values[~np.isnan(values)], initial=-np.inf))

    values = dict(
        zip(
            LARGEST,
            (
                worst("cosine"),
                worst("interference"),
                worst("prototype_cosine"),
                max(total["norm"]) / min(total["norm"]),
            ),
            strict=True,
        )
    )
    rows = [
        (name, value, value <= LARGEST[name], f"at most {LARGEST[name]:g}") for name, value in values.items()
    ]
    energy = min(total["recommendation"]["kept"])
    rows.append(("energy kept at the lambda above", energy, energy >= LEAST_KEPT, f"at least {LEAST_KEPT:g}"))
    table = [
        (name, value, "unknown" if np.isinf(value) else "good" if good else "bad", normal)
        for name, value, good, normal in rows
    ]
    return pd.DataFrame(table, columns=["number", "value", "mark", "normal"]).set_index("number")


def next_command(report: Mapping[str, Any]) -> str:
    """The command that follows the recommendation: the merge, or runs on the user's own prompts."""
    advice, adapters = report["total"]["recommendation"], list(report["adapters"])
    if report["warnings"] or advice["action"] in ("route", "train"):
        rest = ["--base", "BASE", "--prompts", "prompts.jsonl"]
        return shlex.join(["python", "-m", "sim.predict", *adapters, *rest])
    weights = [] if advice["action"] == "average" else ["--weight", *[f"{advice['lam']:.3g}"] * len(adapters)]
    rest = ["--method", advice["action"], *weights, "--out", "merged"]
    return shlex.join(["python", "-m", "sim.merge", *adapters, *rest])
