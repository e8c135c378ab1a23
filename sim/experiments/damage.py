"""Gentler training: retention of edits against damage to other facts."""

from collections.abc import Iterator
from dataclasses import replace

from sim.experiments.common import SMALL
from sim.experiments.registry import experiment
from sim.reuse.jobs import Part, plain
from sim.worlds.two_hop import Setting


@experiment(quick={"steps": (100,)}, paper={"steps": (50, 100, 200, 400)})
def damage(steps: tuple[int, ...]) -> Iterator[Part]:
    """Gentler training: retention against damage after 50 to 400 steps at one rate."""
    for count in steps:
        # All steps whatever is known: how much training there is, is what varies.
        schedule = replace(SMALL.finetuning, steps=count, margin=None)
        yield plain(replace(SMALL, finetuning=schedule), {f"steps{count}": Setting("real", "pretraining")})
