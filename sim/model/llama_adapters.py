"""LoRA on a Llama: many adapters trained in one program on one frozen base, and what an adapted Llama writes.

An adapter is a dict from kind of matrix to ``LowRank`` factors whose leaves carry the layers in front: B (N,
out, r), A (N, r, in). K adapters carry one more axis in front. The base has none, so that ``jax.vmap`` runs
its products once, over the tokens of all adapters together, and no gradient of its weights is computed.

Shape letters as in ``sim.model.llama``; K adapters, S sequences, L answer tokens, r rank.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from sim.model import decoding, llama, lora
from sim.model.llama import KINDS, Llama, Params
from theory.lowrank import LowRank

Adapter = dict[str, LowRank]


class Questions(NamedTuple):
    """Sequences with an answer each, padded behind to one length.

    position: of the token before each answer token. target: the answer tokens. mask: 1 where there is one,
    else 0.
    """

    tokens: Int[Array, "S T"]
    position: Int[Array, "S L"]
    target: Int[Array, "S L"]
    mask: Float[Array, "S L"]


def init(model: Llama, rank: int, key: Array, kinds: Sequence[str] = KINDS) -> Adapter:
    """B = 0, A ~ N(0, 1/in), scale 1, float32, for every layer of each kind.

    Raises: ValueError unless 1 <= rank <= the smallest side of the matrices.
    """
    limit = min(min(model.shape(kind)) for kind in kinds)
    if not 1 <= rank <= limit:
        raise ValueError(f"rank {rank} is outside 1..{limit}, the smallest side of the adapted matrices")

    def start(kind: str) -> LowRank:
        out, into = model.shape(kind)
        a = jax.random.normal(
            jax.random.fold_in(key, KINDS.index(kind)), (model.layers, rank, into), jnp.float32
        )
        return LowRank(
            jnp.zeros((model.layers, out, rank), jnp.float32), a * into**-0.5, jnp.ones(model.layers)
        )

    return {kind: start(kind) for kind in kinds}


def combine(library: Sequence[Adapter], weights: Sequence[float | Array]) -> Adapter:
    """sum_i weight_i Delta W_i as one adapter (``lora.linear``), with a scale of 1 for every layer."""
    total = lora.linear(library, weights)
    return {kind: total[kind]._replace(scale=jnp.ones_like(one.scale)) for kind, one in library[0].items()}


def answer_logits(
    model: Llama, params: Params, adapter: Adapter | None, questions: Questions, remat: bool = False
) -> Float[Array, "S L V"]:
    """Logits that decide the answer tokens, the right ones given before them (teacher forcing)."""
    project = llama.plain if adapter is None else llama.adapted
    x, _ = llama.hidden(model, params, questions.tokens, adapter, project, remat=remat)
    return llama.read_out(model, params, jnp.take_along_axis(x, questions.position[..., None], axis=1))


def loss(
    model: Llama, params: Params, adapter: Adapter, questions: Questions, remat: bool = False
) -> Float[Array, ""]:
    """Mean over sequences of the mean over answer tokens of -log p, in nats a token."""
    logits = answer_logits(model, params, adapter, questions, remat)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, questions.target) * questions.mask
    return jnp.mean(jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(questions.mask, axis=1), 1))


def right(model: Llama, params: Params, adapter: Adapter | None, questions: Questions) -> Array:
    """(S,) whether every answer token is the most likely one. As greedy decoding writes the right token until
    its first wrong one, this is whether it writes the whole answer."""
    best = jnp.argmax(answer_logits(model, params, adapter, questions), axis=-1)
    return jnp.all((best == questions.target) | (questions.mask == 0), axis=-1)


@functools.partial(jax.jit, static_argnames=("model", "batch"))
def all_right(
    model: Llama, params: Params, adapters: Adapter, questions: Questions, batch: int
) -> Bool[Array, "K S"]:
    """``right`` of K adapters, each with S questions of its own, S a multiple of ``batch``."""
    each = jax.vmap(lambda adapter, own: right(model, params, adapter, own))
    split = jax.tree.map(lambda leaf: leaf.reshape(len(leaf), -1, batch, *leaf.shape[2:]), questions)
    rows = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), split)
    verdicts = jax.lax.map(lambda own: each(adapters, own), rows)
    return jnp.moveaxis(verdicts, 0, 1).reshape(verdicts.shape[1], -1)


class Training(NamedTuple):
    """K adapters under training: their factors, and Adam's state."""

    adapters: Adapter
    state: optax.OptState


OPTIMISER = optax.scale_by_adam(b1=0.9, b2=0.99)


def begin(adapters: Adapter) -> Training:
    """The start of K adapters."""
    return Training(adapters, jax.vmap(OPTIMISER.init)(adapters))


