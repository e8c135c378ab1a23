"""PEFT folders for tests: the golden ones, what PEFT computes of them, and ways to change a copy."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from sim.merge import merge, read_adapter
from sim.merge.peft.config import CONFIG
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX
from theory.lowrank import LowRank, dense

DATA = Path(__file__).parent / "data"


def pair(kind):
    return [read_adapter(DATA / kind / name) for name in ("first", "second")]


def golden(kind, case):
    tensors = load_file(DATA / kind / "golden.safetensors")
    return {key[len(case) + 1 :]: value for key, value in tensors.items() if key.startswith(case + ".")}


def delta(update):
    return np.asarray(dense(LowRank(*update)) if isinstance(update, tuple) else update)


def assert_all_close(updates, expected, tolerance=1e-5):
    assert updates.keys() == expected.keys() and updates
    for name, value in expected.items():
        error = np.linalg.norm(delta(updates[name]) - value) / np.linalg.norm(value)
        assert error < tolerance, (name, error)


def merged(adapters, method, weights=None, **options):
    return {
        name: merge(method, [adapter.modules[name] for adapter in adapters], weights, **options)
        for name in adapters[0].modules
    }


def failure(command, *arguments):
    """The one error line of a merge that must exit with 2."""
    code, _, err = command("sim.merge", *arguments)
    assert code == 2
    lines = [line for line in err.split("\n") if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def edit_config(folder, **fields):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **fields}))


def edit_tensors(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def assert_written(b, a, update, kind):
    """The factors of a file are 2^n scale B and 2^-n A, each rounded once to the type, and of like norms."""
    rank = update.a.shape[0]
    exact_b, exact_a = (
        np.asarray(update.b, np.float64) * float(update.scale),
        np.asarray(update.a, np.float64),
    )
    assert b.dtype == a.dtype == np.dtype(kind)
    assert not b[:, rank:].any() and not a[rank:].any()
    lengths = np.linalg.norm(a[:rank].astype(np.float64), axis=1)
    power = np.round(np.log2(np.linalg.norm(exact_a, axis=1) / lengths))
    assert np.array_equal(a[:rank], (exact_a * 2 ** -power[:, None]).astype(kind))
    assert np.array_equal(b[:, :rank], (exact_b * 2**power).astype(kind))
    ratio = np.linalg.norm(b[:, :rank].astype(np.float64), axis=0) / lengths
    assert (ratio > 0.49).all() and (ratio < 2.05).all()


KEY = f"{PREFIX}layers.0.q_proj.lora_A.weight"
