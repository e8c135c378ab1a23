"""Depth and width of the decoder."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from sim.experiments.common import CEILINGS_AND_MERGES, SETTING, SMALL, chance, reader, sizes
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.reuse.jobs import Part
from sim.worlds.two_hop import Setting


def _shaped(layers: int, width: int) -> Part:
    """The default cell at another depth or width. Rate * width is constant, and the bases of more than two
    layers take twice the steps at half the rate: wide and deep models need smaller steps."""
    pretraining = SMALL.pretraining
    if layers > SMALL.layers:
        pretraining = pretraining.lasting(2 * pretraining.steps, pretraining.rate / 2)
    rates = {
        name: replace(schedule, rate=schedule.rate * 64 / width)
        for name, schedule in (("pretraining", pretraining), ("finetuning", SMALL.finetuning))
    }
    config = replace(SMALL, layers=layers, width=width, hidden=4 * width, **rates)
    return Part.of(config, {f"layers{layers}/width{width}": Setting("real", "both")})


@experiment(quick={"layers": (1,)}, paper={"layers": (1, 2, 4)})
def depth(layers: tuple[int, ...]) -> Iterator[Part]:
    """Depth 1, 2, 4 of the decoder."""
    for count in layers:
        yield _shaped(count, 64)


@experiment(quick={"widths": (32,)}, paper={"widths": (64, 128, 256)})
def width(widths: tuple[int, ...]) -> Iterator[Part]:
    """Width 64, 128, 256 of the decoder."""
    for wide in widths:
        yield _shaped(2, wide)


def _sizes(source: Source) -> pd.DataFrame:
    places = {"layers": r"layers(\d+)", "width": r"width(\d+)"}
    readers = [reader(name, ("cot_answer",), CEILINGS_AND_MERGES, **places) for name in ("depth", "width")]
    return pd.concat([read(source) for read in readers], ignore_index=True)


@figure(
    "The pattern holds at every depth and width; at fixed rank deeper and wider bases are harder to edit "
    "through the trace, for the joint adapter as for the merges.",
    SETTING.replace("2 layers of width 64", "depth or width as shown")
    + " Template in pretraining and data. Points: accuracy step by step, with 95% intervals; thin lines "
    "guide the eye; dashed: the most that one hop allows.",
    _sizes,
    ("depth", "width"),
    "experiments depth, width",
    panels=("Width 64.", "2 layers."),
)
def depth_and_width(rows: pd.DataFrame):
    """Chain-of-thought accuracy against layers and against width, by method."""
    picture, panels = style.figure(style.COLUMN, 2.7, ncols=2, sharey=True)
    for axes, (name, run) in zip(panels, (("layers", "depth"), ("width", "width")), strict=True):
        sizes(axes, rows[rows["experiment"] == run], name, CEILINGS_AND_MERGES)
        axes.set(xlabel=name, title=run)
    chance(panels[0], label="")
    chance(panels[1])
    panels[0].set_ylabel("accuracy, step by step")
    style.key(picture, panels)
    return picture
