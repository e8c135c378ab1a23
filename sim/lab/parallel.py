"""Many runs of one function: chunked, vmapped, sharded over devices. Knows nothing of LoRA.

Every call runs the same compiled program on the same shapes, however many runs are asked for: the last
chunk is padded by repeating a run. So a run's result does not depend on what it was batched with.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    matrices do not feed several, unless JAX_NUM_CPU_DEVICES says how many.
    """
    if "cpu" in os.environ.get("JAX_PLATFORMS", "cpu") and jax.config.jax_num_cpu_devices == UNSET:
        with contextlib.suppress(RuntimeError):  # JAX is in use already and keeps the devices it has
            jax.config.update("jax_num_cpu_devices", cores or os.cpu_count() or 1)


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
    """What the compiler is told: by default it takes longer than most of what it compiles.

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


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Where programs are compiled."""
    return ThreadPoolExecutor(os.cpu_count())


class Program:
    """A pure function over the leading axis of its arguments, compiled once for equal shapes.

    The axis is sharded over the devices; a device with one run computes that run alone, one with more vmaps.
    Inside ``begin`` it takes shapes instead of arrays, has itself compiled for them, and returns shapes.
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

        on_device.__name__ = on_device.__qualname__ = getattr(function, "__name__", "on_device")
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
            _PLANNED[-1](self._compiling(shapes))
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._traced[shapes].out_info
            )
        return self._compiling(shapes).result()(*stacked)

    def _compiling(self, shapes) -> Future:
        """The compiled program for traced shapes, soon."""
        if shapes not in self._compiled:
            self._compiled[shapes] = _threads().submit(self._compile, shapes)
        return self._compiled[shapes]

    def _compile(self, shapes):
        lowered = self._traced[shapes].lower()
        return lowered.compile(compiler_options=compiler_options(self._effort))


_PLANNED: list[Callable] = []
"""While ``begin`` runs stages on shapes alone: what to do with each program that is being compiled."""


@functools.cache
def program(function: Callable, *static) -> Program:
    """The one ``Program`` of a function and its static arguments in this process."""
    return Program(function, *static)


@functools.cache
def brief(function: Callable, *static) -> Program:
    """``program`` of a function that runs for milliseconds: compiled with little effort."""
    return Program(function, *static, effort=0)


def begin(stages: Callable, shapes, note: Callable[[Future], None] = lambda compiling: None) -> None:
    """Have every program compiled that ``stages`` will call for arguments of these shapes, and go on.

    ``stages`` is run on shapes alone, so between its programs it may only pass results on. A program is
    compiled in a thread of its own while the next one is traced; ``note`` is called with each call's.
    """
    _PLANNED.append(note)
    try:
        stages(shapes)
    finally:
        _PLANNED.pop()


def prepare(stages: Callable, shapes) -> int:
    """``begin``, and wait until all are compiled. Returns the bytes the largest one needs."""
    compiling: set[Future] = set()
    with tqdm(desc="compiling", unit="program", leave=False, delay=1) as bar:

        def note(one: Future) -> None:
            if one not in compiling:
                compiling.add(one)
                one.add_done_callback(lambda _: bar.update())

        begin(stages, shapes, note)
        bar.total = len(compiling)
        return max((_bytes(one.result()) for one in compiling), default=0)


def _bytes(compiled) -> int:
    """What a call of a compiled program needs on a device."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes


def expect(stages: Callable, job, count: int) -> None:
    """Have compiled, beside whatever comes first, what ``in_stages(stages)`` will need for ``count`` runs.

    Args:
        job: pytree of arrays shaped like each run's inputs.
    """
    if not _ELSEWHERE:
        begin(stages, _shapes_of(job, default_width(count)))


def _shapes_of(job, held: int):
    """Shapes of a chunk of runs like ``job``, ``held`` on a device."""

    def of(leaf):
        leaf = np.asarray(leaf)
        return jax.ShapeDtypeStruct((held * jax.device_count(), *leaf.shape), leaf.dtype)

    return jax.tree.map(of, job)


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
            while not fits(prepare(stages, _shapes_of(inputs[0], held))) and held > 1:
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

    def collected(positions: list[int], values) -> tuple[list[int], list]:
        values = jax.tree.map(np.asarray, values)
        return positions, [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(len(positions))]

    return mapped


def over(function: Callable, inputs: list) -> np.ndarray:
    """``function`` (array -> array) of every input, stacked along a new first axis (``chunked``)."""
    return np.concatenate([np.stack(values) for _, values in chunked(function)(inputs)])
