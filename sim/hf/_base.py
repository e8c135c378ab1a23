"""A base and its tokenizer, loaded and checked: every tensor of the model is one of its files."""

import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from sim.hf.base import require_base

COMPUTED = re.compile(
    r"(^|\.)(inv_freq|position_ids|masked_bias|causal_mask|attn\.bias|attn\.attention\.bias|attention\.bias)$"
)
"""Constants that older versions of transformers saved with the weights: masks, positions, angles."""

SHOWN = 3
"""Names that a message lists before it counts."""


def load_base(base: Path, dtype: str | None) -> tuple[Any, Any]:
    """(tokenizer, model) of a folder; nothing is fetched from anywhere.

    dtype: of the model's numbers, None for that of its files.
    Raises: ValueError, one line, for a folder that is no model, an adapter's files in it, a tokenizer
    without words, and tensors that are missing, unexpected or of another shape: transformers would draw the
    missing ones at random and go on.
    """
    require_base(base)
    tokenizer = load_tokenizer(base)
    with reading(f"{base} cannot be loaded as a causal language model"):
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            base,
            local_files_only=True,
            dtype=getattr(torch, dtype) if dtype else "auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported by name
        )
    _require_whole(base, report)
    return tokenizer, model


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder. Raises: ValueError, one line, if there is none or its files are broken."""
    with reading(f"the tokenizer of {folder} cannot be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ValueError(f"{folder} lacks the files of its tokenizer: save it there with save_pretrained")
    return tokenizer


def _require_whole(base: Path, report: dict[str, Any]) -> None:
    """Raise ValueError, with names and counts, unless files and model have the same tensors.

    Tied tensors, of which the files hold one, are no longer among the missing here.
    """
    missing = report["missing_keys"]
    unexpected = {name for name in report["unexpected_keys"] if not COMPUTED.search(name)}
    other = [f"{name} {tuple(there)} for {tuple(here)}" for name, there, here in report["mismatched_keys"]]
    faults = [
        f"{what} {_some(names)}"
        for what, names in (
            ("lacks", missing),
            ("has unexpected", unexpected),
            ("has in another shape", other),
        )
        if names
    ]
    if not faults:
        return
    if missing and unexpected:
        remedy = (
            "save the bare model anew, without the wrapper that renames its tensors (torch.compile, "
            "DataParallel, PEFT), or give the config.json of these files"
        )
    elif missing:
        remedy = "copy all its files again, every shard and the index"
    else:
        remedy = "give the config.json that these files were saved with"
    raise ValueError(f"{base} {', '.join(faults)}: {remedy}")


def _some(names: Iterable[str]) -> str:
    """The first few names, and how many there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({', '.join(names[:SHOWN])}{more})"


@contextlib.contextmanager
def reading(fault: str) -> Iterator[None]:
    """Anything that the libraries raise at files of strangers, as a ValueError that begins with ``fault``.

    Each library raises kinds of its own, bare Exceptions among them. Only their calls belong in the block.
    """
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise ValueError(f"{fault} ({reason}): copy all its files again") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice of the libraries: what is wrong is raised."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
