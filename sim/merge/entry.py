"""The merge of folders, as a result that prints, draws and writes itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sim.lab import style
from sim.lab.report import Result
from sim.merge.adapters import merge_adapters, truncation_loss
from sim.merge.aligned import aligned
from sim.merge.card import card
from sim.merge.layouts import disjoint_note, disjoint_pairs, read_adapters, refuse_repeats
from sim.merge.peft.files import Adapter
from sim.merge.peft.rounding import Rounding, share
from sim.merge.peft.write import new_folder, write_files
from sim.merge.recipe import RECIPE, Recipe, source_files
from sim.merge.registry import METHODS
from theory.lowrank import LowRank, cast, inner, norm


@dataclass(frozen=True, repr=False)
class Merged(Result):
    """K adapters merged into one update a module.

    lost: the share of the squared norm that the rank cut off; None where it is not known. notes: what was
    read otherwise than it stands, filled in, or does not fit together.
    """

    recipe: Recipe
    sources: tuple[Adapter, ...]
    updates: Mapping[str, LowRank]
    lost: float | None
    notes: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The largest rank of a module."""
        return max(update.a.shape[0] for update in self.updates.values())

    @property
    def verdict(self) -> list[str]:
        """What was merged by what, and the notes."""
        size = f"{len(self.updates)} modules, rank {self.rank}{cut_off(self.lost)}"
        return [
            f"{self.recipe.method} of {len(self.sources)} adapters: {size}",
            *(f"note: {note}" for note in self.notes),
        ]

    def table(self) -> pd.DataFrame:
        """|Delta W|_F over all modules and the cosine with the merge, of each adapter and of the merge."""
        series, rows = self._series(), {}
        for label, modules in series.items():
            shared = sum(inner(modules[name], update) for name, update in series["merge"].items())
            rows[label] = {"norm": _size(modules), "cosine": float(shared) / (_size(modules) or 1.0)}
        table = pd.DataFrame.from_dict(rows, orient="index")
        table["cosine"] /= _size(series["merge"]) or 1.0
        return table

    def figure(self) -> Figure:
        """|Delta W|_F of each adapter and of the merge, module by module."""
        series = self._series()
        return _draw({n: [float(norm(each[m])) for m in series["merge"]] for n, each in series.items()})

    def facts(self, rounding: Rounding) -> dict[str, Any]:
        """The table of the model card of a merge written with this loss by rounding."""
        options = [f"{key}={value}" for key, value in self.recipe.options.items()]
        lost = "unknown" if self.lost is None else f"{100 * self.lost:.3g}% of the squared norm"
        return {
            "weights": ", ".join(map(str, self.recipe.weights)) or "the method's own",
            "options": ", ".join(options) or "the method's own",
            "modules": len(self.updates),
            "rank": self.rank,
            "cut off by the rank": lost,
            "dtype": rounding.dtype,
            "lost by rounding": f"at most {share(rounding.loss)} of an update, that of {rounding.module}",
        }

    def write_into(self, folder: Path, command: str) -> Rounding:
        """PEFT files, model card and recipe, in a folder that exists; the largest loss by rounding."""
        recipe = self.recipe
        rounding = write_files(folder, self.updates, self.sources, recipe.dtype or "", recipe.allow_rounding)
        text = card(command, METHODS[recipe.method], self.sources, self.facts(rounding), self.notes)
        (folder / "README.md").write_text(text)
        sources = source_files([source.path for source in self.sources])
        (folder / RECIPE).write_text(dataclasses.replace(recipe, files=sources).text())
        return rounding

    def write(self, out: str | Path, dtype: str | None = None, allow_rounding: bool = False) -> Rounding:
        """Write the merge as a PEFT adapter, whole or not at all, in the sources' type or ``dtype``.

        Returns: the largest loss by rounding, which the model card says as well.
        Raises: ValueError if ``out`` holds something already or cannot be created, a number is too large for
            the type, or rounding loses more than 1% of a module's update unless ``allow_rounding``.
        """
        recipe = dataclasses.replace(self.recipe, dtype=dtype, allow_rounding=allow_rounding)
        words = [repr(str(source.path)) for source in self.sources]
        for name in ("method", "weights", "seed", "options", "rename"):
            words += [f"{name}={value!r}"] if (value := getattr(recipe, name)) else []
        call = f"sim.merge.merge_folders({', '.join(words)})"
        with new_folder(Path(out)) as folder:
            return dataclasses.replace(self, recipe=recipe).write_into(folder, call)

    def _series(self) -> dict[str, dict[str, LowRank]]:
        """The updates of each adapter and of the merge, in float64."""
        each = {f"adapter {i + 1}": adapter.modules for i, adapter in enumerate(aligned(self.sources))}
        each["merge"] = self.updates
        return {n: {m: cast(u, np.float64) for m, u in modules.items()} for n, modules in each.items()}


