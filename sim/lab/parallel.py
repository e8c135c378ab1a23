"""Many runs of one function: vmapped on a device, sharded over devices, chunk by chunk.

Every call runs the same compiled program on the same shapes, however many runs there are: the last chunk is
padded by repeating a run. So a run's result does not depend on what it was batched with.

The main thread only waits for other threads: Python raises KeyboardInterrupt between two instructions of its
own, and a program compiles or runs for longer than anybody wants to wait for Ctrl-C.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled
from tqdm import tqdm

RUNS = "runs"
"""Name of the axis along which runs are sharded over the devices."""

MOST = 512
"""Runs that an accelerator holds at a time, if they fit its memory."""

DELAY = 2.0
"""Seconds of compiling from which on a bar shows it."""

PLANNED: ContextVar[dict[Future, str]] = ContextVar("planned")
"""Every compilation that the ``plan`` of this thread leads to, with the program's name."""

COMPILERS = ThreadPoolExecutor(os.cpu_count(), "compile")
STACKERS = ThreadPoolExecutor(os.cpu_count(), "stack")
LOCK = threading.Lock()
TRACER, PLANNER, RUNNER = (ThreadPoolExecutor(1, name) for name in ("trace", "plan", "run"))


def use_all_cores(cores: int | None = None) -> None:
    """Set JAX up for many small runs. Call before JAX is first used.

    On a CPU one device for each of the ``cores`` of this process (default: of the machine), since small
    matrices do not feed several, unless JAX_NUM_CPU_DEVICES says how many.
    """
    unset = jax.config.jax_num_cpu_devices == -1
    if unset and "cpu" in os.environ.get("JAX_PLATFORMS", "cpu"):
        with contextlib.suppress(RuntimeError):  # JAX is in use already and keeps the devices it has
            jax.config.update("jax_num_cpu_devices", cores or os.cpu_count() or 1)


def devices() -> tuple[int, str]:
    """How many devices this process has, and of which kind."""
    return jax.device_count(), jax.devices()[0].device_kind


def cache_folder() -> Path:
    """The cache folder by the platform's convention (XDG_CACHE_HOME, Library/Caches, ...)."""
    return Path(platformdirs.user_cache_dir("lora-reuse"))


def cache_programs() -> None:
    """Keep compiled programs, by JAX's own cache, in the cache folder unless JAX has another one."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@functools.cache
def mesh() -> Mesh:
    """All devices, along the axis ``RUNS``."""
    return jax.make_mesh((jax.device_count(),), (RUNS,), axis_types=(AxisType.Auto,))


def compiler_options(effort: int) -> dict[str, int | bool]:
    """What the compiler is asked for: by default it takes longer than most of what it compiles.

    effort: 0 for what runs for milliseconds, 1 for training, 2 for hours of it. On a CPU it is LLVM's
        optimisation level: 1 compiles a training loop in 0.7 of the time of XLA's own setting (2), to run as
        fast; 0 in 0.3, to run three times as long. On a GPU below 2 matrix products are cuBLAS's own: trying
        others out takes as long as compiling, and makes a training step a fifth faster.
    """
    if jax.default_backend() != "cpu":
        return {} if effort > 1 else {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
    options: dict[str, int | bool] = {"xla_backend_optimization_level": effort}
    # Later releases have no other emitters, and refuse the option. Together with effort 0 it would make the
    # last bits of a result depend on the number of devices.
    if effort and jax.__version_info__ < (0, 11):
        options["xla_cpu_use_fusion_emitters"] = False
    return options


class Program:
    """A pure function over the leading axis of its arguments, compiled once for equal shapes.

    The axis is sharded over the devices; a device with one run computes that run alone, one with more vmaps.
    """

    def __init__(self, function: Callable, *static, effort: int = 1):
        """
        Args:
            static: hashable first arguments of ``function``; what it computes depends on nothing else.
            effort: see ``compiler_options``.
        """

        def on_device(*runs):
            if jax.tree.leaves(runs)[0].shape[0] == 1:
                result = function(*static, *jax.tree.map(lambda leaf: leaf[0], runs))
                return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], result)
            return jax.vmap(functools.partial(function, *static))(*runs)

        name = getattr(getattr(function, "func", function), "__name__", "program").strip("_")
        self.name = on_device.__name__ = on_device.__qualname__ = name
        shards = PartitionSpec(RUNS)
        on_mesh = jax.shard_map(on_device, mesh=mesh(), in_specs=shards, out_specs=shards, check_vma=False)
        self._function = jax.jit(on_mesh, compiler_options=compiler_options(effort))
        self._compilations: dict[Any, tuple[Any, Future]] = {}
        self._lock = threading.Lock()

    def __call__(self, *runs):
        """The function of every run: pytrees of arrays with equal first axes, a multiple of the devices.

        Of the shapes of such arrays no result is computed: its shapes are returned, and ``PLANNED`` has the
        program.
        """
        leaves, tree = jax.tree.flatten(runs)
        shapes = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        with self._lock:
            if shapes not in self._compilations:
                sharding = NamedSharding(mesh(), PartitionSpec(RUNS))
                arrays = [jax.ShapeDtypeStruct(*leaf, sharding=sharding) for leaf in shapes[1]]
                trace = self._function.trace(*jax.tree.unflatten(tree, arrays))
                compilation = COMPILERS.submit(lambda: trace.lower().compile())
                self._compilations[shapes] = trace.out_info, compilation
            results, compilation = self._compilations[shapes]
        if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
            return compilation.result()(*runs)
        PLANNED.get()[compilation] = self.name
        return results


PROGRAMS = functools.cache(Program)


def program(function: Callable, *static, effort: int = 1) -> Program:
    """The one ``Program`` of a function and its static arguments in this process, whatever thread asks."""
    with LOCK:
        return PROGRAMS(function, *static, effort=effort)


brief_program = functools.partial(program, effort=0)
"""``program`` of a function that runs for milliseconds: compiled with little effort."""


def default_width(runs: int, backend: str, devices: int) -> int:
    """How many of ``runs`` runs each device of a backend holds at a time.

    1 on a CPU, where batching small products gains nothing and rounds in other ways; on an accelerator as
    many as there are up to ``MOST``, in chunks of one size.
    """
    if backend == "cpu" or not runs:
        return 1
    each = -(-runs // devices)
    return -(-each // -(-each // MOST))


def plan(stages: Callable, job, width: int) -> dict[Future, str]:
    """Begin to compile every program that ``stages`` calls for chunks of jobs like this, and name them."""
    PLANNED.set(programs := {})

    def shape(leaf):
        leaf = np.asarray(leaf)
        return jax.ShapeDtypeStruct((width * jax.device_count(), *leaf.shape), leaf.dtype)

    stages(jax.tree.map(shape, job))
    return programs


def precompile(stages: Callable, job, width: int) -> list[Compiled]:
    """``plan``, and wait until all are compiled."""
    programs = PLANNER.submit(plan, stages, job, width).result()
    waiting = list(getattr(tqdm, "_instances", ()))
    bar = tqdm(as_completed(programs), "compiling", len(programs), unit="program", delay=DELAY)
    for compilation in bar:
        bar.set_postfix_str(programs[compilation], refresh=False)
    for other in waiting:
        other.unpause()  # what was compiled is no part of how long a unit takes
    return [compilation.result() for compilation in programs]


def memory(compilation: Compiled) -> int:
    """Bytes that a program needs on a device. To ask takes a CPU as long as to compile a small one."""
    sizes = compilation.memory_analysis()
    return sizes.temp_size_in_bytes + sizes.argument_size_in_bytes + sizes.output_size_in_bytes


def fits(compilations: list[Compiled]) -> bool:
    """Whether each of these programs leaves half of a device's memory to what passes between them."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return not limit or 2 * max(map(memory, compilations)) <= limit


