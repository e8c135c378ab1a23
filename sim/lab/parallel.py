"""Many runs of one function: chunked, vmapped, sharded over devices. Knows nothing of LoRA.

Every call runs the same compiled program on the same shapes, however many runs are asked for: the last
chunk is padded by repeating a run. So a run's result does not depend on what it was batched with.
"""

import contextlib
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

RUNS = "runs"
"""Name of the axis along which runs are sharded over the devices."""


UNSET = -1
"""JAX's own number of CPU devices that nobody has set."""


@functools.cache
def _mesh() -> Mesh:
    return jax.make_mesh((jax.device_count(),), (RUNS,), axis_types=(AxisType.Auto,))


def use_all_cores(cores: int | None = None) -> None:
    """Set JAX up for many small runs. Call before JAX is first used.

    On a CPU one device for each of the ``cores`` of this process (default: of the machine), since small
    matrices do not feed several, unless JAX_NUM_CPU_DEVICES says how many. On a GPU
    no tuning of matrix products: with matrices this small it takes minutes to compile and gains nothing.
    """
    if "cpu" in os.environ.get("JAX_PLATFORMS", "cpu") and jax.config.jax_num_cpu_devices == UNSET:
        with contextlib.suppress(RuntimeError):  # JAX is in use already and keeps the devices it has
            jax.config.update("jax_num_cpu_devices", cores or os.cpu_count() or 1)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0".strip()


def cache_folder() -> Path:
    """The cache folder by the platform's convention (XDG_CACHE_HOME, Library/Caches, ...)."""
    return Path(platformdirs.user_cache_dir("lora-reuse"))


def keep_compiled() -> None:
    """Keep compiled programs in the cache folder, so that a second run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


MOST = 512
"""Runs that an accelerator holds at a time, if they fit its memory."""


def default_width(runs: int) -> int:
    """How many of ``runs`` runs a device holds at a time.

    1 on a CPU, where batching small products gains nothing and rounds in other ways; on an accelerator as
    many as there are up to ``MOST``, in chunks of one size.
    """
    if jax.default_backend() == "cpu" or not runs:
        return 1
    each = -(-runs // jax.device_count())
    return -(-each // -(-each // MOST))


def fits(size: int) -> bool:
    """Whether programs that need ``size`` bytes a device leave half of its memory to what passes between."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return not limit or 2 * size <= limit


