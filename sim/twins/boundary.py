"""Twin of ``theory.composition.two_hop_accuracy`` where Theorem 2 does not apply (theory/README.md, section
2).

Adapters on any matrix of the one-layer model, W, U ("up") or V ("value"), or on all of a deep decoder,
trained by gradient descent, in a balanced design: the same draw is trained N times, with s1 turned by k =
0..N-1 places, so that an answer which does not depend on s1 is right exactly once in N.
"""

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from sim.model import lora
from sim.model.transformer import Decoder, forward, init
from sim.twins.cross_entropy import Loss, loss_of
from theory import model as one_layer
from theory.lowrank import LowRank, dense

Module = Literal["w", "up", "value"]


@dataclass(frozen=True)
class Setting:
    """What is adapted and what the base knows.

    ``base``: "fake" has random output rows and knows no fact; "one_hop" is the least-squares memory of r1 and
    r2; "two_hop" also answers p12(a) with r2(r1(a)). ``fixed_base``: False shifts the bridges as outputs
    everywhere (in the base's r1, or its random rows, as in s1), True shifts s1 alone and leaves the base as
    it is. ``joint`` trains one adapter on both data sets in place of two. ``second`` False leaves the second
    hop at r2.
    """

    module: Module
    base: Literal["fake", "one_hop", "two_hop"]
    fixed_base: bool = False
    kind: Loss = "cross_entropy"
    rank: int = 4
    step: float = 0.02
    steps: int = 300
    joint: bool = False
    second: bool = True


class Outcome(NamedTuple):
    """Leading axes: shift k, then merge coefficient, then subject (bridge for ``hop2``). 1 where right.

    ``two_hop``: argmax over the answers at p12(a) against s2(s1(a)). ``hop1``, ``hop2``: one-hop recall over
    all outputs. ``answers``: the C-logits at p12(a), (shifts, coefficients, subjects, N).
    """

    two_hop: Float[Array, "N L N"]
    hop1: Float[Array, "N L N"]
    hop2: Float[Array, "N L N"]
    answers: Float[Array, "N L N N"]


def _train(config, weights, setting, prompts, targets, key):
    """Factors of one adapter on ``setting.module`` by optax.adam, from B = 0 and A ~ N(0, 1/in)."""
    shape = weights[setting.module].shape
    a = jax.random.normal(key, (setting.rank, shape[1]), jnp.float64) * shape[1] ** -0.5
    factors = jnp.zeros((shape[0], setting.rank), jnp.float64), a
    optimizer = optax.adam(setting.step)

    def objective(factors):
        moved = _moved(weights, setting.module, factors[0] @ factors[1])
        logits = [_logits(config, moved, prompt) for prompt in prompts]
        return loss_of(jnp.concatenate(logits), jnp.concatenate(targets), setting.kind)

    def one(carry, _):
        factors, state = carry
        updates, state = optimizer.update(jax.grad(objective)(factors), state)
        return (optax.apply_updates(factors, updates), state), None

    (factors, _), _ = jax.lax.scan(one, (factors, optimizer.init(factors)), None, length=setting.steps)
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
def two_hop(config: one_layer.ModelConfig, setting: Setting, lam: Float[Array, "L"], key: Array) -> Outcome:
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
        new = (s1 + k) % count
        w = _base(config, model, setting, old, r2, keys[5])
        if setting.base == "fake" and not setting.fixed_base:
            w = jnp.concatenate([jnp.roll(w[:count], k, axis=0), w[count:]])
        weights = {"embed": model.embed, "value": model.value, "up": model.up, "w": w}
        if setting.joint:
            targets = [new, count + s2]
            deltas = [_train(config, weights, setting, hops, targets, keys[6])]
        else:
            deltas = [_train(config, weights, setting, hops[:1], [new], keys[6])]
            if setting.second:
                deltas.append(_train(config, weights, setting, hops[1:], [count + s2], keys[7]))

        def merged(coefficient):
            at = _moved(weights, setting.module, coefficient * sum(deltas))
            answers = _logits(config, at, query)[:, count:]
            found = [jnp.argmax(_logits(config, at, prompt), axis=-1) for prompt in hops]
            return Outcome(
                (jnp.argmax(answers, axis=-1) == s2[new]).astype(jnp.float64),
                (found[0] == new).astype(jnp.float64),
                (found[1] == count + s2).astype(jnp.float64),
                answers,
            )

        return jax.vmap(merged)(lam)

    return jax.vmap(shifted)(every)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def decoder_two_hop(
    entities: int, layers: int, identity: bool, steps: int, key: Array
) -> tuple[Float[Array, "N N"], Float[Array, "N N"], Float[Array, "N N N"]]:
    """(two-hop hits, first-hop hits, answer logits) in a decoder of any depth, leading axis the shift k.

    Vocabulary: N subjects, N bridges, N answers, REL1, REL2; embedding and unembedding untied. Pretraining of
    every weight on the facts r1 and r2 (with ``identity``, on "b -> b" too, which links a bridge as output to
    the same bridge as input), then a LoRA on every module for each hop, s1 on "a REL1", s2 on "b REL2"; the
    two are summed. The shift turns the bridges as outputs: rows of the unembedding, r1 and s1. In float64.
    """
    decoder = Decoder(vocab=3 * entities + 2, layers=layers, width=16, heads=2, hidden=32)
    keys = [jax.random.fold_in(key, index) for index in range(7)]
    every = jnp.arange(entities)
    fresh = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), init(decoder, keys[0]))
    r1, r2, s1, s2 = (jax.random.permutation(keys[1 + i], entities) for i in range(4))

    def pair(first, relation):
        return jnp.stack([first, jnp.full_like(first, 3 * entities + relation)], axis=-1)

    first, second = pair(every, 0), pair(entities + every, 1)

    def fit(start, logits_of, prompts, targets):
        optimizer = optax.adam(0.01)

        def objective(params):
            logits = logits_of(params, prompts)[:, -1]
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

        def one(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(objective)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(one, (start, optimizer.init(start)), None, length=steps)[0][0]

    def shifted(k):
        def turn(bridge):
            return entities + (bridge + k) % entities

        rows = fresh["unembed"]
        rolled = jnp.roll(rows[entities : 2 * entities], k, axis=0)
        params = {**fresh, "unembed": jnp.concatenate([rows[:entities], rolled, rows[2 * entities :]])}
        prompts, targets = [first, second], [turn(r1), 2 * entities + r2]
        if identity:
            prompts.append(pair(entities + every, 0))
            targets.append(entities + every)
        params = fit(
            params,
            lambda params, tokens: forward(decoder, params, tokens),
            jnp.concatenate(prompts),
            jnp.concatenate(targets),
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

            trained = fit(factors, logits_of, prompts, targets)
            return {name: each[0] @ each[1] for name, each in trained.items()}

        one, two = adapter(0, first, turn(s1)), adapter(1, second, 2 * entities + s2)
        merged = lora.fold(params, {name: one[name] + two[name] for name in one})
        query = jnp.concatenate([first, jnp.full((entities, 1), 3 * entities + 1)], axis=1)
        answers = forward(decoder, merged, query)[:, -1, 2 * entities : 3 * entities]
        alone = forward(decoder, lora.fold(params, one), first)[:, -1]
        hits = jnp.argmax(answers, axis=-1) == s2[turn(s1) - entities]
        return hits.astype(float), (jnp.argmax(alone, axis=-1) == turn(s1)).astype(float), answers

    return jax.vmap(shifted)(every)
