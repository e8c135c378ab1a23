"""Single adapters, merges and routers as what a Llama is run with.

Every merge is run as a dense Delta W beside the base's matrix, W x + Delta W x: many merges are of no low
rank, and adding a small Delta W to a matrix of bfloat16 would round it away.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.merge import METHODS, merge
from sim.model import llama, lora, routing
from sim.model.llama import KINDS, Llama
from sim.model.llama_adapters import Adapter
from theory import lowrank
from theory.lowrank import LowRank

Delta = dict[str, Float[Array, "N out in"]]
"""An update of every matrix, layers in front."""


def with_delta(kind: str, weight: Array, state: Delta, x: Array) -> Array:
    """W x + Delta W x, where there is an update of this kind."""
    y = llama.plain(kind, weight, None, x)
    return y + x @ state[kind].T if kind in state else y


@functools.partial(jax.jit, static_argnames="dtype")
def delta(adapter: Adapter, dtype: Any) -> Delta:
    """The dense Delta W of an adapter."""
    return {kind: lowrank.dense(update).astype(dtype) for kind, update in adapter.items()}


def nothing(model: Llama, kinds: Sequence[str] = KINDS) -> Adapter:
    """The adapter of these kinds of matrices that changes nothing."""
    return {
        kind: LowRank(
            jnp.zeros((model.layers, model.shape(kind)[0], 1)),
            jnp.zeros((model.layers, 1, model.shape(kind)[1])),
            jnp.ones(model.layers),
        )
        for kind in kinds
    }


def merged(method: str, rank: int, library: Sequence[Adapter], key: Array) -> Adapter | Delta:
    """The data-free merge of a library: an adapter, or a Delta W for the methods that are dense.

    Methods of low rank run on the CPU: they are made of many small factorisations, in float64, which take a
    GPU longer. Those that are dense sort and compare, where a GPU is faster.
    """
    device = jax.devices()[0] if METHODS[method].dense else jax.devices("cpu")[0]
    here = jax.devices()[0]
    result = _merged(method, rank)(jax.device_put((list(library), key), device))
    return jax.device_put(result, here)


def compile_merge(method: str, rank: int, library: Sequence[Adapter], key: Array) -> None:
    """Compile ``merged`` into JAX's cache of programs."""
    device = jax.devices()[0] if METHODS[method].dense else jax.devices("cpu")[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), (list(library), key)
    )
    _merged(method, rank).lower(like).compile()


@functools.cache
def _merged(method: str, rank: int) -> Callable:
    """The program that merges a library, matrix by matrix: batched LAPACK calls wait for each other's
    threads on a CPU."""
    record = METHODS[method]

    def one(inputs):
        updates, number, key = inputs
        options = {"key": jax.random.fold_in(key, number)} if record.uses_key else {}
        return merge(method, updates, rank=rank if record.uses_rank else None, **options)

    def merge_of_names(inputs):
        library, key = inputs
        merged, number = {}, 0
        for kinds in lora.of_one_shape(library[0]):
            updates = [
                jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(adapter[kind] for kind in kinds))
                for adapter in library
            ]
            count = len(updates[0].scale)
            keys = jnp.broadcast_to(key, count)
            result = jax.lax.map(one, (updates, jnp.arange(number, number + count), keys))
            if isinstance(result, LowRank):
                scale = jnp.asarray(result.scale, jnp.float32)
                result = result._replace(scale=jnp.broadcast_to(scale, count))
            layers = count // len(kinds)
            for place, kind in enumerate(kinds):
                rows = slice(place * layers, (place + 1) * layers)
                merged[kind] = jax.tree.map(lambda leaf, rows=rows: leaf[rows], result)
            number += count
        return {kind: merged[kind] for kind in library[0]}

    return jax.jit(merge_of_names)


def random_like(adapter: Adapter, key: Array, spectrum: bool = False) -> Adapter:
    """Random factors of the same shapes with |B A|_F, or the spectrum, of every matrix as in ``adapter``;
    never trained (``lora.random_like``)."""
    return {
        kind: lora.random_like(update, jax.random.fold_in(key, number), spectrum)
        for number, (kind, update) in enumerate(adapter.items())
    }


