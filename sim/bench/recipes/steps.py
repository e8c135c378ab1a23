"""How many steps an adapter needs to know its facts, and what it damages by then, by recipe of training."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Float
from tqdm import tqdm

from sim.bench.clock import benchmark
from sim.lab import parallel
from sim.model import lora
from sim.model.sequences import Sequences
from sim.model.training import MASTERY, completion_loss, lead
from sim.model.transformer import Decoder, Params, completion_logits
from sim.reuse.bases import train_bases
from sim.reuse.config import Cell, of_world
from sim.reuse.library import Factors, adapter_of, factors_of
from sim.worlds import FACTS, World, build, two_hop

STEPS, EVERY, WARMING = 150, 5, 5
SEEDS = 3
ADAPTERS = ("hop1", "joint")
ENOUGH = 0.02
"""The loss of own facts, in nats, at which recipes are compared: about that of the main job's adapters."""


def adam(rate: float, ratio: float = 1.0) -> optax.GradientTransformation:
    """Adam, B at ``ratio`` times the rate of A: LoRA+ (2402.12354), and alpha / r at ``ratio`` as well, since
    Adam does not see the scale of a gradient."""

    def of(side):
        return optax.adam(warmed(rate * (ratio if side == "b" else 1.0)), b2=0.98)

    return optax.multi_transform(
        {side: of(side) for side in "ab"}, lambda factors: {name: ("b", "a") for name in factors}
    )


def warmed(rate: float) -> Callable[[Array], Array]:
    """The rate after linear warm-up."""
    return lambda step: rate * jnp.minimum(1.0, (step + 1) / WARMING)


def schedule_free(rate: float) -> optax.GradientTransformation:
    """AdamW whose average needs no decay (2405.15682); what is measured is the average."""
    return optax.contrib.schedule_free_adamw(rate, WARMING, b1=0.9, b2=0.98)


def normalised(rate: float) -> optax.GradientTransformation:
    """Gradients divided by their norm, with momentum."""
    return optax.chain(optax.normalize_by_update_norm(), optax.sgd(warmed(rate), momentum=0.9))


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    start: "random", B = 0 and A random; "right", A the first right singular vectors of the first gradient of
        W (2502.01235); "both", B the left ones as well, their largest update 0.1.
    preconditioned: whether gradients of B and A are divided by A A^T and B^T B (2402.02347).
    """

    name: str
    rate: float
    optimiser: Callable[[float], optax.GradientTransformation] = adam
    start: str = "random"
    preconditioned: bool = False


def recipes() -> Iterator[Recipe]:
    """What is tried."""
    for rate in (1e-3, 2e-3, 3e-3, 4e-3, 8e-3):
        yield Recipe("Adam", rate)
    for rate, ratio in ((2e-3, 2.0), (1e-3, 4.0), (4e-3, 0.5)):
        yield Recipe(f"LoRA+, alpha / r: {ratio:g}", rate, lambda rate, by=ratio: adam(rate, by))
    for start in ("right", "both"):
        for rate in (2e-3, 4e-3):
            yield Recipe(f"spectral start, {start}", rate, start=start)
    yield Recipe("preconditioned", 2e-3, preconditioned=True)
    for rate in (5e-3, 1e-2):
        yield Recipe("Muon", rate, lambda rate: optax.contrib.muon(warmed(rate)))
    yield Recipe("schedule-free", 2e-3, schedule_free)
    for rate in (0.015, 0.03):
        yield Recipe("normalised gradient", rate, normalised)


def begin(recipe: Recipe, decoder: Decoder, params: Params, facts: Sequences, key: Array) -> Factors:
    """The factors that training starts from, of rank 4."""
    names = decoder.modules()
    start = lora.init(decoder, names, 4, key)
    if recipe.start == "random":
        return factors_of(start)

    def loss(update):
        return completion_loss(
            completion_logits(decoder, lora.fold(params, update), facts.tokens, facts.prompt), facts
        )

    gradient = jax.grad(loss)({name: jnp.zeros(decoder.shape(name), jnp.float32) for name in names})
    factors = {}
    for name, slope in gradient.items():
        left, values, right = jnp.linalg.svd(-slope, full_matrices=False)
        size = 0.1 * values[:4] / values[0] if recipe.start == "both" else jnp.zeros(4, jnp.float32)
        factors[name] = left[:, :4] * size[None], right[:4]
    return factors


def precondition(factors: Factors, gradient: Factors) -> Factors:
    """(dB (A A^T + d)^-1, (B^T B + d)^-1 dA) of every module, d = 0.01."""
    ridge = 0.01 * jnp.eye(4, dtype=jnp.float32)
    return {
        name: (
            jnp.linalg.solve(a @ a.T + ridge, gradient[name][0].T).T,
            jnp.linalg.solve(b.T @ b + ridge, gradient[name][1]),
        )
        for name, (b, a) in factors.items()
    }


def course(
    recipe: Recipe, decoder: Decoder, params: Params, groups: dict[str, Sequences], key: Array
) -> dict[str, Float[Array, " looks"]]:
    """The loss of ``groups[FACTS]`` and the share of every group that is answered, every ``EVERY`` steps.

    Each step has the gradient of all facts.
    """
    facts, optimiser = groups[FACTS], recipe.optimiser(recipe.rate)

    def logits(factors, group):
        return completion_logits(decoder, lora.fold(params, adapter_of(factors)), group.tokens, group.prompt)

    def loss(factors):
        return completion_loss(logits(factors, facts), facts)

    def step(carry, _):
        factors, state = carry
        gradient = jax.grad(loss)(factors)
        if recipe.preconditioned:
            gradient = precondition(factors, gradient)
        updates, state = optimiser.update(gradient, state, factors)
        return (optax.apply_updates(factors, updates), state), None

    def look(carry, _):
        factors = carry[0]
        if recipe.optimiser is schedule_free:
            factors = optax.contrib.schedule_free_eval_params(carry[1], factors)
        share = {name: jnp.mean(lead(logits(factors, group), group) > 0) for name, group in groups.items()}
        return jax.lax.scan(step, carry, None, EVERY)[0], {"loss": loss(factors), **share}

    factors = begin(recipe, decoder, params, facts, key)
    return jax.lax.scan(look, (factors, optimiser.init(factors)), None, STEPS // EVERY)[1]


def groups_of(world: World, adapter: str) -> dict[str, Sequences]:
    """The facts that an adapter is taught, of weights of sum 1, and the questions that it is asked."""
    data = world.data[adapter][FACTS]
    tokens = data.tokens[data.weight > 0]
    groups = {FACTS: Sequences(tokens, np.full(len(tokens), 1 / len(tokens), np.float32), data.prompt)}
    for name in ("untouched", "untouched_cot", "cot"):
        probe = world.probes[name]
        groups[name] = Sequences(probe.tokens, probe.weight, probe.prompt)
    return groups


def first(reached: np.ndarray) -> float:
    """Steps until a condition holds, NaN if it never does."""
    return EVERY * float(np.argmax(reached)) if reached.any() else np.nan


def summary(course: dict[str, np.ndarray], milliseconds: float) -> dict[str, float]:
    """One adapter's row: when it knows its facts, and what else it does once their loss is ``ENOUGH``."""
    low = course["loss"] < ENOUGH
    at = int(np.argmax(low)) if low.any() else -1
    row = {"known": first(course[FACTS] >= MASTERY), "low": first(low), "loss": course["loss"][at]}
    row |= {name: course[name][at] for name in ("untouched", "untouched_cot", "cot")}
    return row | {"processor_ms": milliseconds}


