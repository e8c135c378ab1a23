"""Packages that can be called: ``sim.diagnose("A", "B")`` beside ``python -m sim.diagnose A B``.

A function ``diagnose`` in ``sim`` and the package ``sim.diagnose`` cannot share the name: Python binds a
package to its parent when it is first imported, so that ``from sim import diagnose`` would give one or the
other depending on what was imported before. So the name is the package, always, with its modules as
attributes, and the package can be called: a module may be given a class of its own (Python's data model,
"Customizing module attribute access").
"""

import functools
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def calls(function: Callable[..., Any]) -> None:
    """Let the package that ``function``'s file is in be called as it. For that package's ``__init__``.

    ``help`` and ``inspect.signature`` of the package say what the function takes.
    """
    package = sys.modules[function.__module__.rpartition(".")[0]]

    @functools.wraps(function)
    def call(self: ModuleType, *arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    package.__class__ = type("CallablePackage", (ModuleType,), {"__call__": call})
    package.__signature__ = inspect.signature(function)
