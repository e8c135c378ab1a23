"""Scaling: the cost of a configuration by how many run at once, and the same work on 1, 2, 4, ... devices."""

import jax
import pandas as pd
from tqdm import tqdm

from sim.bench import clock, language, train
from sim.bench.clock import benchmark, clocked, on_cpu

WIDTH, STEPS = 64, 50


def on_devices(devices: int, function: str, *arguments: int) -> dict[str, float]:
    """A measurement of this file in a process of its own that sees only the first ``devices`` devices."""
    return clock.on_devices(devices, "scale", f"{function}(*{arguments})")


def counts() -> tuple[int, ...]:
    """Configurations run at once: up to 4096 on an accelerator, fewer on a CPU, which runs one a core."""
    return (1, 4, 16, 64) if on_cpu() else (1, 16, 256, 1024, 4096)


def timed(count: int) -> dict[str, float]:
    """Microseconds of one step of one of ``count`` adapters, on the devices of this process."""
    elapsed, first, _ = train.ours(WIDTH, count, STEPS)
    return {"microseconds": 1e6 * elapsed / (count * STEPS), "first": first}


@benchmark
def scale() -> pd.DataFrame:
    """Train adapters of width 64: 1 to 4096 at once (64 on a CPU), then the most on 1, 2, ... devices.

    ``microseconds`` are of one step of one adapter; ``ratio_to_ours`` is against the most at once on all
    devices, where 1/devices in time is what strong scaling could give.
    """
    most, everything = counts()[-1], jax.device_count()
    rows = []
    for count in tqdm(counts(), desc="configurations", unit="size"):
        rows.append({"configurations": count, "devices": everything, **timed(count)})
    full = rows[-1]["microseconds"]
    fewer = [count for count in device_counts() if count < everything]
    for devices in tqdm(fewer, desc="devices", unit="size"):
        rows.append({"configurations": most, "devices": devices, **on_devices(devices, "timed", most)})
    table = pd.DataFrame(rows)
    return table.assign(ratio_to_ours=table["microseconds"] / full)


def two_hop(width: int, adapters: int, steps: int) -> dict[str, float]:
    """Adapters of the two-hop world's decoder, all at once."""
    elapsed, first, loss = train.ours(width, adapters, steps)
    return {"seconds": elapsed, "first": first, "loss": loss}


def language_model(adapters: int, steps: int) -> dict[str, float]:
    """Adapters of SmolLM2-135M's sizes (on a CPU of a tiny Llama), as many at a time as memory holds."""
    model = language.TINY if on_cpu() else language.SMOLLM2
    most = language.AT_ONCE * jax.device_count()
    milliseconds, first, loss = language.ours(model, min(most, adapters), steps=steps, repeats=1)
    # Chunks run one after the other and differ in nothing but their numbers: one is measured.
    return {"seconds": 1e-3 * milliseconds * steps * adapters, "first": first, "loss": loss}


def cases() -> dict[str, tuple[str, tuple[int, ...]]]:
    """By name: the function that measures, and its arguments."""
    if on_cpu():
        return {"two-hop world, width 64": ("two_hop", (64, 8, 50)), "language": ("language_model", (8, 2))}
    return {
        "4096 adapters, two-hop world, width 64": ("two_hop", (64, 4096, 50)),
        "4096 adapters, two-hop world, width 128": ("two_hop", (128, 4096, 50)),
        "256 adapters of rank 8, SmolLM2-135M, 100 steps": ("language_model", (256, 100)),
    }


def device_counts() -> list[int]:
    """1, 2, 4, ... up to all devices."""
    return [2**power for power in range(jax.device_count().bit_length())]


@benchmark
def strong() -> pd.DataFrame:
    """Strong scaling of training: the same adapters on 1, 2, 4, ... devices, each in a process of its own.

    ``seconds`` are of all steps of all adapters, ``first`` of the first call with compiling, ``process`` of
    the whole process; ``speedup`` is against one device and ``efficiency`` that over the number of devices.
    ``loss`` is the same for all up to rounding.
    """
    rows = []
    for name, (function, arguments) in tqdm(cases().items(), desc="strong scaling", unit="case"):
        for devices in device_counts():
            elapsed, row = clocked(lambda: on_devices(devices, function, *arguments))  # noqa: B023
            rows.append({"case": name, "devices": devices, **row, "process": elapsed})
    table = pd.DataFrame(rows)
    one = table.groupby("case")["seconds"].transform("first")
    table["speedup"] = one / table["seconds"]
    return table.assign(efficiency=table["speedup"] / table["devices"])
