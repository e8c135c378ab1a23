"""The report of a library: every module measured, and the whole as one block-diagonal update.

``diagnose`` returns plain Python data, ready for JSON.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sim.diagnose.fold import folded
from sim.diagnose.measure import measure_features, measure_module, shared_cores
from sim.diagnose.recommend import gathered, recommend
from sim.diagnose.warnings import doubts, notes, start_cosines
from sim.lab.report import natural
from sim.merge import Adapter, aligned
from sim.merge.layouts import disjoint_pairs
from sim.merge.peft.rounding import round_factors
from theory import coverage
from theory.lowrank import LowRank, cast


def diagnose(
    adapters: Sequence[Adapter],
    features: Mapping[str, np.ndarray] | None = None,
    base: Path | None = None,
) -> dict[str, Any]:
    """Diagnose K >= 2 adapters: {"modules": {name: ...}, "total": ..., ...}, plain data only.

    "doubts": what makes the rest doubtful, in sentences; "warnings": these and remarks; "total" holds the
    recommendation; "disjoint" the pairs of adapters, from 0, that change no module in common.
    A module that an adapter does not have counts as Delta W = 0 in it.

    "zero" maps each module in which some adapter has Delta W = 0 to those adapters, counted from 0. There
    they are updates without directions, and what would be said of directions is NaN.

    ``features`` maps a module name to activations (tokens, in) at that module's input, and optionally
    "<module>@<i>" to those of adapter i's own training prompts (i from 0). Computed in float64.
    base: the folder of the base model, of which a few matrices are read (``fold``).
    Raises: ValueError for fewer than two adapters, another base model's modules, an adapter that is zero in
    every module, or features that fit no module.
    """
    if len(adapters) < 2:
        raise ValueError(
            f"give two or more adapters, not {len(adapters)}; python -m sim.diagnose --help has two examples"
        )
    adapters = aligned(adapters)
    features = dict(features or {})
    _check_features(adapters, features)
    modules = {}
    names = sorted(adapters[0].modules, key=natural)
    for name in tqdm(names, desc="diagnosing", unit="module", leave=False, delay=1):
        updates = [cast(adapter.modules[name], np.float64) for adapter in adapters]
        measures = measure_module(shared_cores(updates))
        if name in features:
            own = [features.get(f"{name}@{i}") for i in range(len(adapters))]
            own = [None if x is None else x.astype(np.float64) for x in own]
            measures["features"] = measure_features(updates, features[name].astype(np.float64), own)
        measures = jax.tree.map(np.asarray, measures)
        measures["typical_lambda"] = np.array([directions.typical() for directions in gathered([measures])])
        modules[name] = measures
    norms = np.sum([measures["norm2"] for measures in modules.values()], axis=0)
    for adapter, size in zip(adapters, norms, strict=True):
        if size == 0:
            raise ValueError(
                f"{adapter.path} has Delta W = 0 (untrained?) in all modules: nothing to compare"
            )
    zero = {name: np.flatnonzero(measures["norm2"] == 0) for name, measures in modules.items()}
    report = {"adapters": [str(adapter.path) for adapter in adapters], "modules": modules}
    report["zero"] = {name: at for name, at in zero.items() if len(at)}
    report["disjoint"] = disjoint_pairs(adapters)
    report["base"] = str(base or _base(adapters))
    report["total"] = _total(list(modules.values())) | {
        "start_cosine": start_cosines(adapters),
        "random_interference": max(
            math.sqrt(update.a.shape[0] / update.a.shape[1])
            for adapter in adapters
            for update in adapter.modules.values()
        ),
        "rounding": _rounding(adapters),
        **(folded(adapters, base) if base else {}),
    }
    report["doubts"] = doubts(adapters, report)
    report["warnings"] = [*report["doubts"], *notes(adapters, report)]
    return _plain(report)


def _base(adapters: Sequence[Adapter]) -> str:
    """The base that the adapters name, if it is a folder here."""
    path = str(adapters[0].config.get("base_model_name_or_path") or "")
    return path if path and Path(path).is_dir() else ""


def _rounding(adapters: Sequence[Adapter]) -> float:
    """The largest share of a module that the sum of the adapters loses in bfloat16."""
    losses = [0.0]
    for name in adapters[0].modules:
        updates = [cast(adapter.modules[name], np.float64) for adapter in adapters]
        b = np.concatenate([update.b * update.scale for update in updates], axis=1)
        losses.append(round_factors(LowRank(b, np.concatenate([u.a for u in updates])), "bfloat16")[2])
    return max(losses)


def _plain(value: Any) -> Any:
    """Arrays as lists, in the order given (``jax.tree.map`` would sort the modules by spelling)."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _check_features(adapters: Sequence[Adapter], features: Mapping[str, np.ndarray]) -> None:
    for key, x in features.items():
        name, _, index = key.partition("@")
        if name not in adapters[0].modules or (index and index not in map(str, range(len(adapters)))):
            example = next(iter(adapters[0].modules))
            raise ValueError(
                f"features {key!r} fit no adapted module; name them like {example!r} or '{example}@0'"
            )
        width = adapters[0].modules[name].a.shape[1]
        if x.ndim != 2 or x.shape[1] != width or not np.isfinite(x.astype(np.float64)).all():
            raise ValueError(f"features {key!r} must be finite, (tokens, {width}); found shape {x.shape}")


def _total(modules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The library as one block-diagonal update: squares add, shares of directions are weighted by energy."""

    def added(key: str) -> np.ndarray:
        return np.sum([module[key] for module in modules], axis=0)

    def known_mean(key: str) -> np.ndarray:
        """Mean over the modules in which it is known; NaN where it is in none."""
        values = np.stack([module[key] for module in modules])
        valid = np.sum(~np.isnan(values), axis=0)
        return np.where(valid > 0, np.nansum(values, axis=0) / np.maximum(valid, 1), np.nan)

    norms = np.sqrt(added("norm2"))
    count = len(norms)
    library = gathered(modules)
    typical = [directions.typical() for directions in library]
    worst = max(directions.largest() for directions in library)
    advice = dataclasses.asdict(recommend(library))
    cross = math.sqrt(float(added("cross2"))) if all("cross2" in module for module in modules) else None
    return {
        "norm": norms,
        "cosine": added("inner") / np.outer(norms, norms),
        "interference": np.sqrt(added("interference2")) / norms[:, None],
        "effective_rank": known_mean("effective_rank"),
        "prototype_cosine": known_mean("prototype_cosine"),
        "average_norm": math.sqrt(float(added("sum2"))) / count,
        "cross_term_norm": cross,
        "svd_lost": max(0.0, 1.0 - float(added("svd_kept2") / added("sum2"))) if added("sum2") > 0 else 0.0,
        "kept_average": [directions.survival(1.0 / count) for directions in library],
        "kept_sum": [directions.survival(1.0) for directions in library],
        "smallest_lambda_worst": worst,
        "smallest_lambda_typical": typical,
        "largest_library_worst": coverage.largest_library(worst),
        "largest_library_typical": coverage.largest_library(max(typical)),
        "recommendation": {"kept" if key == "survival" else key: value for key, value in advice.items()},
    }
