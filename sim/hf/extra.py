"""The extra ``hf``, asked for by name where it is not installed."""

import importlib
import importlib.util
from importlib import metadata
from types import ModuleType

PACKAGES = ("torch", "transformers", "peft")


def installed() -> bool:
    """Whether the extra is there."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def releases() -> dict[str, str]:
    """The release of each package, without the name of its build: 2.14.1 of 2.14.1+cu130."""
    return {name: metadata.version(name).partition("+")[0] for name in PACKAGES}


def with_extra(module: str) -> ModuleType:
    """Import a module of ours that needs the extra. Raises ValueError with the remedy where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        raise ValueError(
            f"running a model needs {', '.join(PACKAGES)} and {error.name} is not installed: "
            "pip install -e '.[hf]'"
        ) from None
