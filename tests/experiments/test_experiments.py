"""The experiments: their worlds can be built, their figures drawn from any run of theirs."""

import dataclasses

import pytest
from conftest import draw_from, tiny

from sim.experiments import EXPERIMENTS
from sim.figures import FIGURES
from sim.lab.figure import Source
from sim.lab.parallel import THIS_PROCESS
from sim.model.training import Schedule
from sim.reuse.jobs import Part
from sim.reuse.language.jobs import Part as LanguagePart
from sim.reuse.language.library import LibraryPart
from sim.sweep.run import run
from sim.worlds import atlas, build, crosslingual, kind_of, math_word, two_hop

SMALLER = {
    two_hop.Config: two_hop.Config(entities=40, edits=4, bridges=64),
    math_word.Config: math_word.Config(
        prime=7, operations=8, pretraining_paraphrases=2, wordings=1, test_paraphrases=1, longer=8, bridges=8
    ),
    atlas.Config: atlas.Config(edits=2, states=2),
    crosslingual.Config: crosslingual.Config(stable_functions=6, edits=4, bridges=8),
}
"""Worlds that train and answer in no time, by what is in their place."""

OF_EXPERIMENTS = {name: item for name, item in FIGURES.items() if item.experiments}


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_every_experiment_builds_its_worlds(profile):
    for item in EXPERIMENTS.values():
        labels = []
        for part in item.parts(profile):
            for label, setting, ranks in part.cells:
                labels.append(label)
                world = build(part.config.world, 0, setting)
                assert set(part.config.adapters(world)) <= set(world.data)
                assert kind_of(part.config.world).is_text == isinstance(part, LanguagePart)
                assert set(part.config.random(world).values()) <= set(world.parts)
                if isinstance(part, LanguagePart):
                    continue
                assert {name for name, _ in part.config.pretraining.batch} <= set(world.pretraining)
                assert {name for name, _ in part.config.finetuning.batch} <= set(world.data["joint"])
                assert all(rank <= part.config.rank for _, rank in ranks)
        # Cells of adapters that are there already are read from their folder, later.
        asks_only = any(isinstance(part, LibraryPart) for part in item.parts(profile))
        assert len(labels) == len(set(labels)) and bool(labels) != asks_only


def test_every_experiment_has_a_line_for_the_help():
    assert all(item.summary.endswith(".") or item.summary.endswith(")") for item in EXPERIMENTS.values())
    assert "rank" in EXPERIMENTS and "rank_" not in EXPERIMENTS


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.endswith("controls")])
@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_controls_have_a_base_with_and_one_without_answers_of_two_hops(name, profile):
    """And every library in which something stands in for a part, by the names that the figure reads."""
    linked = {}
    for part in EXPERIMENTS[name].parts(profile):
        batch = [group for group, _ in part.config.pretraining.batch]
        longer = {group for group in batch if group.rstrip("34") in ("direct", "traces")}
        assert "facts" in batch and part.config.losses and part.config.world.controls
        for label, setting, _ in part.cells:
            linked[label] = bool(longer)
            assert longer or setting.template == "none"
            if label == "linked/none":
                world = build(part.config.world, 0, setting)
                stand_ins = {f"{o}_for_{p}" for o in ("random", "unrelated") for p in world.parts}
                assert {"parts", "direct_expert", *stand_ins} <= set(part.config.libraries(world))
    assert linked and all(label.startswith("linked/") == shown for label, shown in linked.items())
    assert set(linked) >= {"linked/none", "unlinked/none"}


@pytest.mark.slow(100)
def test_figures_are_drawn_from_a_run_of_ones_own(tmp_path, monkeypatch):
    """Every experiment's quick cells on a tiny decoder, through the runner, and its figures from that run.

    But for those on a language model: tests/sweep/test_people_run.py.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # One configuration a world, and ranks as arrays everywhere: one program for all of them.
    schedules = {
        "pretraining": Schedule(25, 1e-2, (("facts", 16), ("direct", 8))),
        "finetuning": Schedule(25, 1e-2, (("facts", 8),), margin=1.0),
    }
    configs = {
        kind: tiny(world, methods=("average", "sum"), lambdas=(0.5, 1.0), **schedules)
        for kind, world in SMALLER.items()
    }
    ran = set()
    for name, item in EXPERIMENTS.items():
        if any(isinstance(part, LanguagePart) for part in item.parts("quick")):
            continue
        parts, extras = [], max((part.config.extras for part in item.parts("quick")), key=len)
        for part in item.parts("quick"):
            config = configs[type(part.config.world)]
            if getattr(part.config.world, "controls", False):
                controlled = dataclasses.replace(config.world, controls=True)
                config = dataclasses.replace(config, world=controlled, extras=extras, losses=True)
            options = {name: getattr(part.config, name) for name in ("oracle", "interaction")}
            config = dataclasses.replace(config, **options)
            cells = [
                (label, setting, tuple((kind, min(r, config.rank)) for kind, r in ranks) or (("q", 2),))
                for label, setting, ranks in part.cells
            ]
            parts.append(Part(config, tuple(cells)))
        run(name, parts, [2] * len(parts), {"experiment": name}, tmp_path / name, "a test", THIS_PROCESS)
        ran.add(name)
    drawn = [item for item in OF_EXPERIMENTS.values() if set(item.experiments) <= ran]
    assert len(drawn) > 12
    for item in drawn:
        draw_from(item, tmp_path)


@pytest.mark.parametrize("name", OF_EXPERIMENTS)
def test_a_missing_run_names_the_command_that_makes_it(name, tmp_path):
    command = r"python -m sim\.(sweep|experiments\.merge_forecast) "
    with pytest.raises(ValueError, match=rf"\.csv is missing; make it with: {command}"):
        OF_EXPERIMENTS[name].collect(Source(tmp_path))
