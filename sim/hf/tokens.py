"""Prompts as tokens: where an answer begins, and batches padded to one length.

A tokenizer may join the end of a prompt and the beginning of its answer in one token, so that the tokens of
the two texts are not those of the whole. The model will read the whole: it is tokenised in one piece, and
the answer's tokens are all that come after the longest beginning that it shares with the prompt alone. A
token that holds the end of a prompt and the beginning of its answer is thus the answer's first. Special
tokens that the tokenizer puts in front (BOS) stay, once where the prompt's text begins with them as well; an
end-of-text token that it adds behind is taken off.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from sim.hf.prompts import Prompt


@dataclass(frozen=True)
class Question:
    """A prompt as tokens.

    tokens: of prompt and answer together. start: the position of the answer's first token, 1 or more.
    joined: whether that token also holds the end of the prompt. doubled: whether the tokenizer adds a BOS to
    one that the prompt's text begins with, which is left away. line: of the prompt in its file.
    """

    tokens: tuple[int, ...]
    start: int
    joined: bool
    doubled: bool = False
    line: int = 0

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens of the answer."""
        return self.tokens[self.start :]


@dataclass(frozen=True)
class Batch:
    """Questions of one run of the model, padded behind: B questions, T tokens, N answer tokens in all.

    tokens: without the last one of each question, which decides nothing.
    row, position: of the logits that decide each answer token (the token before it). target: the token.
    lines: of the questions' prompts in their file.
    """

    tokens: Int[np.ndarray, "B T"]
    mask: Int[np.ndarray, "B T"]
    row: Int[np.ndarray, " N"]
    position: Int[np.ndarray, " N"]
    target: Int[np.ndarray, " N"]
    lines: tuple[int, ...]


def questions(
    tokenizer: Callable[[str], Any], prompts: Sequence[Prompt], longest: int | None, rows: int
) -> tuple[list[Question], list[str]]:
    """All prompts as tokens, and notes on those that were read otherwise than they stand.

    rows: token ids that the model has embeddings and logits for.
    Raises: ValueError naming the line, as ``question`` does, and for a token that the model does not have.
    """
    items = [question(tokenizer, prompt, longest) for prompt in prompts]
    for item in items:
        if (token := max(item.tokens)) >= rows:
            raise ValueError(
                f"the prompt of line {item.line} has the token {tokenizer.decode([token])!r} of id {token}, "
                f"and the base has embeddings of {rows} tokens: its tokenizer is another base's, or tokens "
                "were added to it and not to the base; give the base with the tokenizer of its training"
            )
    notes, count = [], len(items)
    if doubled := [item.line for item in items if item.doubled]:
        notes.append(
            f"{len(doubled)} of {count} prompts begin with {tokenizer.bos_token!r} (line {doubled[0]}), "
            "which the tokenizer puts in front as well: the model reads it once"
        )
    if joined := sum(item.joined for item in items):
        notes.append(
            f"{joined} of {count} answers begin inside a token that also ends the prompt (a space that "
            "belongs to the answer?): that token counts as theirs"
        )
    return items, notes


def question(tokenizer: Callable[[str], Any], prompt: Prompt, longest: int | None = None) -> Question:
    """The tokens of a prompt; ``tokenizer`` is one of transformers.

    Raises: ValueError naming the line: the tokenizer has no token for a piece, nothing stands before the
    answer, it has no token of its own, or the whole is longer than ``longest`` tokens.
    """
    where, parts = f"the prompt of line {prompt.line}", (prompt.prompt, prompt.prompt + prompt.answer)
    try:
        raw = [tokenizer(part)["input_ids"] for part in parts]
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ValueError(f"{where} cannot be cut into tokens: {error}") from None
    before = _without_end(tokenizer, raw[0], prompt.prompt)
    second = _second_starts(tokenizer, before, prompt.prompt)
    before, whole = before[second:], _without_end(tokenizer, raw[1], prompt.answer)[second:]
    start = 0
    while start < min(len(before), len(whole)) and before[start] == whole[start]:
        start += 1
    if start == len(whole):
        raise ValueError(f"{where}: its answer {prompt.answer!r} has no token of its own")
    if not start:
        raise ValueError(
            f"{where} leaves nothing to read before the answer: begin it with the model's BOS token or a word"
        )
    if longest is not None and len(whole) > longest:
        raise ValueError(f"{where} takes {len(whole)} tokens, the model reads at most {longest}: shorten it")
    return Question(tuple(whole), start, start < len(before), second > 0, prompt.line)


def _second_starts(tokenizer: Any, tokens: Sequence[int], text: str) -> int:
    """How many BOS the tokenizer added to those that the text begins with; 0 where it begins with none."""
    start, written = getattr(tokenizer, "bos_token_id", None), 0
    while start is not None and text.startswith(tokenizer.bos_token):
        text, written = text.removeprefix(tokenizer.bos_token).lstrip(), written + 1
    ahead = next((n for n, token in enumerate(tokens) if token != start), len(tokens))
    return max(ahead - written, 0) if written else 0


def _without_end(tokenizer: Any, tokens: Sequence[int], text: str) -> list[int]:
    """Tokens without an end-of-text that the tokenizer added and the text does not have."""
    end, tokens, written = getattr(tokenizer, "eos_token_id", None), list(tokens), 0
    if end is None:
        return tokens
    while text.endswith(tokenizer.eos_token):
        text, written = text.removesuffix(tokenizer.eos_token), written + 1
    behind = next((n for n, token in enumerate(reversed(tokens)) if token != end), len(tokens))
    return tokens[: len(tokens) - max(behind - written, 0)]


def batches(questions: Sequence[Question], numbers: Sequence[int], size: int) -> Iterator[list[int]]:
    """The questions of these numbers in batches of like length, the longest first: want of memory shows."""
    ordered = sorted(numbers, key=lambda number: (-len(questions[number].tokens), number))
    for at in range(0, len(ordered), size):
        yield ordered[at : at + size]


def batch(questions: Sequence[Question]) -> Batch:
    """Questions side by side, padded behind with token 0, which no token before it sees."""
    longest = max(len(one.tokens) for one in questions) - 1
    tokens = np.zeros((len(questions), longest), np.int64)
    mask = np.zeros_like(tokens)
    row, position, target = [], [], []
    for number, one in enumerate(questions):
        tokens[number, : len(one.tokens) - 1] = one.tokens[:-1]
        mask[number, : len(one.tokens) - 1] = 1
        row += [number] * len(one.answer)
        position += range(one.start - 1, len(one.tokens) - 1)
        target += one.answer
    numbers = (np.array(values, np.int64) for values in (row, position, target))
    return Batch(tokens, mask, *numbers, tuple(one.line for one in questions))
