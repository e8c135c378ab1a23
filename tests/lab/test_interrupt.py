"""A real Ctrl-C at any moment: one line, exit 130, within two seconds, and everything written is whole."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sim.lab import files, interrupt
from sim.lab.store import Store, read_table


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
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    found = []
    monkeypatch.setattr(interrupt, "_watch", lambda: found.append(True))
    interrupt.watch_command()
    assert found == [True] * watched


def test_scratch_is_known_while_it_is_written(tmp_path):
    with files.replacing(tmp_path / "results.csv") as part:
        assert interrupt._scratch == {str(part.parent)}
        part.write_text("new")
    assert interrupt._scratch == set()
    with pytest.raises(ValueError), files.replacing(tmp_path / "results.csv"):
        raise ValueError
    assert interrupt._scratch == set()


PHASES = """
import os, pathlib, sys, time
place = pathlib.Path(os.environ["PHASES"])

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            (place / "import").touch()

sys.meta_path.insert(0, Finder())
fsync, written = os.fsync, []

def slow(handle):
    fsync(handle)
    if os.readlink(f"/proc/self/fd/{handle}").endswith("/results.csv"):
        written.append(handle)
        if len(written) == 2 and os.environ["SLOW"]:
            (place / "writing").touch()
            time.sleep(60)

os.fsync = slow
"""
"""A sitecustomize that tells when jax is about to be imported, and holds the second write of results."""


class Command:
    """The main job in a process of its own, in a folder of its own."""

    def __init__(self, folder):
        self.folder, self.run = folder, folder / "run"
        (folder / "sitecustomize.py").write_text(PHASES)

    def start(self, slow=False):
        environment = os.environ | {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(self.folder), os.getcwd()]),
            "PHASES": str(self.folder),
            "SLOW": "yes" * slow,
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


@pytest.mark.slow
def test_ctrl_c_at_every_stage_of_a_run(tmp_path):
    """Import, compilation, computing, writing, in one folder, each going on where the last was stopped."""
    command = Command(tmp_path)
    resume = "interrupted: what was finished is kept; run the same command again to go on"

    command.start()
    command.until(lambda: (tmp_path / "import").exists())
    assert command.interrupt() == "interrupted: nothing was done yet"
    assert not command.run.exists()

    command.start()
    command.until(lambda: "Compiling jit(on_device)" in command.errors.read_text())
    time.sleep(0.5)
    assert "Finished XLA compilation of jit(on_device)" not in command.errors.read_text()
    assert command.interrupt(times=2) == resume  # an impatient user

    command.start()
    command.until(lambda: (command.run / "results.csv").exists())
    assert command.interrupt() == resume
    before = read_table(command.run / "results.csv")
    assert len(before)

    command.start(slow=True)
    command.until(lambda: (tmp_path / "writing").exists())
    assert [path.name for path in command.run.glob(".*")] != []
    assert command.interrupt() == resume

    # What is on disk is whole: all rows of before, of whole units, and a run that can go on.
    manifest = json.loads((command.run / "manifest.json").read_text())
    rows = read_table(command.run / "results.csv")
    assert set(before["unit"]) < set(rows["unit"])
    assert rows.groupby("unit").size().nunique() == 1
    opened = Store(command.run, manifest["config"], list(rows.columns)[1:], manifest["command"])
    assert opened.done == set(rows["unit"])
