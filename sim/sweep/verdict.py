"""The verdict of a run, three lines: did the predictions hold, at once, and step by step."""

from collections.abc import Sequence

import pandas as pd

from sim.sweep.table import PREDICTORS, inside, measurements

AT_ONCE = "direct_given_among_answers"
BY_STEPS = "cot_answer"


def verdict(summary: pd.DataFrame) -> list[str]:
    """Three lines, each from intervals only; a line says so if the run has nothing on it."""
    rows = summary[summary["adapter"].isin(("", "lora"))]
    return [_predicted(rows), _at_once(rows), _by_steps(rows)]


def _predicted(summary: pd.DataFrame) -> str:
    clauses = []
    for name in PREDICTORS:
        rows = summary[summary["predictor"].eq(name) & summary["predicted"].notna()]
        rows = rows[~rows["metric"].str.contains("loss")]
        if len(rows):
            clauses.append(
                f"{name} in {inside(rows).sum()} of {len(rows)} intervals, off by {rows['error'].mean():.3f}"
            )
    return "Predicted: " + ("; ".join(clauses) + " in the mean" if clauses else "nothing in this run") + "."


def _merged(summary: pd.DataFrame, metric: str, predictors: Sequence[str] = PREDICTORS) -> pd.DataFrame:
    """Merges and routers that see no data: no single adapter, no oracle."""
    rows = measurements(summary, predictors)
    return rows[
        rows["metric"].eq(metric) & ~rows["library"].isin(("", "single")) & rows["method"].ne("oracle")
    ]


def _at_once(summary: pd.DataFrame) -> str:
    rows = _merged(summary, AT_ONCE, ("bound", "chance"))
    if rows.empty:
        law = measurements(summary)
        law = law[law["metric"].eq("direct") & law["predicted"].notna()]
        if law.empty:
            return "At once: not asked in this run."
        most = law.loc[law["measured"].idxmax()]
        return f"At once: {_number(most)} at most ({most['method']}), predicted {most['predicted']:.3f}."
    above, most = rows[rows["low"] > rows["predicted"]], rows.loc[rows["measured"].idxmax()]
    of_guess = _merged(summary, AT_ONCE, ("chance",))
    guess = of_guess.loc[of_guess["world"].eq(most["world"]), "predicted"].iloc[0]
    return (
        f"At once: {len(above) or 'none'} of {len(rows)} cells (setting and merge) beat who lacks a hop (by "
        f"luck at most {0.025 * len(rows):.1f} would); among edited answers the best is right in "
        f"{_number(most)} ({most['method']}, {most['label']}), who lacks a hop in {most['predicted']:.3f} at "
        f"most, a guess in {guess:.3f}."
    )


def _by_steps(summary: pd.DataFrame) -> str:
    clauses = [_of_world(group) for _, group in summary.groupby("world", sort=False)]
    return "Step by step: " + ("; ".join(filter(None, clauses)) or "not asked in this run") + "."


def _of_world(summary: pd.DataFrame) -> str:
    """The best merge of the best and of the worst setting, and the adapter that was taught everything."""
    rows, every = _merged(summary, BY_STEPS), measurements(summary)
    if rows.empty:
        return ""
    best = rows.loc[rows.groupby("label", sort=False)["measured"].idxmax()]
    joint = every[every["metric"].eq(BY_STEPS) & every["method"].eq("joint")].set_index("label")

    def clause(row) -> str:
        ceiling = f", joint {_number(joint.loc[row['label']])}" if row["label"] in joint.index else ""
        return f"{row['label']}: {row['method']} {_number(row)}{ceiling}"

    top, bottom = best.loc[best["measured"].idxmax()], best.loc[best["measured"].idxmin()]
    if len(best) == 1:
        return clause(top)
    return f"best {clause(top)}; worst {clause(bottom)}"


def _number(row) -> str:
    return f"{row['measured']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
