"""``python -m sim.sweep``: the main job; ``python -m sim.sweep NAME ...``: experiments by name.

Trains rank-r adapters on disjoint fact sets, solves the closed-form ones, makes every merge, asks every
question, and puts the prediction beside the measurement. Run the same command again to resume.
``python -m sim.sweep --compare A B``: the rows of two finished runs that differ.
"""

import contextlib
import functools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from sim.experiments import EXPERIMENTS
from sim.experiments.registry import Part
from sim.figures import gallery
from sim.lab import cli, cluster, files, parallel, style
from sim.lab.store import digest, plain
from sim.merge import METHODS
from sim.reuse.language import jobs as language
from sim.reuse.language.library import LibraryPart
from sim.sweep import main_job, report, table
from sim.sweep.compare import compare
from sim.sweep.run import require_whole, run
from sim.sweep.verdict import verdict


@dataclass(frozen=True)
class Sweep:
    """Run the main job, or experiments by name; resumes when run again.

    Examples:
    * python -m sim.sweep --rank 2 4 8
    * python -m sim.sweep familiarity rank --profile paper --out runs/paper
    """

    names: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(
            help="experiments (default: the main job). "
            + "; ".join(f"{e.name}: {e.summary}" for e in EXPERIMENTS.values())
        ),
    ] = ()
    rank: Annotated[tuple[int, ...], tyro.conf.arg(help="adapter ranks of the main job, one or more")] = (4,)
    seeds: Annotated[int | None, tyro.conf.arg(help="transformer seeds (default: the profile's)")] = None
    profile: Annotated[Literal["quick", "paper"], tyro.conf.arg(help="quick: 2 cores; paper: a GPU")] = (
        "quick"
    )
    method: Annotated[
        tuple[str, ...], tyro.conf.arg(help=f"merges of the main job, of: {', '.join(METHODS)}")
    ] = main_job.METHOD_NAMES
    world: Annotated[
        tuple[str, ...], tyro.conf.arg(help=f"worlds of the main job, of: {', '.join(main_job.WORLD_NAMES)}")
    ] = main_job.DEFAULT_WORLDS
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            help="results folder; for experiments its parent (default: under runs/, by configuration)"
        ),
    ] = None
    base: Annotated[
        Path | None,
        tyro.conf.arg(
            help="folder of the language model, a Llama of Hugging Face (default: what sim.lm fetched)"
        ),
    ] = None
    adapters: Annotated[
        Path | None,
        tyro.conf.arg(
            help="folder of adapters that sim.lm teach wrote, which people --profile quick asks (default: "
            "notebooks/adapters)"
        ),
    ] = None
    cache: Annotated[
        bool, tyro.conf.arg(help="keep pretrained bases and compiled programs for later runs")
    ] = True
    cluster: Annotated[
        str | None,
        tyro.conf.arg(help="who computes: local, slurm or a Dask scheduler's address (default: nobody else)"),
    ] = None
    workers: Annotated[
        int | None, tyro.conf.arg(help="workers of --cluster local (default: one a GPU or core) or slurm")
    ] = None
    compare: Annotated[
        tuple[Path, Path] | None,
        tyro.conf.arg(help="run nothing: print where two finished runs differ beyond their intervals"),
    ] = None


def main(args: Sweep) -> None:
    """Run what was asked for. Raises what ``cli.run_command`` turns into one line and an exit code."""
    if args.compare is not None:
        if args != Sweep(compare=args.compare):
            raise ValueError("--compare reads two finished runs; leave out the other options")
        print(compare(*args.compare))
        return
    if args.seeds is not None and args.seeds < 1:
        raise ValueError(f"--seeds is {args.seeds}; give at least 1")
    if args.out is not None:
        files.check_folder(args.out)
    for name in args.names:
        _ = EXPERIMENTS[name]
    if args.names and (args.rank, args.method, args.world) != (Sweep.rank, Sweep.method, Sweep.world):
        raise ValueError("--rank, --method and --world belong to the main job; an experiment sets its own")
    if args.workers is not None and (args.workers < 1 or args.cluster is None):
        raise ValueError(f"--workers is {args.workers}; give at least 1, and --cluster")
    work = _main_job if not args.names else _experiments
    work(args, shlex.join(["python", "-m", "sim.sweep", *sys.argv[1:]]))


