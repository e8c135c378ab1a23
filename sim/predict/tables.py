"""What is predicted, as tables: a row a group and merge, a row a prompt; and the best merge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from sim.hf.prompts import UNTOUCHED, Prompt, groups
from sim.hf.tokens import Question
from sim.lab import intervals
from sim.predict.run import Answers
from sim.predict.weights import Weights, common, singles

TRUSTED = ("crossed", "disentangled")
"""Tables and verdict are made of the first of these that a model allows; the others stand beside it in
predictions.csv."""

MEASURED = "measured"


@dataclass(frozen=True)
class Results:
    """The answers of every predictor to P prompts under C merges of K adapters.

    adapters: their folders. answers: (P, C) of every predictor, and of the merges if they were run.
    """

    adapters: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    questions: tuple[Question, ...]
    weights: tuple[Weights, ...]
    answers: Mapping[str, Answers]

    @property
    def groups(self) -> list[str]:
        """The groups of prompts, ``UNTOUCHED`` last."""
        return groups(self.prompts)

    @property
    def trusted(self) -> str:
        """The predictor that tables and verdict are made of."""
        return next(name for name in TRUSTED if name in self.answers)

    def of(self, group: str) -> np.ndarray:
        """The numbers of a group's prompts."""
        return np.flatnonzero([prompt.group == group for prompt in self.prompts])


def share(right: Float[np.ndarray, "n C"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high) of yes or no over n prompts of every column: Wilson, 95%."""
    return intervals.proportions(right.sum(0)[:, None], len(right))


def prediction_table(results: Results) -> pd.DataFrame:
    """One row a group, merge and predictor: accuracy, log-likelihood, and the change of accuracy against the
    base, each with its interval; beside them the outcome, where the merges were run.

    Merges of one adapter or none are not predicted: "disentangled" holds what the model says, and no other
    predictor has a row. ``accuracy`` is exact match of greedy decoding, ``loglik`` the mean of log p(answer).
    """
    rows = []
    exact = set(singles(results.weights))
    for group in results.groups:
        at = results.of(group)
        outcome = results.answers.get(MEASURED)
        for predictor, answers in results.answers.items():
            if predictor == MEASURED:
                continue
            right = answers.right[at].astype(float)
            columns = {"accuracy": share(right), "loglik": intervals.bootstrap(answers.loglik[at])}
            columns["change"] = intervals.bootstrap(right - right[:, :1])
            if outcome is not None:
                columns["measured"] = share(outcome.right[at].astype(float))
                columns["measured_loglik"] = intervals.bootstrap(outcome.loglik[at])
            for place, one in enumerate(results.weights):
                if place in exact and predictor != results.trusted:
                    continue
                row = {"group": group, "lam": one[0] if len(set(one)) == 1 else np.nan}
                row |= {f"lam_{i + 1}": lam for i, lam in enumerate(one)}
                row |= {"predictor": predictor, "prompts": len(at)}
                for name, values in columns.items():
                    row |= dict(
                        zip((name, f"{name}_low", f"{name}_high"), (v[place] for v in values), strict=True)
                    )
                rows.append(row)
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
    """One row a prompt: its critical lambda, and where it is lost, in the sum of all adapters and in each."""
    answers = results.answers[results.trusted]
    table = pd.DataFrame(
        {
            "line": [prompt.line for prompt in results.prompts],
            "group": [prompt.group for prompt in results.prompts],
            "prompt": [prompt.prompt for prompt in results.prompts],
            "answer": [prompt.answer for prompt in results.prompts],
            "tokens": [len(question.answer) for question in results.questions],
            "base": answers.right[:, 0],
        }
    )
    together = common(results.weights)
    table["critical_lambda"], table["lost_lambda"] = _find_crossings(results, together, answers)
    for i in range(len(results.adapters)):
        only = [at for at in singles(results.weights) if not any(np.delete(results.weights[at], i))]
        table[f"critical_lambda_{i + 1}"], table[f"lost_lambda_{i + 1}"] = _find_crossings(
            results, only, answers
        )
    if MEASURED in results.answers:
        table["measured_critical_lambda"], table["measured_lost_lambda"] = _find_crossings(
            results, together, results.answers[MEASURED]
        )
    return table


def _find_crossings(
    results: Results, places: Sequence[int], answers: Answers
) -> tuple[np.ndarray, np.ndarray]:
    return crossings([max(results.weights[at]) for at in places], answers.lead[:, places])


def scores(results: Results, values: np.ndarray, draws: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """What the best merge is best at: (C,), or (R, C) over resamples.

    The mean over groups of edits, and with a group ``UNTOUCHED`` half of that and half of it: retention and
    damage weigh alike (theory, section 12).
    """
    each = {
        group: (
            values[results.of(group)].mean(0) if draws is None else draws[group] @ values[results.of(group)]
        )
        for group in results.groups
    }
    edits = [value for group, value in each.items() if group != UNTOUCHED]
    untouched = [each[UNTOUCHED]] if UNTOUCHED in each else []
    return np.mean([*([np.mean(edits, axis=0)] if edits else []), *untouched], axis=0)


@dataclass(frozen=True)
class Best:
    """The merge of highest predicted score: its place, and of one common strength over resamples."""

    place: int
    lam_place: int
    lam_low: float
    lam_high: float


def best(results: Results) -> Best:
    """The best of all merges, and the best common strength with its 95% interval over resamples of prompts.

    Of equal scores the higher log-likelihood, scored likewise, is better.
    """
    answers, together = results.answers[results.trusted], common(results.weights)
    right = answers.right.astype(float)
    place = best_of(results, range(len(results.weights)))
    lams = np.array([results.weights[at][0] for at in together])
    draws = {group: intervals.resamples(len(results.of(group))) for group in results.groups}
    score_draws = [scores(results, values[:, together], draws) for values in (right, answers.loglik)]
    drawn = [lams[_argbest(*each)] for each in zip(*score_draws, strict=True)]
    low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
    return Best(place, best_of(results, together), float(low), float(high))


def best_of(results: Results, places: Sequence[int]) -> int:
    """The place of highest predicted score among these."""
    answers = results.answers[results.trusted]
    both = (scores(results, values[:, places]) for values in (answers.right.astype(float), answers.loglik))
    return places[_argbest(*both)]


def _argbest(score: np.ndarray, loglik: np.ndarray) -> int:
    return int(np.lexsort((loglik, np.round(score, 9)))[-1])
