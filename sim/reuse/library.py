"""Bases and libraries: pretraining, adapters of every family, and their merges.

Pure functions of arrays, so that a cell can be run alone, vmapped or sharded (``sim.lab.parallel``). Nothing
here knows a prediction.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge import METHODS, merge
from sim.model import closed_form, lora
from sim.model.batches import all_of, shuffle
from sim.model.sequences import Sequences
from sim.model.training import Schedule, fit, standing
from sim.model.transformer import Decoder, Params, completion_logits, init
from sim.reuse.config import FAMILIES, Recipe
from sim.worlds import FACTS
from theory import lowrank
from theory.lowrank import LowRank


def pretrain(
    decoder: Decoder, schedule: Schedule, groups: Mapping[str, Sequences], key: Array
) -> tuple[Params, Array]:
    """(parameters, losses) of a base trained on ``groups``; ``key`` as key data."""
    key = jax.random.wrap_key_data(key)

    def logits(params, group):
        return completion_logits(decoder, params, group.tokens, group.prompt)

    start = init(decoder, jax.random.fold_in(key, 0))
    ending = fit(logits, start, groups, schedule, jax.random.fold_in(key, 1))
    return ending.value, ending.losses


Factors = dict[str, tuple[Array, Array]]
"""An adapter as it passes between programs: module -> (B, A), scale 1."""


def adapter_of(factors: Factors) -> lora.Adapter:
    """The adapter of these factors."""
    return {name: LowRank(b, a, 1.0) for name, (b, a) in factors.items()}


def factors_of(adapter: lora.Adapter) -> Factors:
    """The factors of an adapter of scale 1."""
    return {name: (update.b, update.a) for name, update in adapter.items()}


class Training(NamedTuple):
    """An adapter and its training, as ``sim.model.training.Fit`` says it: losses of every step, how many
    steps, and of each group the share that the adapter answers."""

    factors: Factors
    losses: Array
    steps: Array
    recall: dict[str, Array]


def make(
    recipe: Recipe,
    family: str,
    params: Params,
    groups: Mapping[str, Sequences],
    key: Array,
    place: Array,
    ranks: Mapping[str, Array] | None = None,
) -> Training:
    """The adapter of a family for one of a cell's data sets: solved for, or trained (``finetune``).

    ``key`` is the cell's, as key data, and ``place`` the number of the data set among its adapters: every
    family and place has a key of its own.
    """
    if family == "closed_form":
        return _solved(recipe, params, groups[FACTS])
    key = jax.random.fold_in(jax.random.wrap_key_data(key), FAMILIES.index(family))
    return finetune(recipe, params, groups, family, jax.random.fold_in(key, place), ranks)


def random_like(factors: Factors, key: Array, place: Array, spectrum: bool = False) -> Factors:
    """Random factors of the same shapes with |B A|_F of every module as in ``factors``; never trained:
    Gaussian ones, or (``spectrum``) random directions with the singular values of ``factors``.

    ``key`` is the cell's, as key data, and ``place`` the number of the random adapter. Its key is below a
    number that no family has, so it shares none with a trained adapter.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(key), len(FAMILIES))
    key, drawn = jax.random.fold_in(key, place), {}
    for index, (name, pair) in enumerate(factors.items()):
        update = lora.random_like(LowRank(*pair), jax.random.fold_in(key, index), spectrum)
        drawn[name] = update.b * update.scale, update.a
    return drawn


def random_spectrum(factors: Factors, key: Array, place: Array) -> Factors:
    """``random_like`` with the singular values of ``factors``."""
    return random_like(factors, key, place, spectrum=True)


def finetune(
    recipe: Recipe,
    params: Params,
    groups: Mapping[str, Sequences],
    family: str,
    key: Array,
    ranks: Mapping[str, Array] | None = None,
) -> Training:
    """Rank-r LoRA trained on ``groups`` with the base frozen, by ``recipe.finetuning``: until it knows them.

    When it stops depends on its own facts and traces alone, so that is fixed before any merge is seen.

    ``ranks`` gives modules ranks of their own, 0 to ``recipe.rank``, as traced numbers, so that one
    program serves every rank: rows of A beyond the rank start at zero, get a zero gradient (B starts at
    zero) and stay zero.

    The family "lora_last" adapts the last MLP output alone and trains on remembered features: the same
    losses and gradients as running the whole decoder at every step. Otherwise the update is added to the
    weights: a batch has more tokens than a matrix has rows, so that W + B A costs less than two thin products
    a token.
    """
    decoder, last = recipe.decoder, closed_form.last_module(recipe.decoder)
    names = (last,) if family == "lora_last" else decoder.modules(recipe.kinds)
    start = lora.init(decoder, names, recipe.rank, jax.random.fold_in(key, 0))
    if family == "lora_last":
        groups = {name: closed_form.remember(decoder, params, group) for name, group in groups.items()}

    def logits(factors, group):
        adapter = adapter_of(factors)
        if family == "lora_last":
            return closed_form.logits(params, closed_form.adapted_stream(group, adapter[last]))
        return completion_logits(decoder, lora.fold(params, adapter), group.tokens, group.prompt)

    if ranks is not None:
        rows = jnp.arange(recipe.rank)[:, None]
        start = {name: u._replace(a=jnp.where(rows < ranks[name], u.a, 0.0)) for name, u in start.items()}
    schedule, own_key = recipe.finetuning, jax.random.fold_in(key, 1)
    return Training(*fit(logits, factors_of(start), groups, schedule, own_key))


def _solved(recipe: Recipe, params: Params, facts: Sequences) -> Training:
    """The closed-form adapter of a group of facts: no steps, and no losses but a zero."""
    group = closed_form.remember(recipe.decoder, params, facts)
    solved = closed_form.solve(params, group, recipe.rank)

    def logits(sequences):
        return closed_form.linear_logits(params, closed_form.adapted_stream(sequences, solved))

    every = all_of(shuffle(group.weight, jax.random.key(0)), group.weight)
    share = standing(logits, group, every, 0.0, recipe.finetuning.tile).recall
    factors = factors_of({closed_form.last_module(recipe.decoder): solved})
    return Training(factors, jnp.zeros(1, jnp.float32), jnp.int32(0), {FACTS: share})


def merged(rank: int, method: str, params: Params, library: Sequence[Factors]) -> Params:
    """The base with the data-free merge of a library of adapters of the same modules in its weights.

    Modules of one shape are merged by one loop, one at a time: batched LAPACK calls wait for each other's
    threads on a CPU and can hang.
    """
    rank = rank if METHODS[method].uses_rank else None

    def change(factors):
        update = merge(method, [LowRank(b, a, 1.0) for b, a in factors], rank=rank)
        return lowrank.dense(update) if isinstance(update, LowRank) else update

    changes = {}
    for names in lora.of_one_shape(adapter_of(library[0])):
        stacked = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *([factors[name] for factors in library] for name in names)
        )
        changes |= zip(names, jax.lax.map(change, stacked), strict=True)
    return lora.fold(params, changes)


def scaled(params: Params, library: Sequence[Factors], strengths: Float[Array, " K"]) -> Params:
    """The base with sum_i strength_i Delta W_i in its weights: every linear merge, and each adapter alone."""
    return lora.fold(params, lora.linear([adapter_of(factors) for factors in library], strengths))
