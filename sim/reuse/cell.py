"""The reuse experiment on one trained decoder: adapters on disjoint facts, every merge, every question.

Pure functions of arrays, so that a cell can be run alone, vmapped or sharded (``sim.parallel``). Nothing
here knows a prediction.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sim import merge as merging
from sim.lab import parallel
from sim.model import closed_form, decoding, lora
from sim.model.training import Schedule, fit
from sim.model.transformer import (
    ATTENTION,
    MLP,
    Decoder,
    Params,
    Project,
    completion_logits,
    init,
    next_logits,
    plain,
)
from sim.worlds import Sequences, World
from sim.worlds.two_hop import TwoHopConfig
from theory.lowrank import LowRank

FAMILIES = ("lora", "lora_last", "closed_form")
"""How adapters are made: gradient-trained on every matrix, on the last MLP output, or solved for there."""

HOPS = ("hop1", "hop2")

ProjectFor = Callable[[tuple[str, ...]], Project]


def always(project: Project) -> ProjectFor:
    """The same projection for every probe."""
    return lambda names: project


ASIS = always(plain)

PRETRAINING = Schedule(400, 6e-3, (("facts", 128), ("direct", 128), ("traces", 64)), decay=0.3)
"""Enough to know every fact and to answer held-out two-hop queries by chain of thought."""

FINETUNING = Schedule(200, 2e-3, (("facts", 32), ("traces", 8)))
"""The gentlest of the settings tried with which a single rank-4 adapter learns its own facts (recall 0.98
or more for real and fake entities). Chosen on single adapters alone: stronger training makes an average keep
more of the edits and does more damage, so a choice made on merges would be a choice of the result."""


@dataclass(frozen=True)
class ReuseConfig:
    """Everything that decides the outcome of a cell, apart from its seed, entities and template."""

    world: TwoHopConfig = field(default_factory=TwoHopConfig)
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 256
    pretraining: Schedule = PRETRAINING
    finetuning: Schedule = FINETUNING
    rank: int = 4
    kinds: tuple[str, ...] = ATTENTION + MLP
    libraries: tuple[str, ...] = ("hop1", "hop2", "joint")
    methods: tuple[str, ...] = ("average", "sum", "concat", "svd", "ties")

    @property
    def decoder(self) -> Decoder:
        """The decoder whose vocabulary fits the world."""
        return Decoder(self.world.vocab, self.layers, self.width, self.heads, self.hidden)


def pretrain(config: ReuseConfig, world: World, key: Array) -> tuple[Params, Array]:
    """(parameters, losses) of a base trained on ``world.pretraining``."""
    decoder = config.decoder

    def logits(params, group):
        return completion_logits(decoder, params, group.tokens, group.prompt)

    start = init(decoder, jax.random.fold_in(key, 0))
    return fit(logits, start, world.pretraining, config.pretraining, jax.random.fold_in(key, 1))


def finetune(
    config: ReuseConfig,
    params: Params,
    groups: dict[str, Sequences],
    family: str,
    key: Array,
    ranks: dict[str, Array] | None = None,
    used: dict[str, Array] | None = None,
) -> tuple[lora.Adapter, Array]:
    """(adapter, losses): rank-r LoRA trained on ``groups`` with the base frozen.

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
        adapter = {name: LowRank(b, a, 1.0) for name, (b, a) in factors.items()}
        if family == "lora_last":
            return closed_form.logits(params, closed_form.adapted_stream(group, adapter[last]))
        return completion_logits(decoder, params, group.tokens, group.prompt, lora.adapted(adapter))

    if ranks is not None:
        rows = jnp.arange(config.rank)[:, None]
        start = {name: u._replace(a=jnp.where(rows < ranks[name], u.a, 0.0)) for name, u in start.items()}
    factors = {name: (update.b, update.a) for name, update in start.items()}
    factors, losses = fit(logits, factors, groups, config.finetuning, jax.random.fold_in(key, 1), used)
    return {name: LowRank(b, a, 1.0) for name, (b, a) in factors.items()}, losses


def library(
    config: ReuseConfig,
    params: Params,
    world: World,
    family: str,
    key: Array,
    ranks: dict[str, Array] | None = None,
) -> tuple[dict[str, lora.Adapter], Array]:
    """({name of ``config.libraries`` -> adapter}, losses (adapters, steps)) of one family."""
    names = config.libraries
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(world.libraries[name] for name in names))
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(len(names)))

    def make(groups, adapter_key):
        if family == "closed_form":
            facts = closed_form.remember(config.decoder, params, groups["facts"])
            solved = closed_form.solve(params, facts, config.rank)
            return {closed_form.last_module(config.decoder): solved}, jnp.zeros(1, jnp.float32)
        return finetune(config, params, groups, family, adapter_key, ranks, used)

    used = {group: jnp.any(stacked[group].weight > 0) for group in stacked}
    if family == "closed_form":
        # One at a time: batched LAPACK calls wait for each other's threads on a CPU and can hang.
        adapters, losses = jax.lax.map(lambda each: make(*each), (stacked, keys))
    else:
        adapters, losses = jax.vmap(make)(stacked, keys)
    return {name: jax.tree.map(lambda leaf, i=i: leaf[i], adapters) for i, name in enumerate(names)}, losses


