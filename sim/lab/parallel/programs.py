"""Programs: functions of many runs, each compiled once for equal shapes, in threads, ahead of its use."""

import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from sim.lab.parallel import kept

RUNS = "runs"
"""Name of the axis along which runs are sharded over the devices."""


@functools.cache
def mesh() -> Mesh:
    """All devices, along the axis ``RUNS``."""
    return jax.make_mesh((jax.device_count(),), (RUNS,), axis_types=(AxisType.Auto,))


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


class Ready(NamedTuple):
    """A program for arguments of certain shapes: the shapes of its results, and the program itself, soon."""

    results: Any
    compiled: Future


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
        self._options = compiler_options(effort)
        self._made_of = function, static, self._options

        def on_device(*stacked):
            if jax.tree.leaves(stacked)[0].shape[0] == 1:
                single = function(*static, *jax.tree.map(lambda leaf: leaf[0], stacked))
                return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], single)
            return jax.vmap(functools.partial(function, *static))(*stacked)

        self.name = getattr(getattr(function, "func", function), "__name__", "program").strip("_")
        on_device.__name__ = on_device.__qualname__ = self.name
        self._jitted = jax.jit(
            jax.shard_map(on_device, mesh=mesh(), in_specs=spec, out_specs=spec, check_vma=False)
        )
        self._ready: dict[Any, Ready] = {}

    def __call__(self, *stacked):
        """The function of every run: pytrees of arrays with equal first axes, a multiple of the devices."""
        leaves, tree = jax.tree.flatten(stacked)
        shapes = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if shapes not in self._ready:
            self._ready[shapes] = self._made(*shapes)
        ready = self._ready[shapes]
        if _PLANNED:
            _PLANNED[-1](self, ready.compiled)
            return ready.results
        return ready.compiled.result()(*stacked)

    def _made(self, tree, leaves) -> Ready:
        """Loaded if it is kept, else traced here and compiled in a thread."""
        path = kept.path_of(*self._made_of, tree, leaves)
        if found := kept.read(path):
            return Ready(found.results, _threads().submit(self._loaded, found, tree, leaves))
        traced = self._trace(tree, leaves)
        results = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), traced.out_info)
        return Ready(results, _threads().submit(self._compiled, traced, results, path))

    def _trace(self, tree, leaves):
        sharding = NamedSharding(mesh(), PartitionSpec(RUNS))
        given = [jax.ShapeDtypeStruct(*leaf, sharding=sharding) for leaf in leaves]
        return self._jitted.trace(*jax.tree.unflatten(tree, given))

    def _compiled(self, traced, results, path):
        compiled = traced.lower().compile(compiler_options=self._options)
        kept.write(path, compiled, results)
        return compiled

    def _loaded(self, found: kept.Kept, tree, leaves):
        return found.load(tree) or self._compiled(self._trace(tree, leaves), found.results, None)


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


def begin(
    stages: Callable, shapes, note: Callable[["Program", Future], None] = lambda program, compiling: None
) -> None:
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
    compiling: dict[Future, str] = {}
    start, waiting = time.monotonic(), list(getattr(tqdm, "_instances", ()))
    with tqdm(desc="compiling", unit="program", leave=False, delay=1) as bar:

        def note(program: Program, one: Future) -> None:
            if one not in compiling:
                compiling[one] = program.name
                one.add_done_callback(lambda _: bar.update())
                bar.set_postfix_str(program.name, refresh=False)

        begin(stages, shapes, note)
        bar.total = len(compiling)
        largest = max((_bytes(one.result()) for one in compiling), default=0)
        quiet = bar.disable  # as in a worker
    if not quiet:
        _tell(compiling.values(), time.monotonic() - start)
    for other in waiting:
        other.unpause()  # what was compiled is no part of how long a unit takes
    return largest


TOLD = 2.0
"""Seconds of compiling from which on a line says what took them."""


def _tell(names: Iterable[str], seconds: float) -> None:
    if seconds >= TOLD:
        counted = Counter(names).items()
        said = ", ".join(name if count == 1 else f"{name} x {count}" for name, count in counted)
        tqdm.write(f"compiled {said} in {seconds:.0f} s", file=sys.stderr)


def _bytes(compiled) -> int:
    """What a call of a compiled program needs on a device."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
