"""Runs every part of the one-layer experiment for a batch of seeds and lays the numbers out in rows."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sim.lab.parallel import THIS_PROCESS, RunContext, program
from sim.one_layer import coverage, retention, starvation, two_hop
from sim.one_layer.config import OneLayerConfig

_PARTS = (two_hop, retention, starvation, coverage)


def rows(config: OneLayerConfig) -> list[dict[str, Any]]:
    """The rows one seed fills in, without seed and measurement; a prediction needs no more than these."""
    return [entry for part in _PARTS for entry in part.rows(config)]


def one_layer(config: OneLayerConfig, seed: jax.Array) -> jax.Array:
    """All parts for one seed: what every row of ``rows(config)`` measures."""
    key = jax.random.fold_in(jax.random.key(config.root), seed)
    values = [part.measure(config, jax.random.fold_in(key, index)) for index, part in enumerate(_PARTS)]
    return jnp.concatenate(values)


def _chunk(config: OneLayerConfig, seeds: jax.Array) -> jax.Array:
    return program(one_layer, config)(seeds)


def precompile(context: RunContext, config: OneLayerConfig, seeds: int) -> None:
    """Begin to compile what ``run`` needs for that many seeds."""
    context.precompile(functools.partial(_chunk, config), np.uint32(0), seeds)


def run(
    config: OneLayerConfig, seeds: Sequence[int], context: RunContext = THIS_PROCESS
) -> list[dict[str, Any]]:
    """Measure every row of ``rows(config)`` for every seed; each row gains ``seed`` and ``measured``.

    A seed's numbers do not depend on the seeds it is run with. ``measured`` is a mean over ``trials``
    binary trials, an exact tie of k answers counted 1/k. Raises ValueError for a negative seed.
    """
    seeds = [int(seed) for seed in seeds]
    if any(seed < 0 for seed in seeds):
        raise ValueError(f"seed {min(seeds)} is negative; give whole numbers from 0 on")
    if not seeds:
        return []
    template, table = rows(config), []
    jobs = [np.uint32(seed) for seed in seeds]
    for positions, results in context.map_runs(functools.partial(_chunk, config), jobs):
        for position, values in zip(positions, results, strict=True):
            for entry, value in zip(template, values, strict=True):
                table.append({**entry, "seed": seeds[position], "measured": float(value)})
    return table