RULES = (*routing.RULES, "given")
"""How weights are made of scores: the routers' rules, and the oracle's, which are given."""


class Routed(NamedTuple):
    """A library that a router chooses from, for every matrix of a kind; layers in front.

    b (N, K, out, r), a (N, K, r, in): its factors, scales absorbed. prototypes (N, K, p, in).
    rule (N, 4): 1 for the rule of ``RULES`` in use, so that one program serves all of them.
    gates (N, B, T, K): the oracle's weights at every token of a row; zeros for the others.
    """

    b: Array
    a: Array
    prototypes: Array
    rule: Array
    gates: Array


def routed(library: Sequence[Adapter], router: str, gates: np.ndarray) -> dict[str, Routed]:
    """A library under a router, or under the oracle (router "oracle") with these weights (B, T, K).

    Raises: ValueError for a router that takes more than the whole library or its best one.
    """
    record = None if router == "oracle" else routing.ROUTERS[router]
    if record and (record.split or record.top_k != (1 if record.rule == "unit" else None)):
        raise ValueError(f"router {router!r} is not made for a language model: it picks parts or several")
    rule = "given" if record is None else record.rule

    def of_kind(kind: str) -> Routed:
        parts = [lowrank.absorbed(adapter[kind]) for adapter in library]
        b, a = (jnp.stack([getattr(part, side) for part in parts], axis=1) for side in ("b", "a"))
        layers, count, _, rank = b.shape
        rows = jnp.zeros((layers, count, rank, a.shape[-1]), jnp.float32)
        if record:
            prototypes = _prototypes(router)([LowRank(part.b, part.a, 1.0) for part in parts])
            rows = rows.at[:, :, : prototypes.shape[2]].set(prototypes)
        one_rule = jnp.asarray([name == rule for name in RULES], jnp.float32)
        given = jnp.asarray(gates, jnp.float32) * one_rule[-1]
        repeated = (jnp.broadcast_to(leaf, (layers, *leaf.shape)) for leaf in (one_rule, given))
        return Routed(b, a, rows, *repeated)

    return {kind: of_kind(kind) for kind in library[0]}


@functools.cache
def _prototypes(router: str) -> Callable:
    """(library of one kind, layers in front) -> (N, K, p, in), computed on the CPU."""

    def one(updates):
        return routing.prototypes(router, [LowRank(b, a, 1.0) for b, a in updates])

    program = jax.jit(lambda updates: jax.lax.map(one, updates))

    def run(updates):
        pairs = [(update.b, update.a) for update in updates]
        prototypes = program(jax.device_put(pairs, jax.devices("cpu")[0]))
        return jax.device_put(prototypes, jax.devices()[0])

    return run


def gated(kind: str, weight: Array, state: dict[str, Routed], x: Array) -> Array:
    """W x + sum_i g_i Delta W_i x, with the weights of the rule in use, where there are updates."""
    y = llama.plain(kind, weight, None, x)
    if kind not in state:
        return y
    own = state[kind]
    wide = x.astype(jnp.float32)
    softmax, share = (routing.gate(wide, own.prototypes, rule=rule) for rule in RULES[:2])
    best = routing.gate(wide, own.prototypes, rule=RULES[2], top_k=1)
    gates = sum(
        own.rule[place] * weights for place, weights in enumerate((softmax, share, best, own.gates))
    ).astype(x.dtype)
    inner = jnp.einsum("bti,kri->btkr", x, own.a.astype(x.dtype))
    return y + jnp.einsum("btkr,kor->bto", inner * gates[..., None], own.b.astype(x.dtype))


def at_position(state: dict[str, Routed], start: Array, count: int) -> dict[str, Routed]:
    """The state with the oracle's weights of ``count`` tokens from ``start`` on."""
    return {
        kind: own._replace(gates=jax.lax.dynamic_slice_in_dim(own.gates, start, count, axis=2))
        for kind, own in state.items()
    }
