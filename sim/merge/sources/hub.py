"""Adapters of the Hugging Face hub by their id, ``org/name``; a folder of that name always wins."""

import re
from pathlib import Path

ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

WANTED = ("adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors")
"""Files that are fetched: no base model that lies beside them."""


def local(path: Path) -> Path:
    """The path itself; where nothing is there and it reads like an id, the folder of the hub's files.

    Raises: ValueError, one line, without the network, the package huggingface_hub or such a repository.
    """
    if path.exists() or not ID.fullmatch(path.as_posix()):
        return path
    try:
        return Path(download(path.as_posix()))
    except ImportError:
        reason = "pip install huggingface_hub to fetch it from the hub"
    except Exception as error:  # the hub's, the network's and the disk's, all their own kinds
        reason = f"nor can it be fetched from the Hugging Face hub ({type(error).__name__}: {_first(error)})"
    raise ValueError(f"{path} is not a folder here; {reason}; give the folder that holds adapter_config.json")


def download(name: str) -> str:
    """The files of a repository in the user's cache."""
    from huggingface_hub import snapshot_download

    return snapshot_download(name, allow_patterns=list(WANTED))


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
