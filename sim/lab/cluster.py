"""Dask workers that compute the runs of a command: of this machine, of Slurm, or of anybody's scheduler.

The only file that knows Dask, which is an extra. This process keeps everything that is not computing: what
is done and what is not, the store, the progress bar. A worker is sent a chunk of jobs, computes it, and sends
the results back; it lives as long as the run and keeps what it has compiled. A worker that dies costs its
chunk, which another one does again.
"""

import contextlib
import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from sim.lab import parallel
from sim.lab.store.identity import versions

MISSING = "--cluster needs Dask, which is not installed; install it with: pip install -e '.[cluster]'"
RESUME = "what was finished is kept; run the same command again to go on"

AHEAD = 2
"""Chunks sent to a worker and not sent back: the one it computes and the next."""

CONNECT, PATIENCE = 10, 60
"""Seconds within which a scheduler, and the first of its workers, must answer."""

SETTINGS = {
    "distributed.scheduler.allowed-failures": 10,
    "distributed.admin.large-graph-warning-threshold": "1GB",  # a chunk's jobs travel with it: they are data
    # Dask's own choice of threads for linear algebra would round differently than this process does.
    "distributed.nanny.pre-spawn-environ": {},
    # Dask would give up a worker that is away this long after it died, as one is that died twice.
    "distributed.deploy.lost-worker-timeout": "10000 d",
}


@dataclass(frozen=True)
class ClusterContext(parallel.RunContext):
    """The workers of a Dask client compute; ``worker`` is what each of them is (``set_up``)."""

    client: Any = None
    worker: dict = field(default_factory=dict)
    gpus: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[int, str]:
        """How many devices the workers have, and of which kind."""
        threads = self.client.nthreads()
        return sum(threads.values()) if self.worker["backend"] == "cpu" else len(threads), self.worker[
            "device"
        ]

    def map_runs(self, stages: Callable, jobs: list) -> Iterator[tuple[list[int], list]]:
        """``parallel.map_runs``, whose chunks come as they are done."""
        from distributed import as_completed

        if not jobs:
            return
        each = -(-len(jobs) // max(1, len(self.client.nthreads())))
        size = (
            parallel.default_width(each, self.worker["backend"], self.worker["count"]) * self.worker["count"]
        )
        # A worker takes its devices before JAX is first used, and to unpickle an array of JAX is to use it.
        jobs = jax.tree.map(np.asarray, jobs)
        chunks, sent, done = iter(range(0, len(jobs), size)), {}, as_completed(loop=self.client.loop)

        def send() -> None:
            """Keep every worker busy; all chunks have one size, so that each compiles once."""
            for first in chunks:
                positions = list(range(first, min(first + size, len(jobs))))
                padded = positions + positions[-1:] * (size - len(positions))
                task = run_chunk, self.use_cache, self.gpus, stages, [jobs[position] for position in padded]
                future = self.client.submit(*task, pure=False)
                sent[future] = positions
                done.add(future)
                if len(sent) >= AHEAD * len(self.client.nthreads()):
                    return

        try:
            send()
            for future in done:
                with explain_worker_errors():
                    worker, results = future.result()
                require_same_workers(worker, self.worker)
                positions = sent.pop(future)
                send()
                yield positions, results[: len(positions)]
        finally:
            self.client.cancel(list(sent))

    def precompile(self, stages: Callable, job, count: int) -> None:
        """Nothing: workers compile what they are sent."""


@contextlib.contextmanager
def connect(where: str, workers: int | None, use_cache: bool) -> Iterator[ClusterContext]:
    """The context of workers that are started or joined. Call before JAX is first used.

    Args:
        where: "local": processes of this machine, one a GPU or else one a core; "slurm": jobs of one worker
            each; or the address of a scheduler whose workers somebody started.
        workers: how many (local: default as above; slurm: needed).
        use_cache: whether pretrained bases, and compiled programs of workers, are kept in the cache folder.

    Raises:
        ValueError: Dask is not installed, ``where`` is no address, or a worker has other versions or another
            kind of device than the rest.
        OSError: Slurm is not there or refuses the jobs; no scheduler or no worker answers; workers die over
            one chunk again and again.
    """
    try:
        import dask
        import distributed
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    start = {"local": start_local, "slurm": start_slurm}.get(where)
    if not start and not where.rpartition(":")[2].isdigit():
        raise ValueError(
            f"--cluster is {where!r}; give local, slurm or a scheduler's address, tcp://HOST:PORT"
        )
    if not start and workers is not None:
        raise ValueError("--workers belongs to --cluster local and slurm; a scheduler has the workers it has")
    jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
    gpus = find_gpus() if where == "local" else ()
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        address = stack.enter_context(start(workers, len(gpus))) if start else where
        for name in ("distributed", "distributed.client"):  # errors are one line of ours
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT, set_as_default=False))
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {address}; start one: dask scheduler") from error
        yield context_of(client, use_cache, gpus, None if start else PATIENCE)


