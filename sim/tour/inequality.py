"""Notebook 3: dilution, template and rank, one by one and in one inequality; overshooting and capacity."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from sim.lab import style
from sim.tour.curves import Curve, tabulate
from sim.twins import capacity as measured_capacity
from sim.twins import coverage as measured_coverage
from sim.twins import cross_entropy as measured_cross_entropy
from sim.twins import crosstalk as measured_crosstalk
from sim.twins import starvation as measured_starvation
from theory import capacity, coverage, cross_entropy, crosstalk, starvation


@style.styled
def draw_recall(rank: int, facts: int, overlap: float, margin: float, swing: float) -> Figure:
    """Share of overwrites that answer new against lambda (section 6), with the averages of 2 to 4."""
    picture, axes = style.figure()
    lam = np.linspace(0, 1.5, 301)
    recall = starvation.overwrite_recall(facts, min(rank, facts), lam * overlap * swing / (2 * margin))
    axes.plot(lam, recall, color=style.COLOURS[0])
    critical = float(coverage.critical_lambda(margin, overlap * min(1.0, rank / facts) * swing))
    if critical < lam[-1]:
        axes.axvline(critical, color="black", linewidth=0.8)
    for count in range(2, 5):
        axes.axvline(1 / count, color="0.6", linestyle=":", linewidth=0.8)
        axes.text(1 / count, 1.04, f"1/{count}", ha="center", fontsize=6)
    axes.set(xlabel="coefficient λ (line: λκρΔ = M)", ylabel="overwrites kept", ylim=(-0.03, 1.1))
    return picture


def flips(margin: Sequence[float], swing: Sequence[float], key: Array) -> pd.DataFrame:
    """The λ at which each fact flips, by formula and by bisection, and the largest library whose average
    answers new."""
    margin, swing = jnp.asarray(margin), jnp.asarray(swing)
    low, high = coverage.lambda_range(margin, swing)
    columns = {
        "margin M": margin,
        "swing Δ": swing,
        "λ_c = M/Δ": low,
        "measured flip": measured_coverage.critical_lambda(margin, swing, key=key),
        "largest library": [coverage.largest_library(*ends) for ends in zip(low, high, strict=True)],
    }
    return pd.DataFrame(columns).round(6)


def averages(counts: Sequence[int], key: Array) -> pd.DataFrame:
    """Exact overwrites kept by the averages of these libraries: 1, a tie 1/2, or 0."""
    lam = 1 / jnp.asarray(counts)
    names = pd.Index([f"average of {count}" for count in counts], name="exact overwrites kept")
    columns = {"theory": coverage.retention(lam), "measured": measured_coverage.retention(lam, key=key)}
    return pd.DataFrame(columns, index=names)


def template(key: Array, features: int = 512, draws: int = 64) -> Curve:
    """The arc-cosine kernel against the angle of stored and read prompt, and drawn feature maps."""
    angles, marks = np.linspace(0, np.pi, 60), np.linspace(0, np.pi, 9)
    stored = jnp.asarray([1.0, 0.0])
    kappas = [
        measured_crosstalk.kappa(
            stored, jnp.asarray([np.cos(t), np.sin(t)]), key=key, features=features, draws=draws
        )
        for t in marks
    ]
    law = crosstalk.arc_cosine(jnp.cos(angles))
    return Curve("arc-cosine kernel", np.degrees(angles), law, np.degrees(marks), kappas)


def ranks(facts: int, adapters: int, key: Array) -> tuple[list[Curve], pd.DataFrame]:
    """Recall of inserted and of overwritten facts against r/F: laws, and LoRAs trained by descent."""
    grid, series, rows = np.arange(1, facts + 1), [], []
    twins = {
        "insert": (starvation.insertion_recall, measured_starvation.insertion_recall, (2, 5)),
        "overwrite": (starvation.overwrite_recall, measured_starvation.overwrite_recall, (4, 8, 11)),
    }
    for name, (law, trained, tried) in twins.items():
        recalls = [np.asarray(trained(facts, rank, key=key, draws=adapters)) for rank in tried]
        predicted = [law(facts, int(rank)) for rank in grid]
        series.append(Curve(name, grid / facts, predicted, np.array(tried) / facts, recalls))
        rows += [
            {"facts are": name, "rank": rank, "theory": law(facts, rank), "draws": values}
            for rank, values in zip(tried, recalls, strict=True)
        ]
    return series, tabulate(rows)


@style.styled
def decided(count: int, key: Array) -> tuple[Figure, int]:
    """Memories with random lambda, kappa, rho, read one by one; the number of wrong predictions of the
    inequality."""
    draws = (
        jax.random.uniform(jax.random.fold_in(key, index), (count,), jnp.float64) for index in (20, 21, 22)
    )
    lam, overlap, share = (values**0.5 for values in draws)  # more of them near 1, where the boundary runs
    won = np.asarray(measured_coverage.decides(lam, overlap, share, key=key))
    called = np.asarray(coverage.decides(lam, overlap, share))
    strength, share = np.asarray(lam * overlap), np.asarray(share)
    picture, axes = style.figure()
    for series, (name, chosen) in enumerate((("old answer", ~won), ("new answer", won))):
        look = {"color": style.COLOURS[series], "markersize": 1.5, "label": name}
        axes.plot(strength[chosen], share[chosen], style.MARKERS[series], **look)
    edge = np.linspace(0.5, 1, 50)
    axes.plot(edge, 1 / (2 * edge), color="black", label="2λκρ = 1")
    axes.set(xlabel="dilution × template, λκ", ylabel="share of the rank, ρ", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=0.8)
    return picture, int((won != called).sum())


def best(
    edits: Float[np.ndarray, "2 e"], untouched: Float[np.ndarray, "2 k"], largest: float
) -> pd.DataFrame:
    """The best common lambda computed from margins and swings, and the best of a grid of 241."""
    grid = np.linspace(0, largest, 241)[:, None]
    right = (grid * edits[1] > edits[0]).sum(1) + (grid * untouched[1] < untouched[0]).sum(1)
    lam, accuracy = coverage.best_lambda(*map(jnp.asarray, (*edits, *untouched)), largest=largest)
    count = edits.shape[1] + untouched.shape[1]
    rows = {
        "predicted": {"best λ": float(lam), "accuracy": float(accuracy)},
        "best of a grid": {"best λ": grid[right.argmax(), 0], "accuracy": right.max() / count},
    }
    return pd.DataFrame(rows).T.round(4)


def overshoot(steps: Sequence[float], key: Array, answers: int = 8) -> pd.DataFrame:
    """Cross-entropy adapters of five facts after 1000 steps of these sizes: lambda_c, from the loss."""
    base, target = jnp.eye(answers, 5, dtype=jnp.float64), (jnp.arange(5) + 1) % 5
    rows = []
    for step in steps:
        adapter = measured_cross_entropy.train(
            base, jnp.eye(5), target, key, rank=5, step=step, steps=1000, freeze_a=True
        )
        logits = base.T + (adapter.b @ adapter.a).T
        loss = float(measured_cross_entropy.loss_of(logits, target, "cross_entropy")) / 5
        rows.append(
            {
                "training loss ℓ": loss,
                "λ_c from ℓ": cross_entropy.critical_lambda_at_loss(loss, answers),
                "λ_c measured": 1 / float(1 + logits[0, 1] - logits[0, 0]),
            }
        )
    return pd.DataFrame(rows).round(4)


def memory(sizes: Sequence[tuple[int, int, int]], key: Array, draws: int = 20) -> pd.DataFrame:
    """Recall of a Hebbian memory cut to rank r, at (facts, dim, rank): two laws, and drawn."""
    rows = [
        {
            "facts F": facts,
            "dim d": dim,
            "rank r": rank,
            "law": capacity.recall(facts, dim, rank),
            "large-rank law": capacity.recall_large(facts, dim, rank),
            "draws": measured_capacity.recall(facts, dim, rank, key=key, draws=draws),
        }
        for facts, dim, rank in sizes
    ]
    return tabulate(rows)
