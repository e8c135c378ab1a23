"""The search in words: the best merge as measured, what it loses, how certain that is, the next command."""

import itertools
import shlex
from pathlib import Path

import numpy as np
import pandas as pd

from sim.forecast import kriging
from sim.forecast.accuracy import shares
from sim.forecast.search import MEAN, WORST
from sim.hf.prompts import UNTOUCHED
from sim.lab import intervals, report
from sim.predict.tables import Results, accuracy_cells, score_interval

EXCLUSION = 0.25
"""Share of an adapter's answers that another one takes from it before the pair is named."""


def verdict(results: Results) -> list[str]:
    """The best merge, what is lost by it, how certain that is, and the command that writes it."""
    lines = [_best(results), _lost(results), _certain(results)]
    return [*lines, *_next(results)]


def names(results: Results) -> list[str]:
    """The adapters by their folders' names, or by their paths where these are equal."""
    short = [Path(path).name for path in results.adapters]
    return short if len(set(short)) == len(short) else list(results.adapters)


def describe(results: Results, weights: np.ndarray) -> str:
    """A merge in words."""
    used = np.flatnonzero(weights)
    if not len(used):
        return "the base"
    label = ", ".join(names(results)[i] for i in used)
    return f"{label} at {', '.join(f'{weights[i]:.3g}' for i in used)}"


def _measured_score(results: Results, run: int) -> str:
    cells = results.measured()[run]
    score = float(results.score(cells))
    if score < 0:
        return f"breaks the protection of {', '.join(results.objective.protect)}"
    return report.cell(score, *score_interval(results, cells))


def _aim(results: Results) -> str:
    aim = results.objective.aim
    return {MEAN: "mean accuracy", WORST: "accuracy of the worst group"}.get(aim, f"accuracy of {aim}")


def _best(results: Results) -> str:
    weights = results.candidates[results.best]
    used = np.count_nonzero(weights)
    what = {0: "do not merge: the base, ", 1: "do not merge: "}.get(used, "merge ")
    text = f"Recommendation: {what}{'' if not used else describe(results, weights) + ': '}{_aim(results)} "
    text += f"{_measured_score(results, results.run_of(weights))} measured"
    others = []
    sizes = np.count_nonzero(results.weights, axis=1)
    scores = results.score(results.measured())
    if used != 1 and (sizes == 1).any():
        single = int(np.flatnonzero(sizes == 1)[np.argmax(scores[sizes == 1])])
        one = describe(results, results.weights[single])
        others.append(f"best single adapter ({one}) {_measured_score(results, single)}")
    count = results.candidates.shape[1]
    for label, lam in ((f"all at 1/{count}", 1 / count), ("all at 1", 1.0)):
        run = results.run_of(np.full(count, lam))
        if run is not None and not np.isclose(weights, lam).all():
            others.append(f"{label} {_measured_score(results, run)}")
    others += [f"{method} {_method_score(results, lead)}" for method, lead in results.methods.items()]
    return "; ".join([text, *others])


def _method_score(results: Results, lead: np.ndarray) -> str:
    score = float(results.score(shares(lead[None] > 0, results.of, results.groups)[0]))
    return "breaks the protection" if score < 0 else f"{score:.2f}"


def _lost(results: Results) -> str:
    """Of the edits that an adapter alone answers, how many the best merge loses; the pair that excludes each
    other; the damage."""
    owner, lead = results.owner, results.outcomes.lead
    best = results.run_of(results.candidates[results.best])
    own = owner != kriging.NOBODY
    text = "no adapter alone answers an edit"
    if own.any():
        text = f"of {own.sum()} edits that one adapter alone answers, {1 - (lead[best, own] > 0).mean():.0%}"
        each = [
            f"{name} {1 - (lead[best, owner == i] > 0).mean():.0%}"
            for i, name in enumerate(names(results))
            if (owner == i).any()
        ]
        text += f" ({', '.join(each)})"
    parts = [text, *_exclusions(results)]
    if UNTOUCHED in results.groups:
        some, base = results.of == UNTOUCHED, results.run_of(np.zeros(results.candidates.shape[1]))
        change = (lead[base, some] > 0).astype(float) - (lead[best, some] > 0)
        parts.append(f"damage to {UNTOUCHED} {report.cell(*intervals.bootstrap(change))}")
    else:
        parts.append(f"damage unknown: no prompts of group {UNTOUCHED!r}")
    return f"Lost: {'; '.join(parts)}"


def _exclusions(results: Results) -> list[str]:
    """The pair of which one loses most to the other at half strength, if that is ``EXCLUSION`` or more."""
    owner, count = results.owner, results.candidates.shape[1]
    worst, text = EXCLUSION, []
    for i, j in itertools.permutations(range(count), 2):
        own = owner == i
        if not own.any():
            continue
        weights = 0.5 * (np.eye(count)[i] + np.eye(count)[j])
        run, alone_run = results.run_of(weights), results.run_of(0.5 * np.eye(count)[i])
        if run is None or alone_run is None:
            continue
        before = (results.outcomes.lead[alone_run, own] > 0).mean()
        loss = before - (results.outcomes.lead[run, own] > 0).mean()
        if loss >= worst:
            one, other = names(results)[i], names(results)[j]
            worst = loss
            text = [
                f"{one} and {other} exclude each other: {loss:.2f} of {one}'s answers are lost to {other} at "
                "0.5 each"
            ]
    return text


def _certain(results: Results) -> str:
    total, run = len(results.candidates), len(results.places)
    if run == total:
        return f"Certain: all {total} merges were run"
    model = results.model
    text = (
        f"{run} of {total} merges were run; accuracies of the others are predicted ({model.best}) with a "
        f"mean error of {model.errors[model.best]:.3f} on runs that were left out"
    )
    if not results.open:
        return f"Certain: {text}; no merge that was not run is likely to be better"
    return (
        f"Certain with: --budget {run + results.open}; {text}; {results.open} that were not run may be better"
    )


def _next(results: Results) -> list[str]:
    weights = results.candidates[results.best]
    used = np.flatnonzero(weights)
    if len(used) < 2:
        return []
    folders = shlex.join([results.adapters[i] for i in used])
    lams = " ".join(f"{weights[i]:.6g}" for i in used)
    return [f"Next: python -m sim.merge {folders} --method sum --weight {lams} --out merged"]


def table(results: Results) -> pd.DataFrame:
    """One row a group, one column a merge that was run and that the verdict speaks of: accuracy [95%]."""
    count = results.candidates.shape[1]
    wanted = {"base": np.zeros(count), "best": results.candidates[results.best]}
    top = results.weights.max()
    wanted |= {
        f"{name} at {top:.3g}": top * unit for name, unit in zip(names(results), np.eye(count), strict=True)
    }
    wanted |= {f"all at {lam:.3g}": np.full(count, lam) for lam in (1 / count, 1.0)}
    columns = {}
    for label, weights in wanted.items():
        run = results.run_of(weights)
        if run is not None:
            columns[label] = accuracy_cells(results, results.outcomes.lead[run])
    return pd.DataFrame(columns, index=pd.Index(results.groups, name="group"))
