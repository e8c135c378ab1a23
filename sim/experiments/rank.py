"""Rank of the adapters, and which matrices they change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from sim.experiments.common import CEILINGS_AND_MERGES, DEFAULT, SETTING, SMALL, chance, of_method, selected
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.model.transformer import ATTENTION, MLP
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
from sim.worlds.two_hop import Setting

KINDS = {
    "mlp": dict.fromkeys(MLP, 4) | dict.fromkeys(ATTENTION, 0),
    "attention": dict.fromkeys(ATTENTION, 4) | dict.fromkeys(MLP, 0),
}
"""LoRA of rank 4 on some kinds of matrices alone: kind -> rank."""


@experiment(
    quick={"config": SMALL, "ranks": (1, 16), "kinds": {}},
    paper={"config": DEFAULT, "ranks": (1, 2, 4, 8, 16, 32, 64), "kinds": KINDS},
)
def rank_(
    config: ReuseConfig, ranks: tuple[int, ...], kinds: Mapping[str, Mapping[str, int]]
) -> Iterator[Part]:
    """Rank 1 to 64, and LoRA on all matrices, on attention or on the MLP."""
    everything = {f"rank{r}": dict.fromkeys(ATTENTION + MLP, r) for r in ranks} | dict(kinds)
    yield Part(
        # No "svd": it would truncate to the largest rank, not to the cell's.
        replace(config, rank=max(ranks), methods=("average", "sum", "ties")),
        tuple(
            (label, Setting("real", "both"), tuple(sorted(by_kind.items())))
            for label, by_kind in everything.items()
        ),
    )


def _rank(source: Source) -> pd.DataFrame:
    methods = tuple((library, method) for library, method, _ in CEILINGS_AND_MERGES)
    return selected(source.summary("rank"), ("cot_answer",), methods)


@figure(
    "More rank lets the average keep its edits, and beyond rank 16 makes the sum break the copying of names: "
    "the best data-free merge changes with the rank, and Arrow gains from it throughout.",
    SETTING.replace("rank 4", "the rank shown") + " Real entities, template in pretraining and data.",
    "experiment rank",
    _rank,
    ("rank",),
)
def rank(rows: pd.DataFrame):
    """Chain-of-thought accuracy against the adapters' rank, by method; MLP and attention alone beside it."""
    picture, axes = style.figure(style.COLUMN, 2.4)
    chance(axes)
    swept = rows[rows["label"].str.startswith("rank")]
    ranks = sorted(swept["rank"].unique())
    kinds = [label for label in KINDS if label in set(rows["label"])]
    places = {f"rank{value:g}": float(place) for place, value in enumerate(ranks)}
    places |= {label: len(ranks) + 0.7 + place for place, label in enumerate(kinds)}
    for series, (library, method, label) in enumerate(CEILINGS_AND_MERGES):
        found = of_method(rows, library, method).set_index("label").reindex(list(places))
        x = np.array(list(places.values())) + (series - 2) * 0.1
        along = slice(0, len(ranks))
        axes.plot(x[along], found["measured"][along], color=style.COLOURS[series], linewidth=0.5, alpha=0.6)
        style.points(axes, x, found["measured"], found["low"], found["high"], series, label)
    ticks = [f"{value:g}" for value in ranks] + [
        {"mlp": "MLP", "attention": "attn"}[k] + "\nr = 4" for k in kinds
    ]
    axes.set_xticks(list(places.values()), ticks)
    axes.set(xlabel="rank (all matrices)", ylabel="two-hop accuracy (CoT)", ylim=(-0.03, 1.18))
    axes.legend(ncols=3, loc="upper left", fontsize=6, columnspacing=0.8, handletextpad=0.2)
    return picture
