"""Twin of ``theory.cross_entropy``: adapters trained by gradient descent (theory/README.md, section 6)."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from sim.model.descent import minimise
from theory import model as one_layer
from theory.lowrank import LowRank, apply

Loss = Literal["cross_entropy", "squared"]


def loss_of(logits: Float[Array, "facts n"], target: Int[Array, "facts"], kind: Loss) -> Float[Array, ""]:
    """Summed loss over the facts: cross entropy, or half the squared distance to the one-hot target."""
    if kind == "cross_entropy":
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, target))
    return jnp.sum(jnp.square(logits - jax.nn.one_hot(target, logits.shape[-1], dtype=logits.dtype))) / 2


@functools.partial(jax.jit, static_argnames=("rank", "steps", "freeze_a"))
def train(
    base: Float[Array, "n m"],
    keys: Float[Array, "facts m"],
    target: Int[Array, "facts"],
    key: Array,
    *,
    rank: int,
    step: float,
    steps: int,
    freeze_a: bool = False,
) -> LowRank:
    """A LoRA on W from B = 0, by full-batch ``optax.sgd(step)`` on the summed cross entropy.

    A starts with orthonormal rows inside the span of unit keys; ``freeze_a`` trains B alone, which with rank
    = F and orthonormal keys is gradient descent on the logits themselves.
    """
    frame = jax.random.normal(key, (keys.shape[0], rank), jnp.float64)
    a = jnp.linalg.qr(frame)[0].T @ keys / jnp.linalg.norm(keys, axis=1).mean()
    b = jnp.zeros((base.shape[0], rank), jnp.float64)
    clean = keys @ base.T

    def objective(factors, _):
        a_now = a if freeze_a else factors[1]
        return loss_of(clean + (keys @ a_now.T) @ factors[0].T, target, "cross_entropy")

    return LowRank(*minimise(objective, (b, a), optax.sgd(step), steps)[0])


class Library(NamedTuple):
    """Two adapters on W (leading axis 2) with the base and the facts they overwrite."""

    base: Float[Array, "n m"]
    keys: Float[Array, "2 facts m"]
    old: Int[Array, "2 facts"]
    new: Int[Array, "2 facts"]
    adapters: LowRank


@functools.partial(jax.jit, static_argnames=("config", "rank", "steps"))
def two_adapters(
    config: one_layer.ModelConfig,
    key: Array,
    *,
    rank: int,
    step: float,
    steps: int,
) -> Library:
    """One draw of the two-hop world with an adapter trained for each hop: s1 on the p1 facts, s2 on the p2
    facts.

    Old answers are a uniform bijection; new ones move them once round a random cycle, so that every fact
    changes.
    """
    draws = [jax.random.fold_in(key, index) for index in range(7)]
    count = config.entities
    model = one_layer.make(config, draws[0])
    every = jnp.arange(count)
    prompts = one_layer.prompt1(config, every), one_layer.prompt2(config, every)
    keys = jnp.stack([one_layer.features(config, model, prompt) for prompt in prompts])

    def answers(hop):
        old = jax.random.permutation(draws[1 + hop], count)
        # old -> new runs once round the answers in a random order, so that no answer stays.
        order = jax.random.permutation(draws[3 + hop], count)
        place = jnp.argsort(order)
        return old + hop * count, order[(place[old] + 1) % count] + hop * count

    old, new = (jnp.stack(pair) for pair in zip(answers(0), answers(1), strict=True))
    wanted = one_layer.one_hot(old.reshape(-1), config.outputs)
    base = one_layer.base_weights(keys.reshape(-1, config.features), wanted)
    adapters = [
        train(base, keys[hop], new[hop], draws[5 + hop], rank=rank, step=step, steps=steps) for hop in (0, 1)
    ]
    return Library(base, keys, old, new, jax.tree.map(lambda *leaves: jnp.stack(leaves), *adapters))


def margins(library: Library) -> tuple[Array, Array, Array]:
    """(M_old, Delta, third), each (2, facts), of every overwritten fact from its own adapter alone.

    M_old and Delta as ``coverage.critical_lambda`` takes them; ``third`` is the smallest lead over the
    answers other than old and new, at lambda = 1. The base holds those at the new answer's logit, so
    the lead is lambda * third.
    """
    base = jnp.einsum("hfm,nm->hfn", library.keys, library.base)
    moved = jax.vmap(apply)(library.adapters._replace(scale=jnp.ones(2)), library.keys)

    def at(logits, answer):
        return jnp.take_along_axis(logits, answer[..., None], axis=-1)

    def lead(logits):
        return (at(logits, library.new) - at(logits, library.old))[..., 0]

    answers = jnp.arange(base.shape[-1])[None, None]
    other = (answers != library.old[..., None]) & (answers != library.new[..., None])
    behind = at(base + moved, library.new) - (base + moved)
    return -lead(base), lead(moved), jnp.min(jnp.where(other, behind, jnp.inf), axis=-1)


def merged_recall(library: Library, lam: Float[Array, "L"]) -> Float[Array, "L 2 facts"]:
    """1 where W0 + lambda (Delta W_1 + Delta W_2) answers new, against every other output: the merge, run."""
    base = jnp.einsum("hfm,nm->hfn", library.keys, library.base)
    moved = sum(apply(LowRank(library.adapters.b[i], library.adapters.a[i]), library.keys) for i in range(2))
    logits = base[None] + lam[:, None, None, None] * moved[None]
    return (jnp.argmax(logits, axis=-1) == library.new[None]).astype(jnp.float64)
