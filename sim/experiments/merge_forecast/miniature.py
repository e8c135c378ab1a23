"""The test bed in the miniature: libraries of up to eight adapters at several depths, every merge run.

A base knows eight relations of all entities, each a random permutation. An adapter is taught other objects of
some subjects of one relation. Smaller libraries are the first adapters of a large one.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sim.experiments.merge_forecast import claims, scoring
from sim.experiments.merge_forecast.measuring import merges, sums_of_effects
from sim.forecast.outcomes import NEAREST, RIVALS, Outcomes, choose_rivals, of_logits
from sim.lab.parallel import compiler_options
from sim.lab.seeds import key
from sim.model.sequences import Sequences
from sim.model.training import Schedule, require_finite
from sim.model.transformer import ATTENTION, MLP, Decoder, Params, completion_logits
from sim.reuse.config import Recipe
from sim.reuse.library import Factors, finetune, pretrain, scaled
from sim.worlds import FACTS, two_hop
from sim.worlds.building import columns, group

ROOT = 24
TOGETHER = 8
"""Merges that pass through the model at once."""


PRETRAINING = replace(two_hop.PRETRAINING, steps=400, batch=((FACTS, 128),), margin=1.0)
FINETUNING = replace(two_hop.FINETUNING, batch=((FACTS, 16),))


@dataclass(frozen=True)
class Sizes:
    """entities, relations: of the graph. adapters: one for each of the first relations. facts: of one."""

    entities: int = 64
    relations: int = 8
    facts: int = 16
    adapters: int = 8
    rank: int = 4
    width: int = 64
    pretraining: Schedule = PRETRAINING
    finetuning: Schedule = FINETUNING

    def decoder(self, layers: int) -> Decoder:
        """Entities, relations and the word ANSWER."""
        return Decoder(self.entities + self.relations + 1, layers, self.width, 4, 4 * self.width)

    def schedule(self, layers: int) -> Schedule:
        """Of a base: those of more than two layers take twice the steps at half the rate."""
        some = self.pretraining
        return some if layers <= 2 else some.lasting(2 * some.steps, some.rate / 2)


def _every(function: Callable, effort: int, *static) -> Callable:
    """A function of many runs at once, on one device."""
    return jax.jit(jax.vmap(functools.partial(function, *static)), compiler_options=compiler_options(effort))


class World(NamedTuple):
    """What the base is shown, and what each adapter is taught, tokens (K, facts, 4): x r ANSWER y."""

    shown: Sequences
    taught: Int[np.ndarray, "K S 4"]


def draw_world(sizes: Sizes, seed: int) -> World:
    """A graph and its edits. The new objects of an adapter differ, and none is the old one."""
    rng = np.random.default_rng([ROOT, seed])
    graph = np.stack([rng.permutation(sizes.entities) for _ in range(sizes.relations)])

    def write(x, relation, y):
        return columns(x, sizes.entities + relation, sizes.entities + sizes.relations, y)

    every = np.arange(sizes.entities)
    shown = np.concatenate([write(every, relation, of) for relation, of in enumerate(graph)])
    taught = []
    for relation in range(sizes.adapters):
        subjects, objects = rng.permutation(sizes.entities)[: sizes.facts], np.array([])
        while not len(objects) or (graph[relation, subjects] == objects).any():
            objects = rng.permutation(sizes.entities)[: sizes.facts]
        taught.append(write(subjects, relation, objects))
    return World(group(shown, 1.0, 3), np.stack(taught))


class Taught(NamedTuple):
    """Of one seed: base, adapters (factors with a leading axis), steps and recall of each."""

    base: Params
    library: Factors
    steps: Int[np.ndarray, " K"]
    recall: Float[np.ndarray, " K"]


def teach(sizes: Sizes, layers: int, seeds: Sequence[int], worlds: Sequence[World]) -> list[Taught]:
    """Bases and adapters of all seeds.

    Raises: FloatingPointError where a loss is not finite.
    """
    decoder, count = sizes.decoder(layers), sizes.adapters

    def keys(*path: int) -> np.ndarray:
        return np.asarray(jax.random.key_data(key(*path, root=ROOT)))

    shown = jax.tree.map(lambda *leaves: np.stack(leaves), *(world.shown for world in worlds))
    bases, losses = _every(pretrain, 1, decoder, sizes.schedule(layers))(
        {FACTS: shown}, np.stack([keys(0, layers, seed) for seed in seeds])
    )
    require_finite(losses, f"bases of {layers} layers")
    lessons = np.concatenate([world.taught for world in worlds])
    groups = {FACTS: Sequences(lessons, np.ones(lessons.shape[:2], np.float32), 3)}
    own_keys = np.stack([keys(1, layers, seed, place) for seed in seeds for place in range(count)])
    repeated = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), count, axis=0), bases)
    recipe = Recipe(decoder, sizes.finetuning, sizes.rank, ATTENTION + MLP)
    ended = _every(_finetune, 1, recipe)(repeated, groups, own_keys)
    require_finite(ended.losses, f"adapters in {layers} layers")
    bases, ended = jax.tree.map(np.asarray, (bases, ended))
    taught = []
    for place in range(len(seeds)):
        some = slice(place * count, (place + 1) * count)
        library = jax.tree.map(lambda leaf, some=some: leaf[some], ended.factors)
        base = {name: leaf[place] for name, leaf in bases.items()}
        taught.append(Taught(base, library, ended.steps[some], ended.recall[FACTS][some]))
    return taught


def _finetune(recipe: Recipe, params: Params, groups: Mapping[str, Sequences], key_data):
    return finetune(recipe, params, groups, "lora", jax.random.wrap_key_data(key_data))


def run_merges(sizes: Sizes, layers: int, taught: Taught, world: World) -> Float[np.ndarray, "C P V"]:
    """Logits of the answers to all adapters' facts, of every one of ``merges``."""
    weights = merges(sizes.adapters).astype(np.float32)
    tokens = world.taught.reshape(-1, world.taught.shape[-1])
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (taught.base, taught.library, tokens, weights))
    return np.asarray(_every(_logits, 0, sizes.decoder(layers))(*one))[0]


