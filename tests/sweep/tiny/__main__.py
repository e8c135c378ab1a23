"""``python -m sim.sweep`` with two experiments more: for tests that count programs or kill workers.

python -m tiny tiny --out DIR [--cluster local]

The last line on stderr says what JAX traced for either experiment, and what was not in its cache.

A package, as the command is one: processes of workers import the main file if it is a script.
"""

import atexit
import sys

import jax

from sim.experiments.registry import experiment
from sim.lab import cli, interrupt
from sim.model.training import Schedule
from sim.reuse.config import of_world
from sim.reuse.jobs import Part, plain
from sim.sweep.__main__ import Sweep, main
from sim.worlds.two_hop import Config, Setting

traced, compiled = {"tiny": 0, "again": 0}, 0
running = "tiny"


def note(event, *_, **__):
    """Count what JAX says it does."""
    global compiled
    traced[running] += event == "/jax/core/compile/jaxpr_trace_duration"
    compiled += event == "/jax/compilation_cache/cache_misses"


def told():
    """The last line, once something was done."""
    if sum(traced.values()):
        print(f"traced {traced['tiny']} and {traced['again']}, compiled {compiled}", file=sys.stderr)


def cells(*settings):
    """Cells that compile in seconds and learn a little."""
    config = of_world(
        Config(entities=24, relations=4, edits=4, bridges=8),
        layers=1,
        width=8,
        heads=1,
        hidden=8,
        pretraining=Schedule(25, 1e-2, (("facts", 16),)),
        finetuning=Schedule(50, 2e-2, (("facts", 8),), margin=1.0),
        rank=2,
        families=("lora",),
        methods=("sum",),
    )
    return plain(config, {setting.template: setting for setting in settings})


@experiment(quick={}, paper={})
def tiny():
    """Two cells a seed, on two bases."""
    yield cells(Setting("real", "both"), Setting("real", "none"))


class Counted(Part):
    """A part of "again": what it traces is counted as that, also while "tiny" runs."""

    def expect(self, *given):
        global running
        before, running = running, "again"
        super().expect(*given)
        running = before

    def stages(self, *given):
        global running
        running = "again"
        yield from super().stages(*given)


@experiment(quick={}, paper={})
def again():
    """Others of the same shapes."""
    part = cells(Setting("fake", "pretraining"), Setting("fake", "data", bridges=3))
    yield Counted(part.config, part.cells)


if __name__ == "__main__":
    jax.monitoring.register_event_listener(note)
    jax.monitoring.register_event_duration_secs_listener(note)
    atexit.register(told)
    interrupt._watch()  # as a command of the toolkit is
    cli.run_command(Sweep, main, "sim.sweep", cli.RESUME)
