"""Chunked runs: each result at its own position, whatever it was batched with; one program; early stops."""

import io
import re
import threading
import time

import jax
import numpy as np
import pytest
from tqdm import tqdm

from sim.lab import parallel
from sim.lab.parallel import chunks, programs


def jobs(count):
    return [{"x": np.float64(i), "pair": np.arange(2.0) + 10 * i} for i in range(count)]


def function(job):
    return {"square": job["x"] ** 2, "sum": job["pair"].sum() + job["x"]}


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 13])
def test_results_are_at_their_positions(width, count):
    chunks = list(parallel.chunked(function, width)(jobs(count)))
    size = width * jax.device_count()
    positions = [position for found, _ in chunks for position in found]
    assert positions == list(range(count))  # each once, in order; the padding of the last chunk is dropped
    assert [len(found) for found, _ in chunks] == [
        min(size, count - start) for start in range(0, count, size)
    ]
    for found, results in chunks:
        assert len(found) == len(results)
        for position, result in zip(found, results, strict=True):
            assert result == {"square": position**2, "sum": 20 * position + 1 + position}
            assert isinstance(result["square"], np.generic | np.ndarray)


@pytest.mark.parametrize("width", [1, 3])
def test_a_result_does_not_depend_on_its_batch(width):
    def chaotic(x):
        return jax.lax.fori_loop(0, 50, lambda _, y: 3.99 * y * (1 - y), x)

    mapped = parallel.chunked(chaotic, width)
    values = [np.float64(value) for value in np.linspace(0.1, 0.9, 7)]
    whole = [result for _, results in mapped(values) for result in results]
    for value, expected in zip(values, whole, strict=True):
        ((positions, (alone,)),) = mapped([value])
        assert positions == [0]
        np.testing.assert_array_equal(alone, expected)


def test_one_program_however_many_runs():
    traced = []

    def counted(x):
        traced.append(1)
        return x + 1

    mapped = parallel.chunked(counted, 2)
    for count in (1, 5, 9):
        list(mapped([np.float64(i) for i in range(count)]))
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
    running = parallel.chunked(lambda x: 2 * x, 1)([Job(float(i)) for i in range(4 * size)])
    positions, results = next(running)
    running.close()
    assert positions == list(range(size)) and results == [2.0 * i for i in range(size)]
    assert set(taken) == set(range(2 * size))


def test_over_stacks_every_result():
    inputs = [np.arange(3.0) + i for i in range(5)]
    np.testing.assert_array_equal(parallel.over(lambda x: 2 * x, inputs), 2 * np.stack(inputs))


def first_stage(scale, x):
    return {"y": scale * x, "z": x + 1}


def second_stage(y, z):
    return y + z


def two_stages(job):
    found = parallel.program(first_stage, 3)(job)
    return parallel.program(second_stage)(found["y"], found["z"])


def test_stages_pass_results_on():
    mapped = parallel.in_stages(two_stages)
    found = [value for _, values in mapped([np.float64(i) for i in range(5)]) for value in values]
    assert found == [4.0 * i + 1 for i in range(5)]


def test_programs_are_compiled_before_the_first_chunk_and_once():
    """What ``prepare`` compiles is all that the stages call; the same stages compile nothing more.

    ``expect`` begins the same, and waits for nothing.
    """
    assert parallel.program(first_stage, 3) is parallel.program(first_stage, 3)
    compiled = []
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        original, go = programs.Program._compiled, threading.Event()

        def once_it_may(self, *traced):
            go.wait()
            compiled.append(1)
            return original(self, *traced)

        patch.setattr(programs.Program, "_compiled", once_it_may)
        shape = jax.ShapeDtypeStruct((jax.device_count(), 2, 7), np.float64)
        parallel.expect(two_stages, np.zeros((2, 7)), 1)
        assert not compiled
        go.set()
        assert parallel.prepare(two_stages, shape) > 0
        assert len(compiled) == 2
        value = two_stages(np.ones(shape.shape))
        assert len(compiled) == 2
    np.testing.assert_array_equal(value, 5 * np.ones(shape.shape))


def test_a_chunk_that_does_not_fit_is_halved(monkeypatch):
    widths = []
    monkeypatch.setattr(chunks, "default_width", lambda runs: 6)
    monkeypatch.setattr(chunks, "prepare", lambda stages, shapes: widths.append(shapes.shape[0]) or 1)
    monkeypatch.setattr(chunks, "fits", lambda size: len(widths) > 2)
    count = jax.device_count()
    found = list(parallel.in_stages(two_stages)([np.float64(i) for i in range(4 * count)]))
    assert widths == [6 * count, 3 * count, 2 * count]
    assert [len(positions) for positions, _ in found] == [2 * count, 2 * count]


def paired(x):
    return jax.numpy.stack([x, x])


def doubled(x):
    return 2 * x


def stages(x):
    """Two programs, one of them for two shapes."""
    return parallel.program(doubled)(x), parallel.program(doubled)(parallel.program(paired)(x))


@pytest.fixture
def new_programs():
    parallel.program.cache_clear()
    yield
    parallel.program.cache_clear()


@pytest.mark.usefixtures("new_programs")
@pytest.mark.parametrize(("threshold", "said"), [(0.0, True), (60.0, False)])
def test_a_line_says_what_was_compiled_and_for_how_long(threshold, said, monkeypatch, capsys):
    monkeypatch.setattr(programs, "TOLD", threshold)
    parallel.prepare(stages, jax.ShapeDtypeStruct((jax.device_count(),), np.float64))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("compiled")]
    found = [re.sub(r"\d+ s$", "N s", line) for line in told]  # a busy machine takes more than half a second
    assert found == (["compiled doubled x 2, paired in N s"] if said else [])


@pytest.mark.usefixtures("new_programs")
def test_a_bar_that_waits_does_not_count_what_is_compiled(monkeypatch):
    compiled = parallel.Program._compiled

    def slow(program, *traced):
        time.sleep(0.3)
        return compiled(program, *traced)

    monkeypatch.setattr(parallel.Program, "_compiled", slow)
    start = time.monotonic()
    with tqdm(total=2, file=io.StringIO()) as bar:
        parallel.prepare(stages, jax.ShapeDtypeStruct((jax.device_count(),), np.float64))
        spent, counted = time.monotonic() - start, bar.format_dict["elapsed"]
    assert spent > 0.3 and counted < 0.2
