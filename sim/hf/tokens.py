"""Prompts as tokens: where an answer begins, and batches padded to one length.

A tokenizer may join the end of a prompt and the beginning of its answer in one token, so that the tokens of
the two texts are not those of the whole. The model will read the whole: it is tokenised in one piece, and
the answer's tokens are all that come after the longest beginning that it shares with the prompt alone. A
token that holds the end of a prompt and the beginning of its answer is thus the answer's first. Special
tokens that the tokenizer puts in front (BOS) stay; an end-of-text token that it adds behind is taken off.
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
    joined: whether that token also holds the end of the prompt.
    """

    tokens: tuple[int, ...]
    start: int
    joined: bool

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens of the answer."""
        return self.tokens[self.start :]


@dataclass(frozen=True)
class Batch:
    """Questions of one run of the model, padded behind: B questions, T tokens, N answer tokens in all.

    row, position: of the logits that decide each answer token (the token before it). target: the token.
    """

    tokens: Int[np.ndarray, "B T"]
    mask: Int[np.ndarray, "B T"]
    row: Int[np.ndarray, " N"]
    position: Int[np.ndarray, " N"]
    target: Int[np.ndarray, " N"]


def question(tokenizer: Callable[[str], Any], prompt: Prompt, longest: int | None = None) -> Question:
    """The tokens of a prompt; ``tokenizer`` is one of transformers.

    Raises: ValueError naming the line: nothing stands before the answer, it has no token of its own, or the
    whole is longer than ``longest`` tokens.
    """
    where = f"the prompt of line {prompt.line}"
    alone = tokenizer(prompt.prompt)["input_ids"]
    whole = _without_end(tokenizer, tokenizer(prompt.prompt + prompt.answer)["input_ids"], prompt.answer)
    alone = _without_end(tokenizer, alone, prompt.prompt)
    start = 0
    while start < min(len(alone), len(whole)) and alone[start] == whole[start]:
        start += 1
    if start == len(whole):
        raise ValueError(f"{where}: its answer {prompt.answer!r} has no token of its own")
    if not start:
        raise ValueError(
            f"{where} leaves nothing to read before the answer: begin it with the model's BOS token or a word"
        )
    if longest is not None and len(whole) > longest:
        raise ValueError(f"{where} takes {len(whole)} tokens, the model reads at most {longest}: shorten it")
    return Question(tuple(whole), start, start < len(alone))


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
    longest = max(len(one.tokens) for one in questions)
    tokens = np.zeros((len(questions), longest), np.int64)
    mask = np.zeros_like(tokens)
    row, position, target = [], [], []
    for number, one in enumerate(questions):
        tokens[number, : len(one.tokens)] = one.tokens
        mask[number, : len(one.tokens)] = 1
        row += [number] * len(one.answer)
        position += range(one.start - 1, len(one.tokens) - 1)
        target += one.answer
    return Batch(tokens, mask, *(np.array(values, np.int64) for values in (row, position, target)))
