"""Which work is done, with which key, on which base: the jobs handed to the programs, looked at."""

import jax
import numpy as np
import pytest
from conftest import tiny

from sim.lab import parallel, seeds
from sim.lab.store import Failed
from sim.reuse import bases, jobs
from sim.reuse.config import Cell
from sim.worlds.two_hop import Setting

SETTINGS = [Setting("real", "both"), Setting("fake", "both"), Setting("real", "none")]


@pytest.fixture
def handed(monkeypatch):
    """Programs that only write down what they are given: (jobs of bases, jobs of cells)."""
    seen = ([], [])

    def run(inputs):
        for job in inputs:
            seen["base" in job].append(job)
        result = {"training": {}} if "base" in inputs[0] else ({"w": np.zeros(1)}, np.zeros(1))
        yield list(range(len(inputs))), [result] * len(inputs)

    monkeypatch.setattr(parallel, "in_stages", lambda stages: run)
    monkeypatch.setattr(jobs, "rows_of", lambda config, cell, world, result: [{"seed": cell.seed}])
    return seen


def data(*path):
    return np.asarray(jax.random.key_data(seeds.key(*path, root=bases.ROOT)))


def test_every_seed_has_its_own_keys_and_cells_share_a_base(handed):
    part = jobs.plain(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    finished = {}
    for _, total, work in part.stages("toy", 2, False, set()):
        done = [(rows, advanced) for rows, advanced in work]
        assert sum(advanced for _, advanced in done) == total
        for rows, _ in done:
            finished |= rows
    assert set(finished) == {f"toy/{i}/seed{s:03d}" for i in range(3) for s in range(2)}
    trained, cells = handed
    assert len(trained) == 4 and len(cells) == 6  # a base with and one without the template, two seeds
    np.testing.assert_array_equal([job["key"] for job in trained], [data(0, 0)] * 2 + [data(0, 1)] * 2)
    np.testing.assert_array_equal([job["key"] for job in cells], [data(1, 0)] * 3 + [data(1, 1)] * 3)
    assert not np.array_equal(data(1, 0), data(1, 1)) and not np.array_equal(data(0, 0), data(1, 0))


def test_what_is_done_is_left_out_and_nothing_else(handed):
    part = jobs.plain(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    done = {"toy/0/seed000", "toy/2/seed001"}
    finished, advances = {}, {}
    for label, total, work in part.stages("toy", 2, False, done):
        found = list(work)
        advances[label] = [advanced for _, advanced in found]
        assert sum(advances[label]) == total
        for rows, _ in found:
            finished |= rows
    assert advances == {"pretraining": [0, 3], "cells": [2, 4]}  # what was there comes first
    everything = {f"toy/{i}/seed{s:03d}" for i in range(3) for s in range(2)}
    assert set(finished) == everything - done


def test_ranks_reach_the_modules_of_their_kind():
    config = tiny()
    cell = Cell("toy", "a", SETTINGS[0], 0, (("q", 1), ("up", 0)))
    ranks = jobs._ranks(config, cell)
    assert ranks == {"0.q": 1, "0.k": 3, "0.v": 3, "0.o": 3, "0.up": 0, "0.down": 3}


def test_what_diverges_fails_alone(monkeypatch):
    """A base fails the cells that need it, an adapter its cell; the others are done, no bad base is kept."""

    def run(inputs):
        for index, job in enumerate(inputs):
            bad = np.array([[1.0, np.nan if index == (2 if "base" in job else 0) else 1.0]])
            good = {"joint": {"losses": np.ones((1, 2))}}
            trained = {"training": {"lora": good, "lora_last": good | {"hop1": {"losses": bad}}}}
            yield [index], [trained if "base" in job else ({"w": np.zeros(1)}, bad)]

    kept = []
    monkeypatch.setattr(parallel, "in_stages", lambda stages: run)
    monkeypatch.setattr(bases, "load", lambda path: None)
    monkeypatch.setattr(bases, "save", lambda path, params: kept.append(path))
    monkeypatch.setattr(jobs, "rows_of", lambda config, cell, world, result: [{"seed": cell.seed}])
    finished = {}
    part = jobs.plain(tiny(), {str(i): setting for i, setting in enumerate(SETTINGS)})
    for _, total, work in part.stages("toy", 2, True, set()):
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
        "toy/0/seed000": Failed(lost),
        "toy/1/seed000": Failed(lost),
        "toy/2/seed000": [{"seed": 0}],
        "toy/0/seed001": [{"seed": 1}],
        "toy/1/seed001": Failed(own),
        "toy/2/seed001": [{"seed": 1}],
    }
    assert len(kept) == 3
