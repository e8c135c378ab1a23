"""Diagnosis time a module, against the same measures on whole factors and against the floor."""

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from sim.bench.clock import benchmark, clocked, floor_columns, machine_speed, random_adapters, seconds
from sim.diagnose import diagnose as diagnosed
from sim.diagnose.measure import measure_module
from sim.merge import Adapter
from theory.lowrank import cast

RANK, ADAPTERS = 16, 2
SHAPES = {(4096, 4096): 64, (1024, 4096): 64, (14336, 4096): 64, (4096, 14336): 32}
"""How many modules of each (out, in) a 7B model of 32 layers has: 224 in all."""


def floor(out_dim: int, in_dim: int, modules: int) -> tuple[float, float]:
    """(bytes, operations) that any implementation must spend: float32 factors in; two QRs without their Q."""
    total = RANK * ADAPTERS
    return 4.0 * (out_dim + in_dim) * total * modules, 2.0 * (out_dim + in_dim) * total**2 * modules


def on_whole_factors(adapters: list[Adapter]) -> dict:
    """The baseline: the same measures of the first module, on its factors as they are."""
    name = next(iter(adapters[0].modules))
    updates = [adapter.modules[name] for adapter in adapters]
    return jax.tree.map(np.asarray, measure_module([cast(update, np.float64) for update in updates]))


@benchmark
def diagnose() -> pd.DataFrame:
    """Diagnose two rank-16 adapters of all 224 modules of a 7B model, shape by shape.

    The baseline measures whole factors instead of shared cores; it is timed on one module (column ``timed``)
    and multiplied. ``first`` is with compilation, which ours needs once for all shapes. ``error`` is the
    largest relative difference of the two in the first module's inner products.
    """
    machine, rows = machine_speed(), []
    for (out_dim, in_dim), modules in tqdm(SHAPES.items(), desc="diagnose benchmark", unit="shape"):
        adapters = random_adapters(out_dim, in_dim, RANK, modules)
        case = {"out": out_dim, "in": in_dim, "modules": modules, "rank": RANK, "adapters": ADAPTERS}
        case |= floor_columns(floor(out_dim, in_dim, modules), machine)
        first, report = clocked(lambda: diagnosed(adapters))  # noqa: B023
        ours = seconds(lambda: diagnosed(adapters), 1)  # noqa: B023
        inner = np.array(next(iter(report["modules"].values()))["inner"])
        first_whole, exact = clocked(lambda: on_whole_factors(adapters)["inner"])  # noqa: B023
        whole = modules * seconds(lambda: on_whole_factors(adapters))  # noqa: B023
        for tool, timed, elapsed, cold, error in (
            ("ours", modules, ours, first, float(np.abs(inner - exact).max() / np.abs(exact).max())),
            ("whole factors", 1, whole, first_whole, np.nan),
        ):
            row = {"tool": tool, "timed": timed, "seconds": elapsed, "first": cold, "error": error}
            rows.append({**case, **row, "a_module": elapsed / modules, "ratio_to_ours": elapsed / ours})
    return pd.DataFrame(rows)