@functools.partial(jax.jit, donate_argnames="training")
def replaced(training: Training, place: Int[Array, ""], one: Training) -> Training:
    """K adapters with another one, of a K of 1, in one place."""
    return jax.tree.map(lambda leaf, new: leaf.at[place].set(new[0]), training, one)


@jax.jit
def copied(training: Training, place: Int[Array, ""]) -> Training:
    """One of K adapters with its state, as a K of 1."""
    return jax.tree.map(lambda leaf: leaf[place][None], training)


def train(
    model: Llama,
    params: Params,
    training: Training,
    questions: Questions,
    index: Int[Array, "steps K B"],
    rate: Float[Array, "steps K"],
    remat: bool = False,
) -> tuple[Training, Float[Array, "steps K"]]:
    """Steps of Adam on K adapters at once: (training after them, the loss before each).

    The adapters are sharded over the devices, as many as divide K; nothing passes between them.

    Args:
        training: its memory is given to the result.
        questions: of every adapter, leaves (K, S, ...).
        index: the sequences of each step. rate: learning rates; at rate 0 an adapter and its moments stay as
            they are.
    """
    count = math.gcd(index.shape[1], jax.device_count())
    mesh = Mesh(np.array(jax.devices()[:count]), ("adapters",))
    # The first call finds them where it leaves them for the next: elsewhere it would be another program.
    training = jax.device_put(training, NamedSharding(mesh, PartitionSpec("adapters")))
    return _sharded(model, remat, mesh, params, training, questions, index, rate)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def _sharded(model: Llama, remat: bool, mesh: Mesh, *arrays) -> tuple[Training, Float[Array, "steps K"]]:
    """``train`` on the devices of a mesh."""
    each, later = PartitionSpec("adapters"), PartitionSpec(None, "adapters")
    on_devices = jax.shard_map(
        functools.partial(_train, model, remat),
        mesh=mesh,
        in_specs=(PartitionSpec(), each, each, later, later),
        out_specs=(each, later),
        check_vma=False,
    )
    return on_devices(*arrays)


def _train(
    model: Llama,
    remat: bool,
    params: Params,
    training: Training,
    questions: Questions,
    index: Int[Array, "steps K B"],
    rate: Float[Array, "steps K"],
) -> tuple[Training, Float[Array, "steps K"]]:
    """``train`` on one device, with its share of the adapters."""

    def one(adapter, state, own, rows, rate):
        batch = jax.tree.map(lambda leaf: leaf[rows], own)
        value, gradient = jax.value_and_grad(lambda a: loss(model, params, a, batch, remat))(adapter)
        # The scale of an update is a setting, not a parameter.
        gradient = {kind: g._replace(scale=jnp.zeros_like(g.scale)) for kind, g in gradient.items()}
        change, next_state = OPTIMISER.update(gradient, state)
        stepped = jax.tree.map(lambda leaf, step: leaf - rate * step, adapter, change)
        choose = functools.partial(jnp.where, rate > 0)
        return jax.tree.map(choose, stepped, adapter), jax.tree.map(choose, next_state, state), value

    def step(carry, now):
        adapters, state, value = jax.vmap(one)(carry.adapters, carry.state, questions, *now)
        return Training(adapters, state), value

    return jax.lax.scan(step, training, (index, rate))


def as_it_is(state: Any, start: Array, count: int) -> Any:
    """A state that is the same at every position."""
    return state


@functools.partial(jax.jit, static_argnames=("model", "length", "project", "at"))
def write(
    model: Llama,
    params: Params,
    state: Any,
    prompts: Int[Array, "B P"],
    padding: Int[Array, " B"],
    length: int,
    project: llama.Project | None = None,
    at: Callable[[Any, Array, int], Any] = as_it_is,
    weights: Float[Array, " K"] | None = None,
) -> Int[Array, "B length"]:
    """What greedy decoding writes after prompts that are padded in front, keys and values stored.

    Args:
        state: what ``project`` gets, by default an adapter, or None for the base.
        at: (state, start, count) -> the state for ``count`` tokens from position ``start`` on.
        weights: of the logits of K models, whose states carry one more axis in front: every token is the best
        one of the weighted sum. None for one model.
    """
    project = project or (llama.plain if state is None else llama.adapted)
    batch, count = prompts.shape

    def logits(tokens, start, state, cache):
        now = at(state, start, tokens.shape[1])
        x, cache = llama.hidden(
            model, params, tokens, now, project, padding_B=padding, cache=cache, start=start
        )  # fmt: skip
        return llama.read_out(model, params, x[:, -1]), cache

    def read_on(tokens, start, cache):
        if weights is None:
            return logits(tokens, start, state, cache)
        each, cache = jax.vmap(functools.partial(logits, tokens, start))(state, cache)
        return jnp.tensordot(weights, each, 1), cache

    cache = llama.empty_cache(model, batch, count + length, params["embed"].dtype)
    if weights is not None:
        cache = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(weights)), cache)
    return decoding.greedy(read_on, prompts, length, cache)
