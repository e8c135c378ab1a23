"""Chunked runs: each result at its own position, whatever it was batched with; one program; early stops."""

import io
import json
import os
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from tqdm import tqdm

from sim.lab import parallel
from sim.lab.parallel import THIS_PROCESS, Program, map_runs, program


def jobs(count):
    return [{"x": np.float64(i), "pair": np.arange(2.0) + 10 * i} for i in range(count)]


def square_and_sum(job):
    return {"square": job["x"] ** 2, "sum": job["pair"].sum() + job["x"]}


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 13])
def test_results_are_at_their_positions(width, count):
    chunks = list(map_runs(program(square_and_sum), jobs(count), width))
    size = width * jax.device_count()
    # Each position once, in order; the padding of the last chunk is dropped.
    assert [position for positions, _ in chunks for position in positions] == list(range(count))
    sizes = [min(size, count - start) for start in range(0, count, size)]
    assert [len(positions) for positions, _ in chunks] == sizes == [len(results) for _, results in chunks]
    for positions, results in chunks:
        for position, result in zip(positions, results, strict=True):
            assert result == {"square": position**2, "sum": 20 * position + 1 + position}
            assert isinstance(result["square"], np.generic | np.ndarray)


@pytest.mark.parametrize("width", [1, 3])
def test_a_result_does_not_depend_on_its_batch(width):
    def chaotic(x):
        return jax.lax.fori_loop(0, 50, lambda _, y: 3.99 * y * (1 - y), x)

    stages = Program(chaotic)
    values = [np.float64(value) for value in np.linspace(0.1, 0.9, 7)]
    whole = [result for _, results in map_runs(stages, values, width) for result in results]
    for value, expected in zip(values, whole, strict=True):
        ((positions, (result,)),) = map_runs(stages, [value], width)
        assert positions == [0]
        np.testing.assert_array_equal(result, expected)


def test_one_program_however_many_runs():
    traced = []

    def counted(x):
        traced.append(1)
        return x + 1

    stages = Program(counted)
    for count in (1, 5, 9):
        list(map_runs(stages, [np.float64(i) for i in range(count)], 2))
    assert len(traced) == 1


def test_a_chunk_is_handed_over_when_it_is_done():
    """Stopping early loses no chunk that was handed over, and no more than one chunk runs ahead."""
    taken = []

    class Job:
        def __init__(self, value):
            self.value = value

        def __array__(self, dtype=None, copy=None):
            taken.append(self.value)
            return np.asarray(self.value)

    size = jax.device_count()
    running = map_runs(Program(lambda x: 2 * x), [Job(float(i)) for i in range(4 * size)], 1)
    positions, results = next(running)
    running.close()
    assert positions == list(range(size)) and results == [2.0 * i for i in range(size)]
    assert set(taken) == set(range(2 * size))


def test_every_result_is_stacked():
    inputs = [np.arange(3.0) + i for i in range(5)]
    np.testing.assert_array_equal(parallel.map_arrays(lambda x: 2 * x, inputs), 2 * np.stack(inputs))


def first_stage(scale, x):
    return {"y": scale * x, "z": x + 1}


def second_stage(y, z):
    return y + z


def two_stages(job):
    between = program(first_stage, 3)(job)
    return program(second_stage)(between["y"], between["z"])


def test_stages_pass_results_on():
    chunks = THIS_PROCESS.map_runs(two_stages, [np.float64(i) for i in range(5)])
    assert [value for _, values in chunks for value in values] == [4.0 * i + 1 for i in range(5)]


@pytest.fixture
def compilations(monkeypatch):
    """Compilations that were begun; each waits until the event is set."""
    begun, event = [], threading.Event()

    class Compilers:
        def submit(self, compilation):
            begun.append(compilation)
            return parallel.ThreadPoolExecutor(1).submit(lambda: event.wait() and compilation())

    monkeypatch.setattr(parallel, "COMPILERS", Compilers())
    parallel.PROGRAMS.cache_clear()
    yield begun, event
    parallel.PROGRAMS.cache_clear()


def test_programs_are_compiled_before_the_first_chunk_and_once(compilations):
    """What is precompiled is all that the stages call; the same stages compile nothing more."""
    begun, event = compilations
    assert program(first_stage, 3) is program(first_stage, 3)
    job = np.zeros((2, 7))
    THIS_PROCESS.precompile(two_stages, job, 1)  # waits for nothing
    parallel.TRACER.submit(lambda: None).result()
    assert len(begun) == 2
    event.set()
    assert min(map(parallel.memory, parallel.precompile(two_stages, job, 1))) > 0
    values = np.ones((jax.device_count(), 2, 7))
    np.testing.assert_array_equal(two_stages(values), 5 * values)
    assert len(begun) == 2
    list(map_runs(two_stages, [np.zeros((2, 8))]))
    assert len(begun) == 4


def test_the_first_chunk_runs_while_other_programs_are_compiled(compilations):
    """The second program is compiled only once the first has run, and all ends well."""
    begun, event = compilations

    def stages(job):
        between = program(first_stage, 3)(job)
        if not isinstance(between["y"], jax.ShapeDtypeStruct):
            event.set()
        return program(second_stage)(between["y"], between["z"])

    def submit(compilation):
        begun.append(compilation)
        waits = len(begun) == 2
        return parallel.ThreadPoolExecutor(1).submit(lambda: (not waits or event.wait(10)) and compilation())

    parallel.COMPILERS.submit = submit
    ((_, values),) = map_runs(stages, [np.float64(2)])
    assert values == [9.0] and len(begun) == 2


