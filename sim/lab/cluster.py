"""What a command does in stages, done by Dask workers: of this machine, of Slurm, or of anybody's scheduler.

The only file that knows Dask, which is an extra. The client keeps everything that is not computing: what is
done and what is not, the store, the progress bar. A worker is sent a chunk of jobs, computes it as ``here``
would, and sends the results back; it lives as long as the run and keeps what it has compiled. A worker that
dies costs its chunk, which another one does again.
"""

import contextlib
import functools
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import jax

from sim.lab import interrupt, parallel
from sim.lab.store.identity import versions

MISSING = "--cluster needs Dask, which is not installed; install it with: pip install -e '.[cluster]'"

AHEAD = 2
"""Chunks a worker has been sent and not sent back: the one it computes and the next."""

DEATHS = 10
"""Workers that may die over one chunk, one after the other, before the run is given up."""

CONNECT = 10
"""Seconds within which a scheduler must answer."""

PATIENCE = 60
"""Seconds within which the first worker of somebody else's scheduler must answer."""

SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS,
    "distributed.admin.large-graph-warning-threshold": "1GB",  # a chunk's jobs travel with it: they are data
    # Dask's own choice of threads for linear algebra would round differently than this process does.
    "distributed.nanny.pre-spawn-environ": {},
}


@contextlib.contextmanager
def computing(where: str, workers: int | None, use_cache: bool) -> Iterator[None]:
    """Within the block workers do what ``parallel.in_stages`` is given. Call before JAX is first used.

    Args:
        where: "local": processes of this machine, one a GPU or else one a core; "slurm": jobs of one worker
            each; or the address of a scheduler whose workers somebody started.
        workers: how many (local: default as above; slurm: needed).
        use_cache: whether workers keep compiled programs in their cache folder.

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
    kinds = {"local": _local, "slurm": _slurm}
    if where not in kinds and not where.rpartition(":")[2].isdigit():
        raise ValueError(
            f"--cluster is {where!r}; give local, slurm or a scheduler's address, tcp://HOST:PORT"
        )
    if where not in kinds and workers is not None:
        raise ValueError("--workers belongs to --cluster local and slurm; a scheduler has the workers it has")
    jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        address = stack.enter_context(kinds[where](workers)) if where in kinds else where
        for name in ("distributed", "distributed.client"):  # what matters is told in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT, set_as_default=False))
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {address}; start one: dask scheduler") from error
        executor = _executor(client, use_cache, None if where in kinds else PATIENCE)
        stack.enter_context(parallel.computing(executor))
        yield


def _executor(client, use_cache: bool, patience: float | None) -> parallel.Executor:
    """The executor of a client's workers; waits for the first of them."""
    with _told():
        first = client.submit(_set_up, use_cache, pure=False)
        try:
            known = first.result(patience)
        except TimeoutError as error:
            at = client.scheduler.address
            raise OSError(
                f"no worker of the scheduler at {at} answers; start some: dask worker {at} --nthreads 1"
            ) from error
        _require_alike(known, {"versions": versions()})
        count = sum(client.nthreads().values()) if known["backend"] == "cpu" else len(client.nthreads())
    in_stages = functools.partial(_in_stages, client, use_cache, known)
    return parallel.Executor(in_stages, (count, known["device"]))


