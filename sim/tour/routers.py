"""Notebook 4: what Arrow's prototype sees, which adapter it picks at which prompt, larger libraries."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from matplotlib.figure import Figure

from sim.tour.curves import Curve, curves
from sim.twins import selection as twin
from theory import model, selection


def sight(sight: float, features_per_fact: float) -> Figure:
    """Theorem 10a: squared cosine of prototype and shared mean against theta, at tau and c = m/F."""
    theta = np.linspace(0.05, 4, 200)
    law = Curve(
        f"τ = {sight:g}, c = {features_per_fact:g}",
        theta,
        selection.alignment(theta, features_per_fact, sight),
    )
    labels = {"xlabel": "strength of the shared mean, θ", "ylabel": "squared cosine of v₁ and the mean"}
    return curves(law, **labels, ylim=(-0.03, 1.03))


def sights(values: Sequence[float], marks: Sequence[float], keys: Sequence[Array]) -> list[Curve]:
    """Theorem 10a at c = 1 for each sight, and real adapters with 48 features."""
    align, theta = jax.jit(twin.alignment, static_argnums=(1, 3)), np.linspace(0.05, 4, 100)
    return [
        Curve(f"sight τ = {tau:g}", theta, selection.alignment(theta, 1.0, tau), marks,
              [[align(mark, 1.0, tau, 48, key) for key in keys] for mark in marks])
        for tau in values
    ]  # fmt: skip


def at_each_prompt(keys: Sequence[Array], size: int = 24) -> pd.DataFrame:
    """Chance that top-1 Arrow picks adapter 1 of two: Theorem 10b, and measured for sighted and blind edits.

    One-layer model with N = F = m = ``size``. The law is for sighted edits at large m; means over the keys ±
    two standard errors.
    """
    config = model.ModelConfig(entities=size, dim=104, features=size, activation="identity", fillers=2)
    a, b = np.arange(size), np.arange(size) + size
    rel1, rel2, think, sep = (np.full(size, 2 * size + word) for word in range(4))
    kinds = {
        # prompt, (load, seen) for adapter 1, the same for adapter 2, noise, right adapter
        "p1, own fact": ([a, rel1], (1, 1), (0, 0), 1, "1"),
        "p1, entity of adapter 2's data": ([b, rel1], (1, 0), (0, 1), 1, "1"),
        "p2, own fact": ([b, rel2], (0, 0), (1, 1), 1, "2"),
        "p12, direct two-hop": ([a, rel1, rel2], (0, 1), (1, 0), 2, "both"),
        "chain of thought, step 1": ([a, rel1, rel2, think, a, rel1], (1, 2), (0, 0), 7, "1"),
        "chain of thought, step 2": (
            [a, rel1, rel2, think, a, rel1, b, sep, b, rel2],
            (0, 2),
            (1, 2),
            15,
            "2",
        ),
    }
    relations, rows = jnp.asarray([2 * size, 2 * size + 1]), {}
    for kind, (columns, first, second, noise, wanted) in kinds.items():
        prompt = jnp.asarray(np.stack(columns, axis=-1))
        scores = [
            selection.score_law(size**0.5, 1.0, load, seen=seen, noise=noise, other=1 - load, features=size)
            for load, seen in (first, second)
        ]
        entry = {"needed": wanted, "law": round(float(selection.selection(*zip(*scores, strict=True))[0]), 3)}
        for name, edit in (("sighted", "sighted"), ("blind", "permuted")):
            gates = [
                float(twin.prompt_gates(config, size, prompt, edit, 1, relations, key)[:, 0].mean())
                for key in keys
            ]
            entry[name] = f"{np.mean(gates):.3f} ± {2 * np.std(gates, ddof=1) / len(keys) ** 0.5:.3f}"
        rows[kind] = entry
    return pd.DataFrame(rows).T.rename_axis("chance of adapter 1 at")


def larger(counts: Sequence[int], keys: Sequence[Array]) -> list[Curve]:
    """Weight of the right adapter in libraries of K: top-1 Arrow and its soft gate at temperature 1."""
    gates = jax.jit(twin.gates, static_argnums=(1, 2, 3), static_argnames="top_k")
    right = selection.score_law(3.0, 1.0, features=48)
    wrong = selection.score_law(3.0, 1.0, 0.0, other=1.0, features=48)
    grid, series = range(1, max(counts) + 1), []
    for name, top_k in (("top 1", 1), ("softmax, T = 1", None)):
        law = [
            selection.expected_gate(*zip(right, *[wrong] * (count - 1), strict=True), 1.0, top_k)[0]
            if count > 1
            else 1.0
            for count in grid
        ]
        weights = [
            [gates(3.0, 1.0, count, 48, key, top_k=top_k)[:, 0].mean() for key in keys] for count in counts
        ]
        series.append(Curve(name, grid, law, counts, weights))
    return series
