"""The main job: sweep the one-layer model and the two-hop transformer at the given ranks.

Trains rank-r adapters on disjoint fact sets, solves the closed-form ones, makes every merge, asks every
question, and puts the prediction beside the measurement. Run the same command again to resume.
"""

import dataclasses
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro
from tqdm import tqdm

from sim import merge as merging
from sim import one_layer
from sim.lab import cache, cli, parallel
from sim.lab.store import Store, digest
from sim.model import lora
from sim.reuse import cell as reuse
from sim.reuse import jobs
from sim.sweep import figure as sweep_figure
from sim.sweep import one_layer as sweep_one_layer
from sim.sweep import two_hop as sweep_two_hop
from sim.sweep.two_hop import Cell
from sim.worlds.two_hop import Setting

COLUMNS = (
    "model",
    "world",
    "rank",
    "seed",
    "entities",
    "template",
    "adapter",
    "facts",
    "method",
    "lam",
    "metric",
    "predicted",
    "measured",
    "trials",
)

SWEPT = ("one_layer", "two_hop")


@dataclass(frozen=True)
class Profile:
    """How much of the grid is run."""

    seeds: int
    one_layer_seeds: int
    entities: tuple[str, ...]
    templates: tuple[str, ...]
    reuse: reuse.ReuseConfig


PROFILES = {
    "quick": Profile(3, 64, ("real", "fake"), ("pretraining", "none", "both"), reuse.ReuseConfig()),
    "paper": Profile(
        20, 256, ("real", "half_fake", "fake"), ("pretraining", "none", "data", "both"), reuse.ReuseConfig()
    ),
}


@dataclass(frozen=True)
class Sweep:
    """Sweep the one-layer model and the two-hop transformer; resumes when run again."""

    rank: Annotated[tuple[int, ...], tyro.conf.arg(help="adapter ranks, one or more")] = (4,)
    seeds: Annotated[int | None, tyro.conf.arg(help="transformer seeds (default: the profile's)")] = None
    profile: Annotated[Literal["quick", "paper"], tyro.conf.arg(help="quick: 2 cores; paper: a GPU")] = (
        "quick"
    )
    method: Annotated[
        tuple[str, ...], tyro.conf.arg(help=f"merge methods, of: {', '.join(merging.METHODS)}")
    ] = reuse.ReuseConfig.methods
    world: Annotated[tuple[str, ...], tyro.conf.arg(help=f"what to run, of: {', '.join(SWEPT)}")] = SWEPT
    out: Annotated[
        Path | None, tyro.conf.arg(help="results folder (default: runs/sweep-PROFILE-HASH, by configuration)")
    ] = None
    cache: Annotated[
        bool, tyro.conf.arg(help="keep pretrained bases and compiled programs for later runs")
    ] = True


def main(args: Sweep) -> None:
    """Run the sweep. Raises what ``cli.run_command`` turns into one line and an exit code."""
    profile, config = configure(args)
    parallel.use_all_cores()
    if args.cache:
        cache.keep_compiled()
    folder = args.out or Path("runs") / f"sweep-{args.profile}-{digest(config, 8)}"
    store = Store(folder, config, COLUMNS, shlex.join(["python", "-m", "sim.sweep", *sys.argv[1:]]))
    done = store.done
    for label, total, work in stages(args, profile, config, done):
        with tqdm(total=total, desc=label, unit="unit", disable=not total) as bar:
            for finished, advance in work:
                if finished:
                    store.add(finished)
                bar.update(advance)
    summary = store.finish()
    sweep_figure.draw(summary, folder)
    print(table(summary))
    print(f"\nresults.csv, summary.csv, manifest.json and sweep.pdf are in {folder}")


def configure(args: Sweep) -> tuple[Profile, dict]:
    """The profile with the arguments applied, and the full configuration that identifies the run.

    Raises:
        ValueError: a rank outside the model's range, an unknown method or world, or fewer than one seed.
    """
    profile = PROFILES[args.profile]
    for world in args.world:
        if world not in SWEPT:
            raise ValueError(f"unknown world {world!r}; use one or more of: {', '.join(SWEPT)}")
    for method in args.method:
        record = merging.METHODS[method]
        if not record.data_free:
            raise ValueError(f"method {method!r} needs data, which this sweep does not give; leave it out")
    if args.seeds is not None and args.seeds < 1:
        raise ValueError(f"--seeds is {args.seeds}; give at least 1")
    if not args.rank:
        raise ValueError("--rank is empty; give at least one rank")
    settings = dataclasses.replace(profile.reuse, methods=tuple(dict.fromkeys(args.method)))
    profile = dataclasses.replace(profile, seeds=args.seeds or profile.seeds, reuse=settings)
    ranks = tuple(dict.fromkeys(args.rank))
    config: dict = {"profile": args.profile, "rank": ranks, "world": args.world}
    for rank in ranks:
        if "two_hop" in args.world:
            lora.check_rank(settings.decoder, settings.decoder.modules(settings.kinds), rank)
        if "one_layer" in args.world:
            config[f"one_layer_rank{rank}"] = one_layer.for_rank(rank, methods=settings.methods)
    return profile, config | {"settings": profile}


def stages(
    args: Sweep, profile: Profile, config: dict, done: set[str]
) -> Iterator[tuple[str, int, Iterator]]:
    """(label, number of units, iterator of (finished {unit: rows}, units advanced)) for each stage."""
    if "one_layer" in args.world:
        for rank in config["rank"]:
            seeds = range(profile.one_layer_seeds)
            todo = [seed for seed in seeds if sweep_one_layer.unit(rank, seed) not in done]
            work = sweep_one_layer.work(config[f"one_layer_rank{rank}"], todo)
            yield f"one-layer model, rank {rank}", len(todo), work
    if "two_hop" in args.world:
        grid = [
            Cell(rank, Setting(entities, template), seed)
            for rank in config["rank"]
            for template in profile.templates  # cells that cost alike side by side
            for seed in range(profile.seeds)
            for entities in profile.entities
        ]
        left = [cell for cell in grid if cell.unit not in done]
        ready: dict = {}
        count = len({jobs.base_of(cell) for cell in left})
        yield "pretraining", count, jobs.bases(profile.reuse, left, args.cache, ready)
        for rank in config["rank"]:
            cells = [cell for cell in left if cell.rank == rank]
            settings = dataclasses.replace(profile.reuse, rank=rank)
            yield f"two-hop cells, rank {rank}", len(cells), sweep_two_hop.cells(settings, cells, ready)


SHOWN = ("two_hop_direct", "two_hop_cot", "hop1_recall", "hop2_recall", "untouched_recall")


def table(summary: pd.DataFrame) -> str:
    """A short table: means of the metrics that matter, methods down, one block a setting."""
    shown = summary[summary["metric"].isin(SHOWN) & summary["adapter"].isin(("", "lora"))]
    index = ["model", "rank", "entities", "template", "method"]
    wide = shown.pivot_table(index=index, columns="metric", values="mean", sort=False, dropna=False)
    wide = wide.dropna(how="all")[[name for name in SHOWN if name in wide.columns]]
    return wide.to_string(float_format=lambda value: f"{value:.3f}", na_rep="")


if __name__ == "__main__":
    cli.run_command(Sweep, main, "sim.sweep", cli.RESUME)