def _stacked(leaves: tuple) -> np.ndarray:
    """One leaf of all jobs. Several are copied at once, since NumPy lets other threads run meanwhile."""
    return np.stack([np.asarray(leaf) for leaf in leaves])


def map_runs(stages: Callable, jobs: list, width: int | None = None) -> Iterator[tuple[list[int], list]]:
    """Run ``stages`` for every job, chunk by chunk, each of devices * width runs.

    Args:
        stages: takes the jobs of a chunk, stacked, and returns their results, stacked, by calls of
            ``Program`` between which it only passes results on.
        jobs: pytrees of arrays of equal shapes.
        width: runs vmapped on a device; if not given, ``default_width`` or as many as fit its memory.

    Yields:
        (positions, results) of one chunk after the other, results as NumPy pytrees. Nothing is lost if the
        caller stops early.
    """
    if not jobs:
        return
    early = False
    if width is None:
        width = default_width(len(jobs), jax.default_backend(), jax.device_count())
        early = width == 1  # nothing to halve: the first chunk begins with what is compiled already
        while width > 1 and not fits(precompile(stages, jobs[0], width)):
            width = -(-width // 2)
    size = width * jax.device_count()
    sharding = NamedSharding(mesh(), PartitionSpec(RUNS))

    def start(chunk: list) -> Future:
        chunk = chunk + chunk[-1:] * (size - len(chunk))
        copies = jax.tree.map(lambda *leaves: STACKERS.submit(_stacked, leaves), *chunk)
        runs = jax.tree.map(Future.result, copies)
        return RUNNER.submit(lambda: stages(jax.device_put(runs, sharding)))

    def finish(first: int, running: Future) -> tuple[list[int], list]:
        values = RUNNER.submit(jax.device_get, running.result()).result()
        positions = list(range(first, min(first + size, len(jobs))))
        return positions, [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(len(positions))]

    previous = None
    for first in range(0, len(jobs), size):
        # One chunk ahead: the device computes the next chunk while the caller deals with this one.
        running = first, start(jobs[first : first + size])
        if early and not first:
            precompile(stages, jobs[0], width)
        if previous:
            yield finish(*previous)
        previous = running
    yield finish(*previous)


def map_arrays(function: Callable, inputs: list) -> np.ndarray:
    """``function`` (array -> array) of every input, stacked along a new first axis (``map_runs``)."""
    return np.concatenate([np.stack(values) for _, values in map_runs(Program(function), inputs)])


@dataclass(frozen=True)
class RunContext:
    """Who computes the runs of a command, here this process, and whether it keeps pretrained bases.

    ``sim.lab.cluster`` has the other one.
    """

    use_cache: bool = False

    @property
    def devices(self) -> tuple[int, str]:
        """How many devices compute, and of which kind."""
        return devices()

    def map_runs(self, stages: Callable, jobs: list) -> Iterator[tuple[list[int], list]]:
        """``map_runs``. ``stages`` can be pickled; chunks may come in another order than their jobs."""
        return map_runs(stages, jobs)

    def precompile(self, stages: Callable, job, count: int) -> None:
        """Begin to compile what ``map_runs`` will need for ``count`` jobs like this, and return at once."""
        TRACER.submit(plan, stages, job, default_width(count, jax.default_backend(), jax.device_count()))


THIS_PROCESS = RunContext()
"""The context of functions that are called without one."""