def context_of(client, use_cache: bool, gpus: tuple[str, ...], patience: float | None) -> ClusterContext:
    """The context of a client; waits for its first worker."""
    with explain_worker_errors():
        try:
            worker = client.submit(set_up, use_cache, gpus, pure=False).result(patience)
        except TimeoutError as error:
            at = client.scheduler.address
            raise OSError(
                f"no worker of the scheduler at {at} answers; start some: dask worker {at} --nthreads 1"
            ) from error
    require_same_workers(worker, {"versions": versions()})
    return ClusterContext(use_cache, client, worker, gpus)


@contextlib.contextmanager
def explain_worker_errors() -> Iterator[None]:
    """Raise what goes wrong between here and the workers as one line."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        count = error.allowed_failures + 1
        raise OSError(f"{count} workers died over one chunk; give them more memory; {RESUME}") from error
    except (CancelledError, CommClosedError) as error:
        raise OSError(f"the scheduler of the workers is gone; {RESUME}") from error
    except ModuleNotFoundError as error:  # raised in a worker
        raise ValueError(f"a worker cannot import {error.name}; start it where this is installed") from error


def require_same_workers(worker: dict, expected: dict) -> None:
    """Raise ValueError if a worker has other versions or another kind of device."""
    for name, value in expected.items():
        if worker[name] != value:
            raise ValueError(
                f"a worker has {name} {worker[name]}, not {value}; results would depend on who computes"
            )


@functools.cache
def set_up(use_cache: bool, gpus: tuple[str, ...]) -> dict:
    """In a worker, once: take a GPU of its own, or a CPU device for each of its threads."""
    import distributed

    worker = distributed.get_worker()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name)]
    parallel.use_all_cores(worker.state.nthreads)
    if use_cache:
        parallel.cache_programs()
    count, kind = parallel.devices()
    return {"versions": versions(), "device": kind, "backend": jax.default_backend(), "count": count}


def run_chunk(use_cache: bool, gpus: tuple[str, ...], stages: Callable, jobs: list) -> tuple[dict, list]:
    """In a worker: (what it is, the results of the jobs)."""
    worker = set_up(use_cache, gpus)
    return worker, [result for _, results in parallel.map_runs(stages, jobs) for result in results]


@contextlib.contextmanager
def start_local(workers: int | None, gpus: int) -> Iterator:
    """Processes of this machine, one a GPU or else one a core; they end with this one, however it ends."""
    import distributed

    if gpus and workers and workers > gpus:
        raise ValueError(f"--workers is {workers}, more than the GPUs of this machine, {gpus}")
    # The process that removes what others leave behind is not to report that after Ctrl-C.
    filters = filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"])
    os.environ["PYTHONWARNINGS"] = ",".join(filters)
    cluster = distributed.LocalCluster(
        n_workers=workers or gpus or os.cpu_count(),
        threads_per_worker=1,
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=tempfile.gettempdir(),
        silence_logs=logging.CRITICAL,
        env={"TQDM_DISABLE": "1"},
        preload="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",  # Ctrl-C is for this process
    )
    try:
        yield cluster
    finally:
        if not isinstance(sys.exception(), KeyboardInterrupt):  # Dask would wait for what workers compute
            cluster.close()


def find_gpus() -> tuple[str, ...]:
    """Names that CUDA_VISIBLE_DEVICES has for the GPUs of this machine; a process of its own asks JAX."""
    code = "import jax; print(jax.local_device_count() * (jax.default_backend() == 'gpu'))"
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    count = int(done.stdout or 0)
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return tuple(names.split(",")[:count]) if count else ()


@contextlib.contextmanager
def start_slurm(workers: int | None, gpus: int) -> Iterator:
    """Jobs of one worker each, as Dask's own configuration (jobqueue.yaml) says; cancelled in the end."""
    import dask

    handler = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    signal.signal(signal.SIGINT, handler)  # that import has Ctrl-C exit in silence
    if workers is None:
        raise ValueError("--cluster slurm needs --workers: how many jobs to ask for, each one worker")
    if not shutil.which("sbatch"):
        raise OSError("--cluster slurm: there is no sbatch on this machine; run where Slurm is installed")
    logs = parallel.cache_folder() / "slurm"
    default = {"cores": 1, "processes": 1, "memory": "4GB", "log-directory": str(logs)}
    site = dask.config.get("jobqueue.slurm")
    options = {name.replace("-", "_"): site[name] or value for name, value in default.items()}
    dashboard = {"dashboard_address": ":0"} | site["scheduler-options"]
    with SLURMCluster(
        **options, scheduler_options=dashboard, python=sys.executable, silence_logs=logging.CRITICAL
    ) as cluster:
        # Dask asks in the background and would not report a refusal.
        command = ["sbatch", "--test-only"]
        done = subprocess.run(command, input=cluster.job_script(), capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"Slurm refuses the jobs: {done.stderr.strip()}; see Dask's jobqueue.yaml")
        cluster.adapt(minimum=workers, maximum=workers)  # a job whose time is up is followed by another
        print(f"waiting for Slurm; logs of its jobs are in {options['log_directory']}", file=sys.stderr)
        yield cluster
