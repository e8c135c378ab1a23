"""Sections 3 and 5: retention and the coverage law against simulated memories, and two figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim import one_layer
from sim.lab import parallel, seeds, style
from sim.lab.check import check, exact, rate
from sim.lab.figure import LINES, Source, figure, law, line, point, points, share
from sim.lab.seeds import Effort
from sim.merge.looks import look_of
from sim.one_layer import retention as dilution
from sim.twins import coverage as twin
from sim.twins import starvation as trained
from theory import coverage as closed
from theory import crosstalk, starvation


@check("critical lambda", "3", "exact")
def _critical(effort: Effort):
    margin, swing = (
        0.1 + 2 * jax.random.uniform(seeds.key(6, i), (effort(10, 10),), jnp.float64) for i in range(2)
    )
    measured = twin.critical_lambda(margin, swing, key=seeds.key(6, 2))
    for m, s, value, run in zip(margin, swing, closed.critical_lambda(margin, swing), measured, strict=True):
        yield exact(f"M={m:.3f}, Delta={s:.3f}", value, run, 1e-10)


@check("largest library", "3", "exact")
def _library(effort: Effort):
    """Facts of signed margins and swings, some of which a small library loses and a larger one keeps."""
    for index, facts in effort.some(list(enumerate((1, 2, 3, 2, 1, 4, 3, 2, 5)))):
        margin, swing = (
            jax.random.uniform(seeds.key(8, index, i), (facts,), jnp.float64, *ends)
            for i, ends in enumerate(((0.1, 0.4), (0.5, 2.5)))
        )
        margin, swing = jnp.append(margin, -0.7), jnp.append(swing, -1.0 - index / 4)
        predicted = closed.largest_library(*closed.lambda_range(margin, swing))
        measured = twin.largest_library(margin, swing, key=seeds.key(8, index))
        yield exact(f"{facts} facts to gain, one to lose, draw {index}", predicted, measured, 1e-12)


@check("retention", "3", "exact")
def _retained(effort: Effort):
    for margin, swing in ((1.0, 2.0), (0.5, 2.5)):
        tie = margin / swing
        for lam in (tie / 2, tie - 1e-6, tie, tie + 1e-6, 1.0):
            predicted = closed.retention(lam, margin, swing)
            measured = twin.retention(lam, margin, swing, key=seeds.key(7))
            yield exact(f"lambda={lam:.6f}, M={margin}, Delta={swing}", predicted, measured, 1e-12)


@check("coverage law, orthogonal keys", "5", "exact")
def _decides(effort: Effort):
    for index, lam in effort.some(list(enumerate((0.55, 0.7, 0.85, 1.0, 1.25, 1.5, 0.5, 2.0)))):
        kappa, rho = jax.random.uniform(seeds.key(10, index), (2, 500), jnp.float64)
        kappa = kappa / max(lam, 1.0)  # lambda kappa <= 1, as the theorem asks
        strength = jnp.full(500, lam)
        predicted = closed.decides(strength, kappa, rho).mean()
        measured = twin.decides(strength, kappa, rho, key=seeds.key(10, index, 1)).mean()
        yield exact(
            f"lambda={lam}, share of 500 random (kappa, rho) that flip", predicted, measured, 1e-12, 500
        )


LIBRARIES = ((1, 1), (2, 2), (3, 2), (4, 3), (1, 3), (2, 1), (3, 3), (4, 1))
"""(adapters, steps of the trace)."""


@check("solution traces covered", "5", "exact")
def _covers(effort: Effort):
    draws = effort(100, 100)
    for adapters, steps in effort.some(LIBRARIES):
        predicted, measured = [], []
        for draw in range(draws):
            kappa, rho = jax.random.uniform(seeds.key(11, adapters, draw), (2, adapters, steps), jnp.float64)
            lam = 0.4 + jax.random.uniform(seeds.key(11, adapters, draw, 1), (adapters,), jnp.float64)
            predicted.append(bool(closed.covers(lam, kappa, rho)))
            measured.append(bool(twin.covers(lam, kappa, rho, key=seeds.key(11, adapters, draw, 2))))
        text = f"K={adapters}, {steps} steps, share of {draws} random libraries"
        yield exact(text, np.mean(predicted), np.mean(measured), 1e-12, draws)


def _uneven(facts: int, rank: int, lam: float, kappa: float, spread: float) -> float:
    """Bound on the error of one kappa for all facts: mean of |recall(lam kappa_k) - recall(lam kappa)|.

    kappa_k is Gaussian about kappa, with the ``spread`` of a finite number of features.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    moved = starvation.overwrite_recall(facts, rank, lam * np.maximum(kappa + spread * nodes, 0.0))
    off = np.abs(moved - starvation.overwrite_recall(facts, rank, lam * kappa))
    return float(weights @ off / weights.sum())


