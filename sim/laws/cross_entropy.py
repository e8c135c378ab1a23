"""Section 6x: adapters trained by cross entropy, their critical lambda and merged recall, and the figure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import check, exact, rate
from sim.lab.figure import Source, figure, law, line, points, share
from sim.lab.seeds import Effort
from sim.twins import cross_entropy as twin
from sim.twins import starvation as squares
from theory import coverage, starvation
from theory import cross_entropy as closed
from theory.model import ModelConfig

CONFIG = ModelConfig(entities=24, dim=100, features=300)


def _one_fact(answers: int, time: float, steps: int) -> np.ndarray:
    """(lead of new over old, loss) of one fact of 5, B alone trained on orthonormal keys."""
    keys, base = jnp.eye(5, dtype=jnp.float64), jnp.eye(answers, 5, dtype=jnp.float64)
    target = (jnp.arange(5) + 1) % 5
    adapter = twin.train(
        base, keys, target, seeds.key(17), rank=5, step=time / steps, steps=steps, freeze_a=True
    )
    logits = keys @ base.T + keys @ adapter.a.T @ adapter.b.T
    loss = twin.loss_of(logits, target, "cross_entropy") / 5
    return np.array([logits[0, 1] - logits[0, 0], loss])


TIMES = ((6, 1.0), (6, 3.0), (8, 5.0), (40, 20.0), (5, 2.0), (6, 10.0), (8, 1.5), (40, 6.0))
"""(answers, flow time)."""


@check("cross entropy: critical lambda at a loss", "6x", "exact")
def _critical_at_loss(effort: Effort):
    for answers, time in effort.some(TIMES):
        coarse, fine = (_one_fact(answers, time, steps) for steps in (1000, 2000))
        lead, loss = 2 * fine - coarse  # Richardson: the flow to O(step^2)
        predicted = closed.critical_lambda_at_loss(loss, answers)
        yield exact(f"n={answers}, flow time {time}, loss {loss:.4f}", predicted, 1 / (1 + lead), 1e-4)


@check("cross entropy: lead after a time, two answers", "6x", "exact")
def _trained_lead(effort: Effort):
    keys, base = jnp.ones((1, 1)), jnp.asarray([[1.0], [0.0]])
    train = functools.partial(twin.train, base, keys, jnp.asarray([1]), seeds.key(18), rank=1)
    for time in (0.5, 1.0, 3.0, 10.0, 0.25, 2.0, 5.0, 7.5):
        leads = []
        for steps in (1000, 2000):
            adapter = train(step=time / steps, steps=steps, freeze_a=True)
            moved = adapter.b[:, 0] * adapter.a[0, 0]
            leads.append(float(moved[1] - moved[0] - 1))
        yield exact(f"flow time {time}", closed.trained_lead(time), 2 * leads[1] - leads[0], 1e-4)


def _merged(rank: int, lam: np.ndarray, keys: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, measured): shares of both adapters' facts that survive at each lambda, (keys, L) each.

    Predicted from the margins of single adapters: new passes old at M/Delta, unless a third answer leads new
    at lambda = 1, which it then does at every lambda.
    """
    predicted, measured = [], []
    for key in keys:
        library = twin.two_adapters(CONFIG, key, rank=rank, step=0.02, steps=2000)
        margin, swing, third = twin.margins(library)
        critical = np.where(third > 0, coverage.critical_lambda(margin, swing), np.inf)
        predicted.append(np.mean(lam[:, None, None] > critical[None], axis=(1, 2)))
        measured.append(np.mean(twin.merged_recall(library, jnp.asarray(lam)), axis=(1, 2)))
    return np.asarray(predicted), np.asarray(measured)


@check("cross entropy: merged recall from single margins", "6x", "law")
def _margins(effort: Effort):
    lam = np.array([0.02, 0.03, 0.05, 0.08, 0.12, 0.25, 1.0])
    for rank in effort.some((2, 4, 12)):
        predicted, measured = _merged(rank, lam, seeds.keys(seeds.key(19, rank), effort(3)))
        for j, value in enumerate(lam):
            text = f"F=24, r={rank}, lambda={value:.2f}"
            yield rate(text, predicted[:, j].mean(), measured[:, j], 2 * CONFIG.entities)


RANKS = (1, 2, 3, 4, 6, 12, 24)
SHOWN = (2, 4, 12)
LAMBDAS = np.round(np.geomspace(0.015, 1.0, 14), 5)


def _collect(source: Source) -> pd.DataFrame:
    count, facts, rows = source.effort(3, 12), CONFIG.entities, []
    for rank in source.effort.some(RANKS):
        predicted, measured = _merged(rank, LAMBDAS, seeds.keys(seeds.key(6), count))
        setting = {"loss": "cross entropy", "rank": rank}
        for j, lam in enumerate(LAMBDAS):
            rows.append(share(predicted[:, j].mean(), measured[:, j], 2 * facts, lam=lam, **setting))
        runs = np.asarray(squares.overwrite_recall(facts, rank, key=seeds.key(7, rank), draws=4 * count))
        setting = {"loss": "least squares", "rank": rank, "lam": 1.0}
        rows.append(share(starvation.overwrite_recall(facts, rank), runs, facts, **setting))
    for rank in range(1, facts + 1):
        setting = {"loss": "least squares", "rank": rank, "lam": 1.0}
        rows.append(law(starvation.overwrite_recall(facts, rank), **setting))
    return pd.DataFrame(rows)


@figure(
    "Cross-entropy adapters overshoot, so they survive dilution and small rank where least squares fails; "
    "the margins of single adapters say when.",
    "One-layer relu model, 24 facts a hop, two adapters summed at λ, 2000 steps of SGD. Lines: predicted "
    "from the margins of single adapters, of least squares by the Beta law; points: facts kept. Bars: 95% "
    "intervals.",
    _collect,
    section="section 6",
    panels=(
        "Trained by cross entropy, rank r; shaded: where an exact overwrite survives.",
        "λ = 1.",
    ),
)
def cross_entropy_threshold(table: pd.DataFrame):
    """Recall of overwrites against lambda and rank, cross entropy beside least squares."""
    picture, (left, right) = style.figure(style.COLUMN, 2.7, ncols=2, sharey=True)
    ours = table[table["loss"] == "cross entropy"]
    for series, (rank, look) in enumerate(zip(SHOWN, style.levels(len(SHOWN)), strict=True)):
        rows = ours[ours["rank"] == rank]
        line(left, rows, "lam", look)
        points(left, rows.assign(lam=rows["lam"] * 1.05 ** (series - 1)), "lam", look, f"r = {rank}")
    left.axvspan(0.5, 1.15, color="0.9", zorder=0, linewidth=0)
    left.set(xscale="log", xlabel="coefficient λ", ylabel="overwrites kept", xlim=(0.012, 1.15))
    left.set_xticks([0.02, 0.1, 0.5], ["0.02", "0.1", "0.5"])
    left.minorticks_off()
    left.set_title("cross entropy", loc="left")
    style.unit(left)
    for colour, loss in (("#000000", "cross entropy"), ("#17966B", "least squares")):
        rows = table[(table["loss"] == loss) & (table["lam"] == 1.0)]
        look = style.Look(colour, "*" if loss == "cross entropy" else "v")
        line(right, rows, "rank", look)
        points(right, rows, "rank", look, f"{loss}, λ = 1")
    right.set(xlabel="rank r")
    right.set_xticks([1, 6, 12, 18, 24])
    right.set_title("by rank", loc="left")
    style.key(picture, [left, right])
    return picture
