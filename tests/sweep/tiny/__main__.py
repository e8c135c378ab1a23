"""``python -m sim.sweep`` with two experiments more: for tests that count programs or kill workers.

python -m tiny tiny --out DIR [--cluster local]

The last line on stderr says how many functions JAX traced, and how many programs were not in its cache.

A package, as the command is one: processes of workers import the main file if it is a script.
"""

import atexit
import collections
import signal
import sys

import jax

from sim.experiments.registry import experiment
from sim.lab import cli, interrupt
from sim.model.training import Schedule
from sim.reuse.config import of_world
from sim.reuse.jobs import Part
from sim.sweep.__main__ import Sweep, main
from sim.worlds.two_hop import Config, Setting

events = collections.Counter()


def count(event, *_, **__):
    """Count what JAX reports that it does."""
    events[event.split("/")[-1]] += 1


def report():
    """The last line, if anything was done."""
    if events:
        traced, compiled = (events[name] for name in ("jaxpr_trace_duration", "cache_misses"))
        print(f"traced {traced}, compiled {compiled}", file=sys.stderr)


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
    return Part.of(config, {setting.template: setting for setting in settings})


@experiment(quick={}, paper={})
def tiny():
    """Two cells a seed, on two bases."""
    yield cells(Setting("real", "both"), Setting("real", "none"))


@experiment(quick={}, paper={})
def again():
    """Others of the same shapes."""
    yield cells(Setting("fake", "pretraining"), Setting("fake", "data", bridges=3))


if __name__ == "__main__":
    jax.monitoring.register_event_listener(count)
    jax.monitoring.register_event_duration_secs_listener(count)
    atexit.register(report)
    signal.signal(signal.SIGINT, interrupt.end_import)  # as a command of the toolkit has it
    cli.run_command(Sweep, main, "sim.sweep", cli.RESUME)
