"""History and geography: real facts withheld from pretraining, by popularity and template; two figures."""

from collections.abc import Iterator
from dataclasses import replace

from sim.experiments.common import LAMBDAS
from sim.experiments.registry import experiment
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.jobs import Part, plain
from sim.worlds.atlas import FAMILIARITIES, TEMPLATES, Config, Setting

FULL = of_world(
    Config(),
    families=("lora",),
    extras=("bridge", "expert"),
    methods=("average", "sum", "ties", "svd"),
    lambdas=LAMBDAS,
    routers=("arrow",),
    oracle=True,
)

SMALL = replace(FULL, extras=(), methods=("average", "sum", "ties"), lambdas=(0.5, 0.75, 1.0))


@experiment(
    quick={
        "config": SMALL,
        "familiarities": ("head", "tail"),
        "templates": ("none", "both"),
        "zipfs": (1.0,),
    },
    paper={
        "config": FULL,
        "familiarities": FAMILIARITIES,
        "templates": tuple(TEMPLATES),
        "zipfs": (0.0, 1.0, 1.5),
    },
)
def atlas(
    config: ReuseConfig, familiarities: tuple[str, ...], templates: tuple[str, ...], zipfs: tuple[float, ...]
) -> Iterator[Part]:
    """Real facts of history and geography: popularity of the countries, how unequal it is, and template."""
    yield plain(
        config,
        {
            f"{f}/{t}" if z == Setting().zipf else f"{f}/{t}/zipf{z:g}": Setting(f, t, z)
            for z in zipfs
            for f in familiarities
            for t in (templates if z == Setting().zipf else ("none", "both"))
        },
    )
