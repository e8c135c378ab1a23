"""Twin of ``theory.composition``: every bijection tried (theory/README.md, section 2).

``two_hop_accuracy`` under the theorem's assumptions: adapters on W, merged or gated, all bijections counted.
``trained_two_hop`` and ``decoder_two_hop`` beyond them: adapters on any matrix of the one-layer model, W, U
("up") or V ("value"), or on all of a deep decoder, trained by gradient descent, in a balanced design: the
same draw is trained N times, with s1 turned by k = 0..N-1 places, so that an answer which does not depend on
s1 is right exactly once in N.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sim.merge import merge as merge_by
from sim.model import lora, routing
from sim.model.descent import minimise
from sim.model.transformer import Decoder, forward, init
from sim.twins.cross_entropy import Loss, loss_of
from theory import model as one_layer
from theory.edits import least_squares_adapter
from theory.lowrank import LowRank, dense
from theory.model import gaussian

Merge = Callable[[LowRank, LowRank], Array]
"""(Delta W_1, Delta W_2) -> merged Delta W (n, m)."""

Gate = Callable[[LowRank, LowRank, Array], tuple[Array, Array]]
"""(Delta W_1, Delta W_2, features (prompts, m)) -> (g_1, g_2), each (prompts,): per-prompt coefficients."""


def bijections(entities: int) -> Int[np.ndarray, "factorial entities"]:
    """All N! bijections, in (N!, N)."""
    return np.array(list(itertools.permutations(range(entities))))


def shifts(entities: int) -> Int[np.ndarray, "entities entities"]:
    """The N cyclic shifts, in (N, N): each subject meets each bridge exactly once."""
    return (np.arange(entities)[:, None] + np.arange(entities)[None, :]) % entities


def edited_null(old: Int[np.ndarray, "facts"]) -> Float[np.ndarray, "facts facts"]:
    """How often subject i is sent to bridge j, over all bijections that send no subject to its old bridge."""
    every = bijections(len(old))
    left = every[(every != old).all(axis=1)]
    return (left[:, :, None] == np.arange(len(old))).mean(axis=0)


def summed(first: LowRank, second: LowRank) -> Array:
    """Delta W_1 + Delta W_2."""
    return dense(first) + dense(second)


@functools.cache  # one function a name, so that a program compiles once
def method(name: str) -> Merge:
    """A merge method of ``sim.merge`` in the form this twin takes."""

    def merged(first: LowRank, second: LowRank) -> Array:
        result = merge_by(name, [first, second])
        return dense(result) if isinstance(result, LowRank) else result

    return merged


@functools.cache
def truncated(rank: int, equivariant: bool) -> Merge:
    """The sum of the adapters cut to a rank.

    Of equal singular values it keeps those that LAPACK puts first; or, ``equivariant``, those that a fixed
    small matrix on the side of the features puts first, which no relabelling of the output rows moves.
    """

    def merged(first: LowRank, second: LowRank) -> Array:
        total = summed(first, second)
        if not equivariant:
            u, s, vt = jnp.linalg.svd(total, full_matrices=False)
            return (u[:, :rank] * s[None, :rank]) @ vt[:rank]
        tie_break = 1e-6 * gaussian(jax.random.key(0), (total.shape[1],) * 2)
        axes = jnp.linalg.eigh(total.T @ total + tie_break + tie_break.T)[1][:, -rank:]
        return total @ axes @ axes.T

    return merged


def arrow(first: LowRank, second: LowRank, phi: Array) -> tuple[Array, Array]:
    """Arrow's gates at the prompts ``phi``, both adapters kept, temperature 1."""
    gates = routing.gate(phi, routing.prototypes("arrow", [first, second]))
    return gates[:, 0], gates[:, 1]


