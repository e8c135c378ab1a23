"""Claim 4: what each world of its own measured of claims 1 to 3, by one rule for all of them.

A world has the experiment of its name. ``SHOWN`` says which of its cells are which; numbers and verdicts are
read from its run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sim.figures.evidence import NOT_MEASURED, Runs, apart, holds, number
from sim.lab import intervals
from sim.reuse.config import KNOWN

DIRECT = "direct_given_among_answers"

ENOUGH = 0.7
"""Share of the joint adapter's accuracy that reuse must reach where a template is shared."""

ROOM = 0.05
"""How far above a guess the best of many methods may come where reuse is said to fail."""


@dataclass(frozen=True)
class Shown:
    """Cells of a world's experiment, by label.

    statement: end of the claim, "The same in ...". figure: where it is shown.
    shared:    a template is shared by the adapters and pretraining, and the material is familiar.
    unfamiliar: the template is shared, and pretraining never saw the material.
    unshared:  the material is familiar, and no template is shared.
    metric:    of the answer that is written step by step.
    """

    statement: str
    figure: str
    shared: tuple[str, ...]
    unfamiliar: tuple[str, ...]
    unshared: tuple[str, ...]
    metric: str = "cot_answer"


SHOWN = {
    "math_word": Shown(
        "math word problems",
        "word_problems",
        shared=("real/both/prose", "real/both/equation", "real/both/program"),
        unfamiliar=("fake/both/prose", "fake/both/program"),
        unshared=("real/none/prose", "real/both/prose_program", "real/both/program_prose"),
        metric="cot_solved",
    ),
}
"""By the name of world and experiment."""


def evidence(runs: Runs, world: str) -> tuple[str, str]:
    """(verdict, text) of a world's run.

    It holds if (1) direct answers of data-free merges and routers are right as often as a guess, pooled, and
    no more than 5% of the cells lie above; (2) in every shared cell some data-free method reaches ``ENOUGH``
    of the joint adapter; (3) in every unshared cell the best of them comes to a guess + ``ROOM`` at most;
    (4) every unfamiliar cell's best lies below the lowest of the shared ones, intervals apart. In part: (1)
    and (2).
    """
    if not runs.has(world):
        return NOT_MEASURED, f"`python -m sim.sweep {world}` measures it."
    shown = SHOWN[world]
    cells = _data_free(runs.table(world)).drop_duplicates(["label", "library", "method", "metric"])
    direct = cells[cells["metric"] == DIRECT]
    null = direct["predicted"].iloc[0]
    told = _data_free(runs.table(world, "guesses"))
    by_seed = told[told["metric"] == DIRECT].groupby("seed")[["right", "asked"]].sum()
    pooled = dict(zip(("measured", "low", "high"), intervals.proportion(*by_seed.to_numpy().T), strict=True))
    above = int((direct["low"] > null).sum())

    def best(labels: Sequence[str]) -> dict[str, pd.Series]:
        rows = cells[cells["metric"] == shown.metric]
        found = {label: rows[rows["label"] == label] for label in labels}
        missing = [label for label, part in found.items() if part.empty]
        if missing:
            raise ValueError(f"{world} has no {shown.metric} at {', '.join(missing)}: run it again")
        return {label: part.loc[part["measured"].idxmax()] for label, part in found.items()}

    def joint(label: str):
        return runs.cell(world, label, "joint", shown.metric, "single")

    shared, unfamiliar, unshared = (best(part) for part in (shown.shared, shown.unfamiliar, shown.unshared))
    share = {label: cell["measured"] / joint(label)["measured"] for label, cell in shared.items()}
    lowest = min(shared.values(), key=lambda cell: cell["low"])
    guessed = pooled["low"] <= null <= pooled["high"] and above <= 0.05 * len(direct)
    works = min(share.values()) >= ENOUGH
    fails = all(cell["measured"] <= null + ROOM for cell in unshared.values())
    worse = all(apart(cell, lowest) for cell in unfamiliar.values())

    def told_of(found: dict[str, pd.Series]) -> str:
        return "; ".join(f"{label} {number(cell)} ({cell['method']})" for label, cell in found.items())

    def with_joint(found: dict[str, pd.Series]) -> str:
        return "; ".join(
            f"{label} {number(cell)} ({cell['method']}; joint {number(joint(label))})"
            for label, cell in found.items()
        )

    text = (
        f"Profile {runs.profile(world)}, {_seeds(cells)} seeds. "
        f"(1) Direct answers of merges and routers: right in {number(pooled)} of "
        f"{by_seed['asked'].sum()} cases, a guess in {null:.4f}; {above} of {len(direct)} cells above it. "
        f"(2) Shared template, best data-free method: {with_joint(shared)}; {min(share.values()):.2f} of the "
        f"joint adapter or more. (3) No template shared: {told_of(unshared)}. (4) Never seen: "
        f"{with_joint(unfamiliar)}. Of these, "
        + ", ".join(
            f"({place}) {'holds' if right else 'does not'}"
            for place, right in enumerate((guessed, works, fails, worse), 1)
        )
        + f". Adapters that know less than {KNOWN:.0%} of their facts: {_unlearned(runs.table(world))}."
    )
    return holds(guessed and works and fails and worse, guessed and works), text


def _data_free(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of merges and routers that see no data."""
    return rows[(rows["library"] != "single") & (rows["method"] != "oracle")]


def _seeds(rows: pd.DataFrame) -> str:
    low, high = int(rows["seeds"].min()), int(rows["seeds"].max())
    return f"{high}" if low == high else f"{low} to {high}"


def _unlearned(rows: pd.DataFrame) -> str:
    rows = rows[(rows["metric"] == "own_recall") & (rows["measured"] < KNOWN)]
    return "; ".join(f"{row.label}: {row.method} {row.measured:.2f}" for row in rows.itertuples()) or "none"
