"""Workers of a scheduler in this process: each job once, at its place; what goes wrong is one line."""

import os
import sys

import distributed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributed.scheduler import KilledWorker

from sim.lab import cluster, parallel
from sim.lab.store.identity import versions


def squares(x):
    return x**2


def stages(job):
    return {"square": parallel.program(squares)(job["x"])}


def broken(job):
    raise ZeroDivisionError("a fault of ours")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as workers,
        distributed.Client(workers, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def context(client):
    return cluster.context_of(client, False, (), 30)


@pytest.fixture
def sent(client, monkeypatch):
    """The words of every task that is sent to a worker."""
    tasks, original = [], client.submit
    monkeypatch.setattr(
        client, "submit", lambda *given, **named: tasks.append(given) or original(*given, **named)
    )
    return tasks


def jobs(count):
    return [{"x": np.float64(index)} for index in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 13])
def test_every_job_is_done_once_and_at_its_place(context, count):
    chunks = list(context.map_runs(stages, jobs(count)))
    assert sorted(position for positions, _ in chunks for position in positions) == list(range(count))
    assert all(len(positions) <= jax.device_count() for positions, _ in chunks)
    for positions, results in chunks:
        assert [result["square"] for result in results] == [position**2 for position in positions]


def test_no_more_is_sent_than_workers_can_do(context, sent):
    """Stopping early takes back what was sent and not begun."""
    work = context.map_runs(stages, jobs(40))
    next(work)
    chunks = [given for given in sent if given[0] is cluster.run_chunk]
    assert len(chunks) <= cluster.AHEAD * 2 + 1
    work.close()
    assert len(list(context.map_runs(stages, jobs(3)))) == 2  # nothing of before comes in between


def test_arrays_of_jax_are_sent_as_numpy(context, sent):
    """To unpickle one would start JAX in a worker before the worker takes its GPU, or a device a thread."""
    results = list(context.map_runs(stages, [{"x": jnp.float64(3)} for _ in range(3)]))
    assert [result["square"] for _, chunk in results for result in chunk] == [9, 9, 9]
    leaves = [leaf for *_, chunk in sent for leaf in jax.tree.leaves(chunk)]
    assert leaves and {type(leaf) for leaf in leaves} == {np.ndarray}


def test_devices_are_those_of_the_workers(context):
    assert context.devices == (2, jax.devices()[0].device_kind)  # a thread of each worker


def test_without_workers_the_work_is_done_here():
    context = parallel.THIS_PROCESS
    assert context.devices == (jax.device_count(), jax.devices()[0].device_kind)
    assert [positions for positions, _ in context.map_runs(stages, jobs(3))] == [[0, 1], [2]]


def test_a_fault_of_ours_keeps_its_traceback(context):
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        list(context.map_runs(broken, jobs(1)))


def test_other_versions_and_devices_are_refused(context, monkeypatch):
    cluster.require_same_workers(context.worker, {"versions": versions()})
    cluster.set_up.cache_clear()
    monkeypatch.setattr(cluster, "versions", lambda: {"jax": "0.1"})
    with pytest.raises(ValueError, match=r"a worker has versions \{'jax': '0\.1'\}, not \{'jax': "):
        list(context.map_runs(stages, jobs(1)))
    cluster.set_up.cache_clear()


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (KilledWorker("chunk", None, 10), OSError, "11 workers died over one chunk; give them more"),
        (
            distributed.client.FutureCancelledError("chunk", "lost"),
            OSError,
            "the scheduler of the workers is gone",
        ),
        (ModuleNotFoundError("no", name="sim"), ValueError, "a worker cannot import sim; start it where"),
    ],
)
def test_what_goes_wrong_with_workers_is_one_line(error, kind, line):
    with pytest.raises(kind, match=line), cluster.explain_worker_errors():
        raise error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "nowhere"], "--cluster is 'nowhere'; give local, slurm or a scheduler's address"),
        (["--cluster", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9; start one"),
        (
            ["--cluster", "tcp://127.0.0.1:9", "--workers", 2],
            "--workers belongs to --cluster local and slurm",
        ),
        (["--cluster", "slurm"], "--cluster slurm needs --workers"),
        (["--cluster", "slurm", "--workers", 1], "there is no sbatch on this machine"),
        (["--cluster", "local", "--workers", 0], "--workers is 0; give at least 1"),
        (["--workers", 2], "--workers is 2; give at least 1, and --cluster"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(command, monkeypatch, tmp_path, arguments, message):
    if "slurm" in arguments:
        pytest.importorskip("dask_jobqueue", reason="an extra, cluster")
    monkeypatch.setattr(cluster, "CONNECT", 1)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    code, out, err = command("sim.sweep", "rank", "--out", tmp_path / "run", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "run").exists()


def test_without_dask_the_line_names_the_remedy(command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, out, err = command("sim.sweep", "rank", "--cluster", "local", "--out", tmp_path / "run")
    line = "--cluster needs Dask, which is not installed; install it with: pip install -e '.[cluster]'"
    assert (code, out, err) == (2, "", f"error: {line}\n")


def test_a_scheduler_without_workers_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty,
        distributed.Client(empty, set_as_default=False) as client,
        pytest.raises(OSError, match=r"no worker of the scheduler at .* answers; start some: dask worker "),
    ):
        cluster.context_of(client, False, (), cluster.PATIENCE)


def gpu_of_worker(gpus):
    cluster.set_up(False, gpus)
    return os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TQDM_DISABLE"]


@pytest.mark.slow
def test_every_worker_has_a_gpu_of_its_own():
    with cluster.start_local(None, 2) as workers, distributed.Client(workers, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        tasks = [client.submit(gpu_of_worker, ("5", "7"), workers=[name], pure=False) for name in (0, 1)]
        assert client.gather(tasks) == [("5", "1"), ("7", "1")]
    with pytest.raises(ValueError, match="--workers is 3, more than the GPUs of this machine, 2"):
        cluster.start_local(3, 2).__enter__()


def test_gpus_have_the_names_they_were_given(monkeypatch):
    """Of the GPUs that JAX finds; none here."""
    assert cluster.find_gpus() == ()
    monkeypatch.setattr(
        cluster.subprocess, "run", lambda *words, **options: type("Done", (), {"stdout": "2\n"})
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cluster.find_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert cluster.find_gpus() == ("5", "7")
