"""Cost of a configuration against the number that runs at once, and against the number of devices."""

import jax
import pandas as pd
from tqdm import tqdm

from sim.bench import clock, train
from sim.bench.clock import benchmark, on_cpu

WIDTH, STEPS = 64, 50


def counts() -> tuple[int, ...]:
    """Configurations run at once: up to 4096 on an accelerator, fewer on a CPU, which runs one a core."""
    return (1, 4, 16, 64) if on_cpu() else (1, 16, 256, 1024, 4096)


def timed(count: int) -> dict[str, float]:
    """Microseconds of one step of one of ``count`` adapters, on the devices of this process."""
    elapsed, first, _ = train.ours(WIDTH, count, STEPS)
    return {"microseconds": 1e6 * elapsed / (count * STEPS), "first": first}


def on_devices(devices: int, count: int) -> dict[str, float]:
    """``timed`` in a process of its own that sees only the first ``devices`` devices."""
    return clock.on_devices(devices, "scale", f"timed({count})")


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
    fewer = [2**power for power in range(everything.bit_length()) if 2**power < everything]
    for devices in tqdm(fewer, desc="devices", unit="size"):
        rows.append({"configurations": most, "devices": devices, **on_devices(devices, most)})
    table = pd.DataFrame(rows)
    return table.assign(ratio_to_ours=table["microseconds"] / full)
