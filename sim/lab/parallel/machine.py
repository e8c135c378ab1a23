"""What this machine is told before JAX is used, where it keeps things, and what its devices hold."""

import contextlib
import os
from pathlib import Path

import jax
import platformdirs

from sim.lab.parallel import kept

UNSET = -1
"""JAX's own number of CPU devices that nobody has set."""


def use_all_cores(cores: int | None = None) -> None:
    """Set JAX up for many small runs. Call before JAX is first used.

    On a CPU one device for each of the ``cores`` of this process (default: of the machine), since small
    matrices do not feed several, unless JAX_NUM_CPU_DEVICES says how many.
    """
    if "cpu" in os.environ.get("JAX_PLATFORMS", "cpu") and jax.config.jax_num_cpu_devices == UNSET:
        with contextlib.suppress(RuntimeError):  # JAX is in use already and keeps the devices it has
            jax.config.update("jax_num_cpu_devices", cores or os.cpu_count() or 1)


def cache_folder() -> Path:
    """The cache folder by the platform's convention (XDG_CACHE_HOME, Library/Caches, ...)."""
    return Path(platformdirs.user_cache_dir("lora-reuse"))


def keep_compiled() -> None:
    """Keep compiled programs in the cache folder, so that a second run starts at once.

    JAX's own cache is off then: what it loads it cannot write again whole, and we would keep the remains.
    """
    jax.config.update("jax_compilation_cache_dir", None)
    kept.keep(cache_folder() / "programs")


def fits(size: int) -> bool:
    """Whether programs that need ``size`` bytes a device leave half of its memory to what passes between."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return not limit or 2 * size <= limit
