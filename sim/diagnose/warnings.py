"""What makes a diagnosis doubtful, said before anything else."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.merge import Adapter
from sim.merge.layouts import disjoint_note

BFLOAT16 = 2.0**-8
"""Relative rounding of bfloat16, the coarsest type that adapters are kept in: less is not seen in a file."""


SAME_START = 0.9
"""Cosine of two factors A, as they stand, above which they began as one: unrelated ones have about 0."""


def doubts(adapters: Sequence[Adapter], report: Mapping[str, Any]) -> list[str]:
    """Sentences on other base models, adapters without a common module, near zero, alike, of equal seeds."""
    disjoint = [disjoint_note(report["disjoint"])] if report["disjoint"] else []
    return [
        *_bases(adapters),
        *disjoint,
        *_near_zero(report),
        *_alike(report),
        *_equal_starts(report),
    ]


def notes(adapters: Sequence[Adapter], report: Mapping[str, Any]) -> list[str]:
    """Sentences on idle modules and on what was read otherwise than it stands: no reason to doubt."""
    remarks = [f"note: {adapter.note}" for adapter in adapters if adapter.note]
    return [*_zero_modules(adapters, report), *remarks]


def _bases(adapters: Sequence[Adapter]) -> list[str]:
    names = list(dict.fromkeys(str(adapter.config.get("base_model_name_or_path")) for adapter in adapters))
    if len(names) < 2:
        return []
    return [
        f"the adapters name different base models ({', '.join(names)}): "
        "unless these are copies of one model, nothing below holds"
    ]


def _near_zero(report: Mapping[str, Any]) -> list[str]:
    norms = np.asarray(report["total"]["norm"])
    largest = int(np.argmax(norms))
    return [
        f"adapter {i + 1} is near zero: |Delta W| = {norms[i]:.3g}, below the rounding of adapter "
        f"{largest + 1} ({norms[largest]:.3g}) in bfloat16; is it trained?"
        for i in np.flatnonzero(norms < BFLOAT16 * norms[largest])
    ]


def _alike(report: Mapping[str, Any]) -> list[str]:
    """Pairs with | Delta W_i/|Delta W_i| -+ Delta W_j/|Delta W_j| |^2 = 2 (1 -+ cos) below rounding."""
    norms, cosine = np.asarray(report["total"]["norm"]), np.asarray(report["total"]["cosine"])
    lines = []
    for i, j in zip(*np.triu_indices(len(norms), 1), strict=True):
        ratio = norms[j] / norms[i]
        if 2 * (1 - abs(cosine[i, j])) <= (2 * BFLOAT16) ** 2:
            what = "the same" if cosine[i, j] > 0 else "opposites"
            times = "" if abs(ratio - 1) <= 2 * BFLOAT16 else f" but for a factor {ratio:.3g}"
            lines.append(f"adapters {i + 1} and {j + 1} are {what}{times}, to the rounding of bfloat16")
    return lines


def start_cosines(adapters: Sequence[Adapter]) -> np.ndarray:
    """(K, K): median over modules of the cosine of two factors A as they stand; NaN where shapes differ."""
    table = np.full((len(adapters), len(adapters)), np.nan)
    for i, j in itertools.combinations(range(len(adapters)), 2):
        one, other = adapters[i].modules, adapters[j].modules
        pairs = [(one[name].a, other[name].a) for name in one.keys() & other.keys()]
        cosines = [_cosine(a, b) for a, b in pairs if a.shape == b.shape]
        if cosines:
            table[i, j] = table[j, i] = np.median(cosines)
    np.fill_diagonal(table, 1.0)
    return table


def _equal_starts(report: Mapping[str, Any]) -> list[str]:
    """Pairs whose factors A are nearly those of each other, and their updates are not: A moves little in
    training, so that they began as one draw."""
    lines, start, update = [], np.array(report["total"]["start_cosine"]), np.abs(report["total"]["cosine"])
    for i, j in itertools.combinations(range(len(start)), 2):
        if start[i, j] > SAME_START > update[i, j]:
            lines.append(
                f"adapters {i + 1} and {j + 1} began from the same random A (cosine "
                f"{start[i, j]:.3f}, unrelated draws have about 0): equal seeds; that their row "
                "spaces overlap says nothing of what they were taught"
            )
    return lines


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = (np.asarray(side, np.float64).ravel() for side in (one, other))
    sizes = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / sizes) if sizes else 0.0


def _zero_modules(adapters: Sequence[Adapter], report: Mapping[str, Any]) -> list[str]:
    """A line on the modules that some adapter has but leaves as they are, the first of them by name."""
    zero = {name: [i for i in at if name not in adapters[i].absent] for name, at in report["zero"].items()}
    zero = {name: at for name, at in zero.items() if at}
    if not zero:
        return []
    shown = [f"{name} (adapter {', '.join(str(i + 1) for i in at)})" for name, at in list(zero.items())[:3]]
    listed = ", ".join(shown) + (", ..." if len(zero) > len(shown) else "")
    return [f"Delta W = 0 (untrained?) in {len(zero)} of {len(report['modules'])} modules: {listed}"]
