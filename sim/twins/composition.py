"""Twin of ``theory.composition``: every bijection tried (theory/README.md, section 2)."""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

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


def summed(first: LowRank, second: LowRank) -> Array:
    """Delta W_1 + Delta W_2."""
    return dense(first) + dense(second)


def two_hop_accuracy(
    entities: int,
    *,
    key: Array,
    rank: int,
    merge: Merge = summed,
    gate: Gate | None = None,
    two_hop_in_base: bool = False,
    relabel: bool = False,
    every: Int[np.ndarray, "count entities"] | None = None,
    train: Callable[[Array, Array, Array, int, Array], LowRank] | None = None,
) -> tuple[int, int]:
    """(right, trials): two-hop answers counted over all N! bijections s1 and all N subjects.

    ``every`` replaces all N! by the given rows; ``shifts`` are balanced too and stay few at large N.
    Without ``relabel`` the base's r1 is fixed and s1 runs through every bijection (Theorem 2a). With it, r1
    and a random s1 are both followed by every relabelling of the bridges' output rows (Theorem 2b), which
    is what merges that mix the adapters' rows need. ``gate`` replaces ``merge`` by coefficients per
    prompt. ``train`` makes the adapters from (base W0, keys, answer rows, rank, key); default least squares.
    Raises FloatingPointError when a logit is not finite.
    """
    config = one_layer.ModelConfig(entities, 4 * entities + 4, 16 * entities)
    s1_key, key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    r1, s1 = (jax.random.permutation(jax.random.fold_in(s1_key, i), entities) for i in range(2))
    every = jnp.asarray(bijections(entities) if every is None else every)
    pairs = (every[:, r1], every[:, s1]) if relabel else (jnp.broadcast_to(r1, every.shape), every)
    hits, finite = _every(config, rank, merge, gate, two_hop_in_base, train, key, pairs)
    if not finite.all():
        raise FloatingPointError("a logit is not finite; lower the training step")
    return int(hits.sum()), hits.size


@functools.partial(jax.jit, static_argnums=range(6))
def _every(config, rank, merge, gate, two_hop_in_base, train, key, pairs):
    run = functools.partial(_hits, config, rank, merge, gate, two_hop_in_base, train, key)
    return jax.lax.map(lambda pair: run(*pair), pairs)


def _hits(config, rank, merge, gate, two_hop_in_base, train, key, r1, s1):
    entities = config.entities
    keys = [jax.random.fold_in(key, index) for index in range(6)]
    model = one_layer.make(config, keys[0])
    everyone = jnp.arange(entities)
    first, second, both = (
        one_layer.features(config, model, prompt(config, everyone))
        for prompt in (one_layer.prompt1, one_layer.prompt2, one_layer.prompt12)
    )
    r2, s2 = (entities + jax.random.permutation(keys[index], entities) for index in (1, 2))
    known = [(first, r1), (second, r2)] + ([(both, r2[r1])] if two_hop_in_base else [])
    base = one_layer.base_weights(
        jnp.concatenate([phi for phi, _ in known]),
        one_layer.one_hot(jnp.concatenate([rows for _, rows in known]), config.outputs),
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
    return least_squares_adapter(keys, one_layer.one_hot(answers, base.shape[0]) - keys @ base.T, rank)


def cross_entropy(
    base: Array, keys: Array, answers: Array, rank: int, key: Array, steps: int = 1000
) -> LowRank:
    """A rank-r LoRA trained by descent on cross entropy over all rows: it writes to answer rows too."""
    start = gaussian(key, (rank, keys.shape[1])) / keys.shape[1] ** 0.5
    targets = one_layer.one_hot(answers, base.shape[0])
    step = 0.5 / jnp.max(jnp.sum(jnp.square(keys), axis=1))

    def objective(factors):
        logits = keys @ base.T + (keys @ factors[1].T) @ factors[0].T
        return -jnp.sum(targets * jax.nn.log_softmax(logits))

    def one(factors, _):
        slopes = jax.grad(objective)(factors)
        return jax.tree.map(lambda value, slope: value - step * slope, factors, slopes), None

    begin = (jnp.zeros((base.shape[0], rank), jnp.float64), start)
    return LowRank(*jax.lax.scan(one, begin, None, length=steps)[0])
