"""A real Ctrl-C at any moment: one line, exit 130, within two seconds, and everything written is whole."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import units_on_disk

from sim.lab import interrupt
from sim.lab.store import read_table
from sim.lab.store.database import Database


@pytest.mark.parametrize(
    ("argv", "orig_argv", "handler", "watched"),
    [
        (
            ["-m", "--rank", "4"],
            ["python", "-m", "sim.sweep", "--rank", "4"],
            signal.default_int_handler,
            True,
        ),
        (["-m"], ["python", "-W", "error", "-msim.merge"], signal.default_int_handler, True),
        (["-m"], ["python", "-m", "sim.merge"], signal.SIG_IGN, False),  # in the background
        (["-m"], ["python", "-m", "sim.merge"], print, False),  # somebody else's
        (["-m"], ["python", "-m", "other.tool"], signal.default_int_handler, False),
        (["-c"], ["python", "-c", "import sim.sweep"], signal.default_int_handler, False),
        (["pytest"], ["python", "-m", "pytest", "sim.sweep"], signal.default_int_handler, False),
        ([""], ["python"], signal.default_int_handler, False),
    ],
)
def test_only_commands_are_watched(monkeypatch, argv, orig_argv, handler, watched):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    handlers = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.append(handler))
    interrupt.watch_command()
    assert handlers == [interrupt.end_import] * watched


PHASES = """
import os, pathlib, sqlite3, sys, time
place = pathlib.Path(os.environ["PHASES"])

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            (place / "import").touch()

sys.meta_path.insert(0, Finder())
fsync, connect = os.fsync, sqlite3.connect

def hold(phase):
    if os.environ["HOLD"] == phase and not (place / phase).exists():
        (place / phase).touch()
        time.sleep(60)

def slow(handle):
    fsync(handle)
    if os.readlink(f"/proc/self/fd/{handle}").endswith("/results.csv"):
        hold("tables")

class Slow(sqlite3.Connection):
    def execute(self, sql, *rest):
        result = super().execute(sql, *rest)
        if "INTO units" in sql:
            hold("chunk")
        return result

os.fsync = slow
sqlite3.connect = lambda *names, **options: connect(*names, **options, factory=Slow)
"""
"""A sitecustomize that marks when jax is about to be imported, and holds the first write of a kind."""


class Command:
    """The main job in a process of its own, in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.run = folder, folder / "run"
        (folder / "sitecustomize.py").write_text(PHASES)

    def start(self, hold=""):
        environment = os.environ | {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "JAX_COMPILATION_CACHE_DIR": "",  # its own, below its cache: it is stopped while it compiles
            "PYTHONPATH": os.pathsep.join([str(self.folder), os.getcwd()]),
            "PHASES": str(self.folder),
            "HOLD": hold,
            "JAX_LOG_COMPILES": "1",
        }
        words = ["-m", "sim.sweep", "--rank", "2", "--world", "one_layer", "--out", str(self.run)]
        self.errors = self.folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *words], env=environment, stderr=errors, stdout=subprocess.DEVNULL
            )

    def until(self, reached):
        deadline = time.monotonic() + 400
        while not reached():
            assert self.process.poll() is None, self.errors.read_text()[-2000:]
            assert time.monotonic() < deadline, self.errors.read_text()[-2000:]
            time.sleep(0.01)

    def rows(self):
        """All rows in the database, as text, each behind its unit."""
        with contextlib.closing(Database(self.run / "results.sqlite")) as database:
            return [[unit, json.dumps(row)] for unit, *row in database.rows()]

    def interrupt(self, times=1):
        """Press Ctrl-C and look at what is left. Returns the line."""
        begin = time.monotonic()
        for _ in range(times):
            self.process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        code = self.process.wait(timeout=60)
        took, text = time.monotonic() - begin, self.errors.read_text()
        assert code == 130, text[-2000:]
        assert took < 4, took  # 2 s on a machine that does nothing else
        assert "Traceback" not in text and "Exception ignored" not in text and "Fatal" not in text
        assert text.count("interrupted") == 1 and text.endswith("\n")
        assert [path for path in self.folder.rglob(".*") if path.is_dir()] == []  # no scratch
        return text.splitlines()[-1]


@pytest.mark.slow(40)
def test_ctrl_c_at_every_stage_of_a_run(tmp_path):
    """Import, compilation, computing, writing, in one folder, each going on where the last was stopped."""
    command = Command(tmp_path)
    resume = "interrupted: what was finished is kept; run the same command again to go on"

    command.start()
    command.until(lambda: (tmp_path / "import").exists())
    assert command.interrupt() == "interrupted: nothing was done yet"
    assert not command.run.exists()

    command.start()
    command.until(lambda: "Compiling jit(one_layer)" in command.errors.read_text())
    time.sleep(0.5)
    assert "Finished XLA compilation of jit(one_layer)" not in command.errors.read_text()
    assert command.interrupt(times=2) == resume  # an impatient user

    command.start()
    command.until(lambda: units_on_disk(command.run))
    assert command.interrupt() == resume
    before = command.rows()
    assert set(read_table(command.run / "results.csv")["unit"]) == {row[0] for row in before}
    assert len(read_table(command.run / "summary.csv"))

    command.start(hold="chunk")
    command.until(lambda: (tmp_path / "chunk").exists())
    assert command.interrupt() == resume
    assert command.rows() == before

    command.start(hold="tables")
    command.until(lambda: (tmp_path / "tables").exists())
    assert [path.name for path in command.run.glob(".*")] != []
    assert command.interrupt() == resume

    # What is on disk is whole: all rows of before, and all units, since all were done.
    rows = command.rows()
    assert [row for row in rows if row[0] in {row[0] for row in before}] == before
    units = [row[0] for row in rows]
    assert len(set(units)) == 32 and len({units.count(unit) for unit in units}) == 1
    assert read_table(command.run / "results.csv")["unit"].tolist() == units
    assert json.loads((command.run / "manifest.json").read_text())["finished"] is False


STUBBORN = """
import signal, sys, time
from dataclasses import dataclass
from sim.lab import cli
from sim.lab import interrupt

@dataclass
class Command:
    pass

def main(command):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(60)

interrupt.GRACE = 0.5
signal.signal(signal.SIGINT, interrupt.end_import)  # as in python -m sim.NAME
cli.run_command(Command, main, "stubborn", "all is well")
"""


def test_a_command_that_takes_long_to_close_is_ended():
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted: all is well\n")
    assert 0.5 < time.monotonic() - begin < 4
