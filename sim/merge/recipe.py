"""A merge as YAML, written beside every merge: what ``python -m sim.merge --recipe FILE`` does again.

``files`` holds the hash of each source's files, so that a source that has changed is not merged for the one
that the recipe means.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sim.lab import files

RECIPE = "recipe.yaml"
"""The file beside a merge."""


@dataclass(frozen=True)
class Recipe:
    """Everything a merge depends on but the code. Paths are as they were given."""

    adapters: tuple[str, ...]
    method: str
    weights: tuple[float, ...] = ()
    rank: int | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    allow_rounding: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def text(self) -> str:
        """YAML, fields in the order above, those at their defaults left out."""
        empty = Recipe((), "")
        names = [each.name for each in dataclasses.fields(self)]
        given = {n: getattr(self, n) for n in names if getattr(self, n) != getattr(empty, n)}
        plain = {n: list(value) if isinstance(value, tuple) else value for n, value in given.items()}
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def source_files(paths: Sequence[Path]) -> dict[str, dict[str, str]]:
    """{path: {file: hash}} of adapters: folders, or single files."""
    return {str(path): files.digests(path.iterdir() if path.is_dir() else [path]) for path in paths}


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file. Raises ValueError, one line, for what is none, or sources that have changed."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    names = {each.name: each for each in dataclasses.fields(Recipe)}
    if not isinstance(content, dict) or not {"adapters", "method"} <= content.keys():
        raise ValueError(f"{path} is no recipe: it needs the fields adapters and method")
    if unknown := sorted(map(str, content.keys() - names.keys())):
        raise ValueError(f"{path} has fields no recipe has: {', '.join(unknown)}")
    for name in ("adapters", "weights"):
        if not isinstance(content.get(name, []), list):
            raise ValueError(f"{path}: {name} must be a list")
    for name in ("options", "rename", "files"):
        if not isinstance(content.get(name, {}), dict):
            raise ValueError(f"{path}: {name} must be a table")
    tuples = {name: tuple(content[name]) for name in ("adapters", "weights") if name in content}
    recipe = Recipe(**{**content, **tuples})
    for source, contents in recipe.files.items():
        if source_files([Path(source)])[source] != contents:
            raise ValueError(f"{source} is not what {path} was written for: its files have changed")
    return recipe
