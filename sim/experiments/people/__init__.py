"""The two-hop experiment on a real language model: familiarity, dose of worked solutions, and stopping.

Paper profile. An adapter step is 32 sequences. Counted at 300 steps until an adapter first knows its data,
and 50 of decay; at 500 and 50 at most:

    people           5 seeds x 3 entities x (7 adapters with worked solutions, 3 without, 3 with others)
                     = 195 adapters, 68,000 steps
    people_dose      5 seeds x 5 doses x 3 adapters = 75 adapters, 26,000 steps
    people_stopping  3 seeds x 3 adapters, 16 times as long, and 5 results of each = 45,000 steps
"""

from collections.abc import Iterator
from dataclasses import replace

from sim.experiments.registry import experiment
from sim.merge import METHODS
from sim.reuse.language.config import LanguageConfig, LibraryConfig
from sim.reuse.language.jobs import Part
from sim.reuse.language.library import LibraryPart
from sim.worlds import people as world
from sim.worlds.controls import RANDOM
from sim.worlds.people import DOUBLE, PARTS, SOLUTIONS, Setting

LAMBDAS = (0.25, 0.5, 0.75, 1.0, 1.25)
"""Common coefficients of the linear merges of the parts."""

SEEDS = {"quick": 1, "paper": 5}
"""Seeds of a cell: an adapter of a language model takes a thousand times the work of a miniature's."""

SHORT = LanguageConfig(world.Config(), lambdas=LAMBDAS)
"""The parts and their joint adapter, and a few merges."""

WHOLE = LanguageConfig(
    world.Config(),
    extras=(
        DOUBLE,
        "bridge",
        "expert",
        *(f"{name}{part}" for name in (RANDOM, "unrelated_for_") for part in PARTS),
    ),
    methods=tuple(name for name, method in METHODS.items() if method.data_free),
    lambdas=LAMBDAS,
    routers=("arrow", "arrow_top1", "spectr", "logo"),
    oracle=True,
)
"""Every data-free merge of the parts, further libraries, and routers."""

BARE = replace(SHORT, routers=("arrow",), oracle=True)
"""The same under a router and the oracle: where there are no worked solutions, or others."""

LIBRARY = LibraryConfig(world.Config(), methods=("average", "sum"), lambdas=(0.25, 0.75), losses=False)
"""Adapters that are there already, asked in a few minutes on two cores."""

FEW_STEPS = LanguageConfig(world.Config(facts=2), batch=4, look=5, most=10, decay=5, lambdas=(0.5,))


@experiment(
    quick={"library": LIBRARY},
    paper={"whole": WHOLE, "short": BARE, "entities": tuple(world.ENTITIES), "templates": world.TEMPLATES},
    seeds=SEEDS,
)
def people(
    library: LibraryConfig | None = None,
    whole: LanguageConfig = WHOLE,
    short: LanguageConfig = BARE,
    entities: tuple[str, ...] = (),
    templates: tuple[str, ...] = (),
) -> Iterator[Part]:
    """Familiarity and template on a real language model (needs a base; see sim.lm)."""
    if library is not None:
        yield LibraryPart(library, ())
    for config, chosen in ((whole, {"shared"}), (short, {*templates} - {"shared"})):
        dose = SOLUTIONS * config.world.facts
        settings = {f"{e}/{t}": Setting(e, t, dose) for e in entities for t in templates if t in chosen}
        if settings:
            yield Part.of(config, settings)


@experiment(
    quick={"config": FEW_STEPS, "doses": (4,)},
    paper={"config": SHORT, "doses": (0, 4, 16, 64, 128)},
    seeds=SEEDS,
)
def people_dose(config: LanguageConfig, doses: tuple[int, ...]) -> Iterator[Part]:
    """Worked solutions in each data set, from none to 8 a fact, on a real language model."""
    yield Part.of(config, {f"real/shared/{dose}": Setting(dose=dose, template="shared") for dose in doses})


@experiment(
    quick={"config": FEW_STEPS, "durations": (1, 2)},
    paper={"config": SHORT, "durations": (1, 2, 4, 8, 16)},
    seeds=SEEDS | {"paper": 3},
)
def people_stopping(config: LanguageConfig, durations: tuple[int, ...]) -> Iterator[Part]:
    """Training from first known to 16 times as long, on a real language model."""
    shared = Setting(template="shared", dose=SOLUTIONS * config.world.facts)
    yield Part.of(config, {f"real/shared/x{many}": replace(shared, duration=many) for many in durations})


from sim.experiments.people import claims, figures, forecasts  # noqa: E402, F401 (they read what stands above)