def merged(config: ReuseConfig, adapters: Sequence[lora.Adapter], method: str) -> dict:
    """The data-free merge of adapters of the same modules, module by module."""
    rank = config.rank if method == "svd" else None
    return {
        name: merging.merge(method, [adapter[name] for adapter in adapters], rank=rank)
        for name in adapters[0]
    }


def ask(
    config: ReuseConfig, params: Params, probes: dict[str, Sequences], project_for: ProjectFor = ASIS
) -> dict[str, Array]:
    """Greedy answers to every probe, scored: metric -> (number right, number asked).

    ``project_for(probe names)`` is the projection the decoder runs with on these probes: plain weights, or
    a router. Probes of one shape are decoded together, rows in the order of the names.
    """
    decoder = config.decoder
    completions = {}
    for names in of_one_shape(probes):
        together = stacked_rows([probes[name] for name in names])
        project = project_for(names)
        written = decoding.answers(
            lambda tokens, position, p=project: next_logits(decoder, params, tokens, position, p), together
        )
        completions |= split_rows(written, names, probes)
    right = {}
    for name, probe in probes.items():
        if name == "cot":
            steps = decoding.trace_factors(completions[name], probe, config.world.name_tokens)
            right |= {f"cot_{step}": value for step, value in steps.items()}
            right["cot_exact"] = decoding.exact(completions[name], probe)
        else:
            right[name] = decoding.exact(completions[name], probe)
        if name == "direct":
            known = probe.tokens[:, probe.prompt :]
            same = jnp.all(completions[name][:, None] == known[None], axis=-1)
            right["direct_among_answers"] = jnp.any(same, axis=1)
    return {name: jnp.stack([jnp.sum(value), jnp.asarray(value.size)]) for name, value in right.items()}


def of_one_shape(probes: dict[str, Sequences]) -> list[tuple[str, ...]]:
    """Names of the probes that share prompt and total length, group by group."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name, probe in probes.items():
        groups.setdefault((probe.prompt, probe.tokens.shape[1]), []).append(name)
    return [tuple(names) for names in groups.values()]


def stacked_rows(groups: list[Sequences]) -> Sequences:
    """Probes of one shape as one, rows one after the other."""
    tokens = jnp.concatenate([group.tokens for group in groups])
    return Sequences(tokens, jnp.concatenate([group.weight for group in groups]), groups[0].prompt)


def split_rows(rows: Array, names: tuple[str, ...], probes: dict[str, Sequences]) -> dict[str, Array]:
    """The inverse of ``stacked_rows`` for anything computed row by row."""
    ends = np.cumsum([len(probes[name].tokens) for name in names])[:-1]
    return dict(zip(names, jnp.split(rows, ends), strict=True))


def ask_each(config: ReuseConfig, models: dict[str, Params], probes: dict[str, Sequences]) -> dict[str, dict]:
    """``ask`` of every model, one program for all: {model: {metric: (right, asked)}}."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models.values())
    scores = parallel.each(lambda model: ask(config, model, probes), stacked)
    return {name: jax.tree.map(lambda leaf, i=i: leaf[i], scores) for i, name in enumerate(models)}


def run(config: ReuseConfig, params: Params, world: World, key: Array) -> dict:
    """One cell: train or solve every adapter, merge, fold, ask.

    Returns:
        scores: {"family/method": {metric: (right, asked)}}, with "base" for the base;
        linear: {"family/hop": logits} of base and single adapters at the hop prompts, for W-only families:
            what a prediction may look at (it never sees a merged model);
        losses: {family: (adapters, steps)}.
    """
    last = closed_form.last_module(config.decoder)
    asked = {hop: closed_form.remember(config.decoder, params, world.probes[hop]) for hop in HOPS}
    models, losses = {"base": params}, {}
    linear = {f"base/{hop}": closed_form.linear_logits(params, asked[hop].stream) for hop in HOPS}
    for index, family in enumerate(FAMILIES):
        adapters, losses[family] = library(config, params, world, family, jax.random.fold_in(key, index))
        for name, adapter in adapters.items():
            models[f"{family}/{name}"] = lora.fold(params, adapter)
        for method in config.methods:
            models[f"{family}/{method}"] = lora.fold(
                params, merged(config, [adapters[hop] for hop in HOPS], method)
            )
        if family != "lora":
            for name, hop in itertools.product(HOPS, HOPS):
                stream = closed_form.adapted_stream(asked[hop], adapters[name][last])
                linear[f"{family}/{name}/{hop}"] = closed_form.linear_logits(params, stream)
    return {"scores": ask_each(config, models, world.probes), "linear": linear, "losses": losses}