def two_hop_accuracy(
    entities: int,
    *,
    key: Array,
    rank: int,
    merge: Merge = summed,
    gate: Gate | None = None,
    two_hop_in_base: bool = False,
    relabel: bool = False,
    orthonormal: bool = False,
    every: Int[np.ndarray, "count entities"] | None = None,
    train: Callable[[Array, Array, Array, int, Array], LowRank] | None = None,
) -> tuple[int, int]:
    """(right, trials): two-hop answers counted over all N! bijections s1 and all N subjects.

    ``every`` replaces all N! by the given rows; ``shifts`` are balanced too and stay few at large N.
    Without ``relabel`` the base's r1 is fixed and s1 runs through every bijection (Theorem 2a). With it, r1
    and a random s1 are both followed by every relabelling of the bridges' output rows (Theorem 2b), which
    is what merges that mix the adapters' rows need. ``gate`` replaces ``merge`` by coefficients per
    prompt. ``train`` makes the adapters from (base W0, keys, answer rows, rank, key); default least squares.
    ``orthonormal`` replaces the features of the one-hop prompts by the nearest orthonormal ones, so that
    singular values are equal.
    Raises FloatingPointError when a logit is not finite.
    """
    config = one_layer.ModelConfig(entities, 4 * entities + 4, 16 * entities)
    s1_key, key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    r1, s1 = (jax.random.permutation(jax.random.fold_in(s1_key, i), entities) for i in range(2))
    every = jnp.asarray(bijections(entities) if every is None else every)
    pairs = (every[:, r1], every[:, s1]) if relabel else (jnp.broadcast_to(r1, every.shape), every)
    hits, finite = _every(config, rank, merge, gate, two_hop_in_base, orthonormal, train, key, pairs)
    if not finite.all():
        raise FloatingPointError("a logit is not finite; lower the training step")
    return int(hits.sum()), hits.size


@functools.partial(jax.jit, static_argnums=range(7))
def _every(config, rank, merge, gate, two_hop_in_base, orthonormal, train, key, pairs):
    run = functools.partial(_hits, config, rank, merge, gate, two_hop_in_base, orthonormal, train, key)
    return jax.lax.map(lambda pair: run(*pair), pairs)


def _hits(config, rank, merge, gate, two_hop_in_base, orthonormal, train, key, r1, s1):
    entities = config.entities
    keys = [jax.random.fold_in(key, index) for index in range(6)]
    model = one_layer.make(config, keys[0])
    everyone = jnp.arange(entities)
    first, second, both = (
        one_layer.features(config, model, prompt(config, everyone))
        for prompt in (one_layer.prompt1, one_layer.prompt2, one_layer.prompt12)
    )
    if orthonormal:
        u, _, vt = jnp.linalg.svd(jnp.concatenate([first, second]), full_matrices=False)
        first, second = jnp.split(u @ vt, 2)
    r2, s2 = (entities + jax.random.permutation(keys[index], entities) for index in (1, 2))
    facts = [(first, r1), (second, r2)] + ([(both, r2[r1])] if two_hop_in_base else [])
    base = one_layer.base_weights(
        jnp.concatenate([phi for phi, _ in facts]),
        one_layer.one_hot(jnp.concatenate([rows for _, rows in facts]), config.outputs),
    )
    make = _least_squares if train is None else train
    update1, update2 = make(base, first, s1, rank, keys[3]), make(base, second, s2, rank, keys[4])
    if gate is None:
        logits = both @ (base + merge(update1, update2)).T
    else:
        g1, g2 = gate(update1, update2, both)
        logits = (
            both @ base.T + g1[:, None] * (both @ dense(update1).T) + g2[:, None] * (both @ dense(update2).T)
        )
    hits = jnp.argmax(logits[:, entities:], axis=1) == s2[s1] - entities
    return hits, jnp.isfinite(logits).all()


def _least_squares(base: Array, keys: Array, answers: Array, rank: int, key: Array) -> LowRank:
    del key
    residual = one_layer.one_hot(answers, base.shape[0]) - keys @ base.T
    # What the base already answers is no edit: an adapter of rounding errors would vote in TIES.
    return least_squares_adapter(keys, jnp.where(jnp.abs(residual) < 1e-9, 0.0, residual), rank)


def cross_entropy(
    base: Array, keys: Array, answers: Array, rank: int, key: Array, steps: int = 1000
) -> LowRank:
    """A rank-r LoRA trained by descent on cross entropy over all rows: it writes to answer rows too."""
    start = gaussian(key, (rank, keys.shape[1])) / keys.shape[1] ** 0.5
    targets = one_layer.one_hot(answers, base.shape[0])
    step = 0.5 / jnp.max(jnp.sum(jnp.square(keys), axis=1))

    def objective(factors, _):
        logits = keys @ base.T + (keys @ factors[1].T) @ factors[0].T
        return -jnp.sum(targets * jax.nn.log_softmax(logits))

    begin = (jnp.zeros((base.shape[0], rank), jnp.float64), start)
    return LowRank(*minimise(objective, begin, optax.sgd(step), steps)[0])


Module = Literal["w", "up", "value"]