def merge_folders(
    *adapters: str | Path,
    method: str,
    weights: Sequence[float] = (),
    rank: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    rename: Mapping[str, str] | None = None,
) -> Merged:
    """Merge PEFT folders into one adapter, without data and without the base; ``write`` writes it.

    Args:
        method: a key of ``METHODS``. weights: one number an adapter, the method's own by default.
        rank: truncate every module to it. seed: of the methods that draw. options: the method's own.
        rename: prefixes of module names to replace, {old: new}, for adapters in two layouts of one model.

    Raises:
        ValueError: one line, for folders that cannot be read or do not fit together, and as
            ``merge_adapters`` does.
    """
    if not adapters:
        raise ValueError("give at least one adapter folder to merge")
    check_weights(weights, len(adapters))
    refuse_repeats(adapters)
    names, options, rename = tuple(map(str, adapters)), dict(options or {}), dict(rename or {})
    recipe = Recipe(names, method, tuple(weights), rank, seed, options, rename=rename)
    sources = read_adapters(adapters, rename)
    return merged(sources, recipe, truncation_loss(sources, method, weights, rank))


def merged(sources: Sequence[Adapter], recipe: Recipe, loss: float | None) -> Merged:
    """The merge of adapters that are read, with the ``truncation_loss`` that was foreseen."""
    updates, lost = merge_adapters(
        sources, recipe.method, recipe.weights, rank=recipe.rank, seed=recipe.seed, options=recipe.options
    )
    lost = loss if np.isnan(lost) else lost
    return Merged(recipe, tuple(sources), updates, lost, tuple(notes_on(sources)))


def check_weights(weights: Sequence[float], count: int) -> None:
    """Raise ValueError unless the weights, if any are given, are ``count`` finite numbers."""
    if weights and len(weights) != count:
        raise ValueError(f"--weight: {len(weights)} numbers for {count} adapters")
    if not np.isfinite(weights).all():
        raise ValueError("--weight must be finite numbers")


def notes_on(adapters: Sequence[Adapter]) -> list[str]:
    """What was read otherwise than it stands, filled in, or does not fit together."""
    notes = [adapter.note for adapter in aligned(adapters) if adapter.note]
    bases = {str(adapter.config.get("base_model_name_or_path")) for adapter in adapters}
    if pairs := disjoint_pairs(adapters):
        notes.insert(0, disjoint_note(pairs))
    if len(bases) > 1:
        notes.insert(0, f"the adapters name different base models: {', '.join(sorted(bases))}")
    return notes


def cut_off(lost: float | None) -> str:
    """What the rank cut off, as the end of a sentence; empty where it is not known."""
    return "" if lost is None else f"; the rank cut off {100 * lost:.3g}% of the squared norm"


def _size(modules: Mapping[str, LowRank]) -> float:
    """|Delta W|_F over all modules."""
    return float(np.sqrt(sum(float(norm(update)) ** 2 for update in modules.values())))


@style.styled
def _draw(series: Mapping[str, Sequence[float]]) -> Figure:
    picture, axes = style.figure(style.PAGE)
    for number, (label, norms) in enumerate(series.items()):
        colour, marker = (table[number % 7] for table in (style.COLOURS, style.MARKERS))
        axes.plot(norms, marker=marker, ls=":", lw=0.4, color=colour, label=label)
    axes.set(xlabel="module, in the order of the files", ylabel="norm $|\\Delta W|_F$")
    axes.set_ylim(bottom=0)
    axes.legend(ncols=5)
    return picture
