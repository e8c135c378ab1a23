"""What the claims page is made of: cells of the committed runs, numbers with intervals, rules of verdicts."""

import itertools
import json

import pandas as pd

from sim.lab.figure import Source

NOT_MEASURED = "**not measured**"


class Runs:
    """Cells of the committed runs, by name."""

    def __init__(self, source: Source):
        self.source = source
        self._tables: dict[tuple[str, str], pd.DataFrame] = {}

    def table(self, experiment: str, table: str = "summary") -> pd.DataFrame:
        """A table of a run, read once."""
        key = experiment, table
        if key not in self._tables:
            self._tables[key] = self.source.summary(experiment, table)
        return self._tables[key]

    def has(self, experiment: str) -> bool:
        """Whether an experiment was run."""
        return (experiment, "summary") in self._tables or (
            self.source.runs / experiment / "summary.csv"
        ).exists()

    def profile(self, experiment: str) -> str:
        """The profile that an experiment was run with."""
        manifest = (self.source.runs / experiment / "manifest.json").read_text()
        return json.loads(manifest)["config"]["profile"]

    def cell(
        self, experiment: str, label: str, method: str, metric: str = "cot_answer", library: str = "parts"
    ):
        """One measurement: measured, low, high, seeds."""
        rows = self.table(experiment)
        chosen = rows["label"].eq(label) & rows["library"].eq(library) & rows["method"].eq(method)
        found = rows[chosen & rows["metric"].eq(metric)]
        if found.empty:
            raise ValueError(f"{experiment} has no {metric} of {library}/{method} at {label}: run it again")
        return found.iloc[0]


def number(cell) -> str:
    """ "0.766 [0.700, 0.821]"."""
    return f"{cell['measured']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def apart(*cells) -> bool:
    """Whether the intervals of the cells rise without overlap."""
    return all(low["high"] < high["low"] for low, high in itertools.pairwise(cells))


def holds(whole: bool, part: bool = False) -> str:
    """The verdict of a rule."""
    return "**holds**" if whole else "**holds in part**" if part else "**does not hold**"
