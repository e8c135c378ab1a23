"""Adapters and bases of the Hugging Face hub by their id, ``org/name``; a folder of that name always wins."""

import re
from pathlib import Path

ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors")
"""Files of an adapter that are fetched: no base model that lies beside them."""

BASE = ("*.json", "*.safetensors", "*.model", "*.txt", "*.tiktoken", "*.vocab", "*.codes", "*.bpe", "*.spm")
"""Files of a base that are fetched: configuration, safetensors, vocabulary; no folders of other formats."""

FILES = {
    ADAPTER: "give the folder that holds adapter_config.json",
    BASE: "give the folder of the base model, which holds config.json",
}
"""Files that are fetched -> what else to give."""


def local(path: Path, wanted: tuple[str, ...] = ADAPTER) -> Path:
    """The path itself; where nothing is there and it reads like an id, the folder of the hub's files.

    wanted: a key of ``FILES``.
    Raises: ValueError, one line, without the network, the package huggingface_hub or such a repository.
    """
    if path.exists() or not ID.fullmatch(path.as_posix()):
        return path
    try:
        return Path(download(path.as_posix(), wanted))
    except ImportError:
        reason = "pip install huggingface_hub to fetch it from the hub"
    except Exception as error:  # the hub's, the network's and the disk's, all their own kinds
        first = str(error).strip().split("\n")[0].rstrip(".")
        reason = f"nor can it be fetched from the Hugging Face hub ({type(error).__name__}: {first})"
    raise ValueError(f"{path} is not a folder here; {reason}; {FILES[wanted]}")


def local_base(path: str | Path) -> Path:
    """``local`` of a base model."""
    return local(Path(path), BASE)


def download(name: str, wanted: tuple[str, ...]) -> str:
    """The files of a repository in the user's cache."""
    from huggingface_hub import snapshot_download

    return snapshot_download(name, allow_patterns=list(wanted), ignore_patterns=["*/*"])
