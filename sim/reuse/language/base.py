"""The base: a folder of Hugging Face's files, its model as arrays, and texts as its tokens."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sim.hf import fetch
from sim.hf.base import contents, require_base
from sim.hf.extra import with_extra
from sim.hf.prompts import Prompt
from sim.hf.tokens import Question, question
from sim.hf.weights import read_params, read_shape
from sim.lab.store import digest
from sim.model.llama import KINDS, Llama, Params
from sim.model.llama_adapters import Questions
from sim.worlds.text import Text

REMEMBERED = 2**16
"""Texts of tokens that are remembered: prompts come again with every model."""

NOTE = fetch.NOTE
"""What every page says of the base that ``python -m sim.lm fetch`` writes."""


def folder_of(base: Path | None) -> Path:
    """The folder that is meant: the given one, or the one that ``python -m sim.lm fetch`` wrote.

    Raises: ValueError, one line with the remedy, if there is none.
    """
    if base is not None:
        if not base.is_dir():
            raise ValueError(f"--base {base} is no folder: {fetch.REMEDY}")
        return base
    folder = fetch.cache_folder()
    if not (folder / "config.json").is_file():
        raise ValueError(f"no base is there: run python -m sim.lm fetch, or {fetch.REMEDY}")
    return folder


def name_of(folder: Path) -> str:
    """Name of a base and a hash of its files that decide what it computes.

    Raises: ValueError for a folder that is no Llama's.
    """
    require_base(folder)
    read_shape(folder)
    return f"{folder.name} {digest(contents(folder))}"


def largest_rank(folder: Path) -> int:
    """The smallest side of the base's matrices."""
    model = read_shape(folder)
    return min(min(model.shape(kind)) for kind in KINDS)


@dataclass(frozen=True)
class Base:
    """A folder, read when it is needed. Its parameters are bfloat16 on a GPU and float32 on a CPU."""

    folder: Path

    @cached_property
    def model(self) -> Llama:
        """Its shape."""
        return read_shape(self.folder)

    @cached_property
    def params(self) -> Params:
        """Its parameters; JAX may copy them to wherever adapters are trained."""
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
        return read_params(self.folder, self.model, dtype)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, each text cut once."""
        return Cutter(with_extra("sim.hf._base").load_tokenizer(self.folder))

    def questions(self, texts: Sequence[Text]) -> list[Question]:
        """Texts as tokens.

        Raises: ValueError if a text does not come back from its tokens, if an answer begins inside a token
        of its prompt, or if a token has no row in the model.
        """
        return [self._question(text) for text in texts]

    def _question(self, text: Text) -> Question:
        item = question(self.tokenizer, Prompt(*text, "", 0))
        whole = "".join(text)
        if (token := max(item.tokens)) >= self.model.vocab:
            raise ValueError(
                f"{self.folder} has embeddings of {self.model.vocab} tokens, and its tokenizer makes token "
                f"{token} of {whole!r}: the tokenizer is another base's"
            )
        if item.joined or self.continuation(item.tokens[: item.start], item.answer) != text.answer:
            raise ValueError(
                f"the base's tokenizer cannot write {text.answer!r} after {text.prompt!r} in tokens of its "
                "own: give a base whose tokenizer knows all bytes, as those of Llama 3 and SmolLM2 do"
            )
        return item

    def continuation(self, prompt: Sequence[int], tokens: Iterable[int]) -> str:
        """The text of tokens that were written after a prompt, up to an end-of-text."""
        end, tokens = getattr(self.tokenizer, "eos_token_id", None), [int(token) for token in tokens]
        if end in tokens:
            tokens = tokens[: tokens.index(end)]
        before = self.tokenizer.text(prompt)
        return self.tokenizer.text([*prompt, *tokens])[len(before) :]


class Cutter:
    """A tokenizer of transformers that remembers what it cut and read."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._cut = functools.cache(lambda text: tokenizer(text)["input_ids"])
        self._read = functools.lru_cache(maxsize=REMEMBERED)(
            functools.partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def __call__(self, text: str) -> dict[str, list[int]]:
        """As the tokenizer."""
        return {"input_ids": self._cut(text)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of tokens, special ones left out."""
        return self._read(tuple(int(token) for token in tokens))


@dataclass(frozen=True)
class Room:
    """Numbers of tokens that every text of an experiment fits in: question and answer, prompt, answer."""

    whole: int
    prompt: int
    answer: int


def room_of(questions: Iterable[Question], step: int = 8) -> Room:
    """The room that questions need, in multiples of 8 (answers: of ``step``), so that few programs serve."""
    sizes = np.max([(len(one.tokens), one.start, len(one.answer)) for one in questions], axis=0)
    return Room(*(int(-(-size // by) * by) for size, by in zip(sizes, (8, 8, step), strict=True)))


def behind(questions: Sequence[Question], room: Room, rows: int) -> Questions:
    """Questions with their answers as arrays of ``rows`` rows, padded behind."""
    tokens, position, target = (
        np.zeros((rows, size), np.int32) for size in (room.whole, room.answer, room.answer)
    )
    mask = np.zeros((rows, room.answer), np.float32)
    for row, one in enumerate(questions):
        count = len(one.answer)
        tokens[row, : len(one.tokens)] = one.tokens
        position[row, :count] = np.arange(one.start - 1, len(one.tokens) - 1)
        target[row, :count], mask[row, :count] = one.answer, 1
    return Questions(tokens, position, target, mask)


def in_front(questions: Sequence[Question], room: Room) -> tuple[np.ndarray, np.ndarray]:
    """(prompts padded in front, how many tokens of padding each has)."""
    prompts = np.zeros((len(questions), room.prompt), np.int32)
    for row, one in enumerate(questions):
        prompts[row, room.prompt - one.start :] = one.tokens[: one.start]
    return prompts, np.array([room.prompt - one.start for one in questions], np.int32)
