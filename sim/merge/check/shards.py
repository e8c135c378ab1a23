"""A model's folder of safetensors shards, read one tensor at a time."""

from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open


def shards(folder: Path, flag: str) -> dict[str, Path]:
    """{tensor name: its file} of a model. Raises ValueError, which names the option, if there is none."""
    files, keys = sorted(folder.glob("*.safetensors")), {}
    if not files:
        raise ValueError(f"{flag} {folder} holds no safetensors file: give the folder of a model")
    for file in files:
        try:
            with safe_open(file, framework="flax") as tensors:
                keys |= dict.fromkeys(tensors.keys(), file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{flag} {file} cannot be read ({error}): fetch it again") from None
    return keys


def read_tensor(keys: Mapping[str, Path], name: str) -> np.ndarray:
    """One tensor in the type of its file."""
    try:
        with safe_open(keys[name], framework="flax") as tensors:
            return np.asarray(tensors.get_tensor(name))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{keys[name]} cannot be read ({error}): fetch it again") from None


def spelled(name: str, keys: Container[str]) -> str:
    """The model's name of a tensor, empty if it has none: a head or none before it differ by a first word."""
    spellings = (name, f"model.{name}", name.partition(".")[2])
    return next((key for key in spellings if key in keys), "")
