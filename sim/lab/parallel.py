"""Many runs of one function: chunked, vmapped, sharded over devices. Knows nothing of LoRA.

Every call runs the same compiled program on the same shapes, however many runs are asked for: the last
chunk is padded by repeating a run. So a run's result does not depend on what it was batched with.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
from jax.sharding import AxisType, PartitionSpec


def use_all_cores() -> None:
    """Set JAX up for many small runs. Call before JAX is first used.

    On a CPU one device a core, since small matrices do not feed several. On a GPU no tuning of matrix
    products: with matrices this small it takes minutes to compile and gains nothing.
    """
    if "cpu" in os.environ.get("JAX_PLATFORMS", "cpu"):
        with contextlib.suppress(RuntimeError):  # JAX is in use already and keeps the devices it has
            jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0".strip()


def cache_folder() -> Path:
    """The cache folder by the platform's convention (XDG_CACHE_HOME, Library/Caches, ...)."""
    return Path(platformdirs.user_cache_dir("lora-reuse"))


def keep_compiled() -> None:
    """Keep compiled programs in the cache folder, so that a second run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def default_width() -> int:
    """Runs a device holds at a time: 1 on a CPU, where batching small products gains nothing."""
    return 1 if jax.default_backend() == "cpu" else 16


def each(function: Callable, stacked):
    """``function`` over the leading axis inside a program: one at a time on a CPU, all at once on a GPU."""
    return jax.lax.map(function, stacked) if default_width() == 1 else jax.vmap(function)(stacked)


def chunked(function: Callable, width: int | None = None) -> Callable[[list], Iterator]:
    """A generator over the results of ``function``, one program call for devices * width runs.

    Args:
        function: pytree of arrays -> pytree of arrays; traced once.
        width: runs vmapped on a device; ``default_width()`` if not given.

    Returns:
        ``mapped(inputs)``: takes a list of pytrees of equal shapes, yields ``(positions, results)`` for one
        chunk after the other, results as a list of NumPy pytrees. Nothing is lost if the caller stops early.
    """
    width = width or default_width()
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("runs",), axis_types=(AxisType.Auto,))

    def on_device(stacked):
        if width == 1:
            single = function(jax.tree.map(lambda leaf: leaf[0], stacked))
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], single)
        return jax.vmap(function)(stacked)

    spec = PartitionSpec("runs")
    program = jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    size = width * devices

    def mapped(inputs: list) -> Iterator[tuple[list[int], list]]:
        # One chunk ahead: the device computes the next chunk while the caller deals with this one.
        ahead = None
        for start in range(0, len(inputs), size):
            chunk = inputs[start : start + size]
            padded = chunk + [chunk[-1]] * (size - len(chunk))
            stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *padded)
            running = (list(range(start, start + len(chunk))), program(stacked))
            if ahead is not None:
                yield collected(*ahead)
            ahead = running
        if ahead is not None:
            yield collected(*ahead)

    def collected(positions: list[int], values) -> tuple[list[int], list]:
        values = jax.tree.map(np.asarray, values)
        return positions, [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(len(positions))]

    return mapped


def over(function: Callable, inputs: list) -> np.ndarray:
    """``function`` (array -> array) of every input, stacked along a new first axis (``chunked``)."""
    return np.concatenate([np.stack(values) for _, values in chunked(function)(inputs)])