@check("coverage recall, relu keys, product form", "5", "model")
def _paraphrased(effort: Effort):
    """Off by what the spread of kappa over facts makes, of variance at most ``kappa_variance`` / ((1 - q) m).

    q is the kernel between the keys of two facts: kappa is read with a row of Phi^+, of square 1/(1 - q).
    """
    features = 1024
    facts, kappas, strengths = 16, np.array([0.55, 0.7, 0.85, 1.0]), np.array([0.6, 0.8, 1.0])
    turns, keys = crosstalk.turned_angle(facts, kappas), float(crosstalk.arc_cosine(0.5))
    for rank in effort.some((10, 13, 16)):
        key = seeds.key(12, rank)
        sizes = {"facts": facts, "rank": rank, "features": features}
        runs = twin.recall(jnp.asarray(strengths), turns, **sizes, key=key, draws=effort(16))
        for i, kappa in enumerate(kappas):
            # The fact's own prompts V e_a + e_R and V e_a + e_R' are at this angle.
            angle = np.arccos((1 + np.cos(turns[i])) / 2)
            spread = (crosstalk.kappa_variance(float(angle)) / ((1 - keys) * features)) ** 0.5
            for j, lam in enumerate(strengths):
                predicted = starvation.overwrite_recall(facts, rank, lam * kappa)
                text = f"F=16, r={rank}, lambda={lam}, kappa={kappa:.3f}, m={features}"
                slack = _uneven(facts, rank, lam, kappa, spread)
                yield rate(text, predicted, runs[:, i, j], facts, slack=slack)


LAMBDAS = tuple(np.round(np.linspace(0.35, 1.0, 14), 4))
NODES = np.sort([*np.linspace(0.34, 1.02, 137), 0.499999, 0.500001])
"""Coefficients of the lines, with both sides of the step of an exact overwrite."""
STARVED = ((16, 16), (16, 13), (16, 10))
"""(facts, rank)."""
LIBRARY_SIZES = (1, 2, 3, 4, 5, 6)


def _predicted_retention(facts: int, rank: int, lam: float) -> float:
    return float(closed.retention(lam) if rank == facts else starvation.overwrite_recall(facts, rank, lam))


def _retention(source: Source) -> pd.DataFrame:
    count, rows = source.effort(32, 128), []
    for place, (facts, rank) in source.effort.some(list(enumerate(STARVED))):
        setting = {"panel": "lambda", "rank_share": rank / facts}
        rows += [law(_predicted_retention(facts, rank, lam), x=lam, **setting) for lam in NODES]
        for step, lam in source.effort.some(list(enumerate(LAMBDAS))):
            key = seeds.key(place, step)
            if rank == facts:
                # Trained to the end, a full-rank adapter is the exact overwrite, whose tie counts one half.
                runs = [twin.retention(lam, key=key) for key in seeds.keys(key, count)]
            else:
                runs = trained.overwrite_recall(facts, rank, float(lam), key=key, draws=count)
            rows.append(
                share(_predicted_retention(facts, rank, lam), np.asarray(runs), facts, x=lam, **setting)
            )
    for size in source.effort.some(LIBRARY_SIZES):
        config = one_layer.OneLayerConfig(4, libraries=(size,))
        runs = parallel.map_arrays(
            lambda seed, config=config: dilution.measure(config, seeds.key(seed)),
            [np.uint32(seed) for seed in range(count)],
        )
        for column, row in enumerate(dilution.rows(config)):
            if row["method"] in ("average", "sum"):
                setting = {"panel": "K", "x": size, "rank_share": 1.0, "method": row["method"]}
                rows.append(point(closed.retention(row["lam"]), runs[:, column], **setting))
    return pd.DataFrame(rows)