def compiler_options(effort: int) -> dict[str, int | bool]:
    """What the compiler is told on a CPU, where it takes longer than most of what it compiles.

    effort: LLVM's optimisation level. 1 compiles a training loop in 0.7 of the time of XLA's own setting (2),
        to run as fast; 0 in 0.3, to run three times as long: right for what runs for milliseconds.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, int | bool] = {"xla_backend_optimization_level": effort}
    # Later releases have no other emitters, and refuse the option. Together with effort 0 it would make the
    # last bits of a result depend on the number of devices.
    if effort and jax.__version_info__ < (0, 11):
        options["xla_cpu_use_fusion_emitters"] = False
    return options


class Program:
    """A pure function over the leading axis of its arguments, compiled once for equal shapes.

    The axis is sharded over the devices; a device with one run computes that run alone, one with more vmaps.
    Inside ``prepare`` it takes shapes instead of arrays, notes what must be compiled, and returns shapes.
    """

    def __init__(self, function: Callable, *static, effort: int = 1):
        """
        Args:
            static: hashable first arguments of ``function``; what it computes depends on nothing else.
            effort: see ``compiler_options``.
        """
        spec = PartitionSpec(RUNS)
        self._effort = effort

        def on_device(*stacked):
            if jax.tree.leaves(stacked)[0].shape[0] == 1:
                single = function(*static, *jax.tree.map(lambda leaf: leaf[0], stacked))
                return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], single)
            return jax.vmap(functools.partial(function, *static))(*stacked)

        self.name = getattr(getattr(function, "func", function), "__name__", "program").strip("_")
        on_device.__name__ = on_device.__qualname__ = self.name
        self._jitted = jax.jit(
            jax.shard_map(on_device, mesh=_mesh(), in_specs=spec, out_specs=spec, check_vma=False)
        )
        self._traced: dict = {}
        self._compiled: dict = {}

    def __call__(self, *stacked):
        """The function of every run: pytrees of arrays with equal first axes, a multiple of the devices."""
        leaves, tree = jax.tree.flatten(stacked)
        shapes = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if shapes not in self._traced:
            sharding = NamedSharding(_mesh(), PartitionSpec(RUNS))
            given = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) for leaf in leaves]
            self._traced[shapes] = self._jitted.trace(*jax.tree.unflatten(tree, given))
        if _PLANNED:
            _PLANNED[-1](self, shapes)
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._traced[shapes].out_info
            )
        if shapes not in self._compiled:
            self.compile(shapes)
        return self._compiled[shapes](*stacked)

    def compile(self, shapes) -> int:
        """Compile for arguments of these shapes, as ``prepare`` noted them; the bytes a call needs."""
        if shapes not in self._compiled:
            lowered = self._traced[shapes].lower()
            self._compiled[shapes] = lowered.compile(compiler_options=compiler_options(self._effort))
        found = self._compiled[shapes].memory_analysis()
        return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes


_PLANNED: list[Callable] = []
"""While ``prepare`` runs stages on shapes alone: what to do with each program and its shapes."""


@functools.cache
def program(function: Callable, *static) -> Program:
    """The one ``Program`` of a function and its static arguments in this process."""
    return Program(function, *static)


@functools.cache
def brief(function: Callable, *static) -> Program:
    """``program`` of a function that runs for milliseconds: compiled with little effort."""
    return Program(function, *static, effort=0)


def prepare(stages: Callable, shapes) -> int:
    """Compile every program that ``stages`` will call for arguments of these shapes.

    ``stages`` is run on shapes alone, so between its programs it may only pass results on. A program is
    compiled in a thread of its own while the next one is traced. Returns the bytes the largest one needs.
    """
    compiling: dict = {}
    start, waiting = time.monotonic(), list(getattr(tqdm, "_instances", ()))
    with (
        ThreadPoolExecutor(max(2, (os.cpu_count() or 1) // 2)) as threads,
        tqdm(desc="compiling", unit="program", leave=False, delay=1) as bar,
    ):

        def note(found, shapes):
            if (found, shapes) not in compiling:
                compiling[found, shapes] = threads.submit(found.compile, shapes)
                compiling[found, shapes].add_done_callback(lambda _: bar.update())
                bar.set_postfix_str(found.name, refresh=False)

        _PLANNED.append(note)
        try:
            stages(shapes)
        finally:
            _PLANNED.pop()
        bar.total = len(compiling)
        largest = max((done.result() for done in compiling.values()), default=0)
        quiet = bar.disable  # as in a worker
    if not quiet:
        _tell(compiling, time.monotonic() - start)
    for other in waiting:
        other.unpause()  # what was compiled is no part of how long a unit takes
    return largest


TOLD = 2.0
"""Seconds of compiling from which on a line says what took them."""


def _tell(compiled: Iterable, seconds: float) -> None:
    if seconds < TOLD:
        return
    names = Counter(program.name for program, _ in compiled)
    said = ", ".join(name if count == 1 else f"{name} x {count}" for name, count in names.items())
    tqdm.write(f"compiled {said} in {seconds:.0f} s", file=sys.stderr)


def chunked(function: Callable, width: int | None = None) -> Callable[[list], Iterator]:
    """A generator over the results of ``function``, one program call for devices * width runs.

    Args:
        function: pytree of arrays -> pytree of arrays; traced once.
        width: see ``here``.
    """
    return here(Program(function), width)


@dataclass(frozen=True)
class Executor:
    """Who computes what a command does in stages, if not this process (``sim.lab.cluster``).

    in_stages: as ``here``, of stages that can be pickled; chunks may come in any order.
    devices:   how many there are and of which kind, as ``devices`` says it.
    """

    in_stages: Callable[[Callable], Callable[[list], Iterator]]
    devices: tuple[int, str]


_ELSEWHERE: list[Executor] = []


@contextlib.contextmanager
def computing(executor: Executor) -> Iterator[None]:
    """Within the block ``executor`` does what ``in_stages`` is given."""
    _ELSEWHERE.append(executor)
    try:
        yield
    finally:
        _ELSEWHERE.pop()


def devices() -> tuple[int, str]:
    """How many devices compute what is done in stages, and of which kind."""
    return _ELSEWHERE[-1].devices if _ELSEWHERE else (jax.device_count(), jax.devices()[0].device_kind)


def in_stages(stages: Callable) -> Callable[[list], Iterator]:
    """A generator over the results of many runs, computed in this process unless an executor is at work.

    Args and returns: see ``here``; chunks may come in another order than their jobs.
    """
    return _ELSEWHERE[-1].in_stages(stages) if _ELSEWHERE else here(stages)


def here(stages: Callable, width: int | None = None) -> Callable[[list], Iterator]:
    """A generator over the results of many runs, chunk by chunk, each of devices * width runs.

    Args:
        stages: takes the inputs of a chunk, stacked, and returns its results, stacked, by calls of
            ``program`` between which it only passes results on.
        width: runs vmapped on a device; if not given, ``default_width`` or as many as fit its memory.

    Returns:
        ``mapped(inputs)``: takes a list of pytrees of equal shapes, yields ``(positions, results)`` for one
        chunk after the other, results as a list of NumPy pytrees. Nothing is lost if the caller stops early.
    """

    def mapped(inputs: list) -> Iterator[tuple[list[int], list]]:
        ahead, held = None, width or default_width(len(inputs))
        if inputs and not width:
            while not fits(prepare(stages, shapes_of(inputs[0], held))) and held > 1:
                held = -(-held // 2)
        size = held * jax.device_count()
        sharding = NamedSharding(_mesh(), PartitionSpec(RUNS))
        for start in range(0, len(inputs), size):
            chunk = inputs[start : start + size]
            padded = chunk + [chunk[-1]] * (size - len(chunk))
            stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *padded)
            # One chunk ahead: the device computes the next chunk while the caller deals with this one.
            running = (
                list(range(start, start + len(chunk))),
                stages(jax.device_put(stacked, sharding)),
            )
            if ahead is not None:
                yield collected(*ahead)
            ahead = running
        if ahead is not None:
            yield collected(*ahead)

    def shapes_of(job, held):
        def of(leaf):
            leaf = np.asarray(leaf)
            return jax.ShapeDtypeStruct((held * jax.device_count(), *leaf.shape), leaf.dtype)

        return jax.tree.map(of, job)

    def collected(positions: list[int], values) -> tuple[list[int], list]:
        values = jax.tree.map(np.asarray, values)
        return positions, [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(len(positions))]

    return mapped


def over(function: Callable, inputs: list) -> np.ndarray:
    """``function`` (array -> array) of every input, stacked along a new first axis (``chunked``)."""
    return np.concatenate([np.stack(values) for _, values in chunked(function)(inputs)])
