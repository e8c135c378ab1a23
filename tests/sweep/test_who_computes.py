"""The same results.csv, byte for byte, whoever computes: devices, workers that are killed, jobs of Slurm."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import units_on_disk

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("who computes")]

CELLS = 20


def resulting(out):
    return (out / "tiny" / "results.csv").read_bytes()


class Run:
    """The command with a tiny experiment, in a process of its own, compiled without the tests' flags."""

    def __init__(self, place, name, *words, experiments=("tiny",), **environment):
        self.out, self.errors = place / name, place / f"{name}.err"
        self.environment = os.environ | environment
        self.environment |= {
            "XLA_FLAGS": "",
            "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[up]) for up in (0, 2)),
            "XDG_CACHE_HOME": str(place / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),  # of devices alike: compiled once
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        options = [*experiments, "--seeds", str(CELLS // 2), "--no-cache", "--out", str(self.out)]
        self.words = [sys.executable, "-m", "tiny", *options, *words]

    def start(self):
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                self.words,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        return self

    def until(self, reached):
        deadline = time.monotonic() + 300
        while not (value := reached()):
            assert self.process.poll() is None, self.errors.read_text()[-2000:]
            assert time.monotonic() < deadline, self.errors.read_text()[-2000:]
            time.sleep(0.02)
        return value

    def units(self):
        return units_on_disk(self.out / "tiny")

    def workers(self):
        """Processes of the workers, the oldest first; none while they are being started anew."""
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children()
            return sorted((p for p in children if "spawn_main" in " ".join(p.cmdline())), key=lambda p: p.pid)
        return []

    def kill_workers(self):
        """All at once, with the chunks that they have."""
        for worker in self.workers():
            worker.kill()

    def counts(self):
        """How many functions were traced, and programs compiled that were not in JAX's cache."""
        last = self.errors.read_text().splitlines()[-1]
        return tuple(map(int, re.fullmatch(r"traced (\d+), compiled (\d+)", last).groups()))

    def end(self):
        assert self.process.wait(timeout=300) == 0, self.errors.read_text()[-2000:]
        assert "Traceback" not in self.errors.read_text()
        return resulting(self.out)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("who")


@pytest.fixture(scope="module")
def one_device(place):
    """A run on one device, and its results."""
    run = Run(place, "one", JAX_NUM_CPU_DEVICES="1").start()
    return run, run.end()


@pytest.fixture
def expected(one_device):
    return one_device[1]


def device(out):
    return json.loads((out / "tiny" / "manifest.json").read_text())["device"]


def test_eight_devices(place, expected):
    run = Run(place, "eight", JAX_NUM_CPU_DEVICES="8").start()
    assert run.end() == expected
    assert device(run.out) == "8 x cpu"
    assert len({line.split(b",")[0] for line in expected.splitlines()[1:]}) == CELLS


def test_workers_killed_and_the_client_interrupted(place, expected):
    """SIGKILL while bases and cells are made; then Ctrl-C, and the same command again."""
    # Dask would give a worker up that is away this long after it died.
    soon = {"DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "200ms"}
    run = Run(place, "local", "--cluster", "local", "--workers", "2", **soon).start()
    run.until(lambda: len(run.workers()) == 2 and "pretraining" in run.errors.read_text())
    time.sleep(1)  # they have begun
    run.kill_workers()
    run.until(lambda: run.units() >= 1)
    run.kill_workers()
    assert run.units() < CELLS - 2  # what they had is to be done again
    run.until(lambda: run.units() >= 3)
    workers = run.workers()
    begin = time.monotonic()
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: the workers, too
    assert run.process.wait(timeout=60) == 130
    took = time.monotonic() - begin
    assert took < 4, took  # 2 s on a machine that does nothing else
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    time.sleep(1)  # whatever else is left of it may speak
    text = run.errors.read_text()
    line = "interrupted: what was finished is kept; run the same command again to go on"
    assert text.splitlines()[-1] == line and "Traceback" not in text
    assert "compil" not in text  # the bars and lines of the client alone
    assert device(run.out) == "2 x cpu" and 3 <= run.units() <= CELLS
    assert Run(place, "local", JAX_NUM_CPU_DEVICES="1").start().end() == expected  # goes on without workers


def test_what_is_compiled_is_compiled_once(place, one_device):
    """A second process compiles nothing, and a second experiment of the same shapes traces nothing."""
    first, expected = one_device
    second = Run(place, "second", experiments=("tiny", "again"), JAX_NUM_CPU_DEVICES="1").start()
    assert second.end() == expected
    (traced, compiled), again = first.counts(), second.counts()
    assert traced > 10 and compiled > 10 and again == (traced, 0)


def no_slurm():
    """Why Slurm cannot be tried here, if it cannot."""
    if importlib.util.find_spec("dask_jobqueue") is None:
        return "dask-jobqueue is not installed"
    if shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        return "no Slurm answers on this machine"
    return ""


@pytest.mark.skipif(bool(no_slurm()), reason=no_slurm())
def test_jobs_of_slurm(place, expected):
    """A job that is cancelled is followed by another; after Ctrl-C none is left."""

    def jobs():
        listed = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i"], capture_output=True, text=True)
        return listed.stdout.split()

    run = Run(place, "slurm", "--cluster", "slurm", "--workers", "2").start()
    run.until(lambda: run.units() >= 1)
    subprocess.run(["scancel", jobs()[0]], check=True)
    run.until(lambda: run.units() >= 3)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=60) == 130
    deadline = time.monotonic() + 10
    while jobs() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert jobs() == []
    assert run.start().end() == expected


@pytest.mark.skipif(bool(no_slurm()), reason=no_slurm())
def test_a_refusal_of_slurm_is_one_line(place, tmp_path):
    (tmp_path / "jobqueue.yaml").write_text("jobqueue: {slurm: {queue: nowhere}}")
    run = Run(place, "refused", "--cluster", "slurm", "--workers", "1", DASK_CONFIG=str(tmp_path)).start()
    assert run.process.wait(timeout=60) == 2
    text = run.errors.read_text()
    assert text.count("\n") == 1 and text.startswith("error: Slurm refuses the jobs: ")
