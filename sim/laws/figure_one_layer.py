"""Figures of the one-layer model: no latent composition, retention, the coverage law's phase diagram."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim import one_layer
from sim.lab import intervals, parallel, style
from sim.lab.figure import figure
from sim.model import routing
from sim.one_layer import retention as dilution
from sim.one_layer import two_hop
from sim.twins import chain as decoded
from sim.twins import composition as enumerated
from sim.twins import coverage as single
from sim.twins import phase, starvation
from theory import composition, coverage, crosstalk
from theory import starvation as starved

ROOT = 0
SIZES = (4, 8, 16, 32)
MERGES = ("average", "sum", "concat", "svd", "ties")


def seeds(profile: str, quick: int, paper: int) -> int:
    """Seeds of a profile."""
    return paper if profile == "paper" else quick


def key_of(*path: int) -> jax.Array:
    """One key for each place in a table."""
    return functools.reduce(jax.random.fold_in, path, jax.random.key(ROOT))


def _over_seeds(measure, config, count: int) -> np.ndarray:
    """(seeds, rows) of one part of the one-layer experiment."""

    def one(seed: jax.Array) -> jax.Array:
        return measure(config, jax.random.fold_in(jax.random.key(ROOT), seed))

    found = parallel.chunked(one)([np.uint32(seed) for seed in range(count)])
    return np.concatenate([np.stack(values) for _, values in found])


def _row(predicted: float, interval: tuple[float, float, float], count: int, **setting) -> dict:
    measured, low, high = interval
    return {
        **setting,
        "predicted": predicted,
        "measured": measured,
        "low": low,
        "high": high,
        "seeds": count,
    }


def _arrow_gate(first, second, phi):
    """Arrow's gates at the prompts ``phi``, both adapters kept, temperature 1."""
    gates = routing.gate(phi, routing.prototypes("arrow", [first, second]))
    return gates[:, 0], gates[:, 1]


def _composition(profile: str) -> pd.DataFrame:
    count, chains, rows = seeds(profile, 64, 256), seeds(profile, 16, 64), []
    for place, entities in enumerate(SIZES):
        law = composition.two_hop_accuracy(entities)
        half = entities // 2
        config = one_layer.OneLayerConfig(half, entities, max(256, 8 * entities), methods=MERGES)
        runs = _over_seeds(two_hop.measure, config, count)
        for column, row in enumerate(two_hop.rows(config)):
            if row["metric"] == "two_hop_direct" and row["facts"] == half and row["method"] in MERGES:
                interval = intervals.mean(runs[:, column])
                rows.append(_row(law, interval, count, entities=entities, method=row["method"]))
        routed = [
            enumerated.two_hop_accuracy(
                entities,
                key=key_of(place, seed),
                rank=entities,
                gate=_arrow_gate,
                every=enumerated.shifts(entities),
            )
            for seed in range(count)
        ]
        interval = intervals.mean([right / asked for right, asked in routed])
        rows.append(_row(law, interval, count, entities=entities, method="arrow"))
        setting = decoded.Setting(half, 2, half, 0.5, features=2048)
        hits = np.asarray(decoded.run(setting, key_of(place, 1000), chains).decoded).sum(1)
        interval = intervals.proportion(hits, [half] * chains)
        rows.append(_row(1.0, interval, chains, entities=entities, method="average, CoT"))
    return pd.DataFrame(rows)


