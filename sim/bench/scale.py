"""Cost of a configuration against the number that runs at once, and against the number of devices."""

import json
import os
import subprocess
import sys

import jax
import pandas as pd
from tqdm import tqdm

from sim.bench import train
from sim.bench.clock import benchmark

WIDTH, STEPS = 64, 50


def on_cpu() -> bool:
    """Whether the adapters train on a CPU."""
    return jax.default_backend() == "cpu"


def counts() -> tuple[int, ...]:
    """Configurations run at once: up to 4096 on an accelerator, fewer on a CPU, which runs one a core."""
    return (1, 4, 16, 64) if on_cpu() else (1, 16, 256, 1024, 4096)


def timed(count: int) -> dict[str, float]:
    """Microseconds of one step of one of ``count`` adapters, on the devices of this process."""
    elapsed, first, _ = train.ours(WIDTH, count, STEPS)
    return {"microseconds": 1e6 * elapsed / (count * STEPS), "first": first}


def on_devices(devices: int, count: int) -> dict[str, float]:
    """``timed`` in a process of its own that sees only the first ``devices`` devices."""
    ids = ",".join(map(str, range(devices)))
    limit = {"JAX_NUM_CPU_DEVICES": str(devices)} if on_cpu() else {"CUDA_VISIBLE_DEVICES": ids}
    code = f"import json; from sim.bench import scale; print(json.dumps(scale.timed({count})))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | limit, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


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
