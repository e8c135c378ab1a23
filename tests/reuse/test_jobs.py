"""Which work is done, with which key, on which base: the jobs handed to the programs, looked at."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import tiny

from sim.lab import seeds
from sim.lab.store import Failure
from sim.reuse import bases, jobs
from sim.reuse.config import Cell
from sim.worlds import build
from sim.worlds.two_hop import Setting

SETTINGS = [Setting("real", "both"), Setting("fake", "both"), Setting("real", "none")]


class Recorder:
    """A context that computes nothing and records jobs of bases and of cells, and what to precompile."""

    devices = 2, "cpu"

    def __init__(self, use_cache=False):
        self.use_cache = use_cache
        self.bases, self.cells, self.precompiled = [], [], []

    def map_runs(self, stages, inputs):
        for job in inputs:
            (self.cells if "base" in job else self.bases).append(job)
        if inputs:
            result = {"training": {}} if "base" in inputs[0] else ({"w": np.zeros(1)}, np.zeros(1))
            yield list(range(len(inputs))), [result] * len(inputs)

    def precompile(self, *arguments):
        self.precompiled.append(arguments)


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(jobs, "rows_of", lambda config, cell, world, result: [{"seed": cell.seed}])
    return Recorder()


def data(*path):
    return np.asarray(jax.random.key_data(seeds.key(*path, root=bases.ROOT)))


def test_every_seed_has_its_own_keys_and_cells_share_a_base(recorder):
    part = jobs.Part.of(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    finished = {}
    for _, total, work in part.stages(recorder, "toy", 2, set()):
        done = [(rows, advanced) for rows, advanced in work]
        assert sum(advanced for _, advanced in done) == total
        for rows, _ in done:
            finished |= rows
    assert set(finished) == {f"toy/{i}/seed{s:03d}" for i in range(3) for s in range(2)}
    trained, cells = recorder.bases, recorder.cells
    assert len(trained) == 4 and len(cells) == 6  # a base with and one without the template, two seeds
    np.testing.assert_array_equal([job["key"] for job in trained], [data(0, 0)] * 2 + [data(0, 1)] * 2)
    np.testing.assert_array_equal([job["key"] for job in cells], [data(1, 0)] * 3 + [data(1, 1)] * 3)
    assert not np.array_equal(data(1, 0), data(1, 1)) and not np.array_equal(data(0, 0), data(1, 0))


def test_what_is_done_is_left_out_and_nothing_else(recorder):
    part = jobs.Part.of(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    done = {"toy/0/seed000", "toy/2/seed001"}
    finished, advances = {}, {}
    for label, total, work in part.stages(recorder, "toy", 2, done):
        actual = list(work)
        advances[label] = [advanced for _, advanced in actual]
        assert sum(advances[label]) == total
        for rows, _ in actual:
            finished |= rows
    assert advances == {"pretraining": [0, 3], "cells": [2, 4]}  # what was there comes first
    everything = {f"toy/{i}/seed{s:03d}" for i in range(3) for s in range(2)}
    assert set(finished) == everything - done


def shapes(job):
    return jax.tree.map(lambda leaf: (np.shape(leaf), np.asarray(leaf).dtype), job)


@pytest.mark.parametrize(("use_cache", "there"), [(False, True), (True, False), (True, True)])
@pytest.mark.usefixtures("recorder")
def test_what_is_precompiled_is_what_will_be_run(monkeypatch, tmp_path, use_cache, there):
    """Programs for jobs of the same shapes and number; none for bases in the cache."""
    recorder = Recorder(use_cache)
    monkeypatch.setattr(bases, "path_of", lambda *made_of: tmp_path if there else tmp_path / "none")
    monkeypatch.setattr(bases, "load", lambda path: bases.like_base(tiny().decoder) if there else None)
    monkeypatch.setattr(bases, "save", lambda path, params: None)
    part = jobs.Part.of(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    part.precompile(recorder, "toy", 2, set())
    for _, _, work in part.stages(recorder, "toy", 2, set()):
        list(work)
    trained, cells = recorder.bases, recorder.cells
    run = [*([("chunk_of_bases", trained)] if trained else []), ("run", cells)]
    assert bool(trained) is not (use_cache and there)
    for (stages, job, count), (name, given) in zip(recorder.precompiled, run, strict=True):
        assert stages.func.__name__ == name and count == len(given)
        if name != "run" or (use_cache and there):  # else the toy's bases have no shapes
            assert shapes(job) == shapes(given[0])


def changed_world(row=0, by=1, **values):
    """A builder whose first fact in pretraining has other tokens or another weight than its Config says."""

    def changed(config, seed, setting):
        world = build(config, seed, setting)
        facts = world.pretraining["facts"]
        tokens, weight = facts.tokens.copy(), facts.weight.copy()
        tokens[row, -1] = (tokens[row, -1] + by) % config.entities
        facts = dataclasses.replace(facts, **{"tokens": tokens, "weight": weight} | values)
        return dataclasses.replace(world, pretraining=world.pretraining | {"facts": facts})

    return changed


@pytest.mark.usefixtures("recorder")
def test_a_base_is_kept_under_what_it_was_shown(monkeypatch):
    """A world whose code changes has other bases, though its Config and Setting are what they were."""
    paths = []
    monkeypatch.setattr(bases, "load", paths.append)
    monkeypatch.setattr(bases, "save", lambda path, params: None)
    cells = [Cell("toy", "a", SETTINGS[0], 0)]

    def path(config=None, cells=cells):
        list(bases.train_bases(Recorder(use_cache=True), config or tiny(), cells, {}))
        return paths.pop()

    before = path()
    assert path() == before
    # a group that the schedule never draws from says nothing of the base
    blind = tiny(pretraining=dataclasses.replace(tiny().pretraining, batch=(("direct", 8),)))
    without = path(blind)
    others = [path(cells=[Cell("toy", "a", SETTINGS[0], 1)]), path(tiny(layers=2)), without]
    with monkeypatch.context() as patch:
        patch.setattr(bases, "build", changed_world())
        others.append(path())
        assert path(blind) == without
    weights = np.ones_like(build(tiny().world, 0, SETTINGS[0]).pretraining["facts"].weight)
    with monkeypatch.context() as patch:
        weights[5] = 0.5
        patch.setattr(bases, "build", changed_world(by=0, weight=weights))
        others.append(path())
    with monkeypatch.context() as patch:
        patch.setattr(bases, "build", changed_world(by=0))
        assert path() == before  # equal tokens, made in another way
    assert len({before, *others}) == 1 + len(others)


@pytest.mark.slow
def test_the_hash_of_a_corpus_is_that_of_any_process():
    code = """