@figure(
    "Whatever merges or routes two adapters, the direct two-hop answer is right once in N; written down step "
    "by step, the same facts compose.",
    "One-layer relu model, N entities a set. Direct: every shift of s1, N/2 facts an adapter, rank N/2 "
    "(Arrow: all N facts, rank N, softmax over both adapters). Chain of thought (CoT): average, N/2 edited "
    "facts a hop, base that knows traces, greedy decoding; theory: all right (section 9). 64 seeds, 16 for "
    "CoT (256 and 64 in the paper profile).",
    "section 2",
    _composition,
)
def no_latent_composition(table: pd.DataFrame):
    """Direct two-hop accuracy on the 1/N line for every merge and Arrow, chain of thought beside it."""
    picture, axes = style.figure(style.COLUMN, 2.5)
    line = np.geomspace(3.2, 40, 50)
    axes.plot(line, 1 / line, color="black", zorder=0)
    axes.plot(line, np.ones(50), color="black", linestyle="--", linewidth=0.8, zorder=0)
    methods = [*MERGES, "arrow"]
    for series, method in enumerate(methods):
        rows = table[table["method"] == method]
        x = rows["entities"] * 1.035 ** (series - 2.5)
        style.points(axes, x, rows["measured"], rows["low"], rows["high"], series, method)
    rows = table[table["method"] == "average, CoT"]
    x = rows["entities"]
    style.points(axes, x, rows["measured"], rows["low"], rows["high"], 0, "average, CoT", hollow=True)
    axes.set(xscale="log", yscale="log", xlabel="entities N", ylabel="two-hop accuracy", ylim=(0.02, 1.3))
    axes.set_xticks(SIZES, SIZES)
    axes.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.text(4.3, 0.13, "1/N", ha="center")
    axes.legend(ncols=2, loc="upper right", bbox_to_anchor=(1.0, 0.9), fontsize=6, columnspacing=1)
    return picture


LAMBDAS = tuple(np.round(np.linspace(0.35, 1.0, 14), 4))
STARVED = ((16, 16), (16, 13), (16, 10))
LIBRARIES = (1, 2, 3, 4, 5, 6)


def _retention(profile: str) -> pd.DataFrame:
    count, rows = seeds(profile, 32, 128), []
    for place, (facts, rank) in enumerate(STARVED):
        for step, lam in enumerate(LAMBDAS):
            law = coverage.retention(lam) if rank == facts else starved.overwrite_recall(facts, rank, lam)
            if rank == facts:
                # Trained to the end, a full-rank adapter is the exact overwrite, whose tie counts one half.
                runs = _exact_overwrites(lam, key_of(place, step), count)
            else:
                runs = starvation.overwrite_recall(
                    facts, rank, float(lam), key=key_of(place, step), draws=count
                )
            interval = intervals.proportion(np.asarray(runs) * facts, [facts] * count)
            rows.append(
                _row(float(law), interval, count, panel="lambda", x=lam, rank_share=rank / facts, method="")
            )
    for size in LIBRARIES:
        config = one_layer.OneLayerConfig(4, libraries=(size,))
        runs = _over_seeds(dilution.measure, config, count)
        for column, row in enumerate(dilution.rows(config)):
            if row["method"] in ("average", "sum"):
                law = float(coverage.retention(row["lam"]))
                interval = intervals.mean(runs[:, column])
                rows.append(
                    _row(law, interval, count, panel="K", x=size, rank_share=1.0, method=row["method"])
                )
    return pd.DataFrame(rows)


def _exact_overwrites(lam: float, key: jax.Array, count: int) -> np.ndarray:
    """Whether ``count`` separate exact overwrites answer new at lambda (an exact tie counts one half)."""
    return np.asarray([single.retention(lam, key=jax.random.fold_in(key, seed)) for seed in range(count)])


@figure(
    "An overwrite survives a coefficient above one half and no average of three; too little rank smooths the "
    "step and moves it up.",
    "Left: overwrites of 16 facts by trained LoRAs of share r/F, orthonormal keys (share 1: exact edits). "
    "Right: K adapters of 4 facts each in the one-layer relu model, rank 4. 32 seeds (128 in the paper "
    "profile); an exact tie counts one half.",
    "section 3",
    _retention,
)
def retention(table: pd.DataFrame):
    """Recall of overwritten facts against lambda, and against the size of an averaged library."""
    picture, (left, right) = style.figure(style.COLUMN, 2.2, ncols=2, sharey=True)
    dense = np.linspace(0.34, 1.02, 400)
    for series, (facts, rank) in enumerate(STARVED):
        rows = table[(table["panel"] == "lambda") & np.isclose(table["rank_share"], rank / facts)]
        law = coverage.retention(dense) if rank == facts else starved.overwrite_recall(facts, rank, dense)
        left.plot(dense, law, color=style.COLOURS[series])
        label = f"{rank / facts:.2f}".rstrip("0").rstrip(".")
        style.points(left, rows["x"], rows["measured"], rows["low"], rows["high"], series, label)
    left.set(xlabel="coefficient λ", ylabel="overwrites kept", ylim=(-0.03, 1.06))
    left.legend(title="r/F", loc="lower right", bbox_to_anchor=(1.06, 0.0), handletextpad=0.1)
    for series, method in enumerate(("average", "sum")):
        rows = table[(table["panel"] == "K") & (table["method"] == method)]
        right.plot(rows["x"], rows["predicted"], color=style.COLOURS[series + 3])
        style.points(right, rows["x"], rows["measured"], rows["low"], rows["high"], series + 3, method)
    right.set(xlabel="adapters K")
    right.set_xticks(LIBRARIES)
    right.legend(loc="center right")
    return picture


