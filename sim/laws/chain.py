"""Section 9: products of k steps against decoded chains of k hops, and the figure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab import intervals, seeds, style
from sim.lab.check import Row, average, check, rate
from sim.lab.figure import Source, figure, line, point, points
from sim.lab.seeds import Effort
from sim.twins import chain as twin
from theory import chain as closed
from theory import model as one_layer

FACTS = 8
CHAINS = (
    *((2, 6, 1.0), (1, 5, 1.0), (2, 7, 0.75), (3, 7, 0.8)),
    *((2, 3, 1.0), (3, 6, 1.0), (2, 5, 1.0), (4, 7, 1.0), (3, 5, 1.0)),
)
"""(hops, rank, lambda)."""


@functools.cache
def _chains(hops: int, rank: int, lam: float, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """(forced (draws, hops, F), decoded (draws, F)) where attention sees one earlier token: kappa = 1."""
    setting = twin.Setting(FACTS, hops, rank, lam, window=1, template=False, features=256)
    runs = twin.run(setting, seeds.key(24, hops, rank), draws)
    return np.asarray(runs.forced), np.asarray(runs.decoded)


@check("chain of thought: all steps right", "9", "law")
def _product(effort: Effort):
    """Decoded chains against the product of the step *laws*; adapters of different hops are independent."""
    for hops, rank, lam in effort.some(CHAINS):
        _, decoded = _chains(hops, rank, lam, effort(32))
        steps = [closed.step_accuracy(FACTS, rank, lam)] * hops
        text = f"F=8, {hops} hops, r={rank}, lambda={lam}"
        yield average(text, closed.product(steps), decoded.mean(1))


@check("chain of thought: step accuracy", "9", "law")
def _steps(effort: Effort):
    for hops, rank, lam in effort.some(CHAINS):
        forced, _ = _chains(hops, rank, lam, effort(32))
        for hop in range(hops):
            text = f"F=8, hop {hop + 1} of {hops}, r={rank}, lambda={lam}"
            yield rate(text, closed.step_accuracy(FACTS, rank, lam), forced[:, hop].mean(1), FACTS)


@check("chain of thought: matching of facts", "9a", "law")
def _matched(effort: Effort):
    for hops, rank, lam in effort.some(CHAINS):
        if hops == 1:
            continue
        forced, decoded = _chains(hops, rank, lam, effort(32))
        # The law's mean given each world's own step rates; the interval is of the paired difference.
        laws = np.array([closed.matched(steps, FACTS)[0] for steps in forced.mean(2)])
        gap, low, high = intervals.mean(decoded.mean(1) - laws)
        text = f"F=8, {hops} hops, r={rank}, lambda={lam}, given the step rates"
        predicted = float(laws.mean())
        yield Row(text, predicted, predicted + gap, predicted + low, predicted + high, len(laws))


@functools.partial(jax.jit, static_argnums=0)
def contexts(setting: twin.Setting, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(kappa of the own fact, margin of old over new) in each context, (hops, F), for m -> infinity.

    Which fact stands in a chain does not matter to the kernel beyond repeated tokens, so the graph that
    ``twin.graph`` draws from one key gives the numbers.
    """
    size, edited = 2 * setting.facts, jnp.arange(setting.facts)
    layout, _ = one_layer.words(size, setting.hops)
    old, new = twin.graph(setting, key)
    path = twin.follow(new, edited)
    groups = twin.base_facts(setting, old)
    base_prompts = [prompts for prompts, _ in groups]
    targets = one_layer.one_hot(jnp.concatenate([rows for _, rows in groups]), setting.hops * size)
    overlaps, margins = [], []
    for hop in range(setting.hops):
        read = one_layer.trace_prompt(layout, path[:, : hop + 1])
        stored = [one_layer.plain_prompt(layout, hop, edited)]
        overlaps.append(closed.kernel_overlap(setting.model, stored, read)[path[:, hop], edited])
        base = targets.T @ closed.kernel_overlap(setting.model, base_prompts, read)
        rows = hop * size + old[hop][path[:, hop]], hop * size + path[:, hop + 1]
        margins.append(base[rows[0], edited] - base[rows[1], edited])
    return jnp.stack(overlaps), jnp.stack(margins)


RANKS = (4, 6, 7)
FEATURES = 1024


@functools.cache
def _context_limits(hops: int) -> tuple[np.ndarray, np.ndarray]:
    """kappa and margins in traces; full rank, because they do not depend on it."""
    setting = twin.Setting(FACTS, hops, FACTS, 0.5, features=FEATURES)
    overlap, margin = contexts(setting, seeds.key(5, hops))
    return np.asarray(overlap), np.asarray(margin)


