"""Figures of the memories: capacity, two stacked memories, and chains (theory/README.md, sections 7 to 9)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import special

from sim.lab import intervals, style
from sim.lab.figure import figure
from sim.lab.rows import gap, law, line, point, points
from sim.twins import capacity as memories
from sim.twins import chain as chains
from sim.twins import depth as stacks
from theory import capacity as laws
from theory import chain as chain_law
from theory import depth as depth_law
from theory import model as one_layer

SHARE = 0.125  # r / d of the truncated memories
LOADS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
WIDE = 4096  # width of a line without points, to show where the laws go
HELD = {64: (4, 8, 16, 64), 128: (8, 32)}  # ranks at which facts held are measured, by width


def _key(*path: int) -> jax.Array:
    return functools.reduce(jax.random.fold_in, path, jax.random.key(0))


def _more(profile: str, draws: int) -> int:
    """Draws of a profile: the paper's are eight times as many."""
    return 8 * draws if profile == "paper" else draws


def _held(dim: int, rank: int, draws: int, key: jax.Array) -> dict:
    """Facts at which half are recalled, by bisection on a grid of ratio sqrt(2) that knows no prediction.

    log F is interpolated in the probit of recall between the two grid points; the interval carries the
    error of either recall over.
    """
    grid = [round(4 * 2 ** (step / 2)) for step in range(20)]
    found = {}

    def at(place):
        if place not in found:
            runs = np.asarray(memories.recall(grid[place], dim, rank, key=key, draws=draws))
            found[place] = (runs.mean(), runs.std(ddof=1) / draws**0.5)
        return found[place]

    low, high = 0, len(grid) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle)[0] > 0.5 else (low, middle)
    ends = [at(place) for place in (low, high)]
    probit = [float(special.ndtri(np.clip(mean, 1e-3, 1 - 1e-3))) for mean, _ in ends]
    part = probit[0] / (probit[0] - probit[1])
    slope = (probit[0] - probit[1]) / np.log(grid[high] / grid[low])
    density = np.exp(-(np.array(probit) ** 2) / 2) / np.sqrt(2 * np.pi)
    error = np.hypot((1 - part) * ends[0][1] / density[0], part * ends[1][1] / density[1]) / slope
    middle = np.log(grid[low]) + part * np.log(grid[high] / grid[low])
    measured, below, above = np.exp([middle, middle - intervals.Z * error, middle + intervals.Z * error])
    return {"measured": measured, "low": below, "high": above, "draws": draws}


def _capacity(profile: str) -> pd.DataFrame:
    rows = []
    for place, (dim, draws) in enumerate(((32, 60), (64, 40), (128, 12))):
        setting = {"panel": "recall", "dim": dim, "rank": round(SHARE * dim)}
        for load in np.geomspace(0.35, 5.6, 25):
            facts, _, rank = (int(size) for size in laws.sizes_at_load([dim], SHARE, load)[0])
            exact = 2 * facts * np.log(facts) / (laws.captured(SHARE) * dim**2)
            rows.append(law(laws.recall(facts, dim, rank), load=exact, facts=facts, **setting))
        for step, load in enumerate(LOADS):
            facts, _, rank = (int(size) for size in laws.sizes_at_load([dim], SHARE, load)[0])
            exact = 2 * facts * np.log(facts) / (laws.captured(SHARE) * dim**2)
            runs = memories.recall(facts, dim, rank, key=_key(0, place, step), draws=_more(profile, draws))
            rows.append(
                point(laws.recall(facts, dim, rank), np.asarray(runs), load=exact, facts=facts, **setting)
            )
    for load in np.geomspace(0.35, 5.6, 25):
        size = tuple(int(size) for size in laws.sizes_at_load([WIDE], SHARE, load)[0])
        rows.append(law(laws.recall(*size), panel="recall", dim=WIDE, load=load, facts=size[0]))
    for dim, ranks in HELD.items():
        for rank in np.unique(np.geomspace(ranks[0], ranks[-1], 17).round().astype(int)):
            setting = {"dim": dim, "rank": rank, "parameters": rank * dim}
            rows.append(law(laws.facts_at_recall(dim, rank), panel="held", **setting))
            rows.append(law(laws.facts_small_share(dim, rank), panel="count", **setting))
        for rank in ranks:
            predicted = laws.facts_at_recall(dim, rank)
            setting = {"panel": "held", "dim": dim, "rank": rank, "parameters": rank * dim}
            found = _held(dim, rank, _more(profile, 8), _key(1, dim, rank))
            rows.append({**setting, "predicted": predicted, **found})
    for place, (dim, draws) in enumerate(((16, 400), (32, 200), (64, 80), (128, 24), (256, 6))):
        facts, _, rank = (int(size) for size in laws.sizes_at_load([dim], SHARE, 2.0)[0])
        runs = np.asarray(memories.recall(facts, dim, rank, key=_key(2, place), draws=_more(profile, draws)))
        setting = {"panel": "convergence", "dim": dim, "rank": rank, "facts": facts}
        rows.append(gap(laws.recall(facts, dim, rank), runs, curve="any load", **setting))
        rows.append(gap(laws.recall_large(facts, dim, rank), runs, curve="F ≫ d", **setting))
    return pd.DataFrame(rows)


