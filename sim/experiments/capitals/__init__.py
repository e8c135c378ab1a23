"""One hop known from pretraining: is one adapter enough, and how familiar must the country be?

Paper profile: 5 seeds x 6 cells x 3 adapters = 90 adapters, each trained until it knows its data: about 6
minutes of one GPU.
"""

from collections.abc import Iterator

from sim.experiments.people import SEEDS
from sim.experiments.registry import experiment
from sim.reuse.language.config import SingleConfig
from sim.reuse.language.jobs import Part, plain
from sim.worlds import capitals as world
from sim.worlds.capitals import ENTITIES, Setting
from sim.worlds.people import SOLUTIONS

SHORT = SingleConfig(world.Config(), methods=("average", "sum"), lambdas=(0.25, 0.75))
"""Every adapter by itself, the parts at several strengths, and the common sums of the two."""

FEW_STEPS = SingleConfig(world.Config(facts=2), batch=4, look=5, most=10, decay=5, methods=("average", "sum"))


@experiment(
    quick={"config": FEW_STEPS, "entities": ("familiar", "fake")},
    paper={"config": SHORT, "entities": ENTITIES, "templates": ("shared", "none")},
    seeds=SEEDS,
)
def capitals(
    config: SingleConfig, entities: tuple[str, ...], templates: tuple[str, ...] = ()
) -> Iterator[Part]:
    """One hop known from pretraining, the other from one adapter, on a real language model (needs a base)."""
    pairs = [*((name, "rehearsed") for name in entities), *(("familiar", template) for template in templates)]
    dose = SOLUTIONS * config.world.facts
    yield plain(config, {f"{name}/{template}": Setting(name, template, dose) for name, template in pairs})


from sim.experiments.capitals import claims, figures  # noqa: E402, F401 (they read what stands above)
