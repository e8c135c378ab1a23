"""Many runs of one function: chunked, vmapped, sharded over devices. Knows nothing of LoRA.

Every call runs the same compiled program on the same shapes, however many runs are asked for: the last
chunk is padded by repeating a run. So a run's result does not depend on what it was batched with.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sim.lab.parallel.machine import fits
from sim.lab.parallel.programs import RUNS, Program, begin, mesh, prepare

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
        sharding = NamedSharding(mesh(), PartitionSpec(RUNS))
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


def over(function: Callable, inputs: list) -> np.ndarray:
    """``function`` (array -> array) of every input, stacked along a new first axis (``chunked``)."""
    return np.concatenate([np.stack(values) for _, values in chunked(function)(inputs)])