@figure(
    "Recall collapses around F ln F = f d²/2, ever more sharply with d; a memory of rank r holds fewer facts "
    "than the count F ln F = 2rd, far fewer at small r, and the law for any load and rank says how many.",
    "Gaussian keys and values, Hebbian memory truncated to rank r by SVD; stored values compete. Left: "
    "r = d/8, 60, 40, 12 draws at d = 32, 64, 128; dashed: law at d = 4096. Middle: facts at which half are "
    "recalled, 8 draws a size, "
    "bisected on a grid of ratio √2; dotted: F ln F = 2rd. Right: measured minus predicted recall, r = d/8, "
    "load 2, with 400, 200, 80, 24, 6 draws at d = 16 to 256 (quick profile; paper: 8 times as many).",
    "section 7",
    _capacity,
)
def capacity(rows: pd.DataFrame):
    """Recall against load, facts held against r d, and the gap of two laws against d."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.3, ncols=3)
    for series, dim in enumerate((32, 64, 128)):
        part = rows[(rows["panel"] == "recall") & (rows["dim"] == dim)]
        line(left, part, "load", series)
        points(left, part, "load", series, f"d = {dim}")
    wide = rows[(rows["panel"] == "recall") & (rows["dim"] == WIDE)]
    line(left, wide, "load", 6, linestyle="--", label=f"d = {WIDE}")
    left.axvline(1.0, color="black", linewidth=0.6, linestyle=":")
    left.set_xscale("log")
    left.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    left.minorticks_off()
    left.set(xlabel="load  2 F ln F / (f d²)", ylabel="recall", ylim=(0, 1.03))
    left.legend(loc="upper right")
    for series, dim in enumerate(HELD):
        part = rows[(rows["panel"] == "held") & (rows["dim"] == dim)]
        line(middle, part, "parameters", series)
        points(middle, part, "parameters", series, f"d = {dim}")
    line(middle, rows[rows["panel"] == "count"].drop_duplicates("parameters"), "parameters", 6, ls=":")
    _sizes(middle, (256, 1024, 4096))
    middle.set(yscale="log", xlabel="r d", ylabel="facts held (recall ½)")
    middle.legend(loc="lower right")
    right.axhline(0, color="black", linewidth=0.8)
    for series, curve in enumerate(("any load", "F ≫ d")):
        part = rows[(rows["panel"] == "convergence") & (rows["curve"] == curve)]
        points(right, part, "dim", series, curve)
    _sizes(right, (16, 32, 64, 128, 256))
    right.set(xlabel="d", ylabel="measured − law")
    right.legend(loc="lower right", title="law for")
    return picture


def _sizes(axes, ticks) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _depth(profile: str) -> pd.DataFrame:
    rows = []
    for place, (dim, draws) in enumerate(((32, 60), (64, 40), (128, 12))):
        for order in ("right", "wrong"):
            setting = {"panel": "accuracy", "dim": dim, "order": order}
            chance = depth_law.wrong_order_accuracy(dim)

            def says(rho, dim=dim, order=order, chance=chance):
                return depth_law.accuracy(dim, dim, rho) if order == "right" else chance

            rows += [law(says(rho), alignment=rho, **setting) for rho in np.linspace(0, 1, 41)]
            for step, rho in enumerate(np.linspace(0, 1, 6)):
                runs = stacks.accuracy(
                    dim, dim, rho, key=_key(3, place, step), draws=_more(profile, draws),
                    wrong_order=order == "wrong",
                )  # fmt: skip
                rows.append(point(says(rho), np.asarray(runs), alignment=rho, **setting))
    for place, (dim, draws) in enumerate(((16, 600), (32, 300), (64, 150), (128, 60), (256, 16))):
        for rho in (0.8, 0.4):
            runs = np.asarray(stacks.accuracy(dim, dim, rho, key=_key(4, place), draws=_more(profile, draws)))
            setting = {"panel": "convergence", "dim": dim, "alignment": rho, "order": "right"}
            rows.append(gap(depth_law.accuracy(dim, dim, rho), runs, curve="law", **setting))
            rows.append(
                gap(depth_law.accuracy_leading(dim, dim, rho), runs, curve="leading order", **setting)
            )
    return pd.DataFrame(rows)


@figure(
    "Stacked adapters compose two hops in latent space exactly as far as the bridge is read as it is "
    "written, if the first hop is stored below the second; in the other order they stay at 1/N.",
    "Two layers of Gaussian memories, N = d facts, sum of both adapters. Left: filled, first hop below; "
    "hollow, above; 60, 40, 12 draws at d = 32, 64, 128. Right: measured minus predicted accuracy, 600, 300, "
    "150, 60, 16 draws at d = 16 to 256 (quick profile; paper: 8 times as many).",
    "section 8",
    _depth,
)
def depth(rows: pd.DataFrame):
    """Two-hop accuracy against bridge alignment in both layer orders, and the laws' gaps against d."""
    picture, (left, right) = style.figure(style.PAGE, 2.4, ncols=2)
    for series, dim in enumerate((32, 64, 128)):
        for order in ("right", "wrong"):
            part = rows[(rows["panel"] == "accuracy") & (rows["dim"] == dim) & (rows["order"] == order)]
            line(left, part, "alignment", series, linestyle="-" if order == "right" else "--")
            label = f"N = d = {dim}" if order == "right" else None
            points(left, part, "alignment", series, label, hollow=order == "wrong")
    left.set(xlabel=r"bridge alignment $\rho_b$", ylabel="direct two-hop accuracy", ylim=(-0.03, 1.03))
    left.legend(loc="upper left")
    right.axhline(0, color="black", linewidth=0.8)
    shown = [(curve, rho) for curve in ("law", "leading order") for rho in (0.8, 0.4)]
    for series, (curve, rho) in enumerate(shown):
        part = rows[(rows["curve"] == curve) & np.isclose(rows["alignment"], rho)]
        shifted = part.assign(dim=part["dim"] * 1.05 ** (series - 1.5))
        points(right, shifted, "dim", series, f"{curve}, $\\rho_b$ = {rho}", hollow=curve != "law")
    _sizes(right, (16, 32, 64, 128, 256))
    right.set(xlabel="d", ylabel="measured − predicted", ylim=(-0.07, 0.13))
    right.legend(loc="upper left")
    return picture


