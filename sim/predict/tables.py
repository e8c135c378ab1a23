"""What a search gives, as tables: a row a group and merge, a row a prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from sim.forecast.accuracy import Forecast, accuracies, shares, undecided
from sim.forecast.kriging import owners
from sim.forecast.outcomes import Outcomes
from sim.forecast.search import MEAN, Objective
from sim.hf.prompts import Prompt, groups
from sim.hf.tokens import Question
from sim.lab import intervals, report


@dataclass(frozen=True)
class Results:
    """What is known of C candidate merges of K adapters on P prompts, of which n were run.

    adapters: their folders. places: of the candidates that were run, in the order of the runs. outcomes,
    loglik (n, P): of these. model: the forecast of the others; None if all were run. best: the place of the
    best. open: merges that may yet be better. path: (runs, best so far). methods: leads (P,) of the merges of
    other methods.
    """

    adapters: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    questions: tuple[Question, ...]
    candidates: Float[np.ndarray, "C K"]
    places: tuple[int, ...]
    outcomes: Outcomes
    loglik: Float[np.ndarray, "n P"]
    objective: Objective
    model: Forecast | None
    best: int
    open: int
    path: tuple[tuple[int, list[float]], ...] = ()
    methods: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        """The groups of prompts, ``UNTOUCHED`` last."""
        return groups(self.prompts)

    @property
    def of(self) -> np.ndarray:
        """The group of each prompt."""
        return np.array([prompt.group for prompt in self.prompts])

    @property
    def weights(self) -> Float[np.ndarray, "n K"]:
        """The merges that were run."""
        return self.candidates[list(self.places)]

    @property
    def owner(self) -> np.ndarray:
        """The adapter of each prompt (``kriging.owners``)."""
        return owners(self.weights, self.outcomes.lead)

    def measured(self) -> Float[np.ndarray, "n G"]:
        """Accuracies of the merges that were run."""
        return shares(self.outcomes.lead > 0, self.of, self.groups)

    def run_of(self, weights: Sequence[float]) -> int | None:
        """The number of the run of a merge; None if it was not run."""
        at = np.flatnonzero(np.isclose(self.weights, weights).all(axis=1))
        return int(at[0]) if len(at) else None

    def score(self, accuracy: Float[np.ndarray, "... G"]) -> np.ndarray:
        """Scores under the objective."""
        return self.objective.score(
            accuracy, self.groups, self.measured()[self.run_of(0 * self.candidates[0])]
        )

    def counts(self) -> np.ndarray:
        """Prompts of each group."""
        return np.array([np.sum(self.of == group) for group in self.groups])


def sampled(accuracy: Float[np.ndarray, "m G"], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(low, high): what the number of prompts leaves open, Wilson, 95%."""
    _, low, high = intervals.proportions(
        (accuracy * counts)[..., None], np.broadcast_to(counts, accuracy.shape)[..., None]
    )
    return low, high


def accuracy_cells(results: Results, lead: Float[np.ndarray, " P"]) -> list[str]:
    """The accuracy of each group under a merge with these leads, "0.50 [0.25, 0.75]"."""
    accuracy = shares(lead[None] > 0, results.of, results.groups)
    three = np.stack([accuracy, *sampled(accuracy, results.counts())], axis=-1)
    return [report.cell(*each) for each in three[0]]


def every_accuracy(results: Results) -> dict[str, np.ndarray]:
    """Of all candidates (C, G): accuracy, as measured or predicted; its interval, in which the predictor's
    own joins that of the prompts (root of the sum of squares); whether it was run; whether predictors differ.
    """
    counts, groups_ = results.counts(), results.groups
    run = np.zeros(len(results.candidates), bool)
    run[list(results.places)] = True
    accuracy = np.empty((len(run), len(groups_)))
    accuracy[list(results.places)] = results.measured()
    low, high, open_cells = accuracy.copy(), accuracy.copy(), np.zeros(accuracy.shape, bool)
    if not run.all():
        order = [results.model.groups.index(group) for group in groups_]
        cells = accuracies(results.model, results.candidates[~run])
        accuracy[~run], low[~run], high[~run] = (
            part[:, order] for part in (cells.mean, cells.low, cells.high)
        )
        open_cells[~run] = undecided(results.model, results.candidates[~run])[:, order]
    least, most = sampled(accuracy, counts)
    low = np.maximum(accuracy - np.hypot(accuracy - low, accuracy - least), 0.0)
    high = np.minimum(accuracy + np.hypot(high - accuracy, most - accuracy), 1.0)
    return {"accuracy": accuracy, "low": low, "high": high, "run": run, "undecided": open_cells}