FACTS = 16
KAPPAS = np.linspace(0.525, 0.975, 10)
STRENGTHS = np.linspace(0.35, 1.45, 12)
RANKS = tuple(range(8, 17))


def overlap(facts: int, angle: float) -> float:
    """Whitened kappa at a relation word turned by ``angle``, from the arc-cosine kernel alone (section 4)."""
    turn = math.cos(angle)
    keys, own, other = (
        float(crosstalk.arc_cosine(jnp.asarray(value))) for value in (0.5, (1 + turn) / 2, turn / 2)
    )
    return float(crosstalk.mean_overlap(facts, keys, own, other))


def angles(facts: int, wanted: np.ndarray) -> np.ndarray:
    """Angles at which the kernel gives these kappas (it falls from 1 at 0 to about 0.5 at pi)."""
    grid = np.linspace(0, np.pi, 400)
    return np.interp(-wanted, [-overlap(facts, angle) for angle in grid], grid)


def _phase(profile: str) -> pd.DataFrame:
    count, rows = seeds(profile, 16, 64), []
    turns = jnp.asarray(angles(FACTS, KAPPAS))

    def cells(panel: str, rank: int, strengths: np.ndarray) -> None:
        runs = phase.recall(
            jnp.asarray(strengths), turns, facts=FACTS, rank=rank, key=key_of(rank), draws=count
        )
        for i, kappa in enumerate(KAPPAS):
            for j, lam in enumerate(strengths):
                law = float(starved.overwrite_recall(FACTS, rank, lam * kappa))
                interval = intervals.proportion(np.asarray(runs)[:, i, j] * FACTS, [FACTS] * count)
                rows.append(_row(law, interval, count, panel=panel, lam=lam, kappa=kappa, rho=rank / FACTS))

    cells("lambda", FACTS, STRENGTHS)
    for rank in RANKS:
        cells("rho", rank, np.asarray([1.0]))
    return pd.DataFrame(rows)


@figure(
    "Dilution, template mismatch and rank fail along one curve: an overwrite decides the answer where "
    "2λκρ > 1.",
    "One-layer relu model with 1024 features, 16 overwritten facts read at a turned relation word (κ from "
    "the kernel alone); left: full rank, ρ = 1; right: λ = 1, ρ = r/F. 16 seeds (64 in the paper "
    "profile), 16 facts each. Colour: measured recall; line: 2λκρ = 1.",
    "section 5",
    _phase,
)
def coverage_phase(table: pd.DataFrame):
    """Measured recall over (lambda, kappa) and (kappa, rho), with the boundary of the coverage law."""
    picture, panels = style.figure(style.COLUMN, 1.9, ncols=2)
    left = table[table["panel"] == "lambda"].pivot(index="kappa", columns="lam", values="measured")
    right = table[table["panel"] == "rho"].pivot(index="rho", columns="kappa", values="measured")
    for axes, grid in zip(panels, (left, right), strict=True):
        mesh = axes.pcolormesh(
            grid.columns, grid.index, grid, cmap="cividis", vmin=0, vmax=1, shading="nearest", rasterized=True
        )
    span = np.linspace(0.2, 1.6, 300)
    for axes in panels:
        x, y = axes.get_xlim(), axes.get_ylim()
        axes.plot(span, 1 / (2 * span), color="white", linewidth=2.6)
        axes.plot(span, 1 / (2 * span), color="black", linewidth=1.2)
        axes.set(xlim=x, ylim=y)
    panels[0].set(xlabel="coefficient λ", ylabel="overlap κ")
    panels[1].set(xlabel="overlap κ", ylabel="share ρ = r/F")
    bar = picture.colorbar(mesh, ax=panels, location="top", aspect=40, shrink=0.7)
    bar.set_label("measured recall of overwrites", labelpad=2)
    return picture