def test_a_program_that_two_threads_ask_for_is_traced_once(monkeypatch):
    traced, create = [], Program.__init__

    def slow(x):
        traced.append(time.sleep(0.2))
        return x

    def create_slowly(*arguments, **options):
        time.sleep(0.2)
        create(*arguments, **options)

    def stages(x):
        return program(slow)(x)

    monkeypatch.setattr(Program, "__init__", create_slowly)
    with parallel.ThreadPoolExecutor(2) as threads:
        plans = [threads.submit(parallel.plan, stages, np.float64(0), 1) for _ in range(2)]
    assert len(traced) == 1 and plans[0].result() == plans[1].result()


def test_a_chunk_that_does_not_fit_is_halved(monkeypatch):
    widths = []
    monkeypatch.setattr(parallel, "default_width", lambda *_: 6)
    monkeypatch.setattr(parallel, "precompile", lambda stages, job, width: widths.append(width) or 1)
    monkeypatch.setattr(parallel, "fits", lambda compilations: len(widths) > 2)
    count = jax.device_count()
    chunks = list(map_runs(two_stages, [np.float64(i) for i in range(4 * count)]))
    assert widths == [6, 3, 2]
    assert [len(positions) for positions, _ in chunks] == [2 * count, 2 * count]


@pytest.mark.parametrize(
    ("runs", "backend", "devices", "width"),
    [(1000, "cpu", 2, 1), (0, "gpu", 1, 1), (3, "gpu", 2, 2), (512, "gpu", 1, 512), (1025, "gpu", 1, 342)],
)
def test_an_accelerator_holds_chunks_of_one_size(runs, backend, devices, width):
    assert parallel.default_width(runs, backend, devices) == width


@pytest.mark.parametrize(("delay", "shown"), [(0.0, True), (60.0, False)])
def test_a_bar_that_stays_says_what_was_compiled_and_for_how_long(
    compilations, delay, shown, monkeypatch, capsys
):
    compilations[1].set()
    monkeypatch.setattr(parallel, "DELAY", delay)
    parallel.precompile(two_stages, np.zeros(3), 1)
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.endswith("\n") is shown and ("compiling: 100%" in last and "2/2 [" in last) is shown


def test_a_bar_that_waits_does_not_count_what_is_compiled(compilations):
    threading.Timer(0.4, compilations[1].set).start()
    start = time.monotonic()
    with tqdm(total=2, file=io.StringIO()) as bar:
        parallel.precompile(two_stages, np.zeros(3), 1)
        spent, counted = time.monotonic() - start, bar.format_dict["elapsed"]
    assert spent > 0.3 and counted < 0.2


CACHED = """
import json, sys
import jax, numpy as np
import sim
from sim.lab import parallel

parallel.use_all_cores(2)
parallel.cache_programs()
import module_of_a_user as module

compiled = []
jax.monitoring.register_event_listener(
    lambda event, **_: compiled.append(event) if event == "/jax/compilation_cache/cache_misses" else None
)
size = int(sys.argv[1])
job = {"x": np.arange(4.0 * size * size).reshape(4, size, size) + np.eye(size), "n": np.arange(4)}
result = parallel.program(module.function, 3)(job)
factors = [parallel.map_arrays(lambda x, by=by: by * x, [np.float32(1)])[0].item() for by in (2, 3)]
assert factors == [2, 3], factors
print(json.dumps([len(compiled), np.abs(result["r"]).tolist(), result["n"].tolist()]))
"""

MODULE = """
import jax.numpy as jnp

def function(factor, job):
    return {"r": jnp.linalg.qr(job["x"])[1], "n": factor * job["n"]}
"""


@pytest.fixture
def run(tmp_path):
    """(programs compiled, R, n) of a process of its own, with its own cache and a user's module."""
    (tmp_path / "module_of_a_user.py").write_text(MODULE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]),
        "XDG_CACHE_HOME": str(tmp_path),
    }

    def run(size=3):
        words = [sys.executable, "-c", CACHED, str(size)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    run.place = tmp_path
    return run


@pytest.mark.slow
def test_another_process_compiles_nothing_and_gives_the_same(run):
    """Also a decomposition, which is a call of LAPACK; another size or changed code is another program."""
    count, r, n = run()
    assert count >= 3 and run() == [0, r, n]
    x = np.arange(36.0).reshape(4, 3, 3) + np.eye(3)
    np.testing.assert_allclose(r, np.abs(np.linalg.qr(x)[1]), atol=1e-12)
    assert n == [0, 3, 6, 9]
    count, r, _ = run(2)
    assert count and np.shape(r) == (4, 2, 2)
    (run.place / "module_of_a_user.py").write_text(MODULE.replace("factor * job", "factor + job"))
    count, _, n = run()
    assert count and n == [3, 4, 5, 6]


@pytest.mark.slow
def test_a_damaged_program_is_compiled_anew(run):
    _, *whole = run()
    paths = [path for path in run.place.rglob("*-cache") if path.is_file()]
    assert len(paths) >= 3
    for path in paths:
        path.write_bytes(path.read_bytes()[:100])
    assert run()[1:] == whole
