"""One hop known from pretraining: is one adapter enough, and how familiar must the country be?

Paper profile: 5 seeds x 5 cells x 3 adapters = 75 adapters, each trained until it knows its data, as many
as in ``people_dose`` and with fewer merges: about 5 minutes of one GPU.
"""

from collections.abc import Iterator

from sim.experiments.people import SEEDS
from sim.experiments.registry import experiment
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.jobs import Part, plain
from sim.worlds import capitals as world
from sim.worlds.capitals import ENTITIES, Setting
from sim.worlds.people import SOLUTIONS

SHORT = LanguageConfig(world.Config(), methods=("average", "sum"), lambdas=(0.25, 0.75))
"""Every adapter by itself, and the common sums of the two parts."""

FEW_STEPS = LanguageConfig(
    world.Config(facts=2), batch=4, look=5, most=10, decay=5, methods=("average", "sum")
)


@experiment(
    quick={"config": FEW_STEPS, "entities": ("familiar", "fake")},
    paper={"config": SHORT, "entities": ENTITIES, "bare": ("familiar",)},
    seeds=SEEDS,
)
def capitals(config: LanguageConfig, entities: tuple[str, ...], bare: tuple[str, ...] = ()) -> Iterator[Part]:
    """One hop known from pretraining, the other from one adapter, on a real language model (needs a base)."""
    dose = SOLUTIONS * config.world.facts
    settings = {f"{name}/shared": Setting(name, "shared", dose) for name in entities}
    yield plain(config, settings | {f"{name}/none": Setting(name, "none", dose) for name in bare})


from sim.experiments.capitals import claims, figures  # noqa: E402, F401 (they read what stands above)
