"""Notebook 5: two layers and their alignment; chains of thought and what a longer context does to kappa."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from matplotlib.figure import Figure

from sim.tour.curves import Curve, curves, tabulate
from sim.twins import chain as decoded
from sim.twins import depth as stacked
from theory import chain, depth, model


def layers(facts: int, dim: int, lam: float) -> Figure:
    """Theorem 8a: two-hop accuracy of two stacked memories against the alignment of the bridge."""
    grid = np.linspace(0, 1, 60)
    law = Curve(
        f"N = {facts}, d = {dim}, λ = {lam:g}",
        grid,
        [depth.accuracy(facts, dim, rho, lam, True) for rho in grid],
    )
    labels = {"xlabel": "alignment of written and read bridge, ρ_b", "ylabel": "direct two-hop accuracy"}
    return curves(law, **labels, ylim=(-0.03, 1.03))


def orders(count: int, marks: Sequence[float], key: Array, draws: int) -> list[Curve]:
    """Accuracy against alignment with d = N = ``count``, first hop below the second and above it."""
    grid, wrong = np.linspace(0, 1, 50), depth.wrong_order_accuracy(count)
    laws = {
        "right order": (False, [depth.accuracy(count, count, rho) for rho in grid]),
        "wrong order": (True, [wrong] * len(grid)),
    }
    return [
        Curve(name, grid, law, marks, [
            stacked.accuracy(count, count, rho, key=key, draws=draws, wrong_order=above) for rho in marks
        ])
        for name, (above, law) in laws.items()
    ]  # fmt: skip


def by_rank(ranks: Sequence[int], facts: int, worlds: int, key: Array) -> tuple[pd.DataFrame, decoded.Run]:
    """Two-step chains at lambda = 1, each hop read as in the data: law and decoded; the last rank's run."""
    rows = []
    for rank in ranks:
        setting = decoded.Setting(facts, 2, rank, 1.0, window=1, template=False, features=256)
        runs = decoded.run(setting, key, worlds)
        step, forced = chain.step_accuracy(facts, rank, 1.0), np.asarray(runs.forced)
        rows.append(
            {
                "rank": rank,
                "step, law": step,
                "steps, measured": forced.mean(axis=(0, 2)).round(3).tolist(),
                "direct answer": 1 / (2 * facts),
                "chain = all steps": bool((forced.all(1) == np.asarray(runs.decoded)).all()),
                "chain, law": float(chain.product(jnp.asarray([step, step]))),
                "draws": np.asarray(runs.decoded).mean(axis=1),
            }
        )
    return tabulate(rows).set_index("rank"), runs


def matched(runs: decoded.Run) -> pd.DataFrame:
    """Rate of solved chains and its scatter over worlds, with Proposition 9a from the step accuracies."""
    forced = np.asarray(runs.forced)
    expected = np.array([chain.matched(row, forced.shape[2]) for row in forced.mean(axis=2)])
    rate = forced.all(axis=1).mean(axis=1)
    scatter = np.sqrt(np.mean((rate - expected[:, 0]) ** 2)), np.sqrt(np.mean(expected[:, 1] ** 2))
    rows = {
        "mean rate over worlds": {"measured": rate.mean(), "matched law": expected[:, 0].mean()},
        "scatter around it": {"measured": scatter[0], "matched law": scatter[1]},
    }
    return pd.DataFrame(rows).T.round(3)


def in_context(facts: int, lam: float, key: Array, worlds: int = 6) -> tuple[pd.DataFrame, pd.Series]:
    """kappa and margin of both hops inside a trace, by the kernel and measured; chains solved at lambda.

    Adapters of full rank. The first world's graph says which facts the kernel is asked about.
    """
    setting = decoded.Setting(facts, 2, rank=facts, lam=lam, features=1024)
    runs = decoded.run(setting, key, worlds)
    layout, _ = model.words(2 * facts, 2)
    edited, size = jnp.arange(facts), 2 * facts
    old, new = decoded.graph(setting, jax.random.fold_in(jax.random.fold_in(key, 0), 1))
    path, groups = decoded.follow(new, edited), decoded.base_facts(setting, old)
    targets = model.one_hot(jnp.concatenate([rows for _, rows in groups]), 2 * size)
    overlaps, margins = [], []
    for hop in (0, 1):
        read = model.trace_prompt(layout, path[:, : hop + 1])
        own = chain.kernel_overlap(setting.model, [model.plain_prompt(layout, hop, edited)], read)
        base = targets.T @ chain.kernel_overlap(setting.model, [prompts for prompts, _ in groups], read)
        overlaps.append(own[path[:, hop], edited])
        stale, fresh = hop * size + old[hop][path[:, hop]], hop * size + path[:, hop + 1]
        margins.append(base[stale, edited] - base[fresh, edited])
    kappa, margin = jnp.stack(overlaps), jnp.stack(margins)
    table = pd.DataFrame(
        {
            "κ, kernel": kappa.mean(1),
            "κ, measured": runs.swing.mean((0, 2)) / 2,
            "margin M, kernel": margin.mean(1),
            "margin M, measured": runs.margin.mean((0, 2)),
            "λ_c = M/(2κ)": (margin / (2 * kappa)).mean(1),
        },
        index=["hop 1 in the trace", "hop 2 in the trace"],
    )
    solved = chain.solved(lam, kappa, jnp.ones_like(kappa), margin)
    rates = {"law": float(jnp.mean(solved)), "decoded": float(runs.decoded.mean())}
    return table.round(3), pd.Series(rates, name=f"chains solved at λ = {lam:g}").round(3)
