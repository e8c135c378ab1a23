"""Twin of ``theory.depth``: two adapters in two stacked layers (theory/README.md, section 8)."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.lab import seeds

_CHUNK_BYTES = 200e6


class Adapter(NamedTuple):
    """What one adapter adds to the lower and to the upper layer, both (d, d)."""

    lower: Array
    upper: Array


def merged(adapters: list[Adapter], lam: float) -> Adapter:
    """lambda times the sum of the adapters, layer by layer."""
    return Adapter(*(lam * sum(parts) for parts in zip(*adapters, strict=True)))


def forward(weights: Adapter, inputs: Float[Array, "d n"], residual: bool) -> Float[Array, "d n"]:
    """Columns through both layers: L2 L1 x, or (1 + L2)(1 + L1) x with residual connections."""
    below = weights.lower @ inputs + (inputs if residual else 0.0)
    return weights.upper @ below + (below if residual else 0.0)


def world(key: Array, facts: int, dim: int, alignment: float) -> tuple[Array, ...]:
    """Columns (subjects, bridges as written, bridges as read, answers), each N(0, I/d)."""
    subjects, written, other, answers = (
        jax.random.normal(jax.random.fold_in(key, index), (dim, facts), jnp.float64) / dim**0.5
        for index in range(4)
    )
    return subjects, written, alignment * written + (1 - alignment**2) ** 0.5 * other, answers


@functools.partial(jax.jit, static_argnames=("facts", "dim", "lam", "residual", "draws", "wrong_order"))
def accuracy(
    facts: int,
    dim: int,
    alignment: float,
    lam: float = 1.0,
    residual: bool = False,
    *,
    key: Array,
    draws: int,
    wrong_order: bool = False,
) -> Float[Array, "draws"]:
    """Measured direct two-hop accuracy of each draw: both adapters merged by summation at ``lam``.

    ``wrong_order`` puts the first-hop facts into the upper layer and the second-hop facts into the lower.
    """

    def one(key):
        subjects, written, read, answers = world(key, facts, dim, alignment)
        hop1, hop2, none = written @ subjects.T, answers @ read.T, jnp.zeros((dim, dim), jnp.float64)
        if wrong_order:
            adapters = [Adapter(none, hop1), Adapter(hop2, none)]
        else:
            adapters = [Adapter(hop1, none), Adapter(none, hop2)]
        scores = answers.T @ forward(merged(adapters, lam), subjects, residual)
        return jnp.mean(jnp.argmax(scores, axis=0) == jnp.arange(facts))

    chunk = max(1, min(draws, int(_CHUNK_BYTES / (8 * (5 * dim * facts + 6 * dim**2 + facts**2)))))
    return jax.lax.map(one, seeds.keys(key, draws), batch_size=chunk)


def wrong_order_count(entities: int, key: Array, residual: bool = True) -> tuple[int, int]:
    """(right, trials) over all N! bijections s1 and N subjects, wrong layer order, a nonlinear base.

    Two layers with random base weights and a tanh between them. Bridges are written at right angles to
    the answer rows; the upper adapter holds hop 1, the lower one hop 2. Theory: right = trials / N.
    """
    dim = 6 * entities
    draws = jax.random.normal(key, (3, dim, dim), jnp.float64) / dim**0.5
    frame = jnp.linalg.qr(draws[0][:, : 4 * entities])[0]
    subjects, bridges, answers, inner = jnp.split(frame, 4, axis=1)
    base = Adapter(draws[1], draws[2])
    hop2 = np.random.default_rng(entities).permutation(entities)
    lower = base.lower + answers[:, hop2] @ inner.T

    @jax.jit
    def out(upper):
        below = jnp.tanh(lower @ subjects) + (subjects if residual else 0.0)
        return answers.T @ (upper @ below + (below if residual else 0.0))

    right = 0
    for hop1 in itertools.permutations(range(entities)):
        scores = out(base.upper + bridges[:, jnp.asarray(hop1)] @ subjects.T)
        right += int(jnp.sum(jnp.argmax(scores, axis=0) == jnp.asarray(hop2)[jnp.asarray(hop1)]))
    trials = entities * len(list(itertools.permutations(range(entities))))
    return right, trials


@functools.partial(jax.jit, static_argnums=(0,), static_argnames=("dim", "draws"))
def familiarity(exposures: int, half: float, *, dim: int, key: Array, draws: int) -> Array:
    """Cosine of a unit w and the mean of c exposures w + noise, E|noise|^2 = c0, for each draw."""

    def one(key):
        keys = [jax.random.fold_in(key, part) for part in range(2)]
        word = jax.random.normal(keys[0], (dim,), jnp.float64)
        word = word / jnp.linalg.norm(word)
        seen = jax.random.normal(keys[1], (exposures, dim), jnp.float64) * (half / dim) ** 0.5
        mean = word + jnp.mean(seen, axis=0)
        return jnp.dot(word, mean) / jnp.linalg.norm(mean)

    return jax.lax.map(one, seeds.keys(key, draws), batch_size=64)
