"""Worlds of text, for a language model that is there already: what adapters are taught, and questions.

Names take as many tokens as the model's tokenizer makes of them, so a question marks its pieces in the text
where ``sim.worlds.probe.Layout`` numbers positions. What is scored, and under which names, is the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int8

from sim.worlds.probe import Verdicts, highest, outcomes


class Text(NamedTuple):
    """A prompt, and what is to be written after it."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Piece:
    """A piece of a question or of its answer.

    owner:  index in ``TextWorld.parts`` of the adapter that an oracle router sends it to; -1: none.
    step:   name of the step that this piece is; "" for a piece that needs no knowledge.
    copies: index of the piece that this one repeats; -1: none.
    """

    text: str
    owner: int = -1
    step: str = ""
    copies: int = -1


@dataclass(frozen=True)
class TextQuestion:
    """A question in pieces, of which the first ``prompt`` are given."""

    pieces: tuple[Piece, ...]
    prompt: int

    @cached_property
    def text(self) -> Text:
        """Question and right answer."""
        texts = [piece.text for piece in self.pieces]
        return Text("".join(texts[: self.prompt]), "".join(texts[self.prompt :]))

    @property
    def answer(self) -> tuple[Piece, ...]:
        """The pieces that are to be written."""
        return self.pieces[self.prompt :]

    @cached_property
    def pattern(self) -> re.Pattern:
        """The wording of the answer, with any text in place of steps and copies."""
        wording = (
            f"(?P<piece{place}>.+?)" if piece.step or piece.copies >= 0 else re.escape(piece.text)
            for place, piece in enumerate(self.answer, start=self.prompt)
        )
        return re.compile("".join(wording))


@dataclass(frozen=True)
class TextProbe:
    """Questions of one kind (``sim.worlds.probe.Questions``).

    steps:  names of their steps, in the order of writing; two or more make the answer a trace, one sentence
            a step.
    chance: accuracy of a guess among the answers; None for no such baseline.
    nulls:  as in ``sim.worlds.probe.Probe``.
    """

    questions: tuple[TextQuestion, ...]
    steps: tuple[str, ...] = ()
    chance: float | None = None
    nulls: Mapping[str, Float[Array, "S S"]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of questions S."""
        return len(self.questions)

    @property
    def is_trace(self) -> bool:
        """Whether the answer is scored step by step."""
        return len(self.steps) > 1

    def bound(self, picked: np.ndarray) -> float:
        """``sim.worlds.probe.Probe.bound``."""
        answers = np.array([question.text.answer for question in self.questions])
        return highest(self, answers[:, None] == answers[None], picked)


@dataclass(frozen=True)
class TextWorld:
    """One sampled world (``sim.worlds.World``): texts in place of sequences, and nothing to pretrain.

    names: role -> names of the entities, for the base's own familiarity with them.
    """

    data: dict[str, dict[str, tuple[Text, ...]]]
    probes: dict[str, TextProbe]
    parts: tuple[str, ...]
    names: dict[str, tuple[str, ...]]
    libraries: tuple[tuple[str, tuple[str, ...]], ...] = ()


def score(name: str, probe: TextProbe, written: Sequence[str]) -> dict[str, Int8[Array, " S"]]:
    """Outcome of each question from the text that a model wrote: the metrics of ``sim.worlds.probe.score``.

    An answer is right if the text begins with it, and no letter or digit follows. A step is right if its
    sentence ends in it; the last one counts wherever it ends the last of the first sentences, as many as
    there are steps. The template is right if the text begins with the wording of the answer, whatever
    stands in the places of steps and copies; copies are right if these then repeat what they should.
    """
    answers = {question.text.answer for question in probe.questions}
    verdicts = [
        _verdicts(question, probe, text, answers)
        for question, text in zip(probe.questions, written, strict=True)
    ]
    rows = {key: np.array([each[key] for each in verdicts]) for key in verdicts[0]}
    steps = list(np.reshape(rows.pop("steps"), (probe.count, len(probe.steps))).T)
    return outcomes(name, probe, Verdicts(steps=steps, **rows))


def _verdicts(question: TextQuestion, probe: TextProbe, text: str, answers: set[str]) -> dict[str, Any]:
    sentences = [part.strip() for part in text.split("\n")[0].split(".")]
    sentences = [part for part in sentences if part][: len(probe.steps)]
    steps = [_ends_in(sentences, place, piece) for place, piece in enumerate(_steps(question))]
    if probe.is_trace:
        steps[-1] = _ends_in(sentences, len(sentences) - 1, _steps(question)[-1])
    match = question.pattern.match(text)
    return {
        "whole": _begins(text, question.text.answer),
        "steps": steps,
        "template": match is not None,
        "copied": match is not None and _repeats(question, match),
        "among": any(_begins(text, answer) for answer in answers),
    }


def _steps(question: TextQuestion) -> list[str]:
    return [piece.text.strip() for piece in question.answer if piece.step]


def _ends_in(sentences: Sequence[str], place: int, step: str) -> bool:
    return 0 <= place < len(sentences) and f" {sentences[place]}".endswith(f" {step}")


def _begins(text: str, answer: str) -> bool:
    return text.startswith(answer) and not text[len(answer) : len(answer) + 1].isalnum()


def _repeats(question: TextQuestion, match: re.Match) -> bool:
    def there(place: int) -> str:
        written = place >= question.prompt
        return (match[f"piece{place}"] if written else question.pieces[place].text).strip()

    return all(
        there(place) == there(piece.copies)
        for place, piece in enumerate(question.pieces)
        if place >= question.prompt and piece.copies >= 0
    )
