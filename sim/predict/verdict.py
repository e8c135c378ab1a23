"""The prediction in words: the merge, what it loses, how certain that is; and the table beside it."""

import numpy as np
import pandas as pd

from sim.hf.prompts import UNTOUCHED
from sim.predict.tables import MEASURED, PREDICTED, Asked, Best, best, interval, scores, share
from sim.predict.weights import alone, common

HALF = 0.5
"""Up to this lambda predictions are held apart from those beyond, which overrate edits (theory, section 12)."""

FLOOR, CEILING = 0.05, 0.95
"""A cell is undecided where its measured accuracy lies between these."""


def verdict(asked: Asked) -> list[str]:
    """Three lines: the best merge, what is lost by it, what makes it certain."""
    found = best(asked)
    return [_best(asked, found), _lost(asked, found), _certain(asked)]


def table(asked: Asked) -> pd.DataFrame:
    """One row a group, one column a common strength: predicted accuracy [interval], and the outcome beside it."""
    columns = {}
    for place in common(asked.weights):
        cells = []
        for group in asked.groups:
            text = _cell(asked, PREDICTED, group, place)
            if MEASURED in asked.said:
                text += f" | {_accuracy(asked, MEASURED, group, place)[0]:.2f}"
            cells.append(text)
        columns[f"lambda {asked.weights[place][0]:.3g}"] = cells
    return pd.DataFrame(columns, index=pd.Index(asked.groups, name="group"))


def errors(asked: Asked) -> pd.DataFrame:
    """Mean |predicted - measured accuracy| of merges of two or more, over groups: at lambda up to 1/2 and
    beyond (the largest coefficient counts), of all cells and of the undecided ones. Empty without outcomes."""
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
    place, score = found.place, scores(asked, asked.said[PREDICTED].right.astype(float))
    single = alone(asked.weights)
    first = max(single, key=lambda at: score[at])
    edits = ", ".join(
        f"{group} {_cell(asked, PREDICTED, group, place)}" for group in asked.groups if group != UNTOUCHED
    )
    if score[first] >= score[place]:
        what = "the base alone" if not any(asked.weights[place]) else f"adapter {np.argmax(asked.weights[place]) + 1} alone"
        return f"Recommendation: do not merge: {what} scores as well as any sum ({edits or 'no group of edits'})"
    weights = " ".join(f"{lam:.3g}" for lam in asked.weights[place])
    lam = asked.weights[found.lam_place][0]
    return (
        f"Recommendation: merge by sum, --weight {weights}: predicted accuracy {edits}; best common lambda "
        f"{lam:.3g}, {found.lam_low:.3g} to {found.lam_high:.3g} over resamples of the prompts"
    )


def _lost(asked: Asked, found: Best) -> str:
    """Of the edits that an adapter alone answers at lambda = 1, how many the best merge, the average and the
    sum still do; and the damage."""
    right, count = asked.said[PREDICTED].right, len(asked.adapters)
    full = [at for at in alone(asked.weights) if max(asked.weights[at]) == 1.0]
    own = right[:, full].any(axis=1) & ~right[:, 0]
    own &= np.array([prompt.group != UNTOUCHED for prompt in asked.prompts])
    places = {"the best merge": found.place}
    for name, lam in ((f"the average (1/{count})", 1 / count), ("the sum (1)", 1.0)):
        places |= {name: at for at in common(asked.weights) if np.isclose(asked.weights[at][0], lam)}
    held = ", ".join(f"{1 - right[own][:, at].mean():.0%} by {name}" for name, at in places.items())
    edits = f"of {own.sum()} edits that one adapter alone answers {held}" if own.any() else "no edit is answered"
    if UNTOUCHED not in asked.groups:
        return f"Lost: {edits}; damage unknown: no prompts of group {UNTOUCHED!r}"
    at = asked.of(UNTOUCHED)
    change = interval(right[at].astype(float)[:, [0]] - right[at].astype(float)[:, [found.place]])
    damage, low, high = (float(value[0]) for value in change)
    return f"Lost: {edits}; damage to {UNTOUCHED} {damage:.2f} [{low:.2f}, {high:.2f}] by the best merge"


def _certain(asked: Asked) -> str:
    found = errors(asked)
    if not len(found):
        return (
            "Certain with: --check, which runs the merges; what the adapters do to each other is left out here, "
            f"and beyond lambda = {HALF} edits tend to be overrated (theory, section 12)"
        )
    mine = found[found["predictor"] == PREDICTED]
    parts = [
        f"{row['mean']:.3f} over {row['count']} {row['scope']} cells {'up to' if row['up_to_half'] else 'beyond'} {HALF}"
        for _, row in mine.sort_values(["up_to_half", "scope"], ascending=[False, True]).iterrows()
    ]
    return f"Checked: mean |predicted - measured accuracy| {'; '.join(parts)}"
