"""Predicted beside measured: every merge of a library from a few of its runs, and the search for the best."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy.stats

from sim.experiments.merge_forecast.claims import SHARE
from sim.experiments.merge_forecast.measuring import merges
from sim.forecast import design
from sim.forecast.accuracy import Cells, accuracies, forecast, shares
from sim.forecast.kriging import COVARIANCES
from sim.forecast.outcomes import Outcomes
from sim.forecast.search import MEAN, WORST, Objective, search
from theory.pairwise import METRICS


def start(adapters: int) -> list[int]:
    """Places of the base and of single adapters at strength 1 among ``merges``."""
    every = merges(adapters)
    full = (np.count_nonzero(every, axis=1) == 1) & (every.max(axis=1) == 1)
    return [0, *np.flatnonzero(full).tolist()]


def first_runs(adapters: int) -> list[int]:
    """Places of the design: the base and K + K (K - 1) / 2 + 8 merges, single adapters among them."""
    return design.spread(merges(adapters), start(adapters), design.size(adapters) + 1)


def _groups(adapters: int, prompts: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """(the adapter of each prompt, the adapters), as text."""
    return np.repeat(np.arange(adapters), prompts // adapters).astype(str), tuple(map(str, range(adapters)))


def predicted(
    names: Mapping[str, object], outcomes: Outcomes, sums: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """One row a merge and adapter in it: measured accuracy on the adapter's facts, and what each predictor
    says, from K + K (K - 1) / 2 + 8 runs and the base; ``run``: whether the merge was one of them.

    "forecast" is the one whose covariance the left-out runs chose; low and high its interval.
    """
    count = int(names["adapters"])
    every, places = merges(count), first_runs(count)
    of, groups = _groups(count, outcomes.lead.shape[1])
    truth, runs = shares(outcomes.lead > 0, of, groups), outcomes.take(places)
    model = forecast(every[places], runs, of)
    cells: Cells = accuracies(model, every)
    says = {"forecast": cells.mean, "low": cells.low, "high": cells.high}
    for name in COVARIANCES:
        says[f"kriging: {name}"] = accuracies(forecast(every[places], runs, of, None, [name]), every).mean
    says |= {name: shares(values > 0, of, groups) for name, values in sums.items()}
    says["base"] = np.broadcast_to(truth[:1], truth.shape)
    rows = []
    for place, group in zip(*np.nonzero(every), strict=True):
        bits = "".join(str(int(lam > 0)) for lam in every[place])
        row = {**names, "subset": bits, "strength": every[place].max(), "group": group}
        row |= {"run": place in places, "measured": truth[place, group], "covariance": model.best}
        rows.append(row | {name: values[place, group] for name, values in says.items()})
    return pd.DataFrame(rows)


def searches(names: Mapping[str, object], outcomes: Outcomes) -> pd.DataFrame:
    """One row an objective: score of the best merge of all, of the one that the search returns; its runs."""
    count = int(names["adapters"])
    every, first = merges(count), first_runs(count)
    of, groups = _groups(count, outcomes.lead.shape[1])
    truth, rows = shares(outcomes.lead > 0, of, groups), []
    budget = max(int(SHARE * len(every)), len(start(count)) + 1)
    place_of = {tuple(one): place for place, one in enumerate(every.tolist())}
    for aim in (MEAN, WORST):
        objective = Objective(aim)
        scores = objective.score(truth, groups, truth[0])

        def run(weights):
            return outcomes.take([place_of[tuple(one)] for one in weights.tolist()])

        *_, state = search(run, every, first, of, objective, budget)
        at_once = scores[[len(every) - 1, *start(count)[1:]]]
        row = {"objective": aim, "best": scores.max(), "search": scores[state.best]}
        row |= {"regret": scores.max() - scores[state.best], "runs": len(state.places), "merges": len(every)}
        row |= {"share": len(state.places) / len(every), "open": state.open}
        rows.append({**names, **row, "sum": at_once[0], "best single": at_once[1:].max()})
    return pd.DataFrame(rows)


def fitted_metrics(cells: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """What a ridge regression on the pairwise metrics says of every cell: of the library of each cell it has
    seen nothing, of all others everything. Beside the metrics, means over the pairs of the cell's own adapter
    with every other one in the merge, stand strength, number of adapters, their product and squares."""
    own = ["adapters", "design", "seed"]
    both = pd.concat([pairs, pairs.rename(columns={"left": "right", "right": "left"})])
    tables = {key: part.set_index(["left", "right"])[list(METRICS)] for key, part in both.groupby(own)}
    features = []
    for key, part in cells.groupby(own, sort=False):
        values = np.full((key[0], key[0], len(METRICS)), np.nan)
        for (i, j), row in tables[key].iterrows():
            values[i, j] = row.to_numpy(float)
        for subset, lam, group in zip(part["subset"], part["strength"], part["group"], strict=True):
            others = [j for j, bit in enumerate(subset) if bit == "1" and j != group]
            means = values[group, others].mean(0) if others else np.zeros(len(METRICS))
            size = len(others) + 1
            features.append([*means, size == 1, lam, size, lam * size, lam**2, size**2])
    x = np.nan_to_num(np.array(features, float))
    x = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / (x.std(0) + 1e-12)])
    y, says = cells["measured"].to_numpy(), np.empty(len(cells))
    code = cells.groupby(own, sort=False).ngroup().to_numpy()
    for library in np.unique(code):
        seen = code != library
        inner = x[seen].T @ x[seen] + 1e-2 * seen.sum() * np.eye(x.shape[1])
        says[~seen] = x[~seen] @ np.linalg.solve(inner, x[seen].T @ y[seen])
    return np.clip(says, 0.0, 1.0)


def summary(cells: pd.DataFrame, predictors: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """Mean absolute error over undecided cells (measured .05 to .95) of merges that were not run, by
    predictor; coverage of the intervals over all cells that were not run, and over undecided ones."""
    unrun = cells[~cells["run"] & cells["subset"].str.count("1").gt(1)]
    rows = []
    for key, part in unrun.groupby(list(keys)):
        some = part[part["measured"].between(0.05, 0.95)]
        row = dict(zip(keys, key, strict=True)) | {"cells": len(part), "undecided": len(some)}
        row |= {name: (some[name] - some["measured"]).abs().mean() for name in predictors}
        for name, table in (("coverage", part), ("coverage_undecided", some)):
            inside = table["measured"].between(table["low"] - 1e-9, table["high"] + 1e-9)
            row[name] = inside.mean()
        row["width"] = (some["high"] - some["low"]).mean()
        rows.append(row)
    return pd.DataFrame(rows)


def diagnosed(cells: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """One row a pair, adapter in it, and merge (average or sum): the share of its answers that the merge
    keeps, measured, beside the share of its energy that ``sim.diagnose`` says it keeps."""
    rows = []
    own = ["adapters", "design", "seed"]
    measured = cells.set_index([*own, "subset", "strength", "group"])["measured"]
    for _, pair in pairs.iterrows():
        ends = (int(pair["left"]), int(pair["right"]))
        subset = "".join(str(int(i in ends)) for i in range(int(pair["adapters"])))
        for how, lam in (("average", 0.5), ("sum", 1.0)):
            for side, adapter in enumerate(ends, 1):
                kept_answers = measured.loc[(*(pair[name] for name in own), subset, lam, adapter)]
                row = {name: pair[name] for name in own} | {"left": ends[0], "right": ends[1]}
                row |= {"adapter": adapter, "merge": how, "action": pair["action"]}
                row |= {"answers": kept_answers, "energy": pair[f"kept_{how}_{side}"]}
                rows.append(row | {"interference": pair[f"interference_{side}"], "cosine": pair["cosine"]})
    return pd.DataFrame(rows)


def calibration(table: pd.DataFrame) -> pd.DataFrame:
    """Of average and sum: rank correlation of kept answers with each number of the files, over adapters in
    pairs, with its 95% interval over resamples of pairs; mean answers and mean energy kept."""
    rows = []
    for how, part in table.groupby("merge"):
        pair = part.groupby(["adapters", "design", "seed", "left", "right"]).ngroup().to_numpy()
        places = [np.flatnonzero(pair == one) for one in np.unique(pair)]
        rng = np.random.default_rng(0)
        for number in ("energy", "interference", "cosine"):
            draws = []
            for _ in range(500):
                some = np.concatenate([places[i] for i in rng.integers(0, len(places), len(places))])
                draws.append(
                    _rank_correlation(part["answers"].to_numpy()[some], part[number].to_numpy()[some])
                )
            low, high = np.nanquantile(draws, (0.025, 0.975))
            rho = _rank_correlation(part["answers"].to_numpy(), part[number].to_numpy())
            row = {"merge": how, "number": number, "pairs": len(places), "rho": rho, "low": low, "high": high}
            rows.append(row | {"answers": part["answers"].mean(), "energy": part["energy"].mean()})
    return pd.DataFrame(rows)


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    varies = min(np.ptp(one), np.ptp(other)) > 0
    return float(scipy.stats.spearmanr(one, other).statistic) if varies else float("nan")
