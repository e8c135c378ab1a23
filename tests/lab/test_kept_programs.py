"""Programs kept on disk: another process runs them untraced; another size, code or file is another."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

COMMAND = """
import json, sys
import numpy as np
import sim
from sim.lab import parallel

parallel.use_all_cores(2)
parallel.keep_compiled()
import module_of_a_user as module

size = int(sys.argv[1])
job = {"x": np.arange(4.0 * size * size).reshape(4, size, size) + np.eye(size), "n": np.arange(4)}
found = parallel.program(module.function, 3, "one")(job)
again = parallel.program(module.function, 3, "same")(job)  # JAX's own cache would have it
assert (again["n"] == found["n"]).all()
times = [parallel.over(lambda x, by=by: by * x, [np.float32(1)])[0].item() for by in (2, 3)]
assert times == [2, 3], times
print(json.dumps({"traced": module.TRACED, "q": np.abs(found["r"]).tolist(), "n": found["n"].tolist()}))
"""

MODULE = """
import jax.numpy as jnp
TRACED = []

def function(factor, name, job):
    TRACED.append(name)
    return {"r": jnp.linalg.qr(job["x"])[1], "n": factor * job["n"]}
"""


@pytest.fixture
def run(tmp_path):
    """The command in a process of its own, with its own cache and a user's module that can be rewritten."""
    (tmp_path / "module_of_a_user.py").write_text(MODULE)
    place = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]), "XDG_CACHE_HOME": str(tmp_path)}
    place |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def run(size=3):
        words = [sys.executable, "-c", COMMAND, str(size)]
        done = subprocess.run(words, env=os.environ | place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stdout

    run.place = tmp_path
    return run


def test_another_process_traces_nothing_and_finds_the_same(run):
    """Also a decomposition, whose library JAX looks up when it lowers one, and one made twice."""
    (first, _), (second, _) = run(), run()
    assert first["traced"] == ["one", "same"]
    assert second == {**first, "traced": []}
    x = np.arange(36.0).reshape(4, 3, 3) + np.eye(3)
    np.testing.assert_allclose(second["q"], np.abs(np.linalg.qr(x)[1]), atol=1e-12)
    assert second["n"] == [0, 3, 6, 9]


def test_another_size_is_another_program(run):
    run()
    found, _ = run(2)
    assert found["traced"] and np.shape(found["q"]) == (4, 2, 2)


def test_changed_code_is_another_program(run):
    run()
    (run.place / "module_of_a_user.py").write_text(MODULE.replace("factor * job", "factor + job"))
    assert run()[0]["n"] == [3, 4, 5, 6]


def test_a_damaged_program_is_compiled_anew(run):
    whole, _ = run()
    paths = list(run.place.rglob("*.program"))
    assert len(paths) == 2
    for path in paths:
        path.write_bytes(path.read_bytes()[:100])
    assert run()[0] == whole  # not to be read at all
    for path in paths:
        results, executable = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps((results, executable[:200])))
    found, said = run()
    assert found == whole and "ignoring a compiled program that does not load" in said
