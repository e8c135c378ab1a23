"""Section 2: no latent composition, for every merge, gate and place of the adapters, and its figure."""

import functools

import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim import one_layer
from sim.lab import parallel, seeds, style
from sim.lab.check import check, exact
from sim.lab.figure import LINES, Source, figure, law, line, point, points, share
from sim.lab.seeds import Effort
from sim.merge.looks import look_of, spelled
from sim.one_layer import two_hop
from sim.twins import chain as decoded
from sim.twins import composition as twin
from theory import composition as closed
from theory import draws
from theory.model import ModelConfig

CASES = (
    (3, "sum", {}, 2),
    (4, "sum", {}, 1),
    (4, "average, two-hop in base", {"merge": twin.method("average"), "two_hop_in_base": True}, 1),
    (4, "ties", {"merge": twin.method("ties")}, 2),
    (8, "sum, shifts", {"every": twin.shifts(8)}, 4),
    (16, "average, shifts", {"merge": twin.method("average"), "every": twin.shifts(16)}, 4),
    (4, "arrow", {"gate": twin.arrow}, 3),
    (8, "ties, shifts", {"merge": twin.method("ties"), "every": twin.shifts(8)}, 5),
)
"""(entities, name, options of the twin, rank)."""


@check("two-hop accuracy, every bijection", "2a", "exact")
def _two_hop(effort: Effort):
    for index, (entities, name, options, rank) in effort.some(list(enumerate(CASES))):
        right, trials = twin.two_hop_accuracy(entities, key=seeds.key(3, index), rank=rank, **options)
        predicted = closed.two_hop_accuracy(entities)
        yield exact(f"N={entities}, r={rank}, {name}", predicted, right / trials, 1e-12)


MIXING = (
    ("svd", {"merge": twin.method("svd")}),
    ("arrow", {"gate": twin.arrow}),
    ("ce", {"train": twin.cross_entropy}),
)
"""What lets an adapter reach the rows of the other hop; exact only if the base is relabelled with it."""


@check("two-hop accuracy, every relabelling", "2b", "exact")
def _relabelled(effort: Effort):
    for entities, (index, (name, option)) in effort.some(
        [(n, case) for n in (3, 4, 5) for case in enumerate(MIXING)]
    ):
        key = seeds.key(4, index)
        right, trials = twin.two_hop_accuracy(entities, key=key, rank=2, relabel=True, **option)
        predicted = closed.two_hop_accuracy(entities)
        yield exact(f"N={entities}, r=2, {name}", predicted, right / trials, 1e-12)


@check("two-hop accuracy, adapters anywhere", "2d", "exact")
def _anywhere(effort: Effort):
    draws, places = 2, (("w", "fake"), ("up", "fake"), ("value", "one_hop"))
    for entities, (module, base) in effort.some([(n, place) for n in (3, 4, 5) for place in places]):
        config = ModelConfig(entities, 2 * (2 * entities + 2), 60)
        run = functools.partial(
            twin.trained_two_hop, config, twin.Setting(module, base), jnp.asarray([0.5, 1.0])
        )
        hits = [run(seeds.key(5, draw)).two_hop.mean() for draw in range(draws)]
        text = f"N={entities}, adapters on {module}, {base} base"
        yield exact(text, closed.two_hop_accuracy(entities), np.mean(hits), 1e-12, draws)


OLD = (
    *((1, -1), (-1, -1, -1), (1, 0, -1), (0, -1, -1, 1), (1, 2, 3, 0), (3, -1, 0, -1, -1)),
    *((2, 0, 1, -1, 5, 4), (5, 4, 3, 2, 1, 0), (-1, -1, 6, -1, -1, 2, -1)),
)
"""Numbers of the old bridges among the edited ones, -1 for none of them."""


