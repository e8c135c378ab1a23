"""Files from strangers, read within bounds: tensors, JSON, or what a file is that its name does not say.

A hostile or damaged file is a ValueError that says what to do, never a crash.
"""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

NO_TENSORS = "not safetensors; never unpickled: save it as safetensors"

BEGINNING = 512
"""Bytes of a file that tell what it is."""

BEGINNINGS = (
    (
        rb"version https://git-lfs\.github\.com/",
        "is a Git LFS pointer, not the file: run git lfs pull in its repository, or download the raw file",
    ),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)",
        "is a web page, not the file: download the raw file (on the Hugging Face hub /resolve/, not /blob/)",
    ),
    (rb"\Z", "is empty: copy it again"),
    (rb"\x1f\x8b", "is a gzip archive: unpack it"),
    (rb"PK\x03\x04", f"is a zip archive (a torch.save file?), {NO_TENSORS}"),
    (rb"\x80", f"is a pickle, {NO_TENSORS}"),
    (rb"GGUF", "is a GGUF file, not safetensors: take the adapter that it was converted from"),
)
"""How a file begins -> what it is and what to do. A sound file may begin so by chance."""

DEEPEST = 32
"""Levels of lists and tables in JSON: configurations have three."""

DIGITS = 30
"""Digits of a whole number in JSON: 64 bits have 20."""


def identify(head: bytes) -> str:
    """What a file that could not be read is, by its first bytes, and what to do; empty if unknown."""
    for pattern, meaning in BEGINNINGS:
        if re.match(pattern, head, re.IGNORECASE):
            return meaning
    return ""


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a file by their keys.

    Raises: ValueError, one line that names the file and the remedy, if it is not whole safetensors; OSError
    if it cannot be opened.
    """
    with file.open("rb") as stream:
        head = stream.read(BEGINNING)
    try:
        return load_file(file)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = str(error)
    if name := _eight_bits(file):
        raise ValueError(f"{file} is in 8-bit floats ({name}), too coarse to merge: save it as bfloat16")
    # Only now: a sound safetensors file may begin with these bytes too, they are its header's length.
    if what := identify(head):
        raise ValueError(f"{file} {what}")
    if head.isascii() and head.decode().isprintable():
        reason = f"it holds the text {head[:40].decode()!r}"
    raise ValueError(f"{file} is not a whole safetensors file ({reason}); copy or download it again")


def _eight_bits(file: Path) -> str | None:
    """The name of an 8-bit float type that a safetensors file holds, None if it holds none or is damaged."""
    with contextlib.suppress(SafetensorError, OSError), safe_open(file, "np") as tensors:
        types = (tensors.get_slice(key).get_dtype() for key in tensors.keys())  # noqa: SIM118 (no mapping)
        return next((name for name in types if name.startswith("F8")), None)
    return None


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises: ValueError, with the reason in a few words, for a text that is not JSON, is nested more than
    ``DEEPEST`` deep, or holds a whole number of more than ``DIGITS`` digits or half a character.
    """
    try:
        value = json.loads(text, parse_int=_integer)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested without end") from None
    except UnicodeEncodeError:
        raise ValueError("half a character: a lone surrogate") from None
    _bound(value, DEEPEST)
    return value


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _bound(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"nested more than {DEEPEST} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _bound(item, levels - 1)
