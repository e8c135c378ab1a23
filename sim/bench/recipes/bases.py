"""How many steps a base needs, and whether its facts can be edited after: by optimiser, rate and batch."""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
import pandas as pd
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers
from tqdm import tqdm

from sim.bench.clock import benchmark
from sim.lab import parallel
from sim.model import lora
from sim.model.sequences import Sequences
from sim.model.training import Schedule, fit, lead
from sim.model.transformer import Decoder, Params, completion_logits, init
from sim.reuse import library
from sim.reuse.bases import key_data
from sim.reuse.config import ReuseConfig, of_world
from sim.worlds import JOINT, World, build, two_hop

SEEDS = 3
BATCHES = {
    "even": (("facts", 128), ("direct", 128), ("traces", 64)),
    "more answers": (("facts", 128), ("direct", 192), ("traces", 48)),
}


@dataclass(frozen=True)
class Recipe:
    """A way to pretrain: ``muon`` trains the adaptable matrices by Muon, all else by AdamW."""

    batch: str
    schedule: Schedule
    muon: bool = False


def recipes() -> Iterator[Recipe]:
    """What is tried: warm-up over a tenth of the steps, decay over 40%."""
    for muon, batch, steps, rate in (
        (False, "even", 400, 6e-3),
        (False, "even", 275, 9e-3),
        (False, "even", 200, 1.2e-2),
        (False, "more answers", 275, 1.2e-2),
        (False, "more answers", 225, 1.2e-2),
        (True, "more answers", 150, 2e-2),
        (True, "more answers", 100, 2e-2),
    ):
        cooling = {"warming": steps // 10, "cooling": 2 * steps // 5}
        yield Recipe(batch, Schedule(steps, rate, BATCHES[batch], decay=0.3, **cooling), muon)


def muon(decoder: Decoder, decay: float) -> optax.GradientTransformation:
    """Muon of rate 1 (2502.16982) for the adaptable matrices of a decoder, AdamW for its other parameters."""

    def kinds(params):
        return {name: MuonDimensionNumbers(1, 0) if name in decoder.modules() else None for name in params}

    return optax.contrib.muon(
        1.0,
        weight_decay=decay,
        adam_weight_decay=decay,
        adam_b2=0.98,
        muon_weight_dimension_numbers=kinds,
        consistent_rms=0.4,
    )


def base_of(recipe: Recipe, decoder: Decoder, groups: dict[str, Sequences], key: Array) -> Params:
    """A base by a recipe."""

    def logits(params, group):
        return completion_logits(decoder, params, group.tokens, group.prompt)

    optimiser = muon(decoder, recipe.schedule.decay) if recipe.muon else None
    return fit(logits, init(decoder, key), groups, recipe.schedule, key, optimiser=optimiser).value


def shares(decoder: Decoder, params: Params, groups: dict[str, Sequences]) -> dict[str, Array]:
    """The share of each group's sequences that is answered."""
    return {
        name: jnp.mean(lead(completion_logits(decoder, params, group.tokens, group.prompt), group) > 0)
        for name, group in groups.items()
    }


def measure(config: ReuseConfig, world: World, params: Params, key: Array) -> dict[str, Array]:
    """What a base knows, and what it does once the joint adapter is in its weights."""
    probes = {
        name: Sequences(probe.tokens, probe.weight, probe.prompt) for name, probe in world.probes.items()
    }
    shown = {name: world.pretraining[name] for name in ("facts", "direct")}
    row = shares(config.decoder, params, shown | {"held_out_cot": probes["untouched_cot"]})
    training = library.make(config.recipe, "lora", params, world.data[JOINT], key, 2)
    edited = lora.fold(params, library.adapter_of(training.factors))
    after = shares(config.decoder, edited, {name: probes[name] for name in ("untouched", "cot")})
    return row | {f"joint_{name}": share for name, share in after.items()} | {"joint_steps": training.steps}


@benchmark
def bases() -> pd.DataFrame:
    """Pretrain bases of the main job by other recipes: what they know, and how far they can be edited.

    Shares of ``facts`` and of answers at once (``direct``) that pretraining shows, and of solutions that it
    does not show (``held_out_cot``). Of the joint adapter on that base: its ``joint_steps``, and the share of
    untouched facts (``joint_untouched``) and of edited two-hop questions, step by step (``joint_cot``), that
    is answered. ``processor_seconds`` a base. Means over three seeds, real names, template in pretraining.
    """
    config, setting, rows = of_world(two_hop.Config()), two_hop.REAL, []
    worlds = [build(config.world, seed, setting) for seed in range(SEEDS)]
    look = jax.jit(functools.partial(measure, config))
    for recipe in tqdm(list(recipes()), desc="recipes", unit="recipe"):
        run, results, program = jax.jit(functools.partial(base_of, recipe, config.decoder)), [], None
        for seed, world in enumerate(worlds):
            given = world.pretraining, jax.random.key(seed)
            program = program or run.lower(*given).compile(compiler_options=parallel.compiler_options(1))
            start = time.process_time()
            params = jax.block_until_ready(program(*given))
            spent = time.process_time() - start
            row = look(world, params, key_data(1, seed))
            results.append({"processor_seconds": spent} | {name: float(value) for name, value in row.items()})
        case = {"optimiser": "Muon" if recipe.muon else "AdamW", "batch": recipe.batch}
        case |= {"steps": recipe.schedule.steps, "rate": recipe.schedule.rate}
        rows.append(case | pd.DataFrame(results).mean().to_dict())
    return pd.DataFrame(rows)