@dataclass(frozen=True)
class Setting:
    """What is adapted and what the base knows.

    ``base``: "fake" has random output rows and knows no fact; "one_hop" is the least-squares memory of r1 and
    r2; "two_hop" also answers p12(a) with r2(r1(a)). ``fixed_base``: False shifts the bridges as outputs
    everywhere (in the base's r1, or its random rows, as in s1), True shifts s1 alone and leaves the base as
    it is. ``joint`` trains one adapter on both data sets in place of two. ``first`` False leaves the first
    hop at r1, known from the base, and ``second`` False the second at r2.
    """

    module: Module
    base: Literal["fake", "one_hop", "two_hop"]
    fixed_base: bool = False
    kind: Loss = "cross_entropy"
    rank: int = 4
    step: float = 0.02
    steps: int = 300
    joint: bool = False
    first: bool = True
    second: bool = True


class Outcome(NamedTuple):
    """Leading axes: shift k, then merge coefficient, then subject (bridge for ``hop2``). 1 where right.

    ``two_hop``: argmax over the answers at p12(a) against s2(s1(a)). ``hop1``, ``hop2``: one-hop recall over
    all outputs. ``answers``: the C-logits at p12(a), (shifts, coefficients, subjects, N); ``loss``: -log of
    what they give the right answer among the answers.
    """

    two_hop: Float[Array, "N L N"]
    hop1: Float[Array, "N L N"]
    hop2: Float[Array, "N L N"]
    answers: Float[Array, "N L N N"]
    loss: Float[Array, "N L N"]


def _train(config, weights, setting, prompts, targets, key):
    """Factors of one adapter on ``setting.module`` by optax.adam, from B = 0 and A ~ N(0, 1/in)."""
    shape = weights[setting.module].shape
    a = jax.random.normal(key, (setting.rank, shape[1]), jnp.float64) * shape[1] ** -0.5
    factors = jnp.zeros((shape[0], setting.rank), jnp.float64), a

    def objective(factors, _):
        moved = _moved(weights, setting.module, factors[0] @ factors[1])
        logits = [_logits(config, moved, prompt) for prompt in prompts]
        return loss_of(jnp.concatenate(logits), jnp.concatenate(targets), setting.kind)

    factors, _ = minimise(objective, factors, optax.adam(setting.step), setting.steps)
    return dense(LowRank(*factors))


def _moved(weights, module, delta):
    return {**weights, module: weights[module] + delta}


def _logits(config, weights, prompt):
    model = one_layer.Model(weights["embed"], weights["value"], weights["up"])
    return one_layer.features(config, model, prompt) @ weights["w"].T


def _base(config, model, setting, first, second, key):
    """W0 of one relabelled draw: ``first``, ``second`` are r1 and r2; rows of B follow r1's relabelling."""
    every = jnp.arange(config.entities)
    if setting.base == "fake":
        return jax.random.normal(key, (config.outputs, config.features), jnp.float64) * config.features**-0.5
    prompts = [one_layer.prompt1(config, every), one_layer.prompt2(config, every)]
    targets = [first, config.entities + second]
    if setting.base == "two_hop":
        prompts.append(one_layer.prompt12(config, every))
        targets.append(config.entities + second[first])
    keys = jnp.concatenate([one_layer.features(config, model, prompt) for prompt in prompts])
    return one_layer.base_weights(keys, one_layer.one_hot(jnp.concatenate(targets), config.outputs))