def score_interval(results: Results, accuracy: Float[np.ndarray, " G"]) -> tuple[float, float]:
    """What the number of prompts leaves open of the score of a merge that was run: 95%."""
    low, high = (bound[0] for bound in sampled(accuracy[None], results.counts()))
    objective, names = results.objective, results.groups
    if objective.aim == MEAN:
        counted = [at for at, name in enumerate(names) if name not in objective.protect]
        below, above = (np.linalg.norm((accuracy - bound)[counted]) / len(counted) for bound in (low, high))
        value = accuracy[counted].mean()
        return float(max(value - below, 0.0)), float(min(value + above, 1.0))
    at = names.index(objective.aim) if objective.aim in names else int(np.argmin(accuracy))
    return float(low[at]), float(high[at])


def prediction_table(results: Results) -> pd.DataFrame:
    """One row a candidate and group. ``accuracy`` is exact match of greedy decoding: measured where ``run``
    is true, predicted elsewhere; ``low``, ``high``: 95% over prompts, joined with the predictor's 90% where
    predicted. ``undecided``: another predictor says what the interval excludes. ``score``: the objective."""
    known_of_all = every_accuracy(results)
    score = results.score(known_of_all["accuracy"])
    rows = []
    for place, one in enumerate(results.candidates):
        lam = one[0] if len(set(one)) == 1 else np.nan
        names = {"lam": lam} | {f"lam_{i + 1}": value for i, value in enumerate(one)}
        for at, group in enumerate(results.groups):
            row = {"group": group, **names, "prompts": int(results.counts()[at])}
            row |= {name: known_of_all[name][place, at] for name in ("accuracy", "low", "high", "undecided")}
            rows.append(row | {"run": bool(known_of_all["run"][place]), "score": score[place]})
    return pd.DataFrame(rows)


def crossings(lams: Sequence[float], lead: Float[np.ndarray, "P L"]) -> tuple[np.ndarray, np.ndarray]:
    """(critical lambda, lambda at which it is lost again) of every prompt, from its lead at rising strengths.

    The critical lambda is where the answer first takes the lead: 0 if the base has it, infinite if it never
    does. It is lost where it then first falls behind; infinite if it does not. Between two strengths the lead
    is taken as linear. For logits linear in lambda the critical lambda is M / Delta (theory, section 3).
    """
    lead, lams = np.asarray(lead, float), np.asarray(lams, float)
    start, end = np.full(len(lead), np.inf), np.full(len(lead), np.inf)
    for prompt, leads in enumerate(lead):
        for at, ahead in enumerate(leads > 0):
            if ahead and np.isinf(start[prompt]):
                start[prompt] = _between(lams, leads, at)
            elif not ahead and np.isfinite(start[prompt]):
                end[prompt] = _between(lams, leads, at)
                break
    return start, end


def _between(lams: np.ndarray, lead: np.ndarray, at: int) -> float:
    """Where the lead passes 0 on the way to place ``at``."""
    if at == 0:
        return float(lams[0])
    before, after = lead[at - 1], lead[at]
    return float(lams[at - 1] + (lams[at] - lams[at - 1]) * before / (before - after))


def prompt_table(results: Results) -> pd.DataFrame:
    """One row a prompt: whether the base and the best merge have it right, whose it is (from 1; 0: nobody's),
    and where it is gained and lost along the strengths at which each adapter, and their sum, was run."""
    count, best = results.candidates.shape[1], results.run_of(results.candidates[results.best])
    table = pd.DataFrame(
        {
            "line": [prompt.line for prompt in results.prompts],
            "group": [prompt.group for prompt in results.prompts],
            "prompt": [prompt.prompt for prompt in results.prompts],
            "answer": [prompt.answer for prompt in results.prompts],
            "tokens": [len(question.answer) for question in results.questions],
            "adapter": results.owner + 1,
            "base": results.outcomes.lead[results.run_of(np.zeros(count))] > 0,
            "best": results.outcomes.lead[best] > 0,
            "best_loglik": results.loglik[best],
        }
    )
    rays = {"": np.ones(count)} | {f"_{i + 1}": unit for i, unit in enumerate(np.eye(count))}
    for suffix, ray in rays.items():
        lams = results.weights.max(axis=1)
        places = np.flatnonzero(np.isclose(results.weights, lams[:, None] * ray).all(axis=1))
        places = places[np.argsort(lams[places])]
        ends = crossings(lams[places], results.outcomes.lead[places].T)
        table[f"critical_lambda{suffix}"], table[f"lost_lambda{suffix}"] = ends
    return table