from sim.reuse.bases import corpus
from sim.worlds import build, two_hop
config = two_hop.Config(entities=24, relations=4, edits=4, bridges=8)
print(corpus(build(config, 0, two_hop.Setting()).pretraining["traces"]))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == bases.corpus(build(tiny().world, 0, Setting()).pretraining["traces"])


def test_ranks_reach_the_modules_of_their_kind():
    config = tiny()
    cell = Cell("toy", "a", SETTINGS[0], 0, (("q", 1), ("up", 0)))
    ranks = jobs._ranks(config, cell)
    assert ranks == {"0.q": 1, "0.k": 3, "0.v": 3, "0.o": 3, "0.up": 0, "0.down": 3}


def test_what_diverges_fails_alone(monkeypatch):
    """A base fails the cells that need it, an adapter its cell; the others are done, no bad base is kept."""

    class Diverging(Recorder):
        def map_runs(self, stages, inputs):
            for index, job in enumerate(inputs):
                bad = np.array([[1.0, np.nan if index == (2 if "base" in job else 0) else 1.0]])
                good = {"joint": SimpleNamespace(losses=np.ones((1, 2)))}
                trained = {
                    "training": {"lora": good, "lora_last": good | {"hop1": SimpleNamespace(losses=bad)}}
                }
                yield [index], [trained if "base" in job else ({"w": np.zeros(1)}, bad)]

    saved = []
    monkeypatch.setattr(bases, "load", lambda path: None)
    monkeypatch.setattr(bases, "save", lambda path, params: saved.append(path))
    monkeypatch.setattr(jobs, "rows_of", lambda config, cell, world, result: [{"seed": cell.seed}])
    finished = {}
    part = jobs.Part.of(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    for _, total, work in part.stages(Diverging(use_cache=True), "toy", 2, set()):
        done = list(work)
        assert sum(advanced for _, advanced in done) == total
        for units, _ in done:
            finished |= units
    lost, own = (
        f"{what}: the loss is not finite at step 1; lower the learning rate"
        for what in (
            f"base of {SETTINGS[0].pretraining}, seed 0",
            "lora_last adapter hop1 of toy/1/seed001",
        )
    )
    assert finished == {
        "toy/0/seed000": Failure(lost),
        "toy/1/seed000": Failure(lost),
        "toy/2/seed000": [{"seed": 0}],
        "toy/0/seed001": [{"seed": 1}],
        "toy/1/seed001": Failure(own),
        "toy/2/seed001": [{"seed": 1}],
    }
    assert len(saved) == 3
