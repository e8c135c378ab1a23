"""The table of a run, a block a setting: measurements with intervals, and predictions in other columns."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sim.lab import report
from sim.merge import METHODS

PREDICTORS = {"law": "law", "chance": "guess", "disentangled": "parts"}
"""Whose prediction stands in the table, the first there is, and its column."""

MEANING = {
    "law": "a theorem's value for these weights and facts",
    "guess": "one of the possible answers at random, which is all that is reached without composing",
    "parts": "what base and single adapters predict of the merge, prompt by prompt; a model, no theorem",
}
"""Of the columns, in one line each."""

QUESTIONS = ("direct", "cot_answer", "cot_exact")
"""What needs every part; the one-hop questions, named like the adapters that know them, come after these."""

PLACE = ["world", "label", "model"]
MODEL = ["world", "label", "adapter", "library", "method", "lam"]


def measurements(summary: pd.DataFrame, predictors: Mapping[str, str] | tuple = PREDICTORS) -> pd.DataFrame:
    """One row a model and metric, with the prediction of the first of the predictors that has one."""
    keys = [key for key in (*MODEL, "facts", "template", "metric") if key in summary.columns]
    place = {name: index for index, name in enumerate(predictors)}
    rank = summary["predictor"].map(place).fillna(len(place))
    rows = summary.assign(predicted=summary["predicted"].where(rank < len(place)))
    return rows.loc[rank.sort_values(kind="stable").index].drop_duplicates(keys).sort_index()


def metrics(rows: pd.DataFrame) -> list[str]:
    """Which metrics of a world are shown: ``QUESTIONS`` and the one-hop questions."""
    taught = rows.loc[rows["metric"].eq(rows["method"]) | rows["metric"].isin(("hop1", "hop2")), "metric"]
    return [name for name in dict.fromkeys([*QUESTIONS, *taught]) if name in set(rows["metric"])]


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table: one a setting, model and metric, with the column ``kind`` of its prediction.

    Models that are the same update (same library and coefficient of every part) share a name, "sum = concat".
    Closed-form adapters and those of the last matrix alone are left to summary.csv.
    """
    rows = measurements(summary)
    rows = rows[rows["adapter"].isin(("", "lora"))]
    by_world = [rows[rows["world"] == world] for world in dict.fromkeys(rows["world"])]
    rows = pd.concat([group[group["metric"].isin(metrics(group))] for group in by_world])
    names = _names(rows)
    rows = rows.assign(
        model=[names[key] for key in rows[MODEL].fillna(-1).itertuples(index=False, name=None)],
        kind=rows["predictor"].map(PREDICTORS).where(rows["predicted"].notna()),
    )
    return rows.drop_duplicates([*PLACE, "metric"])


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """Cells of text, indexed by (world, label, model); columns (metric, "measured" or kind of prediction),
    and the number of seeds."""
    rows = shown(summary)
    cells = [report.cell(*three) for three in rows[["measured", "low", "high"]].to_numpy()]
    predicted = rows.dropna(subset="kind")
    numbers = predicted["predicted"].map("{:.2f}".format)
    long = pd.concat([rows.assign(kind="measured", cell=cells), predicted.assign(cell=numbers)])
    wide = long.pivot(index=PLACE, columns=["metric", "kind"], values="cell")
    order = [(metric, kind) for metric in metrics(rows) for kind in ("measured", *MEANING)]
    wide = wide[[column for column in order if column in wide.columns]]
    wide = wide.loc[list(dict.fromkeys(rows[PLACE].itertuples(index=False, name=None)))].fillna("")
    wide.insert(0, ("seeds", ""), rows.groupby(PLACE)["seeds"].max())
    return wide.rename_axis(columns=[None, None])


def _names(rows: pd.DataFrame) -> dict[tuple, str]:
    """What each model is called: all methods of its library and common coefficient, in order of appearance.

    The library is named unless it is the parts or a single adapter.
    """
    models, names, order = {}, {}, list(METHODS)
    for key in dict.fromkeys(rows[MODEL].fillna(-1).itertuples(index=False, name=None)):
        *place, method, lam = key
        merged = (method in order or method.startswith("lambda=")) and lam >= 0
        models.setdefault((*place, lam) if merged else key, []).append(key)
    for keys in models.values():
        methods = sorted(
            {key[4] for key in keys},
            key=lambda name: (order.index(name) if name in order else len(order), name),
        )
        library = keys[0][3]
        prefix = "" if library in ("", "parts", "single") else f"{library}: "
        names |= dict.fromkeys(keys, prefix + " = ".join(methods))
    return names


def printed(summary: pd.DataFrame) -> str:
    """The table as text: a block a setting, under its label and number of seeds, and what its columns are."""
    blocks = []
    for (_, label), block in table(summary).groupby(["world", "label"], sort=False):
        block = block.droplevel(["world", "label"]).rename_axis(None)
        seeds = f"{label}, {block.pop(('seeds', '')).max()} seeds"
        block = block.loc[:, (block != "").any()]
        left = [f"{{:<{max(len(name), *block[metric, name].str.len())}}}".format for metric, name in block]
        text = block.to_string(formatters=left, justify="left", sparsify=True)
        blocks.append(f"{seeds}\n{text}")
    return "\n\n".join([*blocks, "\n".join(explained(summary))])


def explained(summary: pd.DataFrame) -> list[str]:
    """A line a column: its meaning, and how often it lies in the interval of the measurement beside it."""
    lines = ["measured: share of right answers [95% interval over seeds]"]
    for kind, (count, rows) in agreement(summary).items():
        expected = {"law": "95% should", "guess": "95% should where nothing is composed"}
        share = f"in {count} of {rows} intervals" + (f"; {expected[kind]}" if kind in expected else "")
        lines.append(f"{kind}: {MEANING[kind]} ({share})")
    return lines


def agreement(summary: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """{kind of prediction: (how many of the table's lie in the interval beside them, how many there are)}."""
    rows = shown(summary)
    by_kind = {kind: rows[rows["kind"] == kind] for kind in MEANING}
    return {kind: (int(inside(group).sum()), len(group)) for kind, group in by_kind.items() if len(group)}


def inside(rows: pd.DataFrame) -> np.ndarray:
    """Whether each prediction lies in the 95% interval of its measurement, up to rounding."""
    slack = 1e-12
    return (
        (rows["low"] - slack <= rows["predicted"]) & (rows["predicted"] <= rows["high"] + slack)
    ).to_numpy()
