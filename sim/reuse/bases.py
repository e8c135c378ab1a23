"""Pretrained bases: trained in batches, kept on disk under the hash of everything that made them."""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from sim.lab import files, parallel, seeds
from sim.lab.parallel import RunContext
from sim.lab.store import Failure, digest
from sim.model.sequences import Sequences
from sim.model.training import require_finite
from sim.model.transformer import Decoder, init
from sim.reuse.config import Cell, ReuseConfig
from sim.reuse.library import pretrain
from sim.worlds import build

ROOT = 20250613

Base = tuple[Any, int]
"""What a base depends on besides the configuration: the pretraining part of a setting, and the seed."""

Params = dict[str, np.ndarray]
"""Parameters of a decoder."""

Work = Iterator[tuple[dict[str, list[dict] | Failure], int]]
"""Yields ({unit: its rows, or why it failed}, how many units more are done)."""


def base_of(cell: Cell) -> Base:
    """Cells with the same value share a base."""
    return cell.setting.pretraining, cell.seed


def train_bases(
    context: RunContext, config: ReuseConfig, cells: Sequence[Cell], ready: dict[Base, Params | Failure]
) -> Work:
    """Fill ``ready`` with the bases of the cells, loaded from the cache or trained, chunk by chunk.

    A base whose loss becomes NaN or infinite fails: the reason is there in its place, and it is not cached.
    """
    wanted = dict.fromkeys(base_of(cell) for cell in cells)
    shown = {base: build(config.world, base[1], base[0]).pretraining for base in wanted}
    paths = {base: path_of(context, made_of(config, base[1], groups)) for base, groups in shown.items()}
    if context.use_cache:
        cached = {base: load(path) for base, path in paths.items()}
        ready |= {base: params for base, params in cached.items() if params is not None}
    yield {}, len(ready)
    missing = [base for base in wanted if base not in ready]
    jobs = [_job(base, shown[base]) for base in missing]
    for positions, results in context.map_runs(functools.partial(chunk_of_bases, config), jobs):
        for position, (params, losses) in zip(positions, results, strict=True):
            base = missing[position]
            try:
                require_finite(losses, f"base of {base[0]}, seed {base[1]}")
            except FloatingPointError as error:
                ready[base] = Failure(str(error))
                continue
            ready[base] = params
            if context.use_cache:
                save(paths[base], params)
        yield {}, len(positions)


def precompile_bases(context: RunContext, config: ReuseConfig, cells: Sequence[Cell]) -> None:
    """Begin to compile the program that trains bases, unless the first one, and so most, is cached."""
    wanted = list(dict.fromkeys(base_of(cell) for cell in cells))
    shown = build(config.world, wanted[0][1], wanted[0][0]).pretraining
    if not context.use_cache or not path_of(context, made_of(config, wanted[0][1], shown)).exists():
        context.precompile(functools.partial(chunk_of_bases, config), _job(wanted[0], shown), len(wanted))


def _job(base: Base, shown: Mapping[str, Sequences]) -> dict:
    return {"groups": shown, "key": key_data(0, base[1])}


def like_base(decoder: Decoder) -> Params:
    """Zeros of the shapes of a base."""
    return {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in _shapes(decoder).items()}


@functools.cache
def _shapes(decoder: Decoder) -> dict[str, jax.ShapeDtypeStruct]:
    return jax.eval_shape(functools.partial(init, decoder), jax.random.key(0))


def made_of(config: ReuseConfig, seed: int, groups: Mapping[str, Sequences]) -> list:
    """What decides a base: decoder, vocabulary and schedule, its key, and every sequence it can be shown.

    The sequences themselves, not the Config that asked for them: a world whose code or facts change has
    other bases, and a group that the schedule never draws from changes none.
    """
    shown = {name: corpus(groups[name]) for name, _ in config.pretraining.batch}
    return [config.decoder, config.pretraining, ROOT, seed, shown]


def corpus(group: Sequences) -> str:
    """Hash of a group's tokens, weights and length of the prompt: the same in every process."""
    content = hashlib.sha256(f"{group.prompt} {group.tokens.shape}".encode())
    for values, kind in ((group.tokens, "<i4"), (group.weight, "<f4")):
        content.update(np.ascontiguousarray(values, kind).tobytes())
    return content.hexdigest()


def chunk_of_bases(config: ReuseConfig, job: dict) -> tuple[Params, np.ndarray]:
    """(parameters, losses) of the bases of a chunk; ``job``: their pretraining groups and key data."""
    return parallel.program(pretrain, config.decoder, config.pretraining)(job["groups"], job["key"])


def key_data(*path: int) -> np.ndarray:
    """The key at a path below the experiment's root, as an array."""
    return jax.random.key_data(seeds.key(*path, root=ROOT))


def path_of(context: RunContext, config: object) -> Path:
    """Where a base of this configuration is kept; the backend and JAX's version are part of the name."""
    made_by = {"jax": jax.__version__, "device": context.devices[1]}
    return parallel.cache_folder() / "bases" / f"{digest([config, made_by], 24)}.safetensors"


def load(path: Path) -> Params | None:
    """The parameters at ``path``, or None if there are none or the file is damaged (it is made anew)."""
    try:
        return load_file(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # the reader raises its own type for a truncated file
        print(f"ignoring a damaged cached base, {path}: {error}")
        return None


def save(path: Path, params: Params) -> None:
    """Write atomically: two runs at once both leave a whole file."""
    with files.replacing(path) as part:
        save_file({name: np.ascontiguousarray(value) for name, value in params.items()}, part)