def _in_stages(client, use_cache: bool, known: dict, stages: Callable) -> Callable[[list], Iterator]:
    """``parallel.here`` on the workers of a client: chunks come as they are done."""
    from distributed import as_completed

    def mapped(inputs: list) -> Iterator[tuple[list[int], list]]:
        if not inputs:
            return
        with _told():
            each = -(-len(inputs) // max(1, len(client.nthreads())))
            size = client.submit(_size, use_cache, each, pure=False).result()
        starts, sent, done = iter(range(0, len(inputs), size)), {}, as_completed(loop=client.loop)

        def send() -> None:
            """Keep every worker there is busy; all chunks of one size, so that each compiles once."""
            free = AHEAD * max(1, len(client.nthreads())) - len(sent)
            for start in itertools.islice(starts, max(0, free)):
                positions = list(range(start, min(start + size, len(inputs))))
                padded = positions + positions[-1:] * (size - len(positions))
                jobs = [inputs[position] for position in padded]
                future = client.submit(_chunk, use_cache, stages, jobs, pure=False)
                sent[future] = positions
                done.add(future)

        try:
            with _told():
                send()
            for future in done:
                with _told():
                    theirs, results = future.result()
                    _require_alike(theirs, known)
                    positions = sent.pop(future)
                    send()
                yield positions, results[: len(positions)]
        finally:
            client.cancel(list(sent))

    return mapped


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong between here and the workers, as one line."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    kept = "what was finished is kept; run the same command again to go on"
    try:
        yield
    except KilledWorker as error:
        raise OSError(
            f"{error.allowed_failures + 1} workers died over one chunk; give them more memory; {kept}"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise OSError(f"the scheduler of the workers is gone; {kept}") from error
    except ModuleNotFoundError as error:  # raised in a worker
        raise ValueError(f"a worker cannot import {error.name}; start it where this is installed") from error


def _require_alike(theirs: dict, ours: dict) -> None:
    """Raise ValueError if a worker has other versions or another kind of device."""
    for name, value in ours.items():
        if theirs[name] != value:
            raise ValueError(
                f"a worker has {name} {theirs[name]}, not {value}; results would depend on who computes"
            )


# What workers do.

_TURN = threading.Lock()
"""A process computes one chunk at a time, whatever the number of its worker's threads."""


@functools.cache
def _set_up(use_cache: bool) -> dict:
    """Set JAX up, once in a worker's life, with a CPU device for each of its threads; what it then is."""
    import distributed

    parallel.use_all_cores(distributed.get_worker().state.nthreads)
    if use_cache:
        parallel.keep_compiled()
    kind = jax.devices()[0].device_kind
    return {"versions": versions(), "device": kind, "backend": jax.default_backend()}


def _size(use_cache: bool, runs: int) -> int:
    """How many of ``runs`` runs this worker does at a time."""
    _set_up(use_cache)
    return parallel.default_width(runs) * jax.device_count()


def _chunk(use_cache: bool, stages: Callable, jobs: list) -> tuple[dict, list]:
    """(what this worker is, the results of the jobs)."""
    with _TURN:
        known = _set_up(use_cache)
        return known, [result for _, results in parallel.here(stages)(jobs) for result in results]


# Where workers come from.


@contextlib.contextmanager
def _local(workers: int | None) -> Iterator:
    """Processes of this machine. They end with this process, however it ends: a pipe to it closes."""
    import dask
    import distributed

    _track_in_silence()
    gpus = _gpus()
    count = workers or len(gpus) or os.cpu_count() or 1
    if gpus and count > len(gpus):
        raise ValueError(f"--workers is {count}, more than the GPUs of this machine, {len(gpus)}")
    with tempfile.TemporaryDirectory() as scratch, interrupt.removing(scratch):
        private = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": False}
        common = private | {
            "silence_logs": logging.CRITICAL,
            "nthreads": 1,
            "memory_limit": 0,
            "local_directory": scratch,
        }
        spec = {
            index: {
                "cls": distributed.Nanny,
                "options": common
                | {"env": {"TQDM_DISABLE": "1"} | ({"CUDA_VISIBLE_DEVICES": gpus[index]} if gpus else {})},
            }
            for index in range(count)
        }
        scheduler = {"cls": distributed.Scheduler, "options": private}
        # Nannies start dead workers anew. Dask would close for good a nanny whose worker is away this long
        # after it died, as one is that has just died again.
        patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "10000 d"})
        with patient, distributed.SpecCluster(spec, scheduler, silence_logs=logging.CRITICAL) as cluster:
            yield cluster


def _track_in_silence() -> None:
    """Start the process that removes what other processes left behind; after Ctrl-C it would tell of that."""
    from multiprocessing import resource_tracker

    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"{given},ignore:resource_tracker" if given else "ignore:resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if given:
            os.environ["PYTHONWARNINGS"] = given


def _gpus() -> list[str]:
    """Names that CUDA_VISIBLE_DEVICES has for the GPUs of this machine; a process of its own asks JAX."""
    ask = "import jax; print(jax.local_device_count() * (jax.default_backend() == 'gpu'))"
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True)
    count = int(found.stdout or 0)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(index) for index in range(count)]


@contextlib.contextmanager
def _slurm(workers: int | None) -> Iterator:
    """Jobs of one worker each, as Dask's own configuration (jobqueue.yaml) says; cancelled in the end."""
    import dask

    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    if workers is None:
        raise ValueError("--cluster slurm needs --workers: how many jobs to ask for, each one worker")
    if not shutil.which("sbatch"):
        raise OSError("--cluster slurm: there is no sbatch on this machine; run where Slurm is installed")
    logs = parallel.cache_folder() / "slurm"
    default = {"cores": 1, "processes": 1, "memory": "4GB", "log-directory": str(logs)}
    site = dask.config.get("jobqueue.slurm")
    given = {name: site[name] or value for name, value in default.items()}
    cluster = SLURMCluster(
        **{name.replace("-", "_"): value for name, value in given.items()},
        scheduler_options={"dashboard_address": ":0"} | site["scheduler-options"],
        python=sys.executable,
        silence_logs=logging.CRITICAL,
    )

    def cancel() -> None:
        ids = [job.job_id for job in cluster.workers.values() if getattr(job, "job_id", None)]
        subprocess.Popen(["scancel", *ids], start_new_session=True)

    with cluster, interrupt.ending(cancel):
        # Dask asks in the background and would not tell of a refusal.
        asked = ["sbatch", "--test-only"]
        tried = subprocess.run(asked, input=cluster.job_script(), capture_output=True, text=True)
        if tried.returncode:
            raise OSError(f"Slurm refuses the jobs: {tried.stderr.strip()}; see Dask's jobqueue.yaml")
        cluster.adapt(minimum=workers, maximum=workers)  # a job whose time is up is followed by another
        print(f"waiting for Slurm; logs of its jobs are in {given['log-directory']}", file=sys.stderr)
        yield cluster
