"""The one-layer experiment as resumable work: one unit a seed, rows with their predictions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sim.lab.parallel import RunContext
from sim.one_layer.config import OneLayerConfig, Setting
from sim.one_layer.experiment import precompile, rows, run
from sim.one_layer.forecast import predict

WORLD = "one_layer"

CHUNK = 16
"""Seeds between two writes to disk."""


@dataclass(frozen=True)
class Part:
    """Seeds of the one-layer experiment at one rank (``sim.experiments.registry.Part``)."""

    config: OneLayerConfig
    setting: type = Setting

    def stages(
        self, context: RunContext, experiment: str, count: int, done: set[str]
    ) -> Iterator[tuple[str, int, Iterator]]:
        """One stage: all seeds. There is nothing to cache."""
        todo = self._todo(experiment, count, done)
        common = {"experiment": experiment, "world": WORLD, "label": self._label, "rank": self.config.rank}
        common |= {"adapter": "", "library": ""}
        work = self._work(context, common, todo, count - len(todo))
        yield f"one-layer model, rank {self.config.rank}", count, work

    def precompile(self, context: RunContext, experiment: str, count: int, done: set[str]) -> None:
        """Begin to compile what ``stages`` will run."""
        if todo := self._todo(experiment, count, done):
            precompile(context, self.config, min(CHUNK, len(todo)))

    @property
    def _label(self) -> str:
        return f"{WORLD}/rank{self.config.rank}"

    def _todo(self, experiment: str, count: int, done: set[str]) -> dict[int, str]:
        """Seed -> unit, of every seed that is not done."""
        units = {seed: f"{experiment}/{self._label}/seed{seed:03d}" for seed in range(count)}
        return {seed: unit for seed, unit in units.items() if unit not in done}

    def _work(
        self, context: RunContext, common: dict, todo: dict[int, str], done: int
    ) -> Iterator[tuple[dict[str, list[dict]], int]]:
        yield {}, done
        seeds, predictions = list(todo), predict(self.config, rows(self.config))
        for start in range(0, len(seeds), CHUNK):
            chunk = seeds[start : start + CHUNK]
            finished: dict[str, list[dict]] = {todo[seed]: [] for seed in chunk}
            measured = run(self.config, chunk, context)
            for row, predicted in zip(measured, predictions * len(chunk), strict=True):
                predictor = "" if math.isnan(predicted) else "law"
                prediction = {"predictor": predictor, "predicted": predicted}
                finished[todo[row["seed"]]].append({**common, **row, **prediction})
            yield finished, len(chunk)
