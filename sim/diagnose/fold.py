"""What folding an update into the base's own matrix does: rounding to bfloat16, and intruder dimensions.

An intruder dimension is a left singular vector of W + Delta W, among the ``TOP`` largest, that is like none
of W: its largest |cosine| to these is below ``LIKE`` (Shuttleworth et al. 2024, arXiv 2410.21228).
"""

from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from jaxtyping import Float

from sim.merge import Adapter
from sim.merge.check.shards import read_tensor, shards, spelled
from theory.lowrank import dense

TOP = 10
"""Singular vectors that are looked at."""

LIKE = 0.5
"""|Cosine| from which a vector counts as one of the base."""

MODULES = 4
"""Modules that are looked at, evenly spread: each takes two dense SVDs."""


def read_matrices(base: Path, names: Sequence[str]) -> dict[str, Float[np.ndarray, "out in"]]:
    """The base's matrices of up to ``MODULES`` of these modules, evenly spread, in float32.

    Raises: ValueError, one line, for a folder without safetensors or with none of the modules.
    """
    keys = shards(base, "--base")
    places = {name: spelled(f"{name}.weight", keys) for name in names}
    there = [name for name in names if places[name]]
    if not there:
        raise ValueError(f"--base {base} has no module {names[0]}: it is another model")
    chosen = [there[i] for i in np.unique(np.linspace(0, len(there) - 1, MODULES).astype(int))]
    return {name: read_tensor(keys, places[name]).astype(np.float32) for name in chosen}


def rounding_loss(matrix: Float[np.ndarray, "out in"], delta: Float[np.ndarray, "out in"]) -> float:
    """|bf16(W + Delta W) - (W + Delta W)|_F / |Delta W|_F; 0 for an update of zero."""
    total = matrix.astype(np.float64) + delta
    size = np.linalg.norm(delta)
    rounded = total.astype(ml_dtypes.bfloat16).astype(np.float64)
    return float(np.linalg.norm(rounded - total) / size) if size else 0.0


def intruders(matrix: Float[np.ndarray, "out in"], delta: Float[np.ndarray, "out in"]) -> int:
    """How many of the ``TOP`` left singular vectors of W + Delta W are like none of W (above rounding)."""
    own, s, _ = np.linalg.svd(matrix, full_matrices=False)
    own = own[:, s > 1e-6 * s[0]]
    top = np.linalg.svd(matrix + delta, full_matrices=False)[0][:, :TOP]
    return int(np.sum(np.abs(own.T @ top).max(axis=0) < LIKE))


def folded(adapters: Sequence[Adapter], base: Path) -> dict[str, float]:
    """{"fold_loss": ..., "intruders": ...}: the worst over adapters and the modules that are looked at.

    Raises: ValueError as ``read_matrices`` does, and for a matrix of another shape.
    """
    losses, counts = [0.0], [0]
    for name, matrix in read_matrices(base, list(adapters[0].modules)).items():
        for adapter in adapters:
            delta = np.asarray(dense(adapter.modules[name]), np.float64)
            if adapter.config.get("fan_in_fan_out"):
                delta = delta.T
            if delta.shape != matrix.shape:
                raise ValueError(
                    f"--base {base}: {name} is {matrix.shape}, the adapters have {delta.shape}: another model"
                )
            losses.append(rounding_loss(matrix, delta))
            counts.append(intruders(matrix, delta))
    return {"fold_loss": max(losses), "intruders": max(counts)}
