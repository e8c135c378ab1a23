"""Time of the main job as a user meets it: on an empty cache, and again."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from sim.bench.clock import benchmark

JOB = ("--rank", "4")


def spent(words: list[str], folder: Path) -> dict[str, float]:
    """Wall and processor seconds of a command with its cache in ``folder``.

    Raises:
        RuntimeError: the command failed, with its last words.
    """
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        words, env={**os.environ, "XDG_CACHE_HOME": str(folder)}, capture_output=True, text=True
    )
    elapsed, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": elapsed, "processor_seconds": processor}


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
            found = spent([sys.executable, "-m", "sim.sweep", *options], place / "cache")
            rows.append({"job": f"sim.sweep {' '.join(JOB)}", "state": state, **found})
    table = pd.DataFrame(rows)
    return table.assign(ratio_to_ours=table["seconds"] / table["seconds"][1])
