"""The folder of a base, looked at without loading it: whether it is one, and what its files contain."""

from pathlib import Path

from sim.lab import files
from sim.merge.peft.contents import BEGINNING, identify

CONFIG = "config.json"

SUFFIXES = frozenset(
    (".json", ".safetensors", ".bin", ".model", ".txt", ".tiktoken", ".vocab", ".codes", ".bpe", ".spm")
)
"""Ends of the names of configurations, weights and vocabularies."""

WITHOUT_EFFECT = frozenset(("generation_config.json", "training_args.bin"))
"""Files with such ends that change no logits."""

SAFE = ("model.safetensors", "model.safetensors.index.json")
"""Where one of these is, transformers reads no ``.bin``."""


def require_base(base: Path) -> None:
    """Raise ValueError unless a folder is that of a model, without an adapter's files or saved web pages."""
    adapter = (base / "adapter_config.json").is_file()
    if not (base / CONFIG).is_file():
        other = "an adapter's folder: give that of its base" if adapter else f"it holds no {CONFIG}"
        raise ValueError(f"{base} is not the folder of a model: {other}")
    if adapter:
        raise ValueError(
            f"{base} holds an adapter's adapter_config.json beside the base: transformers would load both "
            "as the base; move the adapter_* files to a folder of their own"
        )
    for path in sorted(base.iterdir()):
        if path.suffix in SUFFIXES and path.is_file():
            with path.open("rb") as file:
                head = file.read(BEGINNING)
            # A pointer or a page; a sound file begins with neither letter.
            if head[:1] in (b"v", b"<") and (meaning := identify(head)):
                raise ValueError(f"{path} {meaning}")


def contents(base: Path) -> dict[str, str]:
    """{name: digest of its contents} of every file that decides the logits: weights, tokenizer, config.json.

    Raises: ValueError for a folder that is no base (``require_base``), OSError for an unreadable file.
    """
    require_base(base)
    safe = any((base / name).is_file() for name in SAFE)
    suffixes = SUFFIXES - ({".bin"} if safe else set())
    return files.digests(
        path for path in base.iterdir() if path.suffix in suffixes and path.name not in WITHOUT_EFFECT
    )
