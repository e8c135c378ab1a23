"""What the experiments with controls of every world share: their schedules, libraries and bases."""

from dataclasses import replace

from sim.model.training import Schedule
from sim.reuse.config import ReuseConfig
from sim.worlds.controls import RANDOM, stand_ins


def with_batches(schedule: Schedule, *batches: tuple[str, int]) -> Schedule:
    """The schedule that draws from further groups as well."""
    return replace(schedule, batch=schedule.batch + batches)


def libraries(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the libraries in which an unrelated or a random adapter stands in for a part."""
    return tuple(name for other in ("unrelated", RANDOM) for name, _ in stand_ins(parts, other))


def unlinked(config: ReuseConfig) -> ReuseConfig:
    """The same with a base that sees no traces and no answers to questions of two or more hops."""
    batch = tuple(pair for pair in config.pretraining.batch if not pair[0].startswith(("direct", "traces")))
    return replace(config, pretraining=replace(config.pretraining, batch=batch))
