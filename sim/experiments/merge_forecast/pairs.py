"""What the files of two adapters say of their merge: numbers of ``sim.diagnose`` and published metrics."""

import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
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


def _row(*pair: dict[str, LowRank]) -> dict[str, float]:
    jax.config.update("jax_platforms", "cpu")
    return pair_row(*pair)


def pair_table(
    names: dict[str, object],
    library: dict[str, LowRank],
    pool: Executor,
    pairs: Sequence[tuple[int, int]] = (),
) -> pd.DataFrame:
    """A row a pair of adapters of a library, or of ``pairs`` alone. names: the first columns."""
    count = next(iter(library.values())).b.shape[0]
    pairs = list(pairs or itertools.combinations(range(count), 2))
    each = {place: modules(library, place) for place in sorted({i for pair in pairs for i in pair})}
    futures = [pool.submit(_row, each[i], each[j]) for i, j in pairs]
    label = "_".join(str(value) for value in names.values())
    rows = []
    for (i, j), future in zip(pairs, tqdm(futures, desc=f"pairs of {label}", unit="pair"), strict=True):
        rows.append({**names, "left": i, "right": j, **future.result()})
    return pd.DataFrame(rows)
