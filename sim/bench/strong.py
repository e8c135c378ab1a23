"""Strong scaling: the same work on 1, 2, 4, ... devices of one host."""

import jax
import pandas as pd
from tqdm import tqdm

from sim.bench import clock, language, train
from sim.bench.clock import benchmark, clocked, on_cpu


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


def on_devices(devices: int, function: str, arguments: tuple[int, ...]) -> dict[str, float]:
    """A case in a process of its own that sees only the first ``devices`` devices."""
    elapsed, measured = clocked(lambda: clock.on_devices(devices, "strong", f"{function}(*{arguments})"))
    return measured | {"process": elapsed}


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
            rows.append({"case": name, "devices": devices, **on_devices(devices, function, arguments)})
    table = pd.DataFrame(rows)
    one = table.groupby("case")["seconds"].transform("first")
    table["speedup"] = one / table["seconds"]
    return table.assign(efficiency=table["speedup"] / table["devices"])
