"""Merges run on the prompts, batch by batch, each outcome kept on disk when it is there."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from sim.forecast.outcomes import Outcomes
from sim.hf.tokens import Question, batches
from sim.lab.store.database import Database, explain_disk_errors
from sim.lab.store.identity import plain, require_same

NAME = "answers.sqlite"

SIGNIFICANT = 7
"""Digits of a number kept: those of float32."""


class Answer(NamedTuple):
    """Of one prompt under one merge: log-likelihood of the answer (nats), lead, gaps (tokens, rivals)."""

    loglik: float
    lead: float
    gap: list[list[float]]


Ask = Callable[..., tuple[list[list[Answer]], list[list[list[int]]]]]
"""(questions, merges (m, K), their rivals if they were chosen or None, what to call with a number of merges
that are through) -> (answers of each question under each merge, rivals of each question's tokens)."""

MERGES = 16
"""Fewer merges than this at a time leave room for more prompts."""


class Runner:
    """Runs merges on all prompts and remembers the outcomes, in the folder and in memory.

    In a block; ``run`` is what ``search`` takes. What the folder has is not run again, whatever it was for.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], questions: Sequence[Question], size: int, ask: Ask
    ):
        """size: prompts of a batch. ask: runs a batch."""
        self.folder, self.config, self.questions = folder, config, questions
        self.size, self.ask, self.phase = size, ask, "running"
        self.answers: dict[str, Answer] = {}
        self.rivals: dict[int, list] = {}

    def __enter__(self) -> "Runner":
        with explain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self._database = self._stack.enter_context(opened(self.folder, self.config))
        if not self._database.properties():
            self._database.write({}, config=plain(self.config))
        for unit, *row in self._database.rows():
            merge, _, number = unit.rpartition("/")
            if merge == "rivals":
                self.rivals[int(number)] = row
            else:
                self.answers[unit] = Answer(*row)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, weights: Float[np.ndarray, "m K"]) -> Outcomes:
        """Outcomes of merges, those that are not there yet run now.

        Raises: ValueError for a number that is not finite (nothing of its batch is written then).
        """
        weights = np.asarray(weights, float)
        missing = [
            number
            for number in range(len(self.questions))
            if any(self._unit(one, number) not in self.answers for one in weights)
        ]
        new = [
            one for one in weights if any(self._unit(one, number) not in self.answers for number in missing)
        ]
        total = len(missing) * len(new)
        with tqdm(
            total=total, desc=f"{self.phase}: {len(new)} runs", unit="prompt run", disable=not total
        ) as bar:
            for numbers in batches(self.questions, missing, self.size * max(1, MERGES // max(len(new), 1))):
                size = len(numbers)
                self._run_batch(numbers, np.array(new), lambda count, size=size: bar.update(count * size))
        return self._outcomes(weights)

    def loglik(self, weights: Float[np.ndarray, "m K"]) -> Float[np.ndarray, "m P"]:
        """Log-likelihoods of the answers under merges that were run."""
        count = range(len(self.questions))
        return np.array([[self.answers[self._unit(one, n)].loglik for n in count] for one in weights])

    def _run_batch(self, numbers: Sequence[int], weights: np.ndarray, advance: Callable) -> None:
        before = [self.rivals[n] for n in numbers] if all(n in self.rivals for n in numbers) else None
        answers, rivals = self.ask([self.questions[n] for n in numbers], weights, before, advance)
        units, rows = {}, {}
        for number, each, rival in zip(numbers, answers, rivals, strict=True):
            for one, answer in zip(weights, each, strict=True):
                self._require_finite(number, answer)
                rounded = Answer(_short(answer.loglik), _short(answer.lead), [_short(m) for m in answer.gap])
                units[self._unit(one, number)] = rounded
            if number not in self.rivals:
                rows[f"rivals/{number:06d}"] = self.rivals[number] = rival
        fresh = {unit: answer for unit, answer in units.items() if unit not in self.answers}
        self._database.write(
            {unit: [list(answer)] for unit, answer in fresh.items()} | {u: [r] for u, r in rows.items()}
        )
        self.answers |= fresh

    def _outcomes(self, weights: np.ndarray) -> Outcomes:
        numbers = range(len(self.questions))
        each = [[self.answers[self._unit(one, number)] for number in numbers] for one in weights]
        row = np.repeat(numbers, [len(question.answer) for question in self.questions])
        lead = np.array([[answer.lead for answer in one] for one in each])
        gap = np.array([[token for answer in one for token in answer.gap] for one in each])
        return Outcomes(lead, gap, row)

    def _unit(self, weights: np.ndarray, number: int) -> str:
        return f"{' '.join(f'{lam:.6g}' for lam in weights)}/{number:06d}"

    def _require_finite(self, number: int, answer: Answer) -> None:
        if not (np.isfinite(answer.loglik) and np.isfinite(answer.gap).all()):
            raise ValueError(
                f"the numbers for the prompt of line {self.questions[number].line} are not finite: use "
                "--dtype bfloat16 or float32"
            )


def require_own(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ValueError for a folder of another configuration: before a large model is loaded."""
    if (folder / NAME).exists():
        with opened(folder, config):
            pass


@contextlib.contextmanager
def opened(folder: Path, config: Mapping[str, Any]) -> Iterator[Database]:
    """The database of a folder, of this configuration or new."""
    database = Database(folder / NAME)
    try:
        if record := database.properties():
            require_same(record["config"], plain(config), folder)
        yield database
    finally:
        database.close()


def _short(value):
    """Numbers with ``SIGNIFICANT`` digits."""
    if isinstance(value, list):
        return [_short(part) for part in value]
    return float(f"{value:.{SIGNIFICANT}g}")
