"""Bases and libraries: pretraining, adapters of every family, and their merges.

Pure functions of arrays, so that a cell can be run alone, vmapped or sharded (``sim.lab.parallel``). Nothing
here knows a prediction.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.lab import seeds
from sim.merge import METHODS, merge
from sim.model import closed_form, lora
from sim.model.sequences import Sequences
from sim.model.training import fit
from sim.model.transformer import Params, completion_logits, init
from sim.reuse.config import KNOWN, ReuseConfig
from sim.worlds import FACTS, World
from theory import lowrank
from theory.lowrank import LowRank


def pretrain(config: ReuseConfig, world: World, key: Array) -> tuple[Params, Array]:
    """(parameters, losses) of a base trained on ``world.pretraining``."""
    decoder = config.decoder

    def logits(params, group):
        return completion_logits(decoder, params, group.tokens, group.prompt)

    start = init(decoder, jax.random.fold_in(key, 0))
    return fit(logits, start, world.pretraining, config.pretraining, jax.random.fold_in(key, 1))


class Made(NamedTuple):
    """An adapter and how it was made.

    losses: of the last cycle of its schedule, (steps,). cycles: how many were run. recall: ``own_recall``.
    """

    adapter: lora.Adapter
    losses: Array
    cycles: Array
    recall: Array


def finetune(
    config: ReuseConfig,
    params: Params,
    groups: dict[str, Sequences],
    family: str,
    key: Array,
    ranks: dict[str, Array] | None = None,
    used: dict[str, Array] | None = None,
) -> Made:
    """Rank-r LoRA trained on ``groups`` with the base frozen.

    The schedule is run in whole cycles, each with its own warm-up and decay (warm restarts: Loshchilov and
    Hutter 2017), until the adapter answers ``KNOWN`` of its facts or ``config.cycles`` are over. The rule
    looks at the adapter's own facts alone, so it is fixed before any merge is seen.

    ``ranks`` gives modules ranks of their own, 0 to ``config.rank``, as traced numbers, so that one
    program serves every rank: rows of A beyond the rank start at zero, get a zero gradient (B starts at
    zero) and stay zero. ``used``: see ``training.fit``.

    The family "lora_last" adapts the last MLP output alone and trains on remembered features: the same
    losses and gradients as running the whole decoder at every step.
    """
    decoder, last = config.decoder, closed_form.last_module(config.decoder)
    names = (last,) if family == "lora_last" else decoder.modules(config.kinds)
    start = lora.init(decoder, names, config.rank, jax.random.fold_in(key, 0))
    if family == "lora_last":
        groups = {name: closed_form.remember(decoder, params, group) for name, group in groups.items()}

    def logits(factors, group):
        adapter = _adapter(factors)
        if family == "lora_last":
            return closed_form.logits(params, closed_form.adapted_stream(group, adapter[last]))
        return completion_logits(decoder, params, group.tokens, group.prompt, lora.adapted(adapter))

    if ranks is not None:
        rows = jnp.arange(config.rank)[:, None]
        start = {name: u._replace(a=jnp.where(rows < ranks[name], u.a, 0.0)) for name, u in start.items()}

    def cycle(state):
        factors, _, count, _ = state
        own_key = jax.random.fold_in(key, 1 + count)
        factors, losses = fit(logits, factors, groups, config.finetuning, own_key, used)
        return factors, losses, count + 1, own_recall(functools.partial(logits, factors), groups)

    def goes_on(state):
        _, losses, count, recall = state
        return (count < config.cycles) & (recall < KNOWN) & jnp.all(jnp.isfinite(losses))

    factors = {name: (update.b, update.a) for name, update in start.items()}
    nothing = jnp.zeros(config.finetuning.steps, jnp.float32), jnp.int32(0), jnp.float32(0.0)
    factors, *made = jax.lax.while_loop(goes_on, cycle, (factors, *nothing))
    return Made(_adapter(factors), *made)


def _adapter(factors: dict) -> lora.Adapter:
    return {name: LowRank(b, a, 1.0) for name, (b, a) in factors.items()}


def own_recall(logits: Callable[[Sequences], Array], groups: Mapping[str, Sequences]) -> Float[Array, ""]:
    """Share of an adapter's own facts that it answers, every token right with the right ones before it.

    An adapter that is taught no fact (a "bridge" of traces, say) is asked for all that it is taught.
    """

    def counts(group: Sequences) -> tuple[Array, Array]:
        right = jnp.all(jnp.argmax(logits(group), axis=-1) == group.target, axis=-1)
        taught = group.weight > 0
        return jnp.sum(right & taught).astype(jnp.float32), jnp.sum(taught)

    facts, everything = counts(groups[FACTS]), [counts(group) for group in groups.values()]
    whole = tuple(sum(part[i] for part in everything) for i in range(2))
    right, taught = (
        jnp.where(facts[1] > 0, of_facts, of_all) for of_facts, of_all in zip(facts, whole, strict=True)
    )
    return right / jnp.maximum(taught, 1)


def library(
    config: ReuseConfig,
    params: Params,
    world: World,
    family: str,
    key: Array,
    ranks: dict[str, Array] | None = None,
) -> tuple[dict[str, lora.Adapter], Made]:
    """({name of ``config.adapters`` -> adapter}, ``Made`` with a leading axis over them) of one family."""
    names = config.adapters(world)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(world.data[name] for name in names))
    keys = seeds.keys(key, len(names))

    def make(groups, adapter_key):
        if family == "closed_form":
            return _solved(config, params, groups[FACTS])
        return finetune(config, params, groups, family, adapter_key, ranks, used)

    used = {group: jnp.any(stacked[group].weight > 0) for group in stacked}
    if family == "closed_form":
        # One at a time: batched LAPACK calls wait for each other's threads on a CPU and can hang.
        made = jax.lax.map(lambda each: make(*each), (stacked, keys))
    else:
        made = jax.vmap(make)(stacked, keys)
    adapters = {name: jax.tree.map(lambda leaf, i=i: leaf[i], made.adapter) for i, name in enumerate(names)}
    return adapters, made


def _solved(config: ReuseConfig, params: Params, facts: Sequences) -> Made:
    """The closed-form adapter of a group of facts: no cycles, and no losses but a zero."""
    held = closed_form.remember(config.decoder, params, facts)
    solved = closed_form.solve(params, held, config.rank)

    def logits(group):
        return closed_form.linear_logits(params, closed_form.adapted_stream(group, solved))

    recall = own_recall(logits, {FACTS: held})
    adapter = {closed_form.last_module(config.decoder): solved}
    return Made(adapter, jnp.zeros(1, jnp.float32), jnp.int32(0), recall)


def merged(config: ReuseConfig, adapters: Sequence[lora.Adapter], method: str) -> dict:
    """The data-free merge of adapters of the same modules, module by module."""
    rank = config.rank if METHODS[method].uses_rank else None
    return {name: merge(method, [adapter[name] for adapter in adapters], rank=rank) for name in adapters[0]}


def linear(adapters: Sequence[lora.Adapter], strengths: Sequence[float | Array]) -> lora.Adapter:
    """sum_i strength_i Delta W_i, in factors."""
    return {
        name: lowrank.concatenated(
            [lowrank.scaled(adapter[name], by) for adapter, by in zip(adapters, strengths, strict=True)]
        )
        for name in adapters[0]
    }