@figure(
    "An overwrite survives a coefficient above one half and no average of three; too little rank smooths the "
    "step and moves it up.",
    "An exact tie counts one half." + LINES,
    _retention,
    section="section 3",
    panels=(
        "Overwrites of 16 facts by trained LoRAs of share r/F, orthonormal keys (share 1: exact edits).",
        "K adapters of 4 facts each in the one-layer relu model, rank 4.",
    ),
)
def retention(table: pd.DataFrame):
    """Recall of overwritten facts against lambda, and against the size of an averaged library."""
    picture, (left, right) = style.figure(style.COLUMN, 2.7, ncols=2, sharey=True)
    for look, (facts, rank) in zip(style.levels(len(STARVED)), STARVED, strict=True):
        rows = table[(table["panel"] == "lambda") & np.isclose(table["rank_share"], rank / facts)]
        line(left, rows, "x", look)
        name = f"r/F = {rank / facts:.2f}".rstrip("0").rstrip(".")
        points(left, rows, "x", look, name)
    left.set(xlabel="coefficient λ", ylabel="overwrites kept", title="one adapter")
    style.unit(left)
    for method in ("average", "sum"):
        rows = table[(table["panel"] == "K") & (table["method"] == method)]
        line(right, rows, "x", look_of(method))
        points(right, rows, "x", look_of(method), method)
    right.set(xlabel="adapters K")
    right.set_xticks(LIBRARY_SIZES)
    right.set_title("K adapters", loc="left")
    style.key(picture, [left, right])
    return picture


FACTS = 16
KAPPAS = np.linspace(0.525, 0.975, 10)
STRENGTHS = np.linspace(0.35, 1.45, 12)
RANKS = tuple(range(8, 17))
SPAN = np.linspace(0.2, 1.6, 141)
"""Coordinates of the boundary, on either axis."""


def _phase(source: Source) -> pd.DataFrame:
    count, rows = source.effort(16, 64), []
    turns = crosstalk.turned_angle(FACTS, KAPPAS)

    def cells(panel: str, rank: int, strengths: np.ndarray) -> None:
        lam, key = jnp.asarray(strengths), seeds.key(rank)
        runs = np.asarray(twin.recall(lam, turns, facts=FACTS, rank=rank, key=key, draws=count))
        for i, kappa in enumerate(KAPPAS):
            for j, lam in enumerate(strengths):
                setting = {"panel": panel, "lam": lam, "kappa": kappa, "rho": rank / FACTS}
                predicted = starvation.overwrite_recall(FACTS, rank, lam * kappa)
                rows.append(share(predicted, runs[:, i, j], FACTS, **setting))

    cells("lambda", FACTS, STRENGTHS)
    for rank in source.effort.some(RANKS):
        cells("rho", rank, np.asarray([1.0]))
    for x in SPAN:
        for panel, place in (("lambda", (x, 1 / (2 * x), 1.0)), ("rho", (1.0, x, 1 / (2 * x)))):
            lam, kappa, rho = place
            tie = closed.retention(closed.strength(lam, kappa, rho))
            rows.append(law(tie, panel=f"{panel}, boundary", lam=lam, kappa=kappa, rho=rho))
    return pd.DataFrame(rows)


@figure(
    "Dilution, template mismatch and rank fail along one curve: an overwrite decides the answer where "
    "2λκρ > 1.",
    "One-layer relu model with 1024 features, 16 overwritten facts read at a turned relation word (κ from "
    "the kernel alone). Colour: measured recall; line: 2λκρ = 1.",
    _phase,
    section="section 5",
    panels=("Full rank, ρ = 1.", "λ = 1, ρ = r/F."),
)
def coverage_phase(table: pd.DataFrame):
    """Measured recall over (lambda, kappa) and (kappa, rho), with the boundary of the coverage law."""
    picture, panels = style.figure(style.COLUMN, 2.4, ncols=2)
    names = ("lambda", "lam", "kappa", "full rank"), ("rho", "kappa", "rho", "λ = 1")
    for axes, (panel, x, y, title) in zip(panels, names, strict=True):
        grid = table[table["panel"] == panel].pivot(index=y, columns=x, values="measured")
        mesh = axes.pcolormesh(
            grid.columns, grid.index, grid, cmap="cividis", vmin=0, vmax=1, shading="nearest",
            edgecolor="face", linewidth=0.1,
        )  # fmt: skip
        limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
        boundary = table[table["panel"] == f"{panel}, boundary"]
        axes.plot(boundary[x], boundary[y], color="white", linewidth=2.6)
        axes.plot(boundary[x], boundary[y], color="black", linewidth=1.2, label="2λκρ = 1")
        axes.set(**limits)
        axes.set_title(title, loc="left")
    panels[0].set(xlabel="coefficient λ", ylabel="overlap κ", yticks=[0.5, 0.75, 1])
    panels[1].set(xlabel="overlap κ", ylabel="share ρ = r/F", xticks=[0.5, 0.75, 1], yticks=[0.5, 0.75, 1])
    bar = picture.colorbar(mesh, ax=panels, location="right", aspect=25, ticks=[0, 0.5, 1])
    bar.set_label("measured recall")
    bar.solids.set_rasterized(False)
    style.key(picture, [panels[0]])
    return picture
