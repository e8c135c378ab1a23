"""The table of a run: ``measured [interval] | predicted``, one block a setting, one line a model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.lab import report
from sim.merge import METHODS

PREDICTORS = ("law", "chance", "disentangled")
"""Whose prediction stands in the table, the first there is: a law's, a guess's, that of single adapters."""

QUESTIONS = ("direct", "cot_answer", "cot_exact")
"""What needs every part; the one-hop questions, named like the adapters that know them, come after these."""

MODEL = ["world", "label", "adapter", "library", "method", "lam"]


def measurements(summary: pd.DataFrame, predictors: Sequence[str] = PREDICTORS) -> pd.DataFrame:
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


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """Cells of text, indexed by (world, label, model); a column a metric, and the number of seeds.

    Models that are the same update (same library and coefficient of every part) share a line, "sum = concat".
    Closed-form adapters and those of the last matrix alone are left to summary.csv.
    """
    rows = measurements(summary)
    rows = rows[rows["adapter"].isin(("", "lora"))]
    shown = [rows[(rows["world"] == world) & rows["metric"].isin(metrics(rows[rows["world"] == world]))]
             for world in dict.fromkeys(rows["world"])]  # fmt: skip
    rows = pd.concat(shown)
    names = _names(rows)
    rows = rows.assign(
        model=[names[key] for key in rows[MODEL].fillna(-1).itertuples(index=False, name=None)]
    )
    rows = rows.drop_duplicates(["world", "label", "model", "metric"])
    rows["cell"] = [report.cell(*four) for four in rows[["measured", "low", "high", "predicted"]].to_numpy()]
    place = ["world", "label", "model"]
    wide = rows.pivot(index=place, columns="metric", values="cell")
    wide = wide.loc[list(dict.fromkeys(rows[place].itertuples(index=False, name=None)))].fillna("")
    wide = wide[metrics(rows)]
    wide.insert(0, "seeds", rows.groupby(place)["seeds"].max())
    return wide.rename_axis(columns=None)


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


def printed(cells: pd.DataFrame) -> str:
    """The table as text: a block a setting, under its label and number of seeds."""
    blocks = []
    for (_, label), block in cells.groupby(["world", "label"], sort=False):
        block = block.droplevel(["world", "label"]).rename_axis(None)
        seeds = f"{label}, {block.pop('seeds').max()} seeds"
        block = block.loc[:, (block != "").any()]
        left = {name: f"{{:<{max(len(name), *block[name].str.len())}}}".format for name in block}
        text = block.to_string(formatters=left, justify="left")
        blocks.append(f"{seeds}\n{text}")
    key = "measured [95% interval] | predicted: a law's, else a guess's, else that of single adapters"
    return "\n\n".join([*blocks, key])


def inside(rows: pd.DataFrame) -> np.ndarray:
    """Whether each prediction lies in the 95% interval of its measurement, up to rounding."""
    slack = 1e-12
    return (
        (rows["low"] - slack <= rows["predicted"]) & (rows["predicted"] <= rows["high"] + slack)
    ).to_numpy()
