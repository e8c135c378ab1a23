"""What the files of two adapters say of their merge: numbers of ``sim.diagnose`` and published metrics."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from sim.diagnose.report import diagnose
from sim.hf.weights import module_name
from sim.merge import Adapter
from theory import pairwise
from theory.lowrank import LowRank


def modules(library: dict[str, LowRank], place: int) -> dict[str, LowRank]:
    """One adapter of a library, leaves (K, N, ...), by the names of its modules; NumPy, float32."""
    return {
        module_name(kind, layer): LowRank(
            *(np.asarray(part[place, layer], np.float32) for part in (update.b, update.a)),
            float(update.scale[place, layer]),
        )
        for kind, update in library.items()
        for layer in range(update.b.shape[1])
    }


def pair_row(left: dict[str, LowRank], right: dict[str, LowRank]) -> dict[str, float]:
    """Metrics of ``theory.pairwise``, and what ``sim.diagnose`` says of the average and of the sum."""
    metrics = {name: float(value) for name, value in pairwise.measure(left, right).items()}
    config = {"peft_type": "LORA", "base_model_name_or_path": "base"}
    adapters = [Adapter(Path(name), config, part) for name, part in (("left", left), ("right", right))]
    total = diagnose(adapters)["total"]
    advice = total["recommendation"]
    says = {f"kept_{how}_{i + 1}": total[f"kept_{how}"][i] for how in ("average", "sum") for i in range(2)}
    says |= {f"certain_{i + 1}": advice["certain"][i] for i in range(2)}
    says |= {f"interference_{i + 1}": total["interference"][i][1 - i] for i in range(2)}
    return metrics | says | {"action": advice["action"], "lam": advice["lam"]}


def _rows(library: dict[str, LowRank], names: dict[str, object], pairs: Sequence[tuple[int, int]]):
    jax.config.update("jax_platforms", "cpu")
    each = {place: modules(library, place) for place in sorted({i for pair in pairs for i in pair})}
    return [{**names, "left": i, "right": j, **pair_row(each[i], each[j])} for i, j in pairs]


def pair_table(libraries: Sequence[tuple[dict, dict[str, LowRank]]], workers: int) -> pd.DataFrame:
    """A row a pair of adapters of each (names, library), on ``workers`` processors."""
    tasks = []
    for names, library in libraries:
        pairs = list(itertools.combinations(range(names["adapters"]), 2))
        tasks += [(library, names, pairs[at : at + 8]) for at in range(0, len(pairs), 8)]
    rows = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_rows, *task) for task in tasks]
        for future in tqdm(futures, desc="pairs", unit="batch"):
            rows += future.result()
    return pd.DataFrame(rows)
