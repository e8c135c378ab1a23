"""Twin of ``theory.coverage``: memories built and read (theory/README.md, sections 3 and 5).

One by one, with a margin, an overlap and a share that are dialled; and as they come, in real relu memories
that are read at a paraphrase of their template (``recall``).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.lab import seeds
from theory import model as one_layer
from theory.edits import exact_adapter, rank_one_edit, starved_adapter
from theory.lowrank import apply, dense
from theory.model import gaussian

_WIDTH = 24
_OUTPUTS = 6


def _edited(margin: Array, swing: Array, key: Array) -> tuple[Array, Array, Array]:
    """(phi, base logits, their change): old answer is row 0 at ``margin``, new is row 1, others are lower."""
    phi = gaussian(jax.random.fold_in(key, 0), (_WIDTH,))
    low = -5.0 - jnp.abs(gaussian(jax.random.fold_in(key, 1), (_OUTPUTS,)))
    base = low.at[0].set(margin).at[1].set(0.0)
    change = jnp.zeros(_OUTPUTS).at[0].set(-swing / 2).at[1].set(swing / 2)
    return phi, base, dense(rank_one_edit(phi, change)) @ phi


@functools.partial(jax.jit, static_argnames=("steps",))
def critical_lambda(
    margin: Float[Array, "..."], swing: Float[Array, "..."], *, key: Array, steps: int = 60
) -> Float[Array, "..."]:
    """The lambda in [0, 100] at which an edited memory's argmax flips, by bisection; infinity if none."""

    def one(margin, swing):
        _, base, change = _edited(margin, swing, key)

        def flipped(lam):
            return jnp.argmax(base + lam * change) == 1

        def halve(ends, _):
            middle = ends.sum() / 2
            return jnp.where(flipped(middle), ends.at[1].set(middle), ends.at[0].set(middle)), None

        ends, _ = jax.lax.scan(halve, jnp.asarray([0.0, 100.0]), None, length=steps)
        return jnp.where(flipped(100.0), ends[1], jnp.inf)

    return jnp.vectorize(one)(jnp.asarray(margin, jnp.float64), jnp.asarray(swing, jnp.float64))


@jax.jit
def retention(
    lam: Float[Array, "..."], margin: float = 1.0, swing: float = 2.0, *, key: Array
) -> Float[Array, "..."]:
    """Whether the scaled edit answers new: 1, 0, or 1/2 where the two logits tie (to 1e-9)."""
    _, base, change = _edited(margin, swing, key)

    def one(lam):
        logits = base + lam * change
        leading = logits >= logits.max() - 1e-9
        return leading[1] / leading.sum()

    return jnp.vectorize(one)(jnp.asarray(lam, jnp.float64))


def largest_library(
    margin: Float[Array, "facts"], swing: Float[Array, "facts"], *, key: Array, most: int = 64
) -> int:
    """The largest library up to ``most`` whose average answers every fact anew; 0 if none does.

    One adapter of the K holds each fact, so the average reads the fact at 1/K.
    """
    sizes = jnp.arange(1, most + 1)
    new = [retention(1 / sizes, m, s, key=key) == 1 for m, s in zip(margin, swing, strict=True)]
    fit = jnp.all(jnp.stack(new), axis=0)
    return int(jnp.max(jnp.where(fit, sizes, 0)))


@functools.partial(jax.jit, static_argnames=("facts",))
def decides(
    lam: Float[Array, "cells"],
    overlap: Float[Array, "cells"],
    share: Float[Array, "cells"],
    *,
    key: Array,
    facts: int = 8,
) -> Array:
    """Whether fact 0 answers new: orthonormal keys, a projector with P_00 = share, read at overlap kappa.

    F facts with distinct answers; P is of rank 1, its unit vector at squared weight ``share`` on fact 0
    and random elsewhere; the read feature is kappa phi_0 + sqrt(1 - kappa^2) psi, and the base knows the old
    answer there too.
    """

    def one(lam, overlap, share, key):
        other = gaussian(key, (facts - 1,))
        other = other / jnp.linalg.norm(other) * jnp.sqrt(1 - share)
        vector = jnp.concatenate([jnp.sqrt(share)[None], other])
        strength = overlap * jnp.outer(vector, vector)[:, 0]  # P phi_0's coordinates, times kappa
        base = jnp.zeros(2 * facts).at[0].set(1.0)
        logits = base + lam * jnp.concatenate([-strength, strength])
        return jnp.argmax(logits) == facts

    return jax.vmap(one)(lam, overlap, share, seeds.keys(key, lam.size))


