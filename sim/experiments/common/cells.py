"""Measurements of the cells that claims compare, read from runs."""

import functools
import re
from collections.abc import Iterable
from functools import cached_property

import pandas as pd

from sim.experiments.common.claim import POOLED, Cell, Reading
from sim.lab import intervals
from sim.lab.figure import Source
from sim.lab.store import read_table, table_path

AMONG, GIVEN = "_among_answers", "_given_among_answers"
"""Suffixes of metrics: the share of questions with one of the possible answers; the share of those that are
right."""

STEP_BY_STEP = ("cot_answer", "cot_solved", "cot_runs")
"""Metrics of the questions that are answered at once, as "direct" is."""

NULLS = ("bound", "chance")
"""Predictors that are nulls: the highest score without one of the steps, or else a guess."""

KEYS = ["label", "library", "method", "metric"]


def readings(source: Source, cells: Iterable[Cell]) -> dict[Cell, Reading]:
    """The measurements of these cells in the runs of a source.

    Raises:
        ValueError: there is no such run, or it has no such cell.
    """
    return {cell: run_of(source, cell.experiment).reading(cell) for cell in cells}


def run_of(source: Source, experiment: str) -> "Run":
    """The run of an experiment in a source. Claims read the same runs: the last ones are kept while their
    tables stay as they are."""
    paths = [table_path(source.runs / experiment, name) for name in ("summary", "guesses", "counts")]
    versions = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists()]
    return _run(source, experiment, tuple(versions))


@functools.lru_cache(maxsize=32)
def _run(source: Source, experiment: str, versions: tuple) -> "Run":
    return Run(source, experiment)


class Run:
    """The tables of one run, each read once."""

    def __init__(self, source: Source, experiment: str):
        self.source, self.experiment = source, experiment

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row a cell; ``predicted`` is its null, by the first of ``NULLS`` that the run has."""
        rows = self.source.summary(self.experiment)
        place = rows["predictor"].map({name: place for place, name in enumerate(NULLS)})
        rows = rows.assign(place=place, predicted=rows["predicted"].where(place.notna()))
        return rows.sort_values("place", kind="stable").drop_duplicates(KEYS).set_index(KEYS)

    @cached_property
    def guesses(self) -> pd.DataFrame:
        """Answers among the possible ones, over all settings: counts by seed and model."""
        return self.source.summary(self.experiment, "guesses")

    @cached_property
    def by_seed(self) -> dict[tuple[str, ...], dict[int, float]]:
        """Shares seed by seed, for the cells whose counts the run recorded (``sim.sweep.run.counts``)."""
        path = table_path(self.source.runs / self.experiment, "counts")
        rows = read_table(path) if path.exists() else pd.DataFrame(columns=[*KEYS, "seed", "right", "trials"])
        shares = (rows["right"] / rows["trials"]).set_axis(rows["seed"])
        return {key: dict(shares.iloc[place]) for key, place in rows.groupby(KEYS).indices.items()}

    @cached_property
    def questions(self) -> dict[str, float]:
        """Number of questions of a probe for one seed: the number of answers of a model in all settings, over
        the sum of the shares of questions that it answers."""
        shares = self.summary.reset_index()
        shares = shares[shares["metric"].str.endswith(AMONG) & ~shares["metric"].str.endswith(GIVEN)]
        shares = shares.assign(probe=shares["metric"].str.removesuffix(AMONG))
        shares = shares.assign(answers=shares["measured"] * shares["seeds"])
        counts = self.guesses.assign(probe=self.guesses["metric"].str.removesuffix(GIVEN))
        model = ["library", "method", "probe"]
        each = counts.groupby(model)["asked"].sum() / shares.groupby(model)["answers"].sum()
        return dict(each.dropna().groupby("probe").median().round())

    def reading(self, cell: Cell) -> Reading:
        """The measurement of one cell."""
        key = (cell.label, cell.library, cell.method, cell.metric)
        if cell.label == POOLED:
            return pooled(self.guesses[(self.guesses[KEYS[1:]] == list(key[1:])).all(axis=1)])
        trials = self._trials(cell)
        if key not in self.summary.index:
            if trials == 0:  # the tables hold no row of a model that gives no answer
                return Reading(trials=0)
            where = f"{cell.library}/{cell.method} at {cell.label}"
            raise ValueError(f"{cell.experiment} has no {cell.metric} of {where}: run it again")
        row = self.summary.loc[key]
        values = (float(row[name]) for name in ("measured", "low", "high", "predicted"))
        return Reading(*values, int(row["seeds"]), trials, self.by_seed.get(key, {}))

    def _trials(self, cell: Cell) -> int | None:
        """Number of answers behind a share; None for a real number."""
        is_share = GIVEN in cell.metric or cell.metric in ("direct", *STEP_BY_STEP)
        probe = "direct" if cell.metric in STEP_BY_STEP else re.sub(f"{GIVEN}.*", "", cell.metric)
        among = (cell.label, cell.library, cell.method, probe + AMONG)
        if not is_share or probe not in self.questions or among not in self.summary.index:
            return None
        row = self.summary.loc[among]
        share = row["measured"] if cell.metric.endswith(GIVEN) else 1.0
        return round(share * row["seeds"] * self.questions[probe])


def pooled(guesses: pd.DataFrame) -> Reading:
    """Answers pooled seed by seed; the null is the mean null of these answers: the most that who lacks a step
    scores, or a guess."""
    null = guesses["bound"] if "bound" in guesses else guesses["predicted"]
    count = guesses.assign(null=null * guesses["asked"])
    count = count.groupby("seed")[["right", "asked", "null"]].sum()
    count = count[count["asked"] > 0]
    if count.empty:
        return Reading(trials=0)
    trials = int(count["asked"].sum())
    interval = intervals.proportion(count["right"], count["asked"])
    shares = dict(count["right"] / count["asked"])
    return Reading(*interval, count["null"].sum() / trials, len(count), trials, shares)


def of_seeds(values: pd.Series) -> Reading:
    """The mean of a real number with one value a seed (the index)."""
    values = values.dropna()
    return Reading(*intervals.mean(values), seeds=len(values), by_seed=dict(values))
