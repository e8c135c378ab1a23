"""The paper's experiment in miniature, on trained transformers: libraries, familiarity, templates, doses.

    python -m sim.grid familiarity bridges --profile quick

Writes one resumable folder an experiment (results.csv, summary.csv, manifest.json).
"""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tqdm import tqdm

from sim.experiments.all import EXPERIMENTS, Part
from sim.lab import cache, cli, parallel, store
from sim.model.transformer import Params
from sim.reuse import jobs, study
from sim.reuse.cell import ReuseConfig
from sim.worlds import World
from sim.worlds.two_hop import Setting

COLUMNS = (
    "experiment",
    "label",
    "seed",
    "entities",
    "template",
    "library",
    "method",
    "metric",
    "predictor",
    "predicted",
    "measured",
    "trials",
)

SEEDS = {"quick": 2, "paper": 20}


@dataclass(frozen=True)
class Grid:
    """Run experiments on trained transformers; resumes when run again."""

    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(help="; ".join(f"{e.name}: {e.summary}" for e in EXPERIMENTS.values())),
    ] = tuple(EXPERIMENTS)
    profile: Annotated[Literal["quick", "paper"], tyro.conf.arg(help="quick: 2 cores; paper: a GPU")] = (
        "quick"
    )
    seeds: Annotated[int | None, tyro.conf.arg(help="seeds a cell (default: quick 2, paper 20)")] = None
    out: Annotated[Path | None, tyro.conf.arg(help="parent folder (default: runs/grid-PROFILE)")] = None
    cache: Annotated[
        bool, tyro.conf.arg(help="keep pretrained bases and compiled programs for later runs")
    ] = True


@dataclass(frozen=True)
class Cell:
    """One cell of one seed."""

    experiment: str
    label: str
    setting: Setting
    ranks: tuple[tuple[str, int], ...]
    seed: int

    @property
    def unit(self) -> str:
        """Name in results.csv."""
        return f"{self.experiment}/{self.label}/seed{self.seed:03d}"


def main(args: Grid) -> None:
    """Run the experiments one after the other. Raises what ``cli.run_command`` turns into one line."""
    for name in args.names:
        if name not in EXPERIMENTS:
            raise ValueError(f"unknown experiment {name!r}; use one or more of: {', '.join(EXPERIMENTS)}")
    seeds = SEEDS[args.profile] if args.seeds is None else args.seeds
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; give at least 1")
    parallel.use_all_cores()
    if args.cache:
        cache.keep_compiled()
    parent = args.out or Path("runs") / f"grid-{args.profile}"
    command = shlex.join(["python", "-m", "sim.grid", *sys.argv[1:]])
    for name in args.names:
        parts = list(EXPERIMENTS[name].parts(args.profile))
        config = {"experiment": name, "profile": args.profile, "seeds": seeds, "parts": parts}
        results = store.Store(parent / name, config, COLUMNS, command)
        for label, total, work in stages(name, parts, seeds, args.cache, results.done):
            with tqdm(total=total, desc=f"{name}, {label}", unit="unit", disable=not total) as bar:
                for finished, advance in work:
                    if finished:
                        results.add(finished)
                    bar.update(advance)
        summary = results.finish()
        print(
            f"{name}: {summary['seeds'].max()} seeds, {len(summary)} rows in {parent / name / 'summary.csv'}"
        )


def stages(
    name: str, parts: list[Part], seeds: int, use_cache: bool, done: set[str]
) -> Iterator[tuple[str, int, Iterator]]:
    """(label, number of units, iterator of (finished rows, units advanced)), bases before their cells."""
    for index, part in enumerate(parts):
        cells = [
            Cell(name, label, setting, ranks, seed)
            for seed in range(seeds)
            for label, setting, ranks in part.cells
        ]
        todo = [cell for cell in cells if cell.unit not in done]
        ready: dict[jobs.Base, Params] = {}
        place = f" {index + 1}/{len(parts)}" if len(parts) > 1 else ""
        count = len({jobs.base_of(cell) for cell in todo})
        yield f"pretraining{place}", count, jobs.bases(part.config, todo, use_cache, ready)
        yield f"cells{place}", len(todo), run(part.config, todo, ready)


def run(config: ReuseConfig, cells: list[Cell], ready: dict[jobs.Base, Params]) -> Iterator:
    """``jobs.run`` of ``study.run``, with the ranks of each cell as arrays where any cell sets them."""
    varied = any(cell.ranks for cell in cells)

    def ranks(cell: Cell) -> dict:
        if not varied:
            return {}
        by_kind = dict(cell.ranks)
        modules = config.decoder.modules(config.kinds)
        return {"ranks": {m: np.int32(by_kind.get(m.split(".")[1], config.rank)) for m in modules}}

    def work(job: dict, params: Params, world: World, key) -> dict:
        return study.run(config, params, world, key, job.get("ranks"))

    return jobs.run(config, cells, ready, work, rows_of, ranks)


def rows_of(cell: Cell, _: World, result: dict) -> list[dict]:
    """Measurements as rows, then for every predictor what it said beside what the merge did."""
    common = {
        "experiment": cell.experiment,
        "label": cell.label,
        "seed": cell.seed,
        "entities": cell.setting.entities,
        "template": cell.setting.template,
    }
    rows = []

    def add(library, method, metric, measured, trials=None, predictor=None, predicted=None):
        values = (library, method, metric, predictor, predicted, measured, trials)
        names = ("library", "method", "metric", "predictor", "predicted", "measured", "trials")
        rows.append(common | dict(zip(names, values, strict=True)))

    for name, scores in result["scores"].items():
        library, _, method = name.partition("/")
        counts = dict(scores)
        counts["cot_hop2_given_hop1"] = (counts.pop("cot_hop2")[0], scores["cot_hop1"][0])
        for metric, (right, asked) in counts.items():
            if asked:
                add(library, method, metric, float(right) / float(asked), int(asked))
    merge = result["forecasts"]["merge"]
    for position, lam in enumerate(study.GRID):
        for predictor, forecasts in result["forecasts"].items():
            for metric, values in forecasts.items() if predictor != "merge" else ():
                said, did = float(values[position]), float(merge[metric][position])
                add("hops", f"lambda={lam:g}", f"exact_{metric}", did, None, predictor, said)
                add("hops", f"lambda={lam:g}", f"error_{metric}", abs(said - did), None, predictor)
                if metric in result["agreement"].get(predictor, {}):
                    same = float(result["agreement"][predictor][metric][position])
                    add("hops", f"lambda={lam:g}", f"agreement_{metric}", same, None, predictor)
    for hop, value in result["kappa"].items():
        add("single", hop, f"kappa_{hop}", float(value))
    return rows


if __name__ == "__main__":
    cli.run_command(Grid, main, "sim.grid", cli.RESUME)
