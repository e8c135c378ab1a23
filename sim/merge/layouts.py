"""One model in two layouts: modules whose names agree but for a wrapper's prefix, refused or renamed.

A model that is wrapped (a language model inside a vision model, a bare model inside one with a head) has the
same modules under longer names: ``model.layers.0.q`` and ``model.language_model.layers.0.q``. Adapters in the
two layouts share no name, and as they stand a merge would add nothing to anything.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sim.merge.peft.files import Adapter, read_adapter
from sim.merge.peft.keys import PREFIX


def read_adapters(paths: Sequence[str | Path], rename: Mapping[str, str] | None = None) -> list[Adapter]:
    """``read_adapter`` of each folder, the prefixes of module names replaced as ``rename`` says, {old: new}.

    Raises: ValueError as ``read_adapter`` and ``rename_modules`` do, and for a prefix that changes no name.
    """
    adapters = [read_adapter(path) for path in paths]
    for old, new in (rename or {}).items():
        if not any(_new_name(name, old, new) != name for each in adapters for name in each.modules):
            example = next(iter(adapters[0].modules))
            raise ValueError(f"--rename {old}={new} changes no module; they have names like {example}")
    return [rename_modules(adapter, rename or {}) for adapter in adapters]


def refuse_repeats(paths: Sequence[str | Path]) -> None:
    """Raise ValueError, a question, if two of the paths are one folder."""
    places: dict[Path, str | Path] = {}
    for path in paths:
        place = Path(path).resolve()
        if place in places:
            raise ValueError(f"{places[place]} and {path} are the same folder: which other one did you mean?")
        places[place] = path


def parse_renames(texts: Sequence[str]) -> dict[str, str]:
    """OLD=NEW texts as {old: new}. Raises ValueError."""
    for text in texts:
        if text.count("=") != 1:
            raise ValueError(
                f"--rename {text!r}: give OLD=NEW, two prefixes of module names; one may be empty"
            )
    return dict(text.split("=") for text in texts)


def rename_modules(adapter: Adapter, rename: Mapping[str, str]) -> Adapter:
    """The adapter under new names: the first prefix that fits a name is replaced, and ``note`` says so.

    A name that begins with the new prefix stays as it is where the new one is the longer: one pair does for
    adapters of both layouts. Raises: ValueError for two modules of one new name, and for fused experts.
    """
    names = {name: _rename(name, rename) for name in adapter.modules}
    if all(name == new for name, new in names.items()):
        return adapter
    if adapter.config.get("target_parameters"):
        raise ValueError(
            f"{adapter.path} adapts fused experts (target_parameters): --rename cannot name them"
        )
    new, count = Counter(names.values()).most_common(1)[0]
    if count > 1 or "" in names.values():
        result = f"two modules the name {new!r}" if count > 1 else "a module no name"
        raise ValueError(
            f"--rename gives {result} in {adapter.path}: give a prefix that one layout alone has"
        )
    pairs = ", ".join(f"{old!r} to {new!r}" for old, new in rename.items())
    note = "; ".join(
        filter(None, (adapter.note, f"{adapter.path}: prefixes of modules were renamed: {pairs}"))
    )
    modules = {new: adapter.modules[name] for name, new in names.items()}
    copies = {
        PREFIX + _rename(raw.removeprefix(PREFIX), rename) if raw.startswith(PREFIX) else raw: copy
        for raw, copy in adapter.copies.items()
    }
    return dataclasses.replace(adapter, modules=dict(sorted(modules.items())), copies=copies, note=note)


def two_layouts(first: Adapter, other: Adapter, library: Sequence[Adapter]) -> str:
    """What to do if modules of two adapters are the same but for a wrapper's prefix; empty if none are.

    Modules agree if their shapes do, their names do from the first numbered part on ("layers.0.q_proj"), and
    one's words before that hold the other's. Names that one adapter of the library has both are two modules.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    by_tail: dict[str, list[str]] = {}
    for name in sorted(other.modules.keys() - first.modules.keys()):
        by_tail.setdefault(_split(name)[1], []).append(name)
    for name in sorted(first.modules.keys() - other.modules.keys()):
        head, tail = _split(name)
        for match in by_tail.get(tail, ()):
            words = Counter(head), Counter(_split(match)[0])
            shapes = [(u.b.shape[0], u.a.shape[1]) for u in (first.modules[name], other.modules[match])]
            together = any({name, match} <= each.modules.keys() for each in library)
            if (words[0] <= words[1] or words[1] <= words[0]) and shapes[0] == shapes[1] and not together:
                pairs[".".join(head), ".".join(_split(match)[0])] += 1
    if not pairs:
        return ""
    prefixes = ", ".join(f"{one!r} and {another!r}" for one, another in pairs)
    back = " ".join(f"{another}={one}" for one, another in pairs)
    forth = " ".join(f"{one}={another}" for one, another in pairs)
    return (
        f"{sum(pairs.values())} of their modules agree but for the prefixes {prefixes}; give --rename {back} "
        f"or --rename {forth}, whichever names them as your base does"
    )


def disjoint_pairs(adapters: Sequence[Adapter]) -> list[tuple[int, int]]:
    """The pairs of adapters, counted from 0, that change no module in common."""
    supports = [
        {name for name, update in adapter.modules.items() if np.any(update.b) and np.any(update.a)}
        for adapter in adapters
    ]
    pairs = itertools.combinations(range(len(adapters)), 2)
    return [(i, j) for i, j in pairs if not supports[i] & supports[j]]


def disjoint_note(pairs: Sequence[tuple[int, int]]) -> str:
    """A sentence on ``disjoint_pairs``."""
    numbers = ", ".join(f"{i + 1} and {j + 1}" for i, j in pairs)
    return (
        f"adapters {numbers} change no module in common: nothing of theirs is added up, and what they do to "
        "each other through the layers between cannot be seen in their files"
    )


def _split(name: str) -> tuple[tuple[str, ...], str]:
    """A wrapper's words, and the rest: from the word before the first number on, or the last word alone."""
    words = name.split(".")
    numbers = [place for place, word in enumerate(words) if word.isdigit()]
    at = max(numbers[0] - 1, 0) if numbers else len(words) - 1
    return tuple(words[:at]), ".".join(words[at:])


def _begins(name: str, prefix: str) -> bool:
    return not prefix or f"{name}.".startswith(f"{prefix}.")


def _new_name(name: str, old: str, new: str) -> str:
    if not _begins(name, old) or (_begins(new, old) and _begins(name, new)):
        return name
    return ".".join(filter(None, (new, name[len(old) :].lstrip("."))))


def _rename(name: str, rename: Mapping[str, str]) -> str:
    return next((new for pair in rename.items() if (new := _new_name(name, *pair)) != name), name)