def _context(args: Sweep) -> contextlib.AbstractContextManager[parallel.RunContext]:
    """Who computes: workers, while the block lasts, or this process, for which JAX is set up."""
    if args.cluster:
        return cluster.connect(args.cluster, args.workers, args.cache)
    parallel.use_all_cores()
    if args.cache:
        parallel.cache_programs()
    return contextlib.nullcontext(parallel.RunContext(args.cache))


def _main_job(args: Sweep, command: str) -> None:
    parts = _on_base(args, list(main_job.parts(args.rank, args.profile, args.method, args.world)))
    config = {"profile": args.profile, "seeds": args.seeds, "rank": args.rank, "world": args.world}
    identity = digest([config, plain([part.config for part in parts])], 8)
    folder = args.out or Path("runs") / f"sweep-{args.profile}-{identity}"
    counts = [main_job.seeds(part, args.profile, args.seeds) for part in parts]
    with _context(args) as context:
        outcome = run(main_job.NAME, parts, counts, config, folder, command, context)
    if not outcome.summary.empty:
        picture = report.picture(outcome.summary)
        style.save(picture, folder / "sweep")
        written = report.write(
            outcome.summary, outcome.guesses, folder, {"Prediction and measurement": picture}
        )
        print(table.printed(outcome.summary))
        print(f"\nread {written}; results.csv, summary.csv, manifest.json and sweep.pdf are beside it\n")
        print("\n".join(verdict(outcome.summary, outcome.guesses)))
    require_whole([outcome])


def _experiments(args: Sweep, command: str) -> None:
    parent = args.out or Path("runs") / f"experiments-{args.profile}"
    counts = {name: args.seeds or EXPERIMENTS[name].seeds[args.profile] for name in args.names}
    outcomes = []
    parts = {name: _on_base(args, EXPERIMENTS[name].parts(args.profile)) for name in args.names}

    with _context(args) as context:

        def precompile(names: Sequence[str]) -> None:
            for name in names[:1]:
                if not (parent / name).exists():  # else it is not clear yet what is left to do
                    parts[name][0].precompile(context, name, counts[name], set())

        for index, name in enumerate(args.names):
            config = {"experiment": name, "profile": args.profile, "seeds": counts[name]}
            each = [counts[name]] * len(parts[name])
            arguments = name, parts[name], each, config, parent / name, command, context
            outcome = run(*arguments, functools.partial(precompile, args.names[index + 1 :]))
            outcomes.append(outcome)
            most = outcome.summary["seeds"].max() if len(outcome.summary) else 0
            print(f"{name}: {most} seeds, {len(outcome.summary)} rows in {outcome.folder / 'summary.csv'}")
    drawn = [item for item in gallery.chosen((), parent)[0] if set(item.experiments) & set(args.names)]
    gallery.draw_all(drawn, parent, runs=parent)
    if drawn:
        print(f"drew {', '.join(item.name for item in drawn)} into {parent}")
    for name, outcome in zip(args.names, outcomes, strict=True):
        if not outcome.summary.empty:
            own = [item for item in drawn if name in item.experiments]
            figures = {item.claim: item.draw(pd.read_csv(parent / f"{item.name}.csv")) for item in own}
            print(f"\nread {report.write(outcome.summary, outcome.guesses, outcome.folder, figures)}")
            print("\n".join(verdict(outcome.summary, outcome.guesses)))
    require_whole(outcomes)


def _on_base(args: Sweep, parts: Sequence[Part]) -> list[Part]:
    """The parts, those on a language model with its folder and that of their adapters.

    Raises: ValueError if there is no such folder, or one that no part needs.
    """
    for option, value, kind, which in (
        ("base", args.base, language.Part, "experiments on a language model, such as people"),
        ("adapters", args.adapters, LibraryPart, "people --profile quick"),
    ):
        if value is not None and not any(isinstance(part, kind) for part in parts):
            raise ValueError(f"--{option} is for {which}: leave it out")
    return [_placed(args, part) for part in parts]


def _placed(args: Sweep, part: Part) -> Part:
    match part:
        case LibraryPart():
            return part.on(args.base, args.adapters)
        case language.Part():
            return part.on(args.base)
    return part


if __name__ == "__main__":
    cli.run_command(Sweep, main, "sim.sweep", cli.RESUME)
