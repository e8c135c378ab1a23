"""Bases and cells of the two-hop world as batched, cached, resumable work."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import jax
import numpy as np

from sim.lab import cache, parallel
from sim.model.training import require_finite
from sim.model.transformer import Params
from sim.reuse.cell import ReuseConfig, pretrain
from sim.worlds import World
from sim.worlds.two_hop import Setting, build

ROOT = 20250613

Base = tuple[Setting, int]
"""What a base depends on besides the configuration: the pretraining part of a setting, and the seed."""


class Cell(Protocol):
    """A unit of work: one setting of one seed."""

    setting: Setting
    seed: int
    unit: str


def key(*path: int) -> jax.Array:
    """The key at a path of numbers below the root, by repeated fold_in."""
    value = jax.random.key(ROOT)
    for number in path:
        value = jax.random.fold_in(value, number)
    return value


def base_of(cell: Cell) -> Base:
    """Cells with the same value share a base."""
    return cell.setting.pretraining, cell.seed


def bases(
    config: ReuseConfig, cells: Sequence[Cell], use_cache: bool, ready: dict[Base, dict[str, np.ndarray]]
) -> Iterator[tuple[dict, int]]:
    """Fill ``ready`` with the bases of the cells, loaded from the cache or trained, chunk by chunk.

    Yields ({}, how many more are ready), as ``run`` does with rows.

    Raises:
        FloatingPointError: a base's loss became NaN or infinite.
    """
    wanted = dict.fromkeys(base_of(cell) for cell in cells)
    recipe = {name: getattr(config, name) for name in ("world", "layers", "width", "heads", "hidden")}
    paths = {base: cache.base_path([recipe, config.pretraining, ROOT, *base]) for base in wanted}
    if use_cache:
        found = {base: cache.load(path) for base, path in paths.items()}
        ready |= {base: params for base, params in found.items() if params is not None}
        yield {}, len(ready)
    missing = [base for base in wanted if base not in ready]
    train = parallel.chunked(lambda job: pretrain(config, job["world"], jax.random.wrap_key_data(job["key"])))
    jobs = [
        {"world": build(config.world, seed, setting), "key": jax.random.key_data(key(0, seed))}
        for setting, seed in missing
    ]
    for positions, results in train(jobs):
        for position, (params, losses) in zip(positions, results, strict=True):
            base = missing[position]
            require_finite(losses, f"base with template {base[0].template}, seed {base[1]}")
            ready[base] = params
            if use_cache:
                cache.save(paths[base], params)
        yield {}, len(positions)


def run(
    config: ReuseConfig,
    cells: Sequence[Cell],
    ready: dict[Base, dict[str, np.ndarray]],
    work: Callable[[dict, Params, World, jax.Array], dict],
    rows: Callable[[Cell, World, dict], list[dict]],
    extra: Callable[[Cell], dict] = lambda cell: {},
) -> Iterator[tuple[dict[str, list[dict]], int]]:
    """Run cells of one configuration, chunk by chunk: yields ({unit: rows}, number of units).

    Args:
        work: (job, parameters, world, key) -> result with a "losses" dict; traced once for all cells.
        rows: (cell, world, result) -> rows of the results table.
        extra: arrays of a cell that ``work`` finds in its job.

    Raises:
        FloatingPointError: an adapter's loss became NaN or infinite.
    """
    program = parallel.chunked(
        lambda job: work(job, job["base"], job["world"], jax.random.wrap_key_data(job["key"]))
    )
    jobs = [
        {
            "base": ready[base_of(cell)],
            "world": build(config.world, cell.seed, cell.setting),
            "key": jax.random.key_data(key(1, cell.seed)),
            **extra(cell),
        }
        for cell in cells
    ]
    for positions, results in program(jobs):
        finished = {}
        for position, result in zip(positions, results, strict=True):
            cell = cells[position]
            for family, losses in result["losses"].items():
                require_finite(losses, f"{family} adapters of {cell.unit}")
            finished[cell.unit] = rows(cell, jobs[position]["world"], result)
        yield finished, len(finished)
