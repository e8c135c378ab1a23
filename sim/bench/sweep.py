"""Time of the main job as a user meets it: on an empty cache, and again."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from sim.bench.clock import benchmark

JOB = ("--rank", "4")


def spent(words: list[str], folder: Path) -> dict[str, float]:
    """Wall and processor seconds of a command with its cache in ``folder``, and its peak memory.

    Raises:
        RuntimeError: the command failed, with its last words.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        running = subprocess.Popen(
            words, env={**os.environ, "XDG_CACHE_HOME": str(folder)}, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, used = os.wait4(running.pid, 0)  # of this command only, all its threads
        elapsed = time.perf_counter() - begin
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(words)} ended with {running.returncode}: {errors.read()[-500:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": elapsed,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss * unit / 1e6,
    }


@benchmark
def sweep() -> pd.DataFrame:
    """Run ``python -m sim.sweep --rank 4`` three times: on an empty cache, again, and without importing work.

    The second run has the bases and compiled programs of the first; ``start`` is ``--help``, the part of
    either that is starting Python and importing JAX. ``ratio_to_ours`` is against the second.
    """
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for state in ("cold", "warm", "start"):
            options = ["--help"] if state == "start" else [*JOB, "--out", str(place / state)]
            costs = spent([sys.executable, "-m", "sim.sweep", *options], place / "cache")
            rows.append({"job": f"sim.sweep {' '.join(JOB)}", "state": state, **costs})
    table = pd.DataFrame(rows)
    return table.assign(ratio_to_ours=table["seconds"] / table["seconds"][1])
