"""The diagnosis of folders, as a result that prints and draws itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sim.diagnose.draw import draw
from sim.diagnose.page import as_text, write
from sim.diagnose.report import diagnose
from sim.diagnose.tables import kind_table, module_table
from sim.diagnose.verdict import verdict
from sim.lab.report import Result
from sim.merge.layouts import read_adapters, refuse_repeats
from sim.merge.peft.contents import read_tensors
from sim.merge.peft.hub import local_base


@dataclass(frozen=True, repr=False)
class Diagnosis(Result):
    """What can be said of merging adapters from their files alone, as plain data in ``report``."""

    report: Mapping[str, Any]

    @property
    def verdict(self) -> list[str]:
        """What to do in two sentences, the next command, and doubts if there are any."""
        return [*verdict(self.report), *self.report["warnings"]]

    def table(self) -> pd.DataFrame:
        """One row a matrix kind."""
        return kind_table(self.modules())

    def modules(self) -> pd.DataFrame:
        """One row a module."""
        return module_table(self.report)

    def figure(self) -> Figure:
        """Norms, overlap and smallest lambda over the modules or layers."""
        return draw(self.report)

    def write(self, out: str | Path) -> None:
        """The files that the command writes."""
        write(self.report, Path(out))

    def __str__(self) -> str:
        return as_text(self.report)


def diagnose_folders(
    *adapters: str | Path,
    features: str | Path | None = None,
    rename: Mapping[str, str] | None = None,
    base: str | Path | None = None,
) -> Diagnosis:
    """Will merging these PEFT adapters work? Reads their folders, and a file of features if there is one.

    features: as ``python -m sim.record`` writes it, or by ``report.diagnose``'s names. rename: prefixes of
    module names to replace, {old: new}, for adapters in two layouts of one model.
    base: the folder of the base model or its id of the hub, for what folding into it loses.
    Raises: ValueError, one line, for anything that cannot be read or does not fit together.
    """
    refuse_repeats(adapters)
    read = read_adapters(adapters, rename)
    tensors = read_tensors(Path(features)) if features else None
    report = diagnose(read, tensors, local_base(base) if base else None)
    return Diagnosis({**report, "base": str(base)} if base else report)