@check("edited facts, given the old ones", "2g", "exact")
def _edited(effort: Effort):
    for old in effort.some(list(OLD)):
        frequency, predicted = twin.edited_null(np.array(old)), draws.edited_null(np.array(old))
        place = np.unravel_index(np.argmax(frequency), frequency.shape)
        yield exact(f"old bridges {old}, likeliest pair", predicted[place], frequency[place], 1e-12)


SIZES = (4, 8, 16, 32)
MERGES = ("average", "sum", "concat", "svd", "ties")
SPAN = range(3, 41)
"""Entities of the line 1/N."""


def _collect(source: Source) -> pd.DataFrame:
    rows = [law(closed.two_hop_accuracy(entities), entities=entities, method="law") for entities in SPAN]
    rows += [law(1.0, entities=entities, method="law, CoT") for entities in SPAN[:: len(SPAN) - 1]]
    count, chains = source.effort(64, 256), source.effort(16, 64)
    for place, entities in source.effort.some(list(enumerate(SIZES))):
        predicted, half = closed.two_hop_accuracy(entities), entities // 2
        config = one_layer.OneLayerConfig(half, entities, max(256, 8 * entities), methods=MERGES)
        runs = parallel.map_arrays(
            lambda seed, config=config: two_hop.measure(config, seeds.key(seed)),
            [np.uint32(seed) for seed in range(count)],
        )
        for column, row in enumerate(two_hop.rows(config)):
            if row["metric"] == "direct" and row["facts"] == half and row["method"] in MERGES:
                rows.append(point(predicted, runs[:, column], entities=entities, method=row["method"]))
        options = {"rank": entities, "gate": twin.arrow, "every": twin.shifts(entities)}
        routed = [
            twin.two_hop_accuracy(entities, key=seeds.key(place, seed), **options) for seed in range(count)
        ]
        accuracy = [right / trials for right, trials in routed]
        rows.append(point(predicted, accuracy, entities=entities, method="arrow"))
        setting = decoded.Setting(half, 2, half, 0.5, features=2048)
        solved = np.asarray(decoded.run(setting, seeds.key(place, 1000), chains).decoded).mean(axis=1)
        rows.append(share(1.0, solved, half, entities=entities, method="average, CoT"))
    return pd.DataFrame(rows)


@figure(
    "Whatever merges or routes two adapters, the direct two-hop answer is right once in N; written down step "
    "by step, the same facts compose.",
    "One-layer relu model, N entities a set. Direct: every shift of s1, N/2 facts an adapter, rank N/2 "
    "(Arrow: all N facts, rank N, softmax over both adapters). Step by step, hollow: average, N/2 edited "
    "facts a hop, base that knows traces, greedy decoding; theory: all right (section 9). Methods are set "
    "apart sideways." + LINES,
    _collect,
    section="section 2",
)
def no_latent_composition(table: pd.DataFrame):
    """Direct two-hop accuracy on the 1/N line for every merge and Arrow, chain of thought beside it."""
    picture, axes = style.figure(style.COLUMN, 2.8)
    line(axes, table[table["method"] == "law"], "entities", 4, zorder=0)
    chain = table[table["method"] == "law, CoT"]
    line(axes, chain, "entities", 4, linestyle="--", linewidth=0.8, zorder=0)
    for series, method in enumerate((*MERGES, "arrow")):
        rows = table[table["method"] == method]
        shifted = rows.assign(entities=rows["entities"] * 1.05 ** (series - 2.5))
        points(axes, shifted, "entities", look_of(method), spelled(method))
    written = table[table["method"] == "average, CoT"]
    points(axes, written, "entities", look_of("average"), "average, step by step", hollow=True)
    axes.set(xscale="log", yscale="log", xlabel="entities N", ylabel="two-hop accuracy", ylim=(0.02, 1.3))
    axes.set_xticks(SIZES, SIZES)
    axes.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
    axes.minorticks_off()
    axes.text(6.4, 0.19, "direct: 1/N", ha="left")
    axes.text(38, 0.72, "step by step: 1", ha="right", va="top")
    style.key(picture, [axes])
    return picture
