"""A run of cheap units, for tests that kill it, starve it of disk and lock it out.

python toy_run.py --out DIR          the command
python toy_run.py kills DIR COUNT    kills it at random points and looks at what is left, each time
"""

import json
import math
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sim.lab import cli
from sim.lab.store import Store, folder
from sim.lab.store.database import Database

COLUMNS = ("name", "seed", "metric", "predicted", "measured", "trials")
CONFIG = {"toy": 1}
UNITS = [f"toy/{index:03d}" for index in range(30)]


def rows_of(unit: str) -> list[dict]:
    """Ten rows of values that are easily damaged: NaN, "", whole numbers, floats of all sizes."""
    draw = random.Random(unit)
    common = {"name": f"a, {unit}", "seed": draw.randrange(9), "predicted": math.nan}
    metrics = ("", *(f"recall_{index}" for index in range(8)))
    rows = [common | {"metric": metric, "measured": draw.random(), "trials": 7} for metric in metrics]
    large = {"metric": "margin", "predicted": 0.1 + 0.2, "measured": draw.lognormvariate(0, 99)}
    return [*rows, common | large]


def work(out: Path, written=lambda units: None, size=lambda: 3) -> None:
    """What is not done yet, ``size()`` units at a time, and the tables. ``said`` hears of units on disk."""
    with Store(out, CONFIG, COLUMNS, "toy") as store:
        todo = [unit for unit in UNITS if unit not in store.done]
        while todo:
            count = size()
            chunk, todo = todo[:count], todo[count:]
            store.add({unit: rows_of(unit) for unit in chunk})
            written(chunk)
        store.finish()


def random_size() -> int:
    """Units of a chunk. (A fork would begin with the same numbers of ``random`` each time.)"""
    return os.urandom(1)[0] % 4 + 1


def killed(out: Path, seconds: float) -> tuple[bool, set[str]]:
    """``work`` in a process that is killed: (whether it was still at work, units it said are on disk)."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            work(out, lambda units: os.write(writing, f"{' '.join(units)} ".encode()), random_size)
        finally:
            os._exit(0)
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return os.WIFSIGNALED(status), set(pipe.read().split())


def check(out: Path, written: set[str]) -> None:
    """Units said to be on disk are there, and every unit that is there is there once, as it was made."""
    if not (out / "results.sqlite").exists():
        assert not written, written
        return
    database = Database(out / "results.sqlite")
    done, rows = database.done(), database.rows()
    database.close()
    assert written <= done, sorted(written - done)
    wanted = [
        [unit, *(row.get(column, math.nan) for column in COLUMNS)]
        for unit in sorted(done)
        for row in rows_of(unit)
    ]
    assert json.dumps(rows) == json.dumps(wanted)  # NaN is not equal to itself, its text is


def tables(out: Path) -> list[bytes]:
    """What a finished run leaves to read."""
    return [(out / name).read_bytes() for name in ("results.csv", "summary.csv")]


def kills(out: Path, count: int) -> None:
    """Kill ``count`` runs at work, in one folder until a run comes through, then in the next."""
    begin = time.monotonic()
    work(out / "whole")
    whole, hits, index = time.monotonic() - begin, 0, 0
    while hits < count:
        place, written, alive = out / str(index), set(), True
        while alive and hits < count:
            alive, new = killed(place, random.uniform(0, 0.8 * whole))
            hits, written = hits + alive, written | new
            check(place, written)
        work(place)
        check(place, set(UNITS))
        assert tables(place) == tables(out / "whole")
        left = {path.name for path in place.iterdir() if path.is_file()}
        assert left == {"results.sqlite", "results.csv", "summary.csv", "manifest.json"}
        index += 1
    print(f"{hits} kills in {index} folders")


@dataclass(frozen=True)
class Toy:
    """A run of cheap units."""

    out: Path
    hold: bool = False
    """Say when the first units are on disk, and wait to be killed."""


def main(toy: Toy) -> None:
    """``work`` as a command."""

    def hold(units):
        print("holding", flush=True)
        time.sleep(600)

    work(toy.out, hold if toy.hold else lambda units: None)


if __name__ == "__main__":
    folder.environment = dict  # takes a second to find out, and threads, which do not survive a fork
    if sys.argv[1] == "kills":
        kills(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        cli.run_command(Toy, main, "toy")
