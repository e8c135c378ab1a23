"""The laws of overwriting beside the miniature's experiment on rank: ``python -m sim.plan.miniature``.

The miniature breaks what the laws assume. Its adapters are trained with cross entropy, which overshoots, so
that facts survive below lambda = 1/2 (section 6, Cross-entropy); and they change every matrix of each layer,
so that a fact has more than r directions. Where neither matters the law holds, and nowhere does it promise
too much (``domains``).
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.lab.cli import run_command
from sim.lab.figure import Source, committed
from theory.starvation import shared_overwrite_recall

HOPS = ("hop1", "hop2")


def compared(source: Source | None = None) -> pd.DataFrame:
    """Recall of each hop's edits in the merge of two adapters, measured, beside the law of section 6d.

    Columns metric, facts, rank, lam, predicted, measured, low, high, error (predicted - measured).
    Raises: ValueError if the run is missing.
    """
    source = source or Source(committed() / "experiments")
    rows = source.summary("rank")
    config = json.loads((source.runs / "rank" / "manifest.json").read_text())["config"]
    facts = int(config["parts"][0]["world"]["edits"])
    rows = rows[rows["label"].str.match(r"rank\d+$") & (rows["library"] == "parts")]
    rows = rows[rows["metric"].isin(HOPS) & rows["method"].str.startswith("lambda=")]
    table = rows.drop_duplicates(["label", "method", "metric"])[
        ["metric", "rank", "lam", "measured", "low", "high"]
    ].assign(facts=facts)
    table["predicted"] = [
        float(shared_overwrite_recall(facts, int(rank), lam))
        for rank, lam in zip(table["rank"], table["lam"], strict=True)
    ]
    table["error"] = table["predicted"] - table["measured"]
    return table.sort_values(["metric", "lam", "rank"], ignore_index=True)


def domains(table: pd.DataFrame) -> pd.DataFrame:
    """The law's error by domain: rank and lambda beside the law's own thresholds, F and 1/2.

    Columns rows, error (mean of |law - measured|), excess (the most that the law promises beyond what was
    measured).
    """
    enough, strong = table["rank"] >= table["facts"], table["lam"] > 0.5
    names = np.where(
        enough,
        np.where(strong, "rank from F on, lambda above 1/2", "rank from F on, lambda up to 1/2"),
        np.where(table["lam"] < 0.5, "rank below F, lambda below 1/2", "rank below F, lambda from 1/2 on"),
    )
    groups = table.assign(size=table["error"].abs()).groupby(names)
    columns = {"rows": ("error", "size"), "error": ("size", "mean"), "excess": ("error", "max")}
    return groups.agg(**columns).sort_values("error")


@dataclass(frozen=True)
class Seen:
    """What the miniature needed at the measured lambda nearest to the one in question.

    rank: the smallest at which both hops reach the recall; low, high: the smallest at which the upper and the
    lower ends of their intervals do; None where the largest measured rank does not. error, bias: mean of
    |law - measured| and of law - measured over ranks from 1 to that of the facts, at this lambda. excess: the
    largest law - measured of all rows.
    """

    facts: int
    lam: float
    rank: int | None
    low: int | None
    high: int | None
    error: float
    bias: float
    excess: float


def seen(lam: float, recall: float, table: pd.DataFrame) -> Seen:
    """``Seen`` of ``compared``."""
    nearest = min(table["lam"].unique(), key=lambda value: (abs(value - lam), value))
    rows = table[table["lam"] == nearest]
    worst = rows.groupby("rank")[["measured", "low", "high"]].min()
    needs = [
        next((int(rank) for rank, value in worst[column].items() if value >= recall), None)
        for column in ("measured", "high", "low")
    ]
    facts = int(rows["facts"].iloc[0])
    errors = rows.loc[rows["rank"] <= facts, "error"]
    return Seen(
        facts,
        float(nearest),
        *needs,
        float(errors.abs().mean()),
        float(errors.mean()),
        float(table["error"].max()),
    )


@dataclass(frozen=True)
class Compare:
    """The law of overwriting beside the recall that the miniature measured, over ranks and lambdas.

    Examples:
    * python -m sim.plan.miniature
    * python -m sim.plan.miniature > miniature.txt
    """


def main(command: Compare) -> None:
    """Print the table and how far the law is off."""
    table = compared()
    wide = table.pivot_table(index="rank", columns="lam", values=["measured", "predicted"])
    print(wide.round(2).to_string())
    print(f"\nmean |law - measured|: {table['error'].abs().mean():.2f} of {len(table)} rows; by domain:\n")
    print(domains(table).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    run_command(Compare, main, "sim.plan.miniature")
