"""The prediction in words: the merge, what it loses, how certain that is; and the table beside it."""

import numpy as np
import pandas as pd

from sim.hf.prompts import UNTOUCHED
from sim.lab import intervals
from sim.predict.tables import MEASURED, Asked, Best, best, best_of, scores, share
from sim.predict.weights import alone, common

HALF = 0.5
"""Predictions beyond this lambda are counted apart: they overrate edits (theory, section 12)."""

FLOOR, CEILING = 0.05, 0.95
"""A cell is undecided where its measured accuracy lies between these."""


def verdict(asked: Asked) -> list[str]:
    """Three lines: the best merge, what is lost by it, what makes it certain."""
    found = best(asked)
    return [_best(asked, found), _lost(asked, found), _certain(asked)]


def table(asked: Asked) -> pd.DataFrame:
    """One row a group, one column a common strength: predicted accuracy [interval] | the outcome."""
    columns = {}
    for place in common(asked.weights):
        cells = []
        for group in asked.groups:
            text = _cell(asked, asked.trusted, group, place)
            if MEASURED in asked.said:
                text += f" | {_accuracy(asked, MEASURED, group, place)[0]:.2f}"
            cells.append(text)
        columns[f"lambda {asked.weights[place][0]:.3g}"] = cells
    return pd.DataFrame(columns, index=pd.Index(asked.groups, name="group"))


def errors(asked: Asked) -> pd.DataFrame:
    """Mean |predicted - measured accuracy| of merges of two or more, over groups: at lambda up to 1/2 and
    beyond (the largest coefficient counts), of all cells and of undecided ones. Empty without outcomes."""
    if MEASURED not in asked.said:
        return pd.DataFrame()
    rows, exact = [], set(alone(asked.weights))
    for predictor in asked.said:
        if predictor == MEASURED:
            continue
        for group in asked.groups:
            at = asked.of(group)
            say, outcome = (asked.said[name].right[at].mean(0) for name in (predictor, MEASURED))
            rows += [
                (predictor, max(one) <= HALF, FLOOR < outcome[place] < CEILING, abs(say - outcome)[place])
                for place, one in enumerate(asked.weights)
                if place not in exact
            ]
    cells = pd.DataFrame(rows, columns=["predictor", "up_to_half", "undecided", "error"])
    scopes = pd.concat([cells.assign(scope="all"), cells[cells["undecided"]].assign(scope="undecided")])
    found = scopes.groupby(["predictor", "up_to_half", "scope"])["error"].agg(["mean", "count"])
    return found.reset_index()


def _accuracy(asked: Asked, predictor: str, group: str, place: int) -> tuple[float, float, float]:
    found = share(asked.said[predictor].right[asked.of(group)][:, [place]].astype(float))
    return tuple(float(value[0]) for value in found)


def _cell(asked: Asked, predictor: str, group: str, place: int) -> str:
    mean, low, high = _accuracy(asked, predictor, group, place)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _best(asked: Asked, found: Best) -> str:
    place, score = found.place, scores(asked, asked.said[asked.trusted].right.astype(float))
    edited = [group for group in asked.groups if group != UNTOUCHED]
    first = best_of(asked, alone(asked.weights))
    if score[first] >= score[place]:
        own = np.argmax(asked.weights[first]) + 1
        what = (
            f"adapter {own} alone, at {max(asked.weights[first]):.3g},"
            if any(asked.weights[first])
            else "the base"
        )
        said = ", ".join(f"{group} {_cell(asked, asked.trusted, group, first)}" for group in edited)
        return f"Recommendation: do not merge: {what} does as well as any sum; accuracy {said}"
    said = ", ".join(f"{group} {_cell(asked, asked.trusted, group, place)}" for group in edited)
    weights = " ".join(f"{lam:.3g}" for lam in asked.weights[place])
    lam = asked.weights[found.lam_place][0]
    return (
        f"Recommendation: merge by sum, --weight {weights}; predicted accuracy {said}; best common "
        f"lambda {lam:.3g}, {found.lam_low:.3g} to {found.lam_high:.3g} over resamples of the prompts"
    )


def _lost(asked: Asked, choice: Best) -> str:
    """Of the edits that an adapter alone answers at the largest strength, how many the best merge, the
    average and the sum lose; and the damage."""
    right, count, edited = asked.said[asked.trusted].right, len(asked.adapters), _edited(asked)
    full = [at for at in alone(asked.weights) if max(asked.weights[at]) == np.max(asked.weights)]
    own = right[:, full].any(axis=1) & ~right[:, 0] & edited
    places = {"the best merge": choice.place}
    for name, lam in ((f"the average (1/{count})", 1 / count), ("the sum (1)", 1.0)):
        for at in common(asked.weights):
            if np.isclose(asked.weights[at][0], lam):
                places[name] = at
    losses = ", ".join(
        f"{1 - right[own][:, at].mean():.0%} by {name}" for name, at in places.items() if own.any()
    )
    edits = (
        f"of {own.sum()} edits that one adapter alone answers, {losses}"
        if losses
        else "no adapter answers an edit"
    )
    if UNTOUCHED not in asked.groups:
        return f"Lost: {edits}; damage unknown: no prompts of group {UNTOUCHED!r}"
    untouched = right[asked.of(UNTOUCHED)].astype(float)
    damage, low, high = intervals.bootstrap(untouched[:, 0] - untouched[:, choice.place])
    return f"Lost: {edits}; damage to {UNTOUCHED} {damage:.2f} [{low:.2f}, {high:.2f}] by the best merge"


def _edited(asked: Asked) -> np.ndarray:
    return np.array([prompt.group != UNTOUCHED for prompt in asked.prompts])


def _certain(asked: Asked) -> str:
    found = errors(asked)
    if not len(found):
        return (
            "Certain with: --check, which runs the merges; what adapters do to each other is left out, and "
            f"beyond lambda = {HALF} edits tend to be overrated (theory, section 12)"
        )
    mine = found[found["predictor"] == asked.trusted]
    parts = [
        f"{row['mean']:.3f} over {row['count']} {'' if row['scope'] == 'all' else row['scope'] + ' '}cells "
        f"{'up to' if row['up_to_half'] else 'beyond'} lambda = {HALF}"
        for _, row in mine.sort_values(["up_to_half", "scope"], ascending=[False, True]).iterrows()
    ]
    return f"Checked: mean |predicted - measured accuracy| {'; '.join(parts)}"
