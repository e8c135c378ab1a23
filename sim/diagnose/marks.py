"""Each number of a diagnosis with a mark and the values that are normal, and the next command to type."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.diagnose.fold import TOP
from sim.diagnose.tables import most
from sim.diagnose.warnings import SAME_START
from sim.merge.peft.rounding import MOST

PROMPTS = "prompts.jsonl"
"""The file of questions that is begun where the next command needs one."""


@dataclass(frozen=True)
class Check:
    """A number of a diagnosis: ``value`` of the report's totals, normal up to (or from) ``limit``.

    remedy: what to do beyond it. pair: whether it speaks of the adapters themselves, not of one way to merge.
    least: whether the limit is the smallest normal value.
    """

    name: str
    value: Callable[[Mapping[str, Any]], float]
    limit: float
    remedy: str
    pair: bool = False
    least: bool = False


def _worst(key: str) -> Callable[[Mapping[str, Any]], float]:
    """The largest |entry| of a table of pairs; NaN where none is known."""

    def value(total: Mapping[str, Any]) -> float:
        table = np.abs(np.array(total[key], float))
        return most(table[~np.eye(len(table), dtype=bool)])

    return value


def _number(key: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda total: np.nan if total.get(key) is None else float(total[key])


def _cross(total: Mapping[str, Any]) -> float:
    if total["cross_term_norm"] is None:
        return np.nan
    return total["cross_term_norm"] / total["average_norm"] if total["average_norm"] else np.inf


CHECKS = (
    Check("cosine of two updates", _worst("cosine"), 0.2,
          "they were taught much the same, or opposites: look at what each is for", True),
    Check("interference / (that of random updates, or 1/3)", lambda total: _worst("interference")(total)
          / max(1 / 3, total["random_interference"]), 1.5,
          "each writes on what the other reads: expect losses, run sim.predict", True),
    Check("cosine of two Arrow prototypes", _worst("prototype_cosine"), 0.5,
          "Arrow cannot tell them apart: do not route by it", True),
    Check("ratio of norms", lambda total: max(total["norm"]) / min(total["norm"]), 4.0,
          "one drowns the other: lower its --weight", True),
    Check("cosine of two first factors A", _worst("start_cosine"), SAME_START,
          "equal initial seeds: their row spaces overlap for that alone; train with other seeds", True),
    Check("energy that survives at the lambda above", lambda total: min(total["recommendation"]["kept"]), 0.5,
          "no common strength suits them: route, or train one adapter", True, True),
    Check("PEFT's linear: cross terms / average", _cross, 1.5,
          "PEFT's linear adds products of one's B and another's A: use sim.merge, which adds the updates"),
    Check("svd at the largest rank: squared norm lost", _number("svd_lost"), 0.25,
          "write the merge at its full rank, as sim.merge does without --rank"),
    Check("the sum in bfloat16: share lost", _number("rounding"), MOST, "write it with --dtype float32"),
    Check("folded into a bfloat16 base: share lost", _number("fold_loss"), 0.25,
          "fold in float32, or leave the adapter unfolded"),
    Check(f"intruder dimensions among the {TOP} largest", _number("intruders"), 0,
          "an adapter adds directions that the base does not have: test what it forgets", True),
)  # fmt: skip
"""All numbers. Unrelated updates of rank r have about 1/sqrt(in out), sqrt(r/in), 1/sqrt(in), 1, 0 and at
most 1 cross terms. Two whose spectra fall lose less than a quarter of the squared norm to svd; rank 1 loses
half."""


def marks(report: Mapping[str, Any]) -> pd.DataFrame:
    """One row a number: value (the worst pair, adapter or module), mark (good, bad, unknown), what is normal,
    and what to do if it is not."""
    rows = []
    for check in CHECKS:
        value = check.value(report["total"])
        good = value >= check.limit if check.least else value <= check.limit + 1e-9
        mark = "unknown" if np.isnan(value) else "good" if good else "bad"
        normal = f"at {'least' if check.least else 'most'} {check.limit:.3g}"
        rows.append((check.name, value, mark, normal, "" if mark != "bad" else check.remedy))
    columns = ["number", "value", "mark", "normal", "if bad"]
    return pd.DataFrame(rows, columns=columns).set_index("number")


def remedies(table: pd.DataFrame) -> list[str]:
    """What to do about each bad mark, a line each."""
    rows = table[table["mark"] == "bad"]
    return [f"{name}: {remedy}" for name, remedy in rows["if bad"].items()]


def alarms(report: Mapping[str, Any]) -> list[str]:
    """What speaks against trusting the rest: doubts of the files, then the bad marks of the adapters."""
    table = marks(report)
    names = [check.name for check in CHECKS if check.pair and table.loc[check.name, "mark"] == "bad"]
    return [*report["doubts"], *(f"{name} is {table.loc[name, 'value']:.2f}" for name in names)]


def next_command(report: Mapping[str, Any], out: Path = Path("runs/diagnose")) -> str:
    """The command that decides: runs on the user's own prompts.

    out: the folder of the diagnosis, where the file of prompts is begun.
    """
    rest = ["--base", report["base"] or "BASE", "--prompts", str(out / PROMPTS)]
    return shlex.join(["python", "-m", "sim.predict", *report["adapters"], *rest])
