"""Merge time against PEFT's on the same adapters, and against the floor in bytes and operations."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from sim.bench.clock import (
    benchmark,
    floor_columns,
    has_peers,
    machine_speed,
    random_adapters,
    seconds,
)
from sim.merge import Adapter, merge_adapters
from theory.lowrank import LowRank

RANK, ADAPTERS = 16, 2
SIZES = {512: 1, 1024: 1, 2048: 1, 4096: 32 * 7}
"""Modules merged at each width; 224 is a model of 32 layers with 7 adapted matrices each."""

PEFT_NAMES = {"sum": "cat", "svd": "svd", "linear_factors": "linear"}


def floor(method: str, width: int, modules: int) -> tuple[float, float]:
    """(bytes, operations) that any implementation must spend: factors in and out; QR, core SVD, factors."""
    total = RANK * ADAPTERS
    out_rank = {"sum": total}.get(method, RANK)
    moved = 4 * 2 * width * (total + out_rank)
    operations = {
        "sum": 2 * width * total,
        "linear_factors": 2 * 2 * width * total,
        # Two thin QRs with their Q (4 width R^2 each), the core's product and SVD, and the two new factors.
        "svd": 8 * width * total**2 + 24 * total**3 + 4 * width * total * out_rank,
    }[method]
    return float(moved * modules), float(operations * modules)


def peft_seconds(
    adapters: Sequence[Adapter], method: str, repeats: int
) -> tuple[float, dict[str, np.ndarray]]:
    """PEFT's time for ``add_weighted_adapter`` on these adapters, and its Delta W of the first module.

    The base model is linear layers that share one weight, so that 224 of them fit in memory.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    modules: Mapping[str, LowRank] = adapters[0].modules
    width = next(iter(modules.values())).a.shape[1]
    shared = torch.nn.Parameter(torch.zeros(width, width))
    base = torch.nn.Module()
    base.layers = torch.nn.ModuleList()
    for _ in modules:
        layer = torch.nn.Linear(1, 1, bias=False)
        layer.weight, layer.in_features, layer.out_features = shared, width, width
        base.layers.append(layer)
    config = {"r": RANK, "lora_alpha": 2 * RANK, "target_modules": list(modules)}
    model = get_peft_model(base, LoraConfig(**config), adapter_name="0")
    model.add_adapter("1", LoraConfig(**config))
    for adapter in adapters:
        for index, update in enumerate(adapter.modules.values()):
            layer = model.base_model.model.layers[index]
            layer.lora_A[str(adapter.path)].weight.data = torch.from_numpy(update.a)
            layer.lora_B[str(adapter.path)].weight.data = torch.from_numpy(update.b)
    options = {"svd_rank": RANK} if method == "svd" else {}
    names = iter(range(repeats))

    def run() -> None:
        model.add_weighted_adapter(
            ["0", "1"], [1.0, 1.0], f"merged{next(names)}", combination_type=PEFT_NAMES[method], **options
        )

    elapsed = seconds(run, repeats)
    with torch.no_grad():
        return elapsed, model.base_model.model.layers[0].get_delta_weight("merged0").numpy()


def error(adapters: Sequence[Adapter], method: str, delta: np.ndarray) -> float:
    """Relative error of the first module's merged Delta W against dense float64."""
    first = [next(iter(adapter.modules.values())) for adapter in adapters]
    exact = sum(update.scale * update.b.astype(np.float64) @ update.a.astype(np.float64) for update in first)
    if method == "svd":
        u, s, vt = np.linalg.svd(exact)
        exact = (u[:, :RANK] * s[:RANK]) @ vt[:RANK]
    return float(np.linalg.norm(delta - exact) / np.linalg.norm(exact))


@benchmark
def merge() -> pd.DataFrame:
    """Merge two rank-16 adapters: one module at widths 512 to 2048, and 224 modules at width 4096.

    PEFT (extra ``bench``) runs the same where installed. ``seconds`` is the shortest of 3 runs (1 for 224
    modules), ``first`` ours with compilation. PEFT's SVD at width 4096 is timed on one module (column
    ``timed``) and multiplied. ``error`` is relative, against dense float64, on the first module.
    """
    has_peft, machine = has_peers("peft"), machine_speed()
    cases = [(method, width, modules) for width, modules in SIZES.items() for method in PEFT_NAMES]
    rows = []
    for method, width, modules in tqdm(cases, desc="merge benchmark", unit="case"):
        adapters = random_adapters(width, width, RANK, modules)
        rank = RANK if method == "svd" else None
        repeats = 3 if modules == 1 else 1
        run = functools.partial(merge_adapters, adapters, method, rank=rank, progress=False)
        first = seconds(run, 1)
        warm = seconds(run, repeats)
        case = {"method": method, "width": width, "modules": modules, "rank": RANK, "adapters": ADAPTERS}
        case |= floor_columns(floor(method, width, modules), machine)
        update = next(iter(run()[0].values()))
        checked = method != "linear_factors" and width <= 1024
        ours = error(adapters, method, float(update.scale) * update.b @ update.a) if checked else np.nan
        row = {"tool": "ours", "timed": modules, "seconds": warm, "first": first, "error": ours}
        rows.append({**case, **row, "ratio_to_ours": 1.0})
        if has_peft:
            timed = 1 if method == "svd" else modules
            elapsed, delta = peft_seconds(random_adapters(width, width, RANK, timed), method, repeats)
            theirs = error(adapters, method, delta) if checked else np.nan
            whole = elapsed * modules / timed
            row = {"tool": "peft", "timed": timed, "seconds": whole, "first": np.nan, "error": theirs}
            rows.append({**case, **row, "ratio_to_ours": whole / warm})
    return pd.DataFrame(rows)
