"""Nothing is lost: runs killed, starved of disk and locked out; folders that are damaged or read-only."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import toy_run
from toy_run import COLUMNS, CONFIG, UNITS, check, rows_of, tables, work

from sim.lab import cli, files
from sim.lab.store import Store

ROOM = "; make room on the disk and run the same command again: what was finished is kept\n"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Nobody may be unable to look for versions and commit."""
    monkeypatch.setattr(toy_run.folder, "environment", dict)


def started(*words) -> subprocess.Popen:
    """The toy run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, toy_run.__file__, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def toy(monkeypatch, capsys):
    """(exit code, stdout, stderr) of the toy command, in this process."""

    def run(place):
        monkeypatch.setattr(sys, "argv", ["toy", "--out", str(place)])
        code = 0
        try:
            cli.run_command(toy_run.Toy, toy_run.main, "toy")
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a toy run that nothing disturbed."""
    work(place := tmp_path_factory.mktemp("whole"))
    return place


def contents(place: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in place.iterdir()}


def assert_goes_on(place, whole):
    """The same command finishes the run, as if nothing had been."""
    work(place)
    check(place, set(UNITS))
    assert tables(place) == tables(whole)


@pytest.mark.slow
def test_killed_at_random_points_and_run_again(tmp_path):
    """SIGKILL, again and again: what was said to be on disk is there, and the same command finishes."""
    process = started("kills", tmp_path, 100)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    assert out.startswith("100 kills in ")


@contextlib.contextmanager
def largest_file(size: int):
    """No file of this process may grow past ``size`` bytes: a small disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1000, 36_000])
def test_a_full_disk_is_one_line_and_loses_nothing(size, tmp_path, whole, toy):
    """From the beginning, and in the middle of the run."""
    place = tmp_path / "run"
    with largest_file(size):
        code, out, err = toy(place)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"error: {place}/results.sqlite: ") and err.endswith(ROOM)
    with Store(place, CONFIG, COLUMNS, "toy") as store:
        assert 0 < len(store.done) < len(UNITS) or size == 1000
    check(place, set())
    assert_goes_on(place, whole)


def test_no_room_in_the_database_undoes_the_last_chunk_alone(tmp_path, whole):
    with pytest.raises(OSError, match="database or disk is full; make room") as caught:  # noqa: SIM117
        with Store(tmp_path, CONFIG, COLUMNS, "toy") as store:
            store._database._connection.execute("PRAGMA max_page_count = 9")
            for index in range(len(UNITS)):
                store.add({unit: rows_of(unit) for unit in UNITS[2 * index : 2 * index + 2]})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "results.sqlite")
    check(tmp_path, set(UNITS[: 2 * index]))
    with Store(tmp_path, CONFIG, COLUMNS, "toy") as store:
        assert store.done == set(UNITS[: 2 * index])
    assert_goes_on(tmp_path, whole)


def test_no_room_for_the_tables(tmp_path, whole, toy, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path, CONFIG, COLUMNS, "toy") as store:
        store.add({unit: rows_of(unit) for unit in UNITS[:7]})
        monkeypatch.setattr(files, "_to_disk", full)
        with pytest.raises(OSError, match="No space left on device; make room"):
            store.finish()
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "results.sqlite"]
    check(tmp_path, set(UNITS[:7]))
    assert_goes_on(tmp_path, whole)


def test_a_second_run_is_refused_at_once_until_the_first_is_dead(tmp_path, whole, toy):
    place = tmp_path / "run"
    first = started("--out", place, "--hold")
    try:
        assert first.stdout.readline() == "holding\n"
        before = contents(place)
        code, out, err = toy(place)
        line = "in use by another run; wait until it ends or choose another --out"
        assert (code, out, err) == (2, "", f"error: {place}/results.sqlite: {line}\n")
        assert contents(place) == before
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    with Store(place, CONFIG, COLUMNS, "toy") as store:
        assert store.done == set(UNITS[:3])
        with pytest.raises(BlockingIOError):  # nor twice in one process
            Store(place, CONFIG, COLUMNS, "toy")
    assert_goes_on(place, whole)


@contextlib.contextmanager
def bound_by_permissions():
    """Be nobody for a while, if root, whom permissions do not bind."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("begun", [False, True])
def test_a_folder_that_cannot_be_written_is_one_line(begun, whole, toy):
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # those of pytest are closed to nobody
        place = Path(scratch) / "run"
        place.mkdir()
        if begun:
            shutil.copytree(whole, place, dirs_exist_ok=True)
        before = contents(place)
        for path in place.iterdir():
            path.chmod(0o444)
        place.chmod(0o555)
        with bound_by_permissions():
            code, out, err = toy(place)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert err.startswith(f"error: {place}/results.sqlite: ")
        assert err.endswith("; make it writable or choose another --out\n")
        assert contents(place) == before
        place.chmod(0o755)


def test_a_folder_that_cannot_be_made_is_one_line(toy):
    code, out, err = toy("/proc/none/here")
    assert (code, out) == (2, "") and err.startswith("error: /proc/none/here: ")
    assert err.endswith("; make it writable or choose another --out\n")


PAGE = 4096
SPOILT = {
    "another format": lambda data: b"unit,seed\n" * 500,
    "cut off": lambda data: data[: len(data) // 2],
    "a page of zeros": lambda data: data[: 2 * PAGE] + bytes(PAGE) + data[3 * PAGE :],
    "its last page of zeros": lambda data: data[:-PAGE] + bytes(PAGE),
    "a page of noise": lambda data: data[:PAGE] + bytes(range(256)) * 16 + data[2 * PAGE :],
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_database_is_named_and_kept(how, tmp_path, whole, toy):
    place = tmp_path / "run"
    shutil.copytree(whole, place)
    path = place / "results.sqlite"
    path.write_bytes(SPOILT[how](path.read_bytes()))
    before = contents(place)
    line = f"error: {path} is damaged; move it away or choose another --out\n"
    assert toy(place) == (2, "", line)
    assert contents(place) == before
    path.rename(tmp_path / "away")  # the remedy: the tables are read in its place
    work(place)
    assert tables(place) == tables(whole)


def test_somebody_elses_database_is_left_alone(tmp_path):
    path = tmp_path / "results.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (value)")
    connection.close()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"results\.sqlite holds something else; move it away or choose"):
        Store(tmp_path, CONFIG, COLUMNS, "toy")
    assert contents(tmp_path) == before


def test_the_disk_is_waited_for(tmp_path):
    """A power failure cannot be tried out; that a transaction ends when it is on the disk can be asked."""
    with Store(tmp_path, CONFIG, COLUMNS, "toy") as store:
        ask = store._database._connection.execute
        assert ask("PRAGMA synchronous").fetchone()[0] >= 2  # FULL
        assert ask("PRAGMA journal_mode").fetchone()[0] in ("delete", "truncate", "persist", "wal")
