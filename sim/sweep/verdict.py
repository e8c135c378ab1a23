"""The verdict of a run, three lines: did the predictions hold, at once, and step by step."""

from dataclasses import fields

import pandas as pd

from sim.experiments.common.cells import pooled
from sim.experiments.common.claim import METHODS, NOTHING
from sim.lab import report
from sim.sweep.table import agreement, measurements
from sim.worlds import WORLDS

AT_ONCE = "direct_given_among_answers"
BY_STEPS = "cot_answer"


def verdict(summary: pd.DataFrame, guesses: pd.DataFrame) -> list[str]:
    """Three lines, each from intervals only; a line says so if the run has nothing on it.

    guesses: answers among the possible ones, as ``sim.sweep.run.guesses`` counts them.
    """
    rows = summary[summary["adapter"].isin(("", "lora"))]
    return [_predicted(summary), _at_once(rows, guesses), _by_steps(rows)]


def _predicted(summary: pd.DataFrame) -> str:
    counts = agreement(summary)
    if not counts:
        return "Predicted: nothing in this run."
    parts = ", ".join(f"{kind} in {count} of {rows}" for kind, (count, rows) in counts.items())
    return f"Predicted: {parts} intervals; 95% hold a prediction that is exact."


def _reused(rows: pd.DataFrame) -> pd.DataFrame:
    """The merges of the parts that stand for reuse, ``METHODS``, which are fixed beforehand: not the best."""
    merges = rows[rows["library"].eq("parts") & rows["method"].ne("oracle")]
    chosen = merges[merges["method"].isin(METHODS)]
    return chosen if len(chosen) else merges


def _at_once(summary: pd.DataFrame, guesses: pd.DataFrame) -> str:
    """A sentence a world, on the answers of all settings together."""
    rows = guesses[guesses["metric"].eq(AT_ONCE) & guesses["adapter"].isin(("", "lora"))]
    rows = _reused(rows[rows["asked"] > 0])
    if rows.empty:
        law = measurements(summary)
        law = law[law["metric"].eq("direct") & law["predicted"].notna()]
        if law.empty:
            return "At once: not asked in this run."
        most = law.loc[law["measured"].idxmax()]
        return f"At once: {_number(most)} at most ({most['method']}), predicted {most['predicted']:.3f}."
    worlds = rows.groupby("world", sort=False)
    sentences = [_of_answers(group, name if worlds.ngroups > 1 else "") for name, group in worlds]
    return f"At once: {'; '.join(sentences)}."


def _of_answers(rows: pd.DataFrame, world: str) -> str:
    """Whether merges compose: their answers, pooled, against ``NOTHING`` above who lacks a step."""
    reading, guess = pooled(rows), (rows["predicted"] * rows["asked"]).sum() / rows["asked"].sum()
    if reading.high < reading.predicted + NOTHING:
        finding = "no merge composes"
    else:
        finding = "merges compose" if reading.low > reading.predicted else "it is open whether merges compose"
    values = {"measured": reading.measured, "low": reading.low, "high": reading.high}
    most = f", who lacks a step in {reading.predicted:.4f} at most" if reading.predicted > guess else ""
    methods, prefix = ", ".join(dict.fromkeys(rows["method"])), f"{world}: " if world else ""
    return (
        f"{prefix}{finding}: {_number(values)} of {rows['asked'].sum()} answers among the taught ones are "
        f"right ({methods}), a guess in {guess:.4f}{most}"
    )


def _by_steps(summary: pd.DataFrame) -> str:
    rows = measurements(summary)
    rows = rows[rows["metric"].eq(BY_STEPS)]
    sentences = [_of_world(group) for _, group in rows.groupby(["world", "rank"], sort=False)]
    return "Step by step: " + ("; ".join(filter(None, sentences)) or "not asked in this run") + "."


def _of_world(rows: pd.DataFrame) -> str:
    """The sum (or what there is) and the joint adapter, in the setting where that one does best, and what
    differs in settings where the sum does worse."""
    reuse = _reused(rows)
    if reuse.empty:
        return ""
    method = min(reuse["method"], key=lambda name: METHODS.index(name) if name in METHODS else len(METHODS))
    merge = reuse[reuse["method"] == method].set_index("label")
    joint = rows[rows["library"].eq("single") & rows["method"].eq("joint")].set_index("label")
    label = (merge if joint.empty else joint)["measured"].idxmax()
    best = merge.loc[label]
    ceiling = "" if joint.empty else f" where the joint adapter has {_number(joint.loc[label])}"
    needs: dict[str, list[str]] = {}
    names = [field.name for field in fields(WORLDS[best["world"]].setting) if field.name in merge]
    for _, other in merge.iterrows():
        changed = [name for name in names if other[name] != best[name]]
        if len(changed) == 1 and other["high"] < best["low"]:
            (name,) = changed
            needs.setdefault(f"{name} {best[name]}", []).append(f"{other[name]}: {_number(other)}")
    each = [f"{what} ({', '.join(others)})" for what, others in needs.items()]
    needed = f"; that needs {' and '.join(each)}" if each else ""
    return f"{method} has {_number(best)}{ceiling} ({label}){needed}"


def _number(row) -> str:
    return report.cell(row["measured"], row["low"], row["high"])