@functools.partial(jax.jit, static_argnums=(0, 1))
def trained_two_hop(
    config: one_layer.ModelConfig, setting: Setting, lam: Float[Array, "L"], key: Array
) -> Outcome:
    """One draw, all N shifts of s1, merges base + lambda (Delta_1 + Delta_2) for each lambda."""
    count = config.entities
    keys = [jax.random.fold_in(key, index) for index in range(8)]
    model = one_layer.make(config, keys[0])
    r1, r2, s1, s2 = (jax.random.permutation(keys[1 + i], count) for i in range(4))
    s2 = s2 if setting.second else r2
    every = jnp.arange(count)
    hops = one_layer.prompt1(config, every), one_layer.prompt2(config, every)
    query = one_layer.prompt12(config, every)

    def shifted(k):
        old = r1 if setting.fixed_base else (r1 + k) % count
        new = (s1 + k) % count if setting.first else old
        w = _base(config, model, setting, old, r2, keys[5])
        if setting.base == "fake" and not setting.fixed_base:
            w = jnp.concatenate([jnp.roll(w[:count], k, axis=0), w[count:]])
        weights = {"embed": model.embed, "value": model.value, "up": model.up, "w": w}
        if setting.joint:
            targets = [new, count + s2]
            deltas = [_train(config, weights, setting, hops, targets, keys[6])]
        else:
            deltas = []
            if setting.first:
                deltas.append(_train(config, weights, setting, hops[:1], [new], keys[6]))
            if setting.second:
                deltas.append(_train(config, weights, setting, hops[1:], [count + s2], keys[7]))

        def merged(coefficient):
            at = _moved(weights, setting.module, coefficient * sum(deltas))
            answers = _logits(config, at, query)[:, count:]
            picks = [jnp.argmax(_logits(config, at, prompt), axis=-1) for prompt in hops]
            return Outcome(
                (jnp.argmax(answers, axis=-1) == s2[new]).astype(jnp.float64),
                (picks[0] == new).astype(jnp.float64),
                (picks[1] == count + s2).astype(jnp.float64),
                answers,
                -jax.nn.log_softmax(answers)[every, s2[new]],
            )

        return jax.vmap(merged)(lam)

    return jax.vmap(shifted)(every)


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def decoder_two_hop(
    entities: int, layers: int, identity: bool | Array, steps: int, key: Array, taught: bool | Array = False
) -> tuple[Float[Array, "N N"], Float[Array, "N N"], Float[Array, "N N N"]]:
    """(two-hop hits, first-hop hits, answer logits) in a decoder of any depth, leading axis the shift k.

    Vocabulary: N subjects, N bridges, N answers, REL1, REL2; embedding and unembedding untied. Pretraining of
    every weight on the facts r1 and r2 (with ``identity``, on "b -> b" too, which links a bridge as output to
    the same bridge as input), then a LoRA on every module for each hop, s1 on "a REL1", s2 on "b REL2" (with
    ``taught``, each on "b -> b" too); the two are summed. The shift turns the bridges as outputs: rows of the
    unembedding, r1 and s1. In float64.
    """
    decoder = Decoder(vocab=3 * entities + 2, layers=layers, width=16, heads=2, hidden=32)
    keys = [jax.random.fold_in(key, index) for index in range(7)]
    every = jnp.arange(entities)
    fresh = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), init(decoder, keys[0]))
    r1, r2, s1, s2 = (jax.random.permutation(keys[1 + i], entities) for i in range(4))

    def pair(first, relation):
        return jnp.stack([first, jnp.full_like(first, 3 * entities + relation)], axis=-1)

    first, second = pair(every, 0), pair(entities + every, 1)

    def fit(start, logits_of, prompts, targets, weight=1.0):
        def objective(params, _):
            logits = logits_of(params, prompts)[:, -1]
            return jnp.sum(weight * optax.softmax_cross_entropy_with_integer_labels(logits, targets))

        return minimise(objective, start, optax.adam(0.01), steps)[0]

    def shifted(k):
        def turn(bridge):
            return entities + (bridge + k) % entities

        rows = fresh["unembed"]
        rolled = jnp.roll(rows[entities : 2 * entities], k, axis=0)
        params = {**fresh, "unembed": jnp.concatenate([rows[:entities], rolled, rows[2 * entities :]])}
        params = fit(
            params,
            lambda params, tokens: forward(decoder, params, tokens),
            jnp.concatenate([first, second, pair(entities + every, 0)]),
            jnp.concatenate([turn(r1), 2 * entities + r2, entities + every]),
            jnp.repeat(jnp.asarray([1.0, 1.0, identity]), entities),
        )

        def adapter(index, prompts, targets):
            start = lora.init(decoder, decoder.modules(), 4, keys[5 + index])
            start = {
                name: LowRank(each.b.astype(jnp.float64), each.a.astype(jnp.float64))
                for name, each in start.items()
            }
            factors = {name: (each.b, each.a) for name, each in start.items()}

            def logits_of(factors, tokens):
                update = {name: LowRank(*each) for name, each in factors.items()}
                return forward(decoder, params, tokens, lora.adapted(update))

            prompts = jnp.concatenate([prompts, pair(entities + every, 0)])
            targets = jnp.concatenate([targets, entities + every])
            weight = jnp.repeat(jnp.asarray([1.0, taught]), entities)
            trained = fit(factors, logits_of, prompts, targets, weight)
            return {name: each[0] @ each[1] for name, each in trained.items()}

        one, two = adapter(0, first, turn(s1)), adapter(1, second, 2 * entities + s2)
        merged = lora.fold(params, {name: one[name] + two[name] for name in one})
        query = jnp.concatenate([first, jnp.full((entities, 1), 3 * entities + 1)], axis=1)
        answers = forward(decoder, merged, query)[:, -1, 2 * entities : 3 * entities]
        first_hop = forward(decoder, lora.fold(params, one), first)[:, -1]
        hits = jnp.argmax(answers, axis=-1) == s2[turn(s1) - entities]
        return hits.astype(float), (jnp.argmax(first_hop, axis=-1) == turn(s1)).astype(float), answers

    return jax.vmap(shifted)(every)
