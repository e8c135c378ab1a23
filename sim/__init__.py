"""Experiments: the empirical twins of the closed forms in ``theory``.

``from sim import diagnose, merge, predict`` gives the three commands on PEFT folders as Python: packages that
can be called (``sim.lab.entry.called``), imported when they are first asked for.
"""

import importlib
from types import ModuleType

from sim.lab.entry.interrupt import watch_command

watch_command()  # before the imports that take time

import theory as _theory  # noqa: E402, F401  (turns on float64 before any array is made)

ENTRIES = ("diagnose", "merge", "predict")


def __getattr__(name: str) -> ModuleType:
    """The packages of ``ENTRIES``, so that ``import sim; sim.diagnose(...)`` will do."""
    if name not in ENTRIES:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return importlib.import_module(f"sim.{name}")
