"""Questions of one's own: a file of one JSON object a line, {"prompt": ..., "answer": ..., "group": ...}."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNTOUCHED = "untouched"
"""The group of prompts whose answers no adapter was to change: what is lost there is damage."""

EDITS = "edits"
"""The group of prompts that name none."""

FIELDS = ("prompt", "answer", "group")

PLACEHOLDERS = {"prompt": "WRITE a question of this group:", "answer": " its answer"}
"""What stands in a file that was begun for the user."""


@dataclass(frozen=True)
class Prompt:
    """One question: the model reads ``prompt`` and should write ``answer``, texts joined as they stand.

    line: its line in the file, from 1.
    """

    prompt: str
    answer: str
    group: str
    line: int


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a JSON-lines file; empty lines are skipped.

    Raises: ValueError, one line that names the file, the line and the remedy, for a line that is not an
    object of texts, lacks a field or has an unknown one, an answer that is empty, a placeholder, or a file
    without prompts.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    lines = enumerate(text.split("\n"), 1)  # splitlines would also split at what JSON allows inside a text
    prompts = [_read(path, number, line) for number, line in lines if line.strip()]
    if not prompts:
        raise ValueError(f'{path} holds no prompts; write lines like {{"prompt": "2 + 2 =", "answer": " 4"}}')
    return prompts


def started(groups: Sequence[str]) -> str:
    """A file of prompts to fill in: a line for each group."""
    return "".join(json.dumps({**PLACEHOLDERS, "group": group}) + "\n" for group in groups)


def groups(prompts: Sequence[Prompt]) -> list[str]:
    """The groups in the order of the file, ``UNTOUCHED`` last."""
    named = list(dict.fromkeys(prompt.group for prompt in prompts))
    return sorted(named, key=lambda group: group == UNTOUCHED)


def _read(path: Path, number: int, line: str) -> Prompt:
    where = f"{path}, line {number}"
    try:
        item: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, brackets without end
        raise ValueError(f"{where} is not JSON of texts ({error})") from None
    if not isinstance(item, dict):
        raise ValueError(f'{where} is not an object: write {{"prompt": ..., "answer": ...}}')
    for name in ("prompt", "answer"):
        if name not in item:
            raise ValueError(f"{where} has no {name!r}")
    for name, value in item.items():
        if name not in FIELDS:
            raise ValueError(f"{where} has a field {name!r}; known are {', '.join(FIELDS)}")
        if not isinstance(value, str):
            raise ValueError(f"{where}: {name!r} must be a text, found {json.dumps(value)}")
    for name, text in PLACEHOLDERS.items():
        if item[name].strip() == text.strip():
            raise ValueError(
                f"{where}: {name} is still the placeholder {text!r}: write your own in its place"
            )
    if not item["answer"]:
        raise ValueError(f"{where} has an empty answer: there is nothing to predict")
    return Prompt(item["prompt"], item["answer"], item.get("group") or EDITS, number)
