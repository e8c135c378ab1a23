"""One adapter on its base in words: what it adds, what it takes away, what folding it in bfloat16 changes."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.hf.prompts import UNTOUCHED
from sim.lab import intervals
from sim.merge.peft.rounding import share
from sim.predict.tables import Results, accuracy_cells


@dataclass(frozen=True)
class Fold:
    """The base with the adapter folded in: lead (P,) of each prompt's answer, and what rounding loses.

    losses: {module: share of its update}.
    """

    lead: np.ndarray
    losses: Mapping[str, float]


def verdict_of_one(results: Results, fold: Fold | None) -> list[str]:
    """What the adapter adds, the base loses, folding changes; the best strength, the next command."""
    strength = results.weights.max()
    adapter, base = (results.run_of(np.array([lam])) for lam in (strength, 0.0))
    lead = results.outcomes.lead
    lines = [
        f"The adapter at {strength:.3g}: {_spelled(results, lead[adapter])}; base: "
        f"{_spelled(results, lead[base])}",
        f"The base's own abilities: {_lost(results, lead[base] > 0, lead[adapter] > 0)}",
    ]
    if fold is not None:
        lines.append(f"Folded into the base in bfloat16: {_folded(results, fold, lead)}")
    return [*lines, _best(results), _next(results)]


def table_of_one(results: Results, fold: Fold | None) -> pd.DataFrame:
    """One row a group, one column a strength and one for the folded base: accuracy [95%]."""
    order = np.argsort(results.weights[:, 0])
    leads = {f"at {results.weights[run, 0]:.3g}": results.outcomes.lead[run] for run in order}
    leads = {"base" if name == "at 0" else name: lead for name, lead in leads.items()}
    leads |= {"folded": fold.lead} if fold is not None else {}
    cells = {name: accuracy_cells(results, lead) for name, lead in leads.items()}
    return pd.DataFrame(cells, index=pd.Index(results.groups, name="group"))


def _spelled(results: Results, lead: np.ndarray) -> str:
    pairs = zip(results.groups, accuracy_cells(results, lead), strict=True)
    return ", ".join(f"{name} {cell}" for name, cell in pairs)


def _lost(results: Results, before: np.ndarray, after: np.ndarray) -> str:
    """Of the prompts that the base answers, how many the adapter loses, group by group."""
    texts = []
    for group in results.groups:
        own = (results.of == group) & before
        if own.any():
            lost, low, high = intervals.proportion(np.sum(own & ~after), own.sum())
            texts.append(
                f"of {own.sum()} prompts of {group} that the base answers {np.sum(own & ~after)} are lost "
                f"({lost:.0%} [{low:.0%}, {high:.0%}])"
            )
    if UNTOUCHED not in results.groups:
        texts.append(f"add prompts of group {UNTOUCHED!r}, which the adapter was not taught, to see more")
    return "; ".join(texts) or "the base answers none of the prompts"


def _folded(results: Results, fold: Fold, lead: np.ndarray) -> str:
    run = results.run_of(np.ones(1))
    values = np.array([*fold.losses.values()] or [0.0])
    worst = max(fold.losses, key=fold.losses.__getitem__, default="no module")
    text = (
        f"{_spelled(results, fold.lead)}; rounding loses {share(float(np.median(values)))} of a module's "
        f"update (median), at most {share(float(values.max()))} ({worst})"
    )
    if run is None:
        return text
    changes = int(np.sum((fold.lead > 0) != (lead[run] > 0)))
    remedy = "; fold in float32, or leave it unfolded" if changes else ""
    return f"{text}; {changes} of {len(fold.lead)} answers turn right or wrong by it{remedy}"


def _best(results: Results) -> str:
    lam = float(results.candidates[results.best][0])
    score = float(results.score(results.measured()[results.run_of([lam])]))
    protection = f", protecting {', '.join(results.objective.protect)}" if results.objective.protect else ""
    what = "leave the adapter away" if lam == 0 else f"strength {lam:.3g}"
    return f"Recommendation: {what}: score {score:.2f} ({results.objective.aim}{protection}), measured"


def _next(results: Results) -> str:
    lam = float(results.candidates[results.best][0])
    folder = shlex.quote(results.adapters[0])
    if lam in (0.0, 1.0):
        return f"Next: python -m sim.merge {folder} --check MERGED --base BASE, if you have folded it"
    return f"Next: python -m sim.merge {folder} --method sum --weight {lam:.6g} --out merged"
