"""A safetensors file read whole, or refused by what it is instead."""

import contextlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from sim.merge.peft.contents import BEGINNING, identify


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
