"""What every test shares: strict numerics, tiny worlds and decoders, and commands run in this process."""

import collections
import contextlib
import ctypes
import dataclasses
import gc
import os
import pathlib
import runpy
import signal
import sqlite3
import sys
import tempfile

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import psutil
import pytest
import speed  # noqa: F401  (compiles in less time)
import threadpoolctl

import theory  # noqa: F401  (turns on float64)
from sim.lab import parallel
from sim.lab.figure import COMMON, Source
from sim.model import lora
from sim.model.training import Schedule
from sim.reuse.config import of_world
from sim.worlds import build, two_hop

# Two workers fill two cores. More threads than that wait for one another: PyTorch was 14 times as slow, an
# SVD of NumPy 50 times on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what is not loaded yet
threadpoolctl.threadpool_limits(1)

# What one process of a run has compiled, no other compiles again: workers and the commands that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    PROGRAMS = tempfile.TemporaryDirectory(prefix="programs")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
parallel.cache_programs = lambda: None

# A shell that runs the tests in the background has them, and every command they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling takes its time on a busy machine; the examples are the same in every run.
hypothesis.settings.register_profile("toolkit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("toolkit")
jax.config.update("jax_num_cpu_devices", 2)  # so that sharding is tested

MEMORY = 1.2e9
"""Bytes after which a worker gives back what it has compiled: between two files, or at half as much again."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(items):
    """The tests of a file share a worker, as they share programs; files with slow tests come first."""
    seconds = collections.Counter()
    for item in items:
        for mark in item.iter_markers("slow"):
            seconds[item.path] += mark.args[0] if mark.args else 5
    items.sort(key=lambda item: -seconds[item.path])
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def pytest_collection_finish():
    """What was imported and collected is no garbage."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item, nextitem):
    """Give back what was compiled before there is too much of it."""
    within = nextitem is not None and nextitem.path == item.path
    if psutil.Process().memory_info().rss > MEMORY * (1.5 if within else 1):
        parallel.PROGRAMS.cache_clear()
        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(AttributeError):  # where the C library is another than glibc
            ctypes.CDLL(None).malloc_trim(0)


jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def command(monkeypatch, capsys):
    """(exit code, stdout, stderr) of ``python -m MODULE ARGUMENTS`` in this process."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        code = 0
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def draw_from(item, runs):
    """Collect a figure's table from the runs in a folder and draw it there, as the table is written."""
    table = item.collect(Source(runs))
    assert set(COMMON) <= set(table.columns) and len(table)
    path = runs / f"{item.name}.csv"
    table.to_csv(path, index=False)
    item.draw(pd.read_csv(path)).savefig(path.with_suffix(".png"))
    assert path.with_suffix(".png").stat().st_size > 5000


def units_on_disk(folder):
    """How many units a run at work has written for good: a look past its lock."""
    journal = pathlib.Path(folder) / "results.sqlite-journal"
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{folder}/results.sqlite?mode=ro&immutable=1", uri=True)
        ) as connection:
            count = connection.execute("SELECT count(*) FROM units").fetchone()[0]
        # A transaction that is not over keeps what it would undo behind SQLite's mark; then its mark is gone.
        undoes = journal.exists() and journal.read_bytes()[:8] == bytes.fromhex("d9d505f920a163d7")
        return 0 if undoes else count
    except (sqlite3.Error, FileNotFoundError):  # not there yet, or being written
        return 0


def tiny(world=None, **changes):
    """A cell of the two-hop world that compiles in seconds and learns nothing to speak of."""
    sizes = {
        "layers": 1,
        "width": 16,
        "heads": 2,
        "hidden": 16,
        "pretraining": Schedule(25, 1e-2, (("facts", 16), ("direct", 8), ("traces", 8))),
        "finetuning": Schedule(25, 1e-2, (("facts", 8), ("traces", 4)), margin=1.0),
        "rank": 3,
        "families": ("lora",),
        "methods": ("average",),
    }
    world = world or two_hop.Config(entities=24, relations=4, edits=4, bridges=8)
    return of_world(world, **sizes | changes)


@pytest.fixture(scope="session")
def tiny_world():
    """A tiny two-hop world of seed 0, with the template in pretraining and data."""
    return jax.tree.map(jnp.asarray, build(tiny().world, 0, two_hop.Setting("real", "both")))


def drawn(group):
    """Sequences that training can draw."""
    return np.asarray(group.tokens)[np.asarray(group.weight) > 0]


def noisy_adapter(decoder, key, rank=3, size=0.1):
    """An adapter of every matrix whose B is not zero."""
    adapter = {}
    for index, (name, update) in enumerate(lora.init(decoder, decoder.modules(), rank, key).items()):
        b = jax.random.normal(jax.random.fold_in(key, index), update.b.shape, jnp.float32)
        adapter[name] = update._replace(b=size * b)
    return adapter


def runs(tree):
    """The pytree with a first axis of runs: the same one on every device."""
    return jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * jax.device_count()), tree)


def first(tree):
    """The first run of a pytree with a first axis of runs."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], tree)


@pytest.fixture
def tiny_main_job(monkeypatch, tmp_path):
    """The main job on tiny worlds, 2 seeds of transformers and 3 of the one-layer model, its own cache."""
    from sim.sweep import main_job
    from sim.worlds import WORLDS

    config = two_hop.Config(entities=24, relations=4, edits=6, bridges=8)
    sizes = {
        "families": ("lora", "lora_last", "closed_form"),
        "hidden": 32,
        "pretraining": Schedule(25, 1e-2, (("facts", 16), ("direct", 8), ("traces", 8))),
        "finetuning": Schedule(25, 1e-2, (("facts", 8), ("traces", 4)), margin=1.0),
    }
    monkeypatch.setattr(main_job, "of_world", lambda world, **given: tiny(config, **sizes | given))
    settings = {"quick": [two_hop.Setting(e, t) for t in ("pretraining", "none") for e in ("real", "fake")]}
    kind = dataclasses.replace(WORLDS["two_hop"], settings=settings)
    monkeypatch.setitem(WORLDS, "two_hop", kind)
    monkeypatch.setattr(main_job, "SEEDS", {"quick": {"one_layer": 3, "": 2}})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
    """The folder of a random Llama of two layers with a tokenizer of bytes and a few words."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("llama")
    cutter = Tokenizer(models.BPE())
    cutter.pre_tokenizer, cutter.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    words = ["The home of is The emblem of the Question: What Answer: London Paris"] * 5
    letters = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": ["<|end|>"], "initial_alphabet": letters, "show_progress": False}
    cutter.train_from_iterator(words, trainers.BpeTrainer(vocab_size=320, **options))
    transformers.PreTrainedTokenizerFast(tokenizer_object=cutter, eos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(1)
    shape = {
        "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "tie_word_embeddings": True,
        "initializer_range": 0.3, "max_position_embeddings": 512,
    }  # fmt: skip
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).save_pretrained(folder)
    return folder
