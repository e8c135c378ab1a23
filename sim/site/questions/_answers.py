"""The commands of the questions run for real, and the page of the site written from their output."""

import contextlib
import io
import re
import runpy
import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from sim.site.questions._scene import FACTS, write_scene
from sim.site.questions.data import QUESTIONS, Question

LINES, WIDTH = 18, 84
"""Lines of an answer that the page shows, and letters of a line."""


@dataclass(frozen=True)
class Answer:
    """The output of a question's command."""

    question: Question
    code: int
    text: str

    @property
    def fits(self) -> bool:
        """Whether the command ended well and its output holds the answer."""
        return self.code == 0 and re.search(self.question.answer, self.text, re.M) is not None


def answers(folder: Path) -> Iterator[Answer]:
    """The questions in their order, each command run in ``folder``, where the files are written first."""
    write_scene(folder)
    for question in QUESTIONS:
        yield Answer(question, *run(question.command, folder))


def run(command: str, folder: Path) -> tuple[int, str]:
    """(exit code, stdout) of ``python -m MODULE ...`` in this process and in a folder."""
    _, _, module, *words = shlex.split(command)
    out, code = io.StringIO(), 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
        mock.patch.object(sys, "argv", [module, *words]),
    ):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue()


def page(given: Iterable[Answer]) -> str:
    """The page as Markdown. Raises RuntimeError for an answer that does not fit its question."""
    parts = [
        "# What people ask",
        "Questions that people asked in public about merging adapters, each answered by one command. Files "
        f"are small: random language models in bfloat16, and adapters trained on {FACTS} facts each; `HOME` "
        "and `EMBLEM` are adapters of a real model. Every output was printed when this page was built.",
    ]
    for answer in given:
        question = answer.question
        if not answer.fits:
            raise RuntimeError(f"{question.command} does not answer {question.source}:\n{answer.text}")
        parts += [
            f"## {question.text}",
            f"[{question.source}]({question.address})",
            f"```sh\n{question.command}\n```",
            f"```text\n{shown(answer.text)}\n```",
            question.reading,
        ]
    return "\n\n".join(parts) + "\n"


def shown(text: str) -> str:
    """The first lines of an output, long ones wrapped."""
    lines = text.rstrip().split("\n")
    some = [part for line in lines[:LINES] for part in _wrapped(line)]
    return "\n".join([*some, *(["..."] if len(lines) > LINES else [])])


def _wrapped(line: str) -> list[str]:
    """A sentence on lines of ``WIDTH``; a row of a table as it stands."""
    return (
        [line]
        if re.search(r"\S  +\S", line)
        else textwrap.wrap(line, WIDTH, subsequent_indent="    ") or [""]
    )
