"""``python -m sim.sweep`` with one experiment more, "tiny": for tests that count devices and kill workers.

python -m tiny tiny --out DIR [--cluster local]

A package, as the command is one: processes of workers import the main file if it is a script.
"""

from sim.experiments.registry import experiment
from sim.lab import cli, interrupt
from sim.model.training import Schedule
from sim.reuse.config import of_world
from sim.reuse.jobs import plain
from sim.sweep.__main__ import Sweep, main
from sim.worlds.two_hop import Config, Setting


@experiment(quick={}, paper={})
def tiny():
    """Cells that compile in seconds and learn a little: ten of them on ten bases."""
    config = of_world(
        Config(entities=24, relations=4, edits=4, bridges=8),
        layers=1,
        width=8,
        heads=1,
        hidden=8,
        pretraining=Schedule(30, 1e-2, (("facts", 16),)),
        finetuning=Schedule(20, 2e-2, (("facts", 8),)),
        cycles=2,
        rank=2,
        families=("lora",),
        methods=("sum",),
    )
    yield plain(config, {t: Setting("real", t) for t in ("both", "none")})


if __name__ == "__main__":
    interrupt._watch()  # as a command of the toolkit is
    cli.run_command(Sweep, main, "sim.sweep", cli.RESUME)