FACTS = 8
RANKS = (4, 6, 7)
FEATURES = 1024


def _contexts(setting: chains.Setting, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """(kappa of the own fact, margin of old over new) in each context, (hops, F), for m -> infinity.

    Which fact stands in a chain does not matter to the kernel beyond repeated tokens, so one draw's graph
    gives the numbers.
    """
    size, edited = 2 * FACTS, jnp.arange(FACTS)
    layout, _ = chain_law.words(size, setting.hops)
    old, new = chains.graph(setting, key)
    path = chains.follow(new, edited)
    groups = chains.base_facts(setting, old)
    known = [prompts for prompts, _ in groups]
    targets = one_layer.one_hot(jnp.concatenate([rows for _, rows in groups]), setting.hops * size)
    overlaps, margins = [], []
    for hop in range(setting.hops):
        read = chain_law.trace_prompt(layout, path[:, : hop + 1])
        stored = [chain_law.plain_prompt(layout, hop, edited)]
        overlaps.append(chain_law.kernel_overlap(setting.model, stored, read)[path[:, hop], edited])
        base = targets.T @ chain_law.kernel_overlap(setting.model, known, read)
        rows = hop * size + old[hop][path[:, hop]], hop * size + path[:, hop + 1]
        margins.append(base[rows[0], edited] - base[rows[1], edited])
    return np.asarray(jnp.stack(overlaps)), np.asarray(jnp.stack(margins))


def _chain(profile: str) -> pd.DataFrame:
    draws, rows = _more(profile, 48), []
    for hops in range(1, 5):
        known = _contexts(chains.Setting(FACTS, hops, FACTS, 0.5, features=FEATURES), _key(5, hops))
        for rank in RANKS:
            for context in ("plain", "in context"):
                plain = context == "plain"
                lam = 1.0 if plain else 0.5
                setting = chains.Setting(FACTS, hops, rank, lam, 1 if plain else None, not plain, FEATURES)
                if plain:
                    steps = [chain_law.step_accuracy(FACTS, rank, lam)] * hops
                else:
                    steps = [
                        chain_law.step_accuracy(FACTS, rank, lam, *where)
                        for where in zip(*known, strict=True)
                    ]
                runs = chains.run(setting, _key(6, hops, rank, int(plain)), draws)
                solved = np.asarray(runs.decoded).mean(axis=1)
                where = {"context": context, "hops": hops, "rank": rank, "lam": lam, "facts": FACTS}
                rows.append(
                    point(float(chain_law.product(jnp.asarray(steps))), solved, panel="accuracy", **where)
                )
                forced = np.asarray(runs.forced).mean(axis=2)
                rows.append(
                    point(np.mean(np.prod(forced, axis=1)), solved, panel="product of steps", **where)
                )
    rows += _overlaps(profile)
    return pd.DataFrame(rows)


def _overlaps(profile: str) -> list[dict]:
    """Root mean square distance of kappa in a two-hop trace from its kernel limit, against features."""
    rows = []
    for features in (256, 512, 1024, 2048, 4096):
        setting = chains.Setting(FACTS, 2, FACTS, 0.5, features=features)
        key = _key(7, features)
        runs = chains.run(setting, key, _more(profile, 12))
        limit = _contexts(setting, jax.random.fold_in(jax.random.fold_in(key, 0), 1))[0]
        # The mean over chains is the same for every graph; single facts differ in which token repeats.
        found = np.asarray(runs.swing).mean(axis=2) / 2 - limit.mean(axis=1)
        for hop in range(2):
            rows.append(
                point(np.nan, np.abs(found[:, hop]), panel="overlap", features=features, hops=hop + 1)
            )
    return rows


@figure(
    "k hops by chain of thought are solved as often as the product of k steps says; a trace that repeats "
    "name and relation amplifies the edit, so that an average (λ = ½), a tie on plain prompts, keeps edits. "
    "The step law leaves third answers out and overrates long contexts.",
    "One-layer model, 8 facts a hop, m = 1024 features, one adapter a hop; 48 worlds a point. Left: λ = 1, "
    "a hop attends to one earlier token. Middle: λ = ½, attention over the trace, base that knows it. "
    "Lines: product of step laws (κ and margins from the kernel at m → ∞), crosses: product of the measured "
    "teacher-forced steps. Right: mean distance of a world's κ from its limit; dashed: 1/√m through the "
    "first point; 12 worlds (quick profile; paper: 8 times as many).",
    "section 9",
    _chain,
)
def chain_of_thought(rows: pd.DataFrame):
    """Chains solved against hops, plain and in context, and the convergence of the context's overlap."""
    picture, panels = style.figure(style.PAGE, 2.3, ncols=3)
    for axes, context in zip(panels, ("plain", "in context"), strict=False):
        for series, rank in enumerate(RANKS):
            cell = rows[(rows["context"] == context) & (rows["rank"] == rank)]
            part, steps = (cell[cell["panel"] == panel] for panel in ("accuracy", "product of steps"))
            line(axes, part, "hops", series)
            axes.plot(steps["hops"], steps["predicted"], "x", color="black", markersize=4, zorder=5)
            points(axes, part, "hops", series, f"r = {rank}")
        axes.set(xlabel="hops k", ylim=(-0.03, 1.5), xlim=(0.8, 4.2))
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_xticks(range(1, 5))
    panels[0].set_ylabel("chains solved")
    panels[0].legend(loc="upper center", title="plain, λ = 1", ncols=3, columnspacing=0.8)
    panels[1].legend(loc="upper center", title="in context, λ = ½", ncols=3, columnspacing=0.8)
    overlap = rows[rows["panel"] == "overlap"]
    for series in range(2):
        part = overlap[overlap["hops"] == series + 1]
        points(panels[2], part, "features", series, f"hop {series + 1}")
        first = part.sort_values("features").iloc[0]
        x = np.array([256, 4096])
        guide = first["measured"] * np.sqrt(first["features"] / x)
        panels[2].plot(x, guide, color=style.COLOURS[series], linestyle="--", linewidth=0.8)
    panels[2].set(yscale="log", xlabel="features m", ylabel="|κ − limit|")
    _sizes(panels[2], (256, 1024, 4096))
    panels[2].legend(loc="upper right")
    return picture
