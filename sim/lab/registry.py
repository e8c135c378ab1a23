"""Named records that find each other: worlds, merges, routers, checks, figures, experiments, benchmarks.

A room makes one ``Registry`` and, at the end of its ``__init__``, lets it ``discover`` its modules. A new
record is then a new file in that room; help texts, defaults and tests read the registry.
"""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

Record = TypeVar("Record")

FEW = 8
"""Names that an error line may list."""


def unknown(what: str, name: str, names: Iterable[str]) -> ValueError:
    """One line on a name that is none of ``names``: those that are like it, else all if they are few."""
    names = list(names)
    alike = difflib.get_close_matches(name, names, n=3)
    if alike:
        return ValueError(f"unknown {what} {name!r}; did you mean {' or '.join(alike)}?")
    listed = ", ".join(names) or "none" if len(names) <= FEW else f"{len(names)}, which --help lists"
    return ValueError(f"unknown {what} {name!r}; known: {listed}")


def summary_of(record: object) -> str:
    """The first line of its docstring: what help texts say of a record."""
    return (inspect.getdoc(record) or "").split("\n")[0]


class Registry(dict[str, Record]):
    """Records by name, in the order of registration. ``what`` names one in error lines ("merge method")."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what

    def add(self, name: str, record: Record) -> Record:
        """Register a record and return it. Raises ValueError if the name is taken."""
        if name in self:
            raise ValueError(f"{self.what} {name!r} is registered twice")
        self[name] = record
        return record

    def __missing__(self, name: str) -> Record:
        """Raise ValueError, one line with the names that are like this one (``unknown``)."""
        raise unknown(self.what, name, self)

    def discover(self, package: str) -> None:
        """Import the modules of a package, so that each can register what it holds; not its command, nor what
        a leading underscore says to import where it is needed (and an extra may be missing)."""
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{package}.{module.name}")
