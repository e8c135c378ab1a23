"""The registry of benchmarks, and the machine's own speed for comparison."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab.registry import Registry, summary_of
from sim.merge import Adapter
from sim.model.training import PRECISION
from theory.lowrank import LowRank


@dataclass(frozen=True)
class Benchmark:
    """A named benchmark: ``run()`` measures and returns one row a measurement."""

    name: str
    run: Callable[[], pd.DataFrame]
    summary: str


BENCHMARKS: Registry[Benchmark] = Registry("benchmark")


def benchmark(function: Callable[[], pd.DataFrame]) -> Callable[[], pd.DataFrame]:
    """Register a benchmark under its function's name."""
    BENCHMARKS.add(function.__name__, Benchmark(function.__name__, function, summary_of(function)))
    return function


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of ``repeats`` wall times of a call, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def has_peers(*packages: str) -> bool:
    """Whether the packages of a peer are installed."""
    return all(importlib.util.find_spec(name) for name in packages)


def random_adapters(out_dim: int, in_dim: int, rank: int, modules: int = 1) -> list[Adapter]:
    """Two adapters with random factors in float32, scale 2."""
    rng = np.random.default_rng(0)
    sides = (out_dim, rank), (rank, in_dim)
    return [
        Adapter(Path(name), {}, {
            f"layers.{index}": LowRank(*(rng.standard_normal(side, np.float32) for side in sides), 2.0)
            for index in range(modules)
        })
        for name in "01"
    ]  # fmt: skip


def on_cpu() -> bool:
    """Whether JAX runs on a CPU."""
    return jax.default_backend() == "cpu"


def on_devices(devices: int, module: str, call: str) -> Any:
    """What a call in a benchmark's module returns, in a process that sees the first ``devices`` devices."""
    ids = ",".join(map(str, range(devices)))
    limit = {"JAX_NUM_CPU_DEVICES": str(devices)} if on_cpu() else {"CUDA_VISIBLE_DEVICES": ids}
    code = f"import json; from sim.bench import {module}; print(json.dumps({module}.{call}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | limit, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def clocked(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of one call until its result is ready, result)."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def machine_speed() -> tuple[float, float]:
    """(bytes copied a second, float32 operations a second) of JAX's first device, measured.

    Operations as training does them (``training.PRECISION``); on a CPU NumPy's, which use all cores.
    """
    if on_cpu():
        block = np.ones(1 << 26, np.float32)
        target = np.empty_like(block)
        bandwidth = 2 * block.nbytes / seconds(lambda: np.copyto(target, block))
        side = 2048
        left = np.ones((side, side), np.float32)
        return bandwidth, 2 * side**3 / seconds(lambda: left @ left)
    block = jnp.ones(1 << 28, jnp.float32)
    plus_one = jax.jit(lambda block: block + 1)
    side = 8192
    with jax.default_matmul_precision(PRECISION):
        square = jax.jit(lambda left: left @ left)
        left = jnp.ones((side, side), jnp.float32)
        for call in (lambda: plus_one(block), lambda: square(left)):
            clocked(call)  # compiled
        return (
            2 * block.nbytes / min(clocked(lambda: plus_one(block))[0] for _ in range(5)),
            2 * side**3 / min(clocked(lambda: square(left))[0] for _ in range(5)),
        )


def floor_columns(floor: tuple[float, float], machine: tuple[float, float]) -> dict[str, float]:
    """Columns of the least (bytes, operations) of a case, and the time they take at ``machine_speed``."""
    moved, operations = floor
    columns = {"floor_bytes": moved, "floor_operations": operations}
    return columns | {"floor_seconds": max(moved / machine[0], operations / machine[1])}
