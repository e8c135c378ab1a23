"""The main job: the one-layer model and every chosen world at the given ranks, with predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from sim.experiments import people
from sim.experiments.registry import Part
from sim.lab.registry import unknown
from sim.merge import METHODS
from sim.model import lora
from sim.model.training import Schedule
from sim.one_layer import for_rank
from sim.one_layer import jobs as one_layer_part
from sim.reuse import config, jobs
from sim.reuse.config import ReuseConfig, of_world
from sim.reuse.language import jobs as language
from sim.reuse.language.config import LanguageConfig
from sim.worlds import WORLDS, build

NAME = "main"
"""What the main job is called in the column "experiment"."""

WORLD_NAMES = (one_layer_part.WORLD, *WORLDS)

DEFAULT_WORLDS = (one_layer_part.WORLD, "two_hop")

SEEDS = {"quick": {one_layer_part.WORLD: 32, "": 8}, "paper": {one_layer_part.WORLD: 256, "": 20}}
"""Seeds of each profile: of the one-layer model, and of every world of transformers (""). A seed of the
one-layer model tries its facts in many ways: with 32 no interval is wider than .07 at rank 4."""

FAMILIES = {"quick": ("lora", "closed_form"), "paper": config.FAMILIES}
"""How adapters are made, by profile. The prediction of "closed_form" is as exact as that of "lora_last",
which takes the most steps of the three. No claim, figure or verdict reads either."""

METHOD_NAMES = ReuseConfig.__dataclass_fields__["methods"].default


def parts(
    ranks: Sequence[int], profile: str, methods: Sequence[str], worlds: Sequence[str]
) -> Iterator[Part]:
    """The parts of the main job, world by world and rank by rank.

    Raises:
        ValueError: a rank outside the model's range, a method unknown or in need of data, an unknown world.
    """
    for name in methods:
        if not METHODS[name].data_free:
            raise ValueError(f"method {name!r} needs data, which this sweep does not give; leave it out")
    for name in worlds:
        if name not in WORLD_NAMES:
            raise unknown("world", name, WORLD_NAMES)
    if not ranks:
        raise ValueError("--rank is empty; give at least one rank")
    methods, ranks = tuple(dict.fromkeys(methods)), tuple(dict.fromkeys(ranks))
    for name in dict.fromkeys(worlds):
        for rank in ranks:
            if name == one_layer_part.WORLD:
                yield one_layer_part.Part(for_rank(rank, methods=methods))
                continue
            kind = WORLDS[name]
            settings = {
                f"{name}/rank{rank}/{label}": s for label, s in labels(kind.settings[profile]).items()
            }
            if kind.is_text:
                yield language.Part.of(LanguageConfig(kind.config(), rank=rank, methods=methods), settings)
                continue
            of = of_world(kind.config(), rank=rank, methods=methods, families=FAMILIES[profile])
            if profile == "quick":
                fitted = fitting(of, kind.settings[profile])
                of = replace(of, pretraining=of.pretraining.in_one_tile(), finetuning=fitted)
            lora.check_rank(of.decoder, of.decoder.modules(of.kinds), rank)
            yield jobs.Part.of(of, settings)


def fitting(of: ReuseConfig, settings: Sequence[Any]) -> Schedule:
    """The schedule of adapters without room in a batch for more sequences than the data of any hold: rows of
    weight zero would pass through the model for nothing."""
    worlds = [build(of.world, 0, setting) for setting in settings]
    lessons = [world.data[adapter] for world in worlds for adapter in of.adapters(world)]
    most = {name: max(int(np.count_nonzero(each[name].weight)) for each in lessons) for name in lessons[0]}
    batch = tuple((name, max(1, min(count, most[name]))) for name, count in of.finetuning.batch)
    return replace(of.finetuning, batch=batch)


def labels(settings: Sequence[Any]) -> dict[str, Any]:
    """Settings by what tells them apart: the values of the fields that vary among them."""
    varying = [
        field.name
        for field in fields(settings[0])
        if len({getattr(setting, field.name) for setting in settings}) > 1
    ]
    return {"/".join(str(getattr(s, name)) for name in varying) or "only": s for s in settings}


def seeds(part: Part, profile: str, count: int | None) -> int:
    """How many seeds a part runs: ``count`` of transformers, the profile's of the one-layer model. A language
    model has the few of ``people``."""
    if isinstance(part, one_layer_part.Part):
        return SEEDS[profile][one_layer_part.WORLD]
    if isinstance(part, language.Part):
        return count or people.SEEDS[profile]
    return count or SEEDS[profile][""]
