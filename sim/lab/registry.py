"""Named records that find each other: worlds, merges, routers, checks, figures, experiments, benchmarks.

A room makes one ``Registry`` and, at the end of its ``__init__``, lets it ``discover`` its modules. A new
record is then a new file in that room; help texts, defaults and tests read the registry.
"""

import difflib
import importlib
import pkgutil
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Generic, TypeVar

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


class Registry(Generic[Record]):
    """An ordered mapping from name to record. ``what`` names a record in error lines ("merge method")."""

    def __init__(self, what: str):
        self.what = what
        self._records: dict[str, Record] = {}

    def add(self, name: str, record: Record) -> Record:
        """Register a record and return it. Raises ValueError if the name is taken."""
        if name in self._records:
            raise ValueError(f"{self.what} {name!r} is registered twice")
        self._records[name] = record
        return record

    def __getitem__(self, name: str) -> Record:
        """The record of a name. Raises ValueError, one line with the names that are like it (``unknown``)."""
        if name not in self._records:
            raise unknown(self.what, name, self._records)
        return self._records[name]

    def discover(self, package: str) -> None:
        """Import the modules of a package, so that each can register what it holds; not its command, nor what
        a leading underscore says to import where it is needed (and an extra may be missing)."""
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{package}.{module.name}")

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def keys(self) -> KeysView[str]:
        """Names in the order of registration."""
        return self._records.keys()

    def values(self) -> ValuesView[Record]:
        """Records in the order of registration."""
        return self._records.values()

    def items(self) -> ItemsView[str, Record]:
        """(name, record) pairs in the order of registration."""
        return self._records.items()
