"""A merge beside the exact one: how far off each tensor is, by what factor, and what is not there at all."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.merge.check.fold import tensors
from sim.merge.check.parts import Parts, read_parts
from sim.merge.entry import merge_folders
from sim.merge.peft.config import CONFIG
from sim.merge.peft.hub import local_base
from sim.merge.peft.rounding import MOST, round_factors, share
from theory.lowrank import LowRank, cast, inner

SLACK = 1e-4
"""Share of a change up to which a difference is that of the order in which numbers were added."""

SHOWN = 8
"""Rows of the table."""


@dataclass(frozen=True)
class Row:
    """One tensor of a merge beside the exact one.

    change = exact - W, W that of the base (0 for an adapter). error: |merged - exact| / |change|. factor: the
    multiple of its change that is there, <merged - W, change> / |change|^2. rounding: what writing the exact
    one in the file's type loses of the change. NaN and infinity where nothing should change.
    """

    name: str
    part: str
    error: float
    factor: float
    rounding: float
    rank: int = 0

    @property
    def exact(self) -> bool:
        """Whether rounding explains the difference."""
        return self.error <= 2 * self.rounding + SLACK


@dataclass(frozen=True)
class Check:
    """All tensors of a merge beside those of the exact one, in words.

    candidate, reference: what they are. dtype: of the candidate's files. whole: whether it is a whole model.
    """

    candidate: str
    reference: str
    rows: tuple[Row, ...]
    dtype: str
    whole: bool

    @property
    def verdict(self) -> list[str]:
        """Exact or not, and what differs, each kind in a line."""
        bad = [row for row in self.rows if not row.exact]
        changes = [row for row in self.rows if row.part != "base"]
        worst = max(changes, key=lambda row: row.rounding)
        if bad:
            causes: dict[str, list[Row]] = {}
            for row in bad:
                causes.setdefault(f"{row.part}: {_cause(row)}", []).append(row)
            lines = [
                f"Not exact: {len(bad)} of {len(self.rows)} tensors of {self.candidate} are not those of "
                f"{self.reference}."
            ]
            lines += [f"{cause} ({_examples(rows)})" for cause, rows in causes.items()]
            others = [row.exact for row in self.rows if row.part == "base"]
            if others and sum(others) < len(others) / 2:
                lines.append(
                    "Most tensors that the adapter leaves alone differ: is --base the base of this merge?"
                )
        else:
            rounded = f", to the rounding of {self.dtype}" if worst.rounding > SLACK else ""
            lines = [f"Exact: {self.candidate} is {self.reference}{rounded}."]
        if worst.rounding > MOST:
            middle = float(np.median([row.rounding for row in changes]))
            remedy = "fold in float32, or leave the adapter unfolded" if self.whole else "--dtype float32"
            lines.append(
                f"Rounding to {self.dtype} by itself loses {share(middle)} of a tensor's change (median), at "
                f"most {share(worst.rounding)} ({worst.name}): answers can change. Remedy: {remedy}."
            )
        return lines

    def table(self) -> pd.DataFrame:
        """The tensors that are furthest off."""
        rows = sorted(self.rows, key=lambda row: -row.error)[:SHOWN]
        return (
            pd.DataFrame([dataclasses.asdict(row) for row in rows])
            .drop(columns="rank")
            .set_index("name")
            .rename_axis(None)
        )

    def __str__(self) -> str:
        if all(row.error <= SLACK for row in self.rows):
            return "\n".join(self.verdict)
        head = f"the {min(SHOWN, len(self.rows))} of {len(self.rows)} tensors that are furthest off"
        table = self.table().to_string(float_format="{:.3g}".format, na_rep="-")
        return "\n".join([*self.verdict, "", head, table])


def check_merge(
    *adapters: str | Path,
    candidate: str | Path,
    base: str | Path | None = None,
    method: str = "",
    weights: Sequence[float] = (),
    rename: Mapping[str, str] | None = None,
    **options: Any,
) -> Check:
    """Whether ``candidate`` is the exact merge of these adapters.

    candidate: an adapter, or the folder of a whole model, into which the merge was folded: then ``base`` is
    needed. One adapter without method and weight is itself, with all its parts (DoRA, biases, whole tensors);
    several, or one with a weight, are merged by the method, ``sum`` by default, as ``merge_folders`` does.
    Raises: ValueError, one line, for folders that cannot be read or do not fit together.
    """
    path, paths = Path(candidate), [Path(adapter) for adapter in adapters]
    whole = (path / "config.json").is_file() and not (path / CONFIG).is_file()
    if len(paths) == 1 and not (method or weights or rename):
        exact, reference = read_parts(paths[0]), str(paths[0])
    else:
        method = method or "sum"
        result = merge_folders(*paths, method=method, weights=weights, rename=rename, **options)
        exact = Parts(result.updates, transposed=bool(result.sources[0].config.get("fan_in_fan_out")))
        scales = f" at {', '.join(f'{weight:g}' for weight in weights)}" if weights else ""
        reference = f"the {method} of {', '.join(map(str, paths))}{scales}"
    if not whole:
        other = read_parts(path)
        return Check(str(path), reference, tuple(_adapter_rows(exact, other)), other.dtype, whole)
    if base is None:
        raise ValueError(f"{path} is a whole model: give its base as well, with --base")
    rows, types = [], set()
    for name, part, start, one, other in tensors(exact, local_base(base), path):
        if other.shape != one.shape:
            raise ValueError(f"{path}: {name} is {other.shape}, not {one.shape}: another model")
        rows.append(_row(name, part, start, one, other))
        types.add(other.dtype.name)
    kind = "bfloat16" if "bfloat16" in types else min(types, key=len)
    return Check(str(path), f"{reference} folded into {base}", tuple(rows), kind, whole)


def _row(name: str, part: str, start: np.ndarray, exact: np.ndarray, merged: np.ndarray) -> Row:
    start, wide = start.astype(np.float64), exact.astype(np.float64)
    change, off = wide - start, merged.astype(np.float64) - wide
    rounded = wide.astype(merged.dtype).astype(np.float64) - wide
    size = float(np.linalg.norm(change))
    factor = 1 + float(np.sum(off * change)) / size**2 if size else np.nan
    scale = size or float(np.linalg.norm(wide)) or 1.0
    return Row(name, part, float(np.linalg.norm(off)) / scale, factor, float(np.linalg.norm(rounded)) / scale)


def _adapter_rows(exact: Parts, candidate: Parts) -> Iterator[Row]:
    for name in sorted(exact.updates.keys() | candidate.updates.keys()):
        yield _update_row(name, exact.updates.get(name), candidate.updates.get(name), candidate.dtype)
    for part, one, other in (
        ("DoRA magnitude", exact.magnitudes, candidate.magnitudes),
        ("bias", exact.shifts, candidate.shifts),
        ("whole tensor", exact.wholes, candidate.wholes),
    ):
        for name in sorted(one.keys() | other.keys()):
            pattern = one.get(name, other.get(name))
            left, right = (side.get(name, np.zeros_like(pattern)) for side in (one, other))
            yield _row(name, part, 0 * pattern, left, right)


def _update_row(name: str, exact: LowRank | None, candidate: LowRank | None, dtype: str) -> Row:
    """``Row`` of two updates in factors, at least one of which is there: nothing is formed densely."""
    one, other = (None if side is None else cast(side, np.float64) for side in (exact, candidate))
    if one is None or not (square := float(inner(one, one))):
        return Row(name, "update", np.inf if other is not None and inner(other, other) else 0.0, np.nan, 0.0)
    if other is None:
        return Row(name, "update", 1.0, 0.0, 0.0, exact.a.shape[0])
    product, own = float(inner(one, other)), float(inner(other, other))
    error = np.sqrt(max(own + square - 2 * product, 0.0) / square)
    rounding = round_factors(exact, dtype)[2]
    return Row(name, "update", float(error), product / square, rounding, other.a.shape[0])


def _cause(row: Row) -> str:
    """What is wrong with a tensor, in words that are the same for all of its kind."""
    if row.part == "base":
        return "changed, though the adapter leaves it alone"
    if np.isnan(row.factor):
        return "changed, and it should not be"
    rest = np.sqrt(max(row.error**2 - (1 - row.factor) ** 2, 0.0))
    if rest > max(0.02 * abs(row.factor), 2 * row.rounding + SLACK):
        return "another one"
    if abs(row.factor) < 0.02:
        return "dropped"
    text = f"{row.factor:.3g} times what it should be"
    if row.rank > 1 and np.isclose(abs(row.factor), np.sqrt(row.rank), rtol=1e-3):
        text += f", the square root of the rank {row.rank}: use_rslora says alpha / sqrt(r), not alpha / r"
    return text


def _examples(rows: Sequence[Row]) -> str:
    """The first name, how many more, and the largest error."""
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    worst = max(row.error for row in rows)
    return f"{rows[0].name}{more}" + (f"; off by up to {worst:.0%} of the change" if worst < np.inf else "")