def _collect(source: Source) -> pd.DataFrame:
    effort, rows = source.effort, []
    for hops, rank in effort.some([(hops, rank) for hops in (1, 2, 3, 4) for rank in RANKS]):
        plain = twin.Setting(FACTS, hops, rank, 1.0, 1, False, FEATURES)
        steps = [closed.step_accuracy(FACTS, rank, 1.0)] * hops
        rows += _chain("plain", plain, steps, seeds.key(6, hops, rank, 1), effort)
        traced = twin.Setting(FACTS, hops, rank, 0.5, None, True, FEATURES)
        steps = [
            closed.step_accuracy(FACTS, rank, 0.5, *where)
            for where in zip(*_context_limits(hops), strict=True)
        ]
        rows += _chain("in context", traced, steps, seeds.key(6, hops, rank, 0), effort)
    for features in effort.some((256, 512, 1024, 2048, 4096)):
        rows += _overlap(features, effort)
    return pd.DataFrame(rows)


def _chain(context: str, setting: twin.Setting, steps: list[float], key: jax.Array, effort: Effort):
    """Accuracy of decoded chains, against the product of step laws and of measured teacher-forced steps."""
    runs = twin.run(setting, key, effort(48))
    solved = np.asarray(runs.decoded).mean(axis=1)
    forced = np.asarray(runs.forced).mean(axis=2)
    where = {"context": context, "hops": setting.hops, "rank": setting.rank, "lam": setting.lam}
    where |= {"facts": FACTS}
    return [
        point(closed.product(jnp.asarray(steps)), solved, panel="accuracy", **where),
        point(np.mean(np.prod(forced, axis=1)), solved, panel="product of steps", **where),
    ]


def _overlap(features: int, effort: Effort) -> list[dict]:
    """Distance of a world's mean kappa in a two-hop trace from its kernel limit."""
    setting, key = twin.Setting(FACTS, 2, FACTS, 0.5, features=features), seeds.key(7, features)
    runs = twin.run(setting, key, effort(12))
    # The mean over chains is the same for every graph; single facts differ in which token repeats.
    limit = _context_limits(2)[0].mean(axis=1)
    distance = np.abs(np.asarray(runs.swing).mean(axis=2) / 2 - limit)
    return [
        point(0.0, distance[:, hop], panel="overlap", features=features, hops=hop + 1) for hop in range(2)
    ]


@figure(
    "k hops by chain of thought are solved as often as the product of k steps says; a trace that repeats "
    "name and relation amplifies the edit, so that an average (λ = ½), a tie on plain prompts, keeps edits. "
    "The step law leaves third answers out and overrates long contexts.",
    "One-layer model, 8 facts a hop, m = 1024 features, one adapter of rank r a hop. Lines: product of step "
    "laws (κ and margins from the kernel at m → ∞); points: chains decoded; crosses: product of the measured "
    "teacher-forced steps. Bars: 95% intervals.",
    _collect,
    section="section 9",
    panels=(
        "λ = 1, a hop attends to one earlier token.",
        "λ = ½, attention over the trace, base that knows it.",
        "Mean distance of a world's κ in the trace from its limit; dashed: 1/√m through the first point.",
    ),
)
def chain_of_thought(rows: pd.DataFrame):
    """Chains solved against hops, plain and in context, and the convergence of the context's overlap."""
    picture, panels = style.figure(style.PAGE, 2.7, ncols=3)
    titles = {"plain": "plain, λ = 1", "in context": "in context, λ = ½"}
    for axes, context in zip(panels, titles, strict=False):
        for rank, look in zip(RANKS, style.levels(len(RANKS)), strict=True):
            cell = rows[(rows["context"] == context) & (rows["rank"] == rank)]
            part, steps = (cell[cell["panel"] == panel] for panel in ("accuracy", "product of steps"))
            line(axes, part, "hops", look)
            points(axes, part, "hops", look, f"r = {rank}")
            last = rank == RANKS[-1]
            name = "product of measured steps" if last else None
            axes.plot(
                steps["hops"] + 0.13, steps["predicted"], "x", color="black", markersize=3.5, label=name
            )
        axes.set(xlabel="hops k", xlim=(0.8, 4.3), xticks=range(1, 5), title=titles[context])
        style.unit(axes)
    panels[0].set_ylabel("chains solved")
    overlap = rows[rows["panel"] == "overlap"]
    for series in range(2):
        part, mark = overlap[overlap["hops"] == series + 1], style.Look("#4D4D4D", "Pv"[series])
        shifted = part.assign(features=part["features"] * 1.08 ** (series - 0.5))
        points(panels[2], shifted, "features", mark, f"hop {series + 1}", hollow=series == 1)
        first = part.sort_values("features").iloc[0]
        x = np.array([256, 4096])
        guide = first["measured"] * np.sqrt(first["features"] / x)
        panels[2].plot(x, guide, color=mark.colour, linestyle="--", linewidth=0.8)
    panels[2].set(yscale="log", xlabel="features m", ylabel="|κ − limit|")
    panels[2].set_yticks([0.005, 0.01, 0.02, 0.04], ["0.005", "0.01", "0.02", "0.04"])
    panels[2].set_title("κ in the trace", loc="left")
    style.sizes(panels[2], (256, 1024, 4096))
    style.key(picture, panels)
    return picture
