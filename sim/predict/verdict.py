"""The prediction in words: the merge, what it loses, how certain that is; and the table beside it."""

import numpy as np
import pandas as pd

from sim.hf.prompts import UNTOUCHED
from sim.lab import intervals
from sim.predict.tables import MEASURED, Best, Results, best, best_of, scores, share
from sim.predict.weights import common, singles

HALF = 0.5
"""Predictions beyond this lambda are counted apart: they overrate edits (theory, section 12)."""

FLOOR, CEILING = 0.05, 0.95
"""A cell is undecided where its measured accuracy lies between these."""


def verdict(results: Results) -> list[str]:
    """Three lines: the best merge, what is lost by it, what makes it certain."""
    choice = best(results)
    return [_best(results, choice), _lost(results, choice), _certain(results)]


def table(results: Results) -> pd.DataFrame:
    """One row a group, one column a common strength: predicted accuracy [interval] | the outcome."""
    columns = {}
    for place in common(results.weights):
        cells = []
        for group in results.groups:
            text = _cell(results, results.trusted, group, place)
            if MEASURED in results.answers:
                text += f" | {_accuracy(results, MEASURED, group, place)[0]:.2f}"
            cells.append(text)
        columns[f"lambda {results.weights[place][0]:.3g}"] = cells
    return pd.DataFrame(columns, index=pd.Index(results.groups, name="group"))


def errors(results: Results) -> pd.DataFrame:
    """Mean |predicted - measured accuracy| of merges of two or more, over groups: at lambda up to 1/2 and
    beyond (the largest coefficient counts), of all cells and of undecided ones. Empty without outcomes."""
    if MEASURED not in results.answers:
        return pd.DataFrame()
    rows, exact = [], set(singles(results.weights))
    for predictor in results.answers:
        if predictor == MEASURED:
            continue
        for group in results.groups:
            at = results.of(group)
            say, outcome = (results.answers[name].right[at].mean(0) for name in (predictor, MEASURED))
            rows += [
                (predictor, max(one) <= HALF, FLOOR < outcome[place] < CEILING, abs(say - outcome)[place])
                for place, one in enumerate(results.weights)
                if place not in exact
            ]
    cells = pd.DataFrame(rows, columns=["predictor", "up_to_half", "undecided", "error"])
    scopes = pd.concat([cells.assign(scope="all"), cells[cells["undecided"]].assign(scope="undecided")])
    summary = scopes.groupby(["predictor", "up_to_half", "scope"])["error"].agg(["mean", "count"])
    return summary.reset_index()


def _accuracy(results: Results, predictor: str, group: str, place: int) -> tuple[float, float, float]:
    interval = share(results.answers[predictor].right[results.of(group)][:, [place]].astype(float))
    return tuple(float(value[0]) for value in interval)


def _cell(results: Results, predictor: str, group: str, place: int) -> str:
    mean, low, high = _accuracy(results, predictor, group, place)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _best(results: Results, choice: Best) -> str:
    place, score = choice.place, scores(results, results.answers[results.trusted].right.astype(float))
    edited = [group for group in results.groups if group != UNTOUCHED]
    first = best_of(results, singles(results.weights))
    if score[first] >= score[place]:
        own = np.argmax(results.weights[first]) + 1
        what = (
            f"adapter {own} alone, at {max(results.weights[first]):.3g},"
            if any(results.weights[first])
            else "the base"
        )
        accuracies = ", ".join(f"{group} {_cell(results, results.trusted, group, first)}" for group in edited)
        return f"Recommendation: do not merge: {what} does as well as any sum; accuracy {accuracies}"
    accuracies = ", ".join(f"{group} {_cell(results, results.trusted, group, place)}" for group in edited)
    weights = " ".join(f"{lam:.3g}" for lam in results.weights[place])
    lam = results.weights[choice.lam_place][0]
    return (
        f"Recommendation: merge by sum, --weight {weights}; predicted accuracy {accuracies}; best common "
        f"lambda {lam:.3g}, {choice.lam_low:.3g} to {choice.lam_high:.3g} over resamples of the prompts"
    )


def _lost(results: Results, choice: Best) -> str:
    """Of the edits that an adapter alone answers at the largest strength, how many the best merge, the
    average and the sum lose; and the damage."""
    right, count, edited = results.answers[results.trusted].right, len(results.adapters), _edited(results)
    full = [at for at in singles(results.weights) if max(results.weights[at]) == np.max(results.weights)]
    own = right[:, full].any(axis=1) & ~right[:, 0] & edited
    places = {"the best merge": choice.place}
    for name, lam in ((f"the average (1/{count})", 1 / count), ("the sum (1)", 1.0)):
        for at in common(results.weights):
            if np.isclose(results.weights[at][0], lam):
                places[name] = at
    losses = ", ".join(
        f"{1 - right[own][:, at].mean():.0%} by {name}" for name, at in places.items() if own.any()
    )
    edits = (
        f"of {own.sum()} edits that one adapter alone answers, {losses}"
        if losses
        else "no adapter answers an edit"
    )
    if UNTOUCHED not in results.groups:
        return f"Lost: {edits}; damage unknown: no prompts of group {UNTOUCHED!r}"
    untouched = right[results.of(UNTOUCHED)].astype(float)
    damage, low, high = intervals.bootstrap(untouched[:, 0] - untouched[:, choice.place])
    return f"Lost: {edits}; damage to {UNTOUCHED} {damage:.2f} [{low:.2f}, {high:.2f}] by the best merge"


def _edited(results: Results) -> np.ndarray:
    return np.array([prompt.group != UNTOUCHED for prompt in results.prompts])


def _certain(results: Results) -> str:
    error_table = errors(results)
    if not len(error_table):
        return (
            "Certain with: --check, which runs the merges; what adapters do to each other is left out, and "
            f"beyond lambda = {HALF} edits tend to be overrated (theory, section 12)"
        )
    mine = error_table[error_table["predictor"] == results.trusted]
    parts = [
        f"{row['mean']:.3f} over {row['count']} {'' if row['scope'] == 'all' else row['scope'] + ' '}cells "
        f"{'up to' if row['up_to_half'] else 'beyond'} lambda = {HALF}"
        for _, row in mine.sort_values(["up_to_half", "scope"], ascending=[False, True]).iterrows()
    ]
    return f"Checked: mean |predicted - measured accuracy| {'; '.join(parts)}"