def _logits(decoder: Decoder, params: Params, library: Factors, tokens, weights):
    parts = [
        {name: (b[place], a[place]) for name, (b, a) in library.items()} for place in range(weights.shape[1])
    ]

    def of(at):
        return completion_logits(decoder, scaled(params, parts, at), tokens, 3)[:, 0]

    return jax.lax.map(of, weights, batch_size=TOGETHER)


class Sample(NamedTuple):
    """Of the first K adapters: outcomes of all ``merges(K)``, and leads (C, P) that sums of effects say."""

    outcomes: Outcomes
    sums: Mapping[str, Float[np.ndarray, "C P"]]


def sample(
    logits: Float[np.ndarray, "C P V"],
    target: Int[np.ndarray, " P"],
    largest: int,
    adapters: int,
    places: Sequence[int],
) -> Sample:
    """A smaller library of a large one. logits: of ``merges(largest)``. places: of ``merges(adapters)``, from
    which rivals are chosen."""
    prompts = len(target) // largest * adapters
    every = merges(largest)
    logits = logits[~every[:, adapters:].any(axis=1), :prompts].astype(float)
    target, row = target[:prompts], np.arange(prompts)
    nearest = np.argsort(-logits[places], axis=-1)[..., : NEAREST + 2]
    read = functools.partial(of_logits, target=target, row=row, rivals=choose_rivals(nearest, target, RIVALS))
    sums = sums_of_effects(logits, adapters)
    return Sample(read(logits), {name: read(values).lead for name, values in sums.items()})


def score(layers: int, seed: int, taught: Taught, world: World) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(``scoring.predicted``, ``scoring.searches``) of the libraries of a seed and depth, of all sizes."""
    sizes = Sizes()
    logits, target = run_merges(sizes, layers, taught, world), world.taught[..., -1].reshape(-1)
    cells, search = [], []
    for adapters in claims.SIZES:
        names = {"adapters": adapters, "design": claims.depth(layers), "seed": seed}
        one = sample(logits, target, sizes.adapters, adapters, scoring.first_runs(adapters))
        facts = dict(enumerate(taught.recall))
        table = scoring.predicted(names, one.outcomes, one.sums)
        cells.append(table.assign(recall=table["group"].map(facts)))
        if adapters in claims.LARGE:
            search.append(scoring.searches(names, one.outcomes))
    return pd.concat(cells, ignore_index=True), pd.concat(search, ignore_index=True)