@jax.jit
def covers(
    lam: Float[Array, "adapters"],
    overlap: Float[Array, "adapters steps"],
    share: Float[Array, "adapters steps"],
    *,
    key: Array,
) -> Array:
    """Whether a merged memory answers every step anew, adapters that teach a step agreeing on its answer."""
    adapters, steps = overlap.shape
    frame = jnp.linalg.qr(gaussian(key, (2 * steps, 2 * steps)))[0]
    keys, spare = frame[:steps], frame[steps:]
    old, new = jnp.eye(steps, 2 * steps), jnp.eye(steps, 2 * steps, k=steps)
    merged = jnp.zeros((2 * steps, 2 * steps))
    for i in range(adapters):
        # Adapter i stores step j at a key of length 1 and overlap kappa_ij with the prompt, at share rho_ij.
        stored = overlap[i][:, None] * keys + jnp.sqrt(1 - overlap[i] ** 2)[:, None] * spare
        merged = merged + lam[i] * dense(exact_adapter(stored, share[i][:, None] * (new - old)))
    logits = old + keys @ merged.T
    return jnp.all(jnp.argmax(logits, axis=1) == steps + jnp.arange(steps))


def paraphrased(
    config: one_layer.ModelConfig, model: one_layer.Model, angle: Float[Array, "T"]
) -> tuple[Float[Array, "N m"], Float[Array, "T N m"]]:
    """Features of "a REL1" for every subject, and of "a REL1'" at each angle.

    The embedding of REL1' is that of REL1 turned by the angle towards a word of its own, the last filler.
    """
    stored = one_layer.hidden(config, model, one_layer.prompt1(config, jnp.arange(config.entities)))
    relation, other = model.embed[2 * config.entities], model.embed[-1]
    step = (jnp.cos(angle) - 1)[:, None] * relation[None] + jnp.sin(angle)[:, None] * other[None]
    keys = one_layer.activated(config, model, stored)
    return keys, one_layer.activated(config, model, stored[None] + step[:, None])


def two_template_base(
    keys: Float[Array, "F m"], read: Float[Array, "F m"], old: Float[Array, "F n"]
) -> Float[Array, "n m"]:
    """A base that holds the old answers in both templates."""
    return one_layer.base_weights(jnp.concatenate([keys, read]), jnp.concatenate([old, old]))


@functools.partial(jax.jit, static_argnames=("facts", "rank", "features", "draws"))
def recall(
    lam: Float[Array, "L"],
    angle: Float[Array, "T"],
    *,
    facts: int,
    rank: int,
    key: Array,
    features: int = 1024,
    draws: int = 16,
) -> Float[Array, "draws T L"]:
    """Fraction of F facts overwritten at "a REL1" that answer new at "a REL1'", among all 2F answers.

    Each draw has its own model, a rank-r adapter from a random start, and a base that knows both templates.
    """
    config = one_layer.ModelConfig(facts, 2 * (2 * facts + 3), features, fillers=1)
    numbers = jnp.arange(facts)
    old = one_layer.one_hot(numbers, 2 * facts)
    new = one_layer.one_hot(numbers + facts, 2 * facts)

    def one(key: Array) -> Array:
        keys, reads = paraphrased(config, one_layer.make(config, jax.random.fold_in(key, 0)), angle)
        start = gaussian(jax.random.fold_in(key, 1), (rank, facts))
        update = starved_adapter(exact_adapter(keys, new - old), start)

        def at(read: Array) -> Array:
            before = read @ two_template_base(keys, read, old).T
            logits = before[None] + lam[:, None, None] * apply(update, read)[None]
            return jnp.mean(jnp.argmax(logits, axis=-1) == (numbers + facts)[None], axis=1)

        return jax.lax.map(at, reads)

    return jax.lax.map(one, seeds.keys(key, draws))