@benchmark
def steps() -> pd.DataFrame:
    """Train adapters of the main job by other recipes: steps until facts are known, and the damage by then.

    ``known``: steps until 98% of its facts are answered; ``low``: until their loss is below 0.02 nats, empty
    if that is not so within 150 for every seed. There: the share of ``untouched`` facts, of untouched
    solutions (``untouched_cot``) and of two-hop questions (``cot``, step by step) that is answered.
    ``processor_ms``: of a step, looks included; ``seconds``: of ``low`` such steps. Means over three seeds,
    real names, template in pretraining.
    """
    config, setting, rows, ready = of_world(two_hop.Config()), two_hop.REAL, [], {}
    cells = [Cell("", "", setting, seed) for seed in range(SEEDS)]
    for _ in train_bases(parallel.RunContext(True), config, cells, ready):
        pass
    worlds = [build(config.world, seed, setting) for seed in range(SEEDS)]
    for recipe in tqdm(list(recipes()), desc="recipes", unit="recipe"):
        for adapter in ADAPTERS:
            jobs = [
                (ready[setting.pretraining, seed], groups_of(world, adapter), jax.random.key(seed))
                for seed, world in enumerate(worlds)
            ]
            run = jax.jit(functools.partial(course, recipe, config.decoder))
            program = run.lower(*jobs[0]).compile(compiler_options=parallel.compiler_options(1))
            results = []
            for job in jobs:
                start = time.process_time()
                looks = jax.tree.map(np.asarray, program(*job))
                results.append(summary(looks, 1e3 * (time.process_time() - start) / STEPS))
            mean = pd.DataFrame(results).mean(skipna=False).to_dict()
            rows.append({"recipe": recipe.name, "rate": recipe.rate, "adapter": adapter, **mean})
    table = pd.DataFrame(rows)
    return table.assign(seconds=table["low"] * table["processor_ms"] / 1e3)
