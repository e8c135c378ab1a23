"""Measure a library of adapters, module by module and in total, from its factors (and features, if given).

``diagnose`` returns plain Python data, ready for JSON. The predictions (critical lambda, largest library,
coverage) are calls into ``theory``; nothing here merges or runs a model.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.merge import Adapter, check_mergeable
from sim.merge.methods.linear import combination, cross_terms
from sim.model.routing import gate, prototypes
from theory import coverage, interference
from theory.lowrank import LowRank, apply, inner, norm, singular


@jax.jit
def measure_module(updates: Sequence[LowRank]) -> dict[str, Any]:
    """Everything known of one module without data; arrays are (K,), (K, K), or lists of K.

    Squares that add up over modules are kept as squares.
    """
    count = len(updates)
    triplets = [interference.bases(update) for update in updates]
    pairs = [[(triplets[i], triplets[j]) for j in range(count)] for i in range(count)]

    def table(function) -> Array:
        return jnp.stack([jnp.stack([function(i, j) for j in range(count)]) for i in range(count)])

    rows = [[interference.principal_cosines(p[2], q[2]) for p, q in row] for row in pairs]
    columns = [[interference.principal_cosines(p[0], q[0]) for p, q in row] for row in pairs]
    spectra = [s for _, s, _ in triplets]
    retained = [interference.retained(updates, i) for i in range(count)]
    total = combination(updates, jnp.ones(count, updates[0].b.dtype))
    rank = max(update.a.shape[0] for update in updates)
    result = {
        "spectrum": spectra,
        "norm2": jnp.stack([jnp.sum(jnp.square(s)) for s in spectra]),
        "effective_rank": jnp.stack([interference.effective_rank(s) for s in spectra]),
        "arrow_gap": jnp.stack([interference.arrow_gap(s) for s in spectra]),
        "inner": table(lambda i, j: inner(updates[i], updates[j])),
        "row_cosines": rows,
        "column_cosines": columns,
        "interference2": table(
            lambda i, j: jnp.square(interference.interference(updates[j], triplets[i][2]))
        ),
        "prototype_cosine": table(lambda i, j: jnp.abs(triplets[i][2][:, 0] @ triplets[j][2][:, 0])),
        "retained": retained,
        "critical_lambda": [coverage.critical_lambda(1.0, 2.0 * g) for g in retained],
        "sum2": jnp.square(norm(total)),
        "svd_kept2": jnp.sum(jnp.square(singular(total)[1][:rank])),
    }
    if len({update.a.shape[0] for update in updates}) == 1:
        result["cross2"] = jnp.square(norm(cross_terms(updates, jnp.ones(count, updates[0].b.dtype) / count)))
    return result


@jax.jit
def measure_features(
    updates: Sequence[LowRank], x: Float[Array, "tokens in"], own: Sequence[Float[Array, "n in"] | None]
) -> dict[str, Array]:
    """The coverage law on activations x: kappa per adapter and token, and what it decides at 1 and at 1/K.

    kappa_i(x) = |Delta W_i x| / full swing; the full swing is the mean |Delta W_i x'| over the adapter's own
    training activations if given, else the largest it could be at that norm, s_1 |x| (so kappa is a lower
    bound). The rank's share rho is inside the measured swing.
    """
    count = len(updates)
    kappas = []
    for update, mine in zip(updates, own, strict=True):
        swing = jnp.linalg.norm(apply(update, x), axis=-1)
        if mine is None:
            full = singular(update)[1][0] * jnp.linalg.norm(x, axis=-1)
        else:
            full = jnp.broadcast_to(jnp.mean(jnp.linalg.norm(apply(update, mine), axis=-1)), swing.shape)
        kappas.append(swing / jnp.where(full > 0, full, 1))
    kappa = jnp.stack(kappas)
    chosen = {
        f"{name}_choice": jnp.mean(gate(x, prototypes(name, updates), top_k=1) > 0, axis=0)
        for name in ("arrow", "spectr")
    }
    return {
        "kappa": kappa,
        "critical_lambda": coverage.critical_lambda(1.0, 2.0 * kappa),
        "covered_alone": jnp.mean(coverage.decides(1.0, kappa, 1.0), axis=-1),
        "covered_average": jnp.mean(coverage.decides(1.0 / count, kappa, 1.0), axis=-1),
        "covered_by_any": jnp.mean(jnp.any(coverage.decides(1.0 / count, kappa, 1.0), axis=0)),
        **chosen,
    }


def natural(name: str) -> list[Any]:
    """Sort key that puts layer 2 before layer 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def diagnose(adapters: Sequence[Adapter], features: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
    """Diagnose K >= 2 adapters: {"modules": {name: ...}, "total": ...}, lists and numbers only.

    ``features`` maps a module name to activations (tokens, in) at that module's input, and optionally
    "<module>@<i>" to those of adapter i's own training prompts (i from 0). Computed in float64.
    Raises: ValueError for fewer than two adapters, mismatched modules, or features that fit no module.
    """
    if len(adapters) < 2:
        raise ValueError(f"a diagnosis compares at least two adapters, not {len(adapters)}")
    check_mergeable(adapters)
    features = dict(features or {})
    _check_features(adapters, features)
    modules = {}
    for name in sorted(adapters[0].modules, key=natural):
        updates = [_double(adapter.modules[name]) for adapter in adapters]
        for adapter, update in zip(adapters, updates, strict=True):
            if not np.any(update.b) or not np.any(update.a):
                raise ValueError(f"{adapter.path}: {name} has Delta W = 0 (untrained?); nothing to compare")
        found = measure_module(updates)
        if name in features:
            own = [features.get(f"{name}@{i}") for i in range(len(adapters))]
            own = [None if x is None else x.astype(np.float64) for x in own]
            found["features"] = measure_features(updates, features[name].astype(np.float64), own)
        modules[name] = jax.tree.map(np.asarray, found)
    report = {"adapters": [str(adapter.path) for adapter in adapters], "modules": modules}
    report["total"] = _total(list(modules.values()))
    return _plain(report)


def _double(update: LowRank) -> LowRank:
    return LowRank(update.b.astype(np.float64), update.a.astype(np.float64), float(update.scale))


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
            known = next(iter(adapters[0].modules))
            raise ValueError(
                f"features {key!r} fit no adapted module; name them like {known!r} or '{known}@0'"
            )
        width = adapters[0].modules[name].a.shape[1]
        if x.ndim != 2 or x.shape[1] != width or not np.isfinite(x.astype(np.float64)).all():
            raise ValueError(f"features {key!r} must be finite, (tokens, {width}); found shape {x.shape}")


def _total(modules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The library as one block-diagonal update: squares add, shares of directions are weighted by energy."""

    def added(key: str) -> np.ndarray:
        return np.sum([module[key] for module in modules], axis=0)

    norms = np.sqrt(added("norm2"))
    count = len(norms)
    critical = [np.concatenate([m["critical_lambda"][i] for m in modules]) for i in range(count)]
    energy = [np.concatenate([np.square(m["spectrum"][i]) for m in modules]) for i in range(count)]
    known = [np.isfinite(e) & ~np.isnan(c) for c, e in zip(critical, energy, strict=True)]

    def kept(lam: float) -> list[float]:
        """Share of each adapter's energy in directions that survive at lambda; a tie counts half."""
        shares = []
        for c, e, ok in zip(critical, energy, known, strict=True):
            held = np.where(np.isclose(c[ok], lam, atol=1e-9), 0.5, c[ok] < lam)
            shares.append(float(np.sum(held * e[ok]) / np.sum(e[ok])))
        return shares

    worst = max(float(np.max(c[ok])) for c, ok in zip(critical, known, strict=True))
    typical = [
        float(_weighted_median(c[ok], e[ok])) for c, e, ok in zip(critical, energy, known, strict=True)
    ]
    cross = math.sqrt(float(added("cross2"))) if all("cross2" in module for module in modules) else None
    return {
        "norm": norms,
        "cosine": added("inner") / np.outer(norms, norms),
        "interference": np.sqrt(added("interference2")) / norms[:, None],
        "effective_rank": added("effective_rank") / len(modules),
        "prototype_cosine": added("prototype_cosine") / len(modules),
        "average_norm": math.sqrt(float(added("sum2"))) / count,
        "cross_term_norm": cross,
        "svd_lost": max(0.0, 1.0 - float(added("svd_kept2") / added("sum2"))) if added("sum2") > 0 else 0.0,
        "kept_average": kept(1.0 / count),
        "kept_sum": kept(1.0),
        "smallest_lambda_worst": worst,
        "smallest_lambda_typical": typical,
        "largest_library_worst": coverage.largest_library(worst),
        "largest_library_typical": coverage.largest_library(max(typical)),
    }


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(running, running[-1] / 2)])
