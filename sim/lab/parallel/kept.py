"""Compiled programs on disk under everything they were made of: another process need not even trace them.

JAX keeps compiled programs too, but must trace a program to know which it is; that takes longer than most of
them run.
"""

import functools
import hashlib
import os
import pickle
import platform
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable

from sim.lab import files

_FOLDER: list[Path] = []


def keep(folder: Path) -> None:
    """Keep and look for programs in ``folder`` from now on."""
    _FOLDER[:] = [folder]


class Kept(NamedTuple):
    """A program as it lies on disk: shapes of its results, and what JAX made of the executable."""

    results: Any
    executable: bytes

    def load(self, arguments):
        """The program, for arguments of this tree structure; None if it does not load here."""
        try:
            _find_lapack()
            structures = jax.tree.structure((jax.tree.unflatten(arguments, range(arguments.num_leaves)), {}))
            results = jax.tree.structure(self.results)
            return serialize_executable.deserialize_and_load(self.executable, structures, results)
        except Exception as error:  # whatever a damaged file makes the loader say; it is compiled anew
            print(f"ignoring a compiled program that does not load: {error}")
            return None


def path_of(function: Callable, *made_of) -> Path | None:
    """Where a program of ``function`` made of this is kept: by how its values print, and ``_circumstances``.

    None if no program is kept, if its name does not say what the function does (one within another, or a
    lambda, may hold any value), or if anything it depends on prints as its address.
    """
    if not _FOLDER or not _is_named(function):
        return None
    named = function.__module__, function.__qualname__
    if " at 0x" in (told := repr((*named, *made_of, _circumstances()))):
        return None
    return _FOLDER[-1] / f"{hashlib.sha256(told.encode()).hexdigest()[:40]}.program"


def _is_named(function: Callable) -> bool:
    """Whether the name of the function, looked up in its module, leads back to it."""
    parts = getattr(function, "__qualname__", "<no name>").split(".")
    holder = sys.modules.get(getattr(function, "__module__", None))
    return functools.reduce(lambda found, part: getattr(found, part, None), parts, holder) is function


def read(path: Path | None) -> Kept | None:
    """What is kept there, if it can be read."""
    try:
        return Kept(*pickle.loads(path.read_bytes())) if path else None
    except (OSError, pickle.PickleError, EOFError, TypeError, AttributeError, ImportError):
        return None


def write(path: Path | None, compiled, results) -> None:
    """Keep a program atomically, if it is of a kind that can be: constants of its own cannot."""
    if path:
        try:
            executable, _, _ = serialize_executable.serialize(compiled)
            with files.replacing(path) as part:
                part.write_bytes(pickle.dumps((results, executable)))
        except (NotImplementedError, ValueError, pickle.PickleError, OSError):
            return


@functools.cache
def _find_lapack() -> None:
    """JAX looks LAPACK up when it lowers a decomposition; without it a program that is loaded would crash."""
    jax.jit(jnp.linalg.qr).lower(jax.ShapeDtypeStruct((2, 2), jnp.float32))


@functools.cache
def _circumstances() -> tuple:
    """What decides a program besides its function: code, versions, settings, and the machine."""
    versions = jax.__version__, jax.lib.__version__, sys.version
    settings = sorted(
        (name, value) for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))
    )
    device = jax.devices()[0]
    machine = device.client.platform_version, device.device_kind, jax.device_count(), _processor()
    return _code(), versions, settings, machine


def _code() -> str:
    """Digest of the source of every module in use that is not installed for good."""
    fixed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = tuple(str(Path(sys.modules[name].__file__).parent) for name in ("sim", "theory"))
    found = {Path(path) for folder in own for path in Path(folder).rglob("*.py")}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        # A module that gives a relative path is none that anybody writes.
        if path and path.endswith(".py") and os.path.isabs(path) and not path.startswith(fixed):
            found.add(Path(path))
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """The processor and what it can do, as far as the system says so: code made for another may not run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return repr(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        return platform.processor()
