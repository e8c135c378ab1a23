"""Pretrained bases on disk, found by the hash of everything that made them."""

from pathlib import Path

import jax
import numpy as np
import platformdirs
from safetensors.numpy import load_file, save_file

from sim.lab import files
from sim.lab.store import digest


def folder() -> Path:
    """The cache folder by the platform's convention (XDG_CACHE_HOME, Library/Caches, ...)."""
    return Path(platformdirs.user_cache_dir("lora-reuse"))


def keep_compiled() -> None:
    """Keep compiled programs beside the bases, so that a second run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def base_path(config: object) -> Path:
    """Where a base of this configuration is kept; the backend and JAX's version are part of the name."""
    made_by = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    return folder() / "bases" / f"{digest([config, made_by], 24)}.safetensors"


def load(path: Path) -> dict[str, np.ndarray] | None:
    """The parameters at ``path``, or None if there are none or the file is damaged (it is made anew)."""
    try:
        return load_file(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # the reader raises its own type for a truncated file
        print(f"ignoring a damaged cached base, {path}: {error}")
        return None


def save(path: Path, params: dict[str, np.ndarray]) -> None:
    """Write atomically: two runs at once both leave a whole file."""
    with files.replacing(path) as part:
        save_file({name: np.ascontiguousarray(value) for name, value in params.items()}, part)
