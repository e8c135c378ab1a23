"""The questions put to the model, batch by batch, each kept on disk when it is answered."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from sim.hf.tokens import Question, batches
from sim.lab.store.database import Database, explain_disk_errors
from sim.lab.store.identity import plain, require_same

Judge = Callable[[list[Question]], Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]]
"""(questions of a batch) -> {predictor: (log-likelihoods, leads) of every merge}."""

NAME = "answers.sqlite"

SIGNIFICANT = 7
"""Digits of a number kept: those of float32."""


@dataclass(frozen=True)
class Answers:
    """What one predictor, or the merged model, says of P questions under C merges.

    loglik: log-likelihood of the answer, nats. lead: of the right token over the best other, the least over
    the answer's tokens; positive where greedy decoding gives the answer.
    """

    loglik: Float[np.ndarray, "P C"]
    lead: Float[np.ndarray, "P C"]

    @property
    def right(self) -> np.ndarray:
        """Whether the answer is an exact match, (P, C)."""
        return self.lead > 0


def answered(
    folder: Path,
    config: Mapping[str, Any],
    questions: Sequence[Question],
    size: int,
    judges: Mapping[str, Judge],
) -> dict[str, Answers]:
    """{predictor: its answers to all questions}; what ``answers.sqlite`` in the folder has is not asked anew.

    judges: the passes over the questions, by name: each gives the predictors of its own.
    Raises: ValueError if the folder holds another configuration or an answer is not finite (nothing of its
    batch is written then), OSError if it cannot be written.
    """
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder, config) as database:
        if not database.properties():
            database.write({}, config=plain(config))
        done, answers = database.done(), {}
        for name, judge in judges.items():
            units = {number: f"{name}/{number:06d}" for number in range(len(questions))}
            missing = [number for number, unit in units.items() if unit not in done]
            there = len(questions) - len(missing)
            with tqdm(total=len(questions), initial=there, desc=name, unit="prompt", delay=1) as bar:
                for numbers in batches(questions, missing, size):
                    judgement = judge([questions[number] for number in numbers])
                    _require_finite(judgement, [questions[number].line for number in numbers])
                    database.write({units[number]: _rows(judgement, i) for i, number in enumerate(numbers)})
                    bar.update(len(numbers))
            rows = [row for row in database.rows() if row[0].startswith(f"{name}/")]
            for predictor in dict.fromkeys(row[1] for row in rows):
                numbers = np.array([row[2:] for row in rows if row[1] == predictor])
                answers[predictor] = Answers(numbers[:, 0], numbers[:, 1])
    return answers


def require_own(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise what ``answered`` would for a folder of another configuration: before a large model is loaded."""
    if (folder / NAME).exists():
        with _opened(folder, config):
            pass


@contextlib.contextmanager
def _opened(folder: Path, config: Mapping[str, Any]) -> Iterator[Database]:
    database = Database(folder / NAME)
    try:
        if record := database.properties():
            require_same(record["config"], plain(config), folder)
        yield database
    finally:
        database.close()


def _require_finite(
    judgement: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], lines: Sequence[int]
) -> None:
    """Raise ValueError, naming the predictor and the line, unless all numbers are finite."""
    for predictor, merges in judgement.items():
        finite = np.all([np.isfinite(side) for merge in merges for side in merge], axis=0)
        if not finite.all():
            raise ValueError(
                f"the numbers of {predictor} for the prompt of line {lines[int(np.argmin(finite))]} are not "
                "finite: use --dtype bfloat16 or float32"
            )


def _rows(judgement: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], number: int) -> list[list]:
    """A question's part of a batch: one row a predictor, (predictor, log-likelihoods, leads)."""
    return [
        [name, *([float(f"{merge[side][number]:.{SIGNIFICANT}g}") for merge in each] for side in (0, 1))]
        for name, each in judgement.items()
    ]
