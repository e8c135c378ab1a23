"""Rank of the adapters, and which matrices they change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd

from sim.experiments.common import (
    CEILINGS_AND_MERGES,
    DEFAULT,
    SETTING,
    SMALL,
    chance,
    of_method,
    reader,
    sizes,
)
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import figure, points
from sim.merge.looks import look_of
from sim.model.transformer import ATTENTION, MLP
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part
from sim.worlds.two_hop import Setting

KINDS = {
    "mlp": dict.fromkeys(MLP, 4) | dict.fromkeys(ATTENTION, 0),
    "attention": dict.fromkeys(ATTENTION, 4) | dict.fromkeys(MLP, 0),
}
"""LoRA of rank 4 on only some kinds of matrices: kind -> rank."""


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


PLACES = {"mlp": "MLP", "attention": "attn."}
"""``KINDS`` in the words of the figure."""


@figure(
    "More rank lets the average keep its edits, and beyond rank 16 breaks the sum: the best data-free merge "
    "changes with the rank, and Arrow gains from it throughout.",
    SETTING.replace("rank 4 on all matrices", "LoRA as shown")
    + " Real entities, template in pretraining and data. Points: accuracy step by step, with 95% intervals; "
    "thin lines guide the eye; dashed: the most that one hop allows.",
    reader("rank", ("cot_answer",), CEILINGS_AND_MERGES),
    ("rank",),
    panels=("LoRA of the rank shown on all matrices.", "LoRA of rank 4 on some matrices alone."),
)
def rank(rows: pd.DataFrame):
    """Chain-of-thought accuracy against the adapters' rank, by method; second panel: only MLP or
    attention."""
    kinds = [label for label in PLACES if label in set(rows["label"])]
    wide = (2.6, 1) if kinds else (1,)
    picture, panels = style.figure(
        style.COLUMN, 2.8, ncols=len(wide), sharey=True, width_ratios=wide, squeeze=False
    )
    swept, axes = rows[rows["label"].str.startswith("rank")], panels[0][0]
    sizes(axes, swept, "rank", CEILINGS_AND_MERGES)
    axes.set(xlabel="rank", ylabel="accuracy, step by step", title="all matrices")
    for place, kind in enumerate(kinds):
        for series, (library, method, label) in enumerate(CEILINGS_AND_MERGES):
            accuracies = of_method(rows[rows["label"] == kind], library, method).assign(place=place)
            panels[0][1].set_xlim(-0.5, len(kinds) - 0.5)
            points(panels[0][1], accuracies, "place", look_of(method), label, shift=(series - 2) * 0.12)
    chance(panels[0][-1])
    if kinds:
        chance(axes, label="")
        panels[0][1].set_xticks(range(len(kinds)), [PLACES[kind] for kind in kinds])
        panels[0][1].set(title="rank 4", xlabel="only these")
    style.key(picture, panels[0])
    return picture
