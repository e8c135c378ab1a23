"""Twin of ``theory.starvation``: LoRAs trained by descent, recall read off (theory/README.md, section 6).

Keys are orthonormal, so they are written as the standard basis: facts are coordinates. Every draw trains a
LoRA from B = 0 and a Gaussian A0 until it stops moving; the tie between equal singular values is broken by A0
alone. ``start_projector`` is where that must end. The ``shared_`` twins train on the relu features of prompts
that share a relation instead, as the one-layer model has them.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.lab import seeds
from sim.twins.dynamics import descend
from theory import model as one_layer
from theory.edits import least_squares_adapter
from theory.lowrank import LowRank, apply
from theory.model import gaussian


def start_projector(start: Float[Array, "rank facts"]) -> Float[Array, "facts facts"]:
    """The orthogonal projector on the row space of A0: the limit of gradient descent."""
    frame = jnp.linalg.qr(start.T)[0]
    return frame @ frame.T


@functools.partial(jax.jit, static_argnames=("steps",))
def trained_strengths(
    residual: Float[Array, "facts n"], start: Float[Array, "rank facts"], steps: int = 300
) -> Float[Array, "facts n"]:
    """Delta W phi_k (rows) of a LoRA trained on orthonormal keys from B = 0, A = start."""
    size = jnp.linalg.norm(residual, 2) * jnp.maximum(1.0, jnp.sum(jnp.square(start)) / start.shape[0])
    return _descended(jnp.eye(residual.shape[0], dtype=jnp.float64), residual, start, 0.4 / size, steps)


def _descended(
    keys: Array, residual: Array, start: Array, step: Array, steps: int
) -> Float[Array, "facts n"]:
    begin = LowRank(jnp.zeros((residual.shape[1], start.shape[0]), jnp.float64), start)
    return apply(descend(keys, residual, begin, step, steps), keys)


@functools.partial(jax.jit, static_argnames=("facts", "rank", "draws", "inserting", "steps"))
def _changes(facts: int, rank: int, key: Array, draws: int, inserting: bool, steps: int) -> Array:
    """Changes of the logits, (draws, F, n): new rows first, old rows after them when overwriting."""
    new = jnp.eye(facts, dtype=jnp.float64)
    residual = new if inserting else jnp.concatenate([new, -new], axis=1)
    starts = gaussian(key, (draws, rank, facts)) / facts**0.5
    return jax.lax.map(lambda start: trained_strengths(residual, start, steps), starts, batch_size=32)


def shares(facts: int, rank: int, *, key: Array, draws: int, steps: int = 300) -> Float[Array, "draws facts"]:
    """P_kk of trained adapters: a sample from the law ``theory.starvation.share_law``."""
    return jnp.diagonal(_changes(facts, rank, key, draws, True, steps), axis1=1, axis2=2)


def overwrite_recall(
    facts: int, rank: int, lam: float = 1.0, *, key: Array, draws: int, steps: int = 300
) -> Float[Array, "draws"]:
    """Fraction of F overwritten facts that answer new among all 2F answers, for each trained adapter."""
    base = jnp.concatenate([jnp.zeros((facts, facts)), jnp.eye(facts)], axis=1)
    logits = base[None] + lam * _changes(facts, rank, key, draws, False, steps)
    return jnp.mean(jnp.argmax(logits, axis=2) == jnp.arange(facts)[None], axis=1)


def insertion_recall(
    facts: int, rank: int, *, key: Array, draws: int, steps: int = 300
) -> Float[Array, "draws"]:
    """Fraction of F inserted facts recalled among the F answers, for each trained adapter."""
    changes = _changes(facts, rank, key, draws, True, steps)
    return jnp.mean(jnp.argmax(changes, axis=2) == jnp.arange(facts)[None], axis=1)


@functools.partial(jax.jit, static_argnames=("facts", "rank", "draws", "inserting", "features", "steps"))
def shared_changes(
    facts: int, rank: int, key: Array, draws: int, inserting: bool, features: int = 256, steps: int = 1500
) -> Float[Array, "draws facts n"]:
    """Changes of the logits as ``_changes``, of LoRAs trained on relu features of "x REL1", a model a draw.

    A0 has variance 1/m. What of A0 lies outside the span of the keys never moves and multiplies no key, so
    the descent runs in coordinates of that span, where A0 is as Gaussian as before.
    """
    config = one_layer.ModelConfig(facts, 2 * (2 * facts + 2), features)
    new = jnp.eye(facts, dtype=jnp.float64)
    residual = new if inserting else jnp.concatenate([new, -new], axis=1)

    def problem(key):
        model = one_layer.make(config, jax.random.fold_in(key, 0))
        phi = one_layer.features(config, model, one_layer.prompt1(config, jnp.arange(facts)))
        start = gaussian(jax.random.fold_in(key, 1), (rank, facts)) / features**0.5
        sizes = jnp.linalg.svd(phi, compute_uv=False)
        # Where the descent ends, a mode of size s has balanced factors of size s^-1/2: its sharpness is
        # s_1^2 / s, and a step of half of the middle mode's inverse is stable.
        step = 0.5 * sizes[facts // 2] / (sizes[0] ** 2 * jnp.linalg.norm(residual, 2))
        return jnp.linalg.qr(phi.T, mode="r").T, start, step

    problems = jax.lax.map(problem, seeds.keys(key, draws))
    train = lambda parts: _descended(parts[0], residual, parts[1], parts[2], steps)  # noqa: E731
    return jax.lax.map(train, problems, batch_size=32)


def shared_overwrite_recall(
    facts: int, rank: int, lam: float = 1.0, *, key: Array, draws: int
) -> Float[Array, "draws"]:
    """``overwrite_recall`` of LoRAs trained on prompts of one relation."""
    base = jnp.concatenate([jnp.zeros((facts, facts)), jnp.eye(facts)], axis=1)
    logits = base[None] + lam * shared_changes(facts, rank, key, draws, False)
    return jnp.mean(jnp.argmax(logits, axis=2) == jnp.arange(facts)[None], axis=1)


def shared_insertion_recall(facts: int, rank: int, *, key: Array, draws: int) -> Float[Array, "draws"]:
    """``insertion_recall`` of LoRAs trained on prompts of one relation."""
    changes = shared_changes(facts, rank, key, draws, True)
    return jnp.mean(jnp.argmax(changes, axis=2) == jnp.arange(facts)[None], axis=1)


@functools.partial(jax.jit, static_argnames=("length", "rank"))
def cycle_recall(length: int, rank: int, lam: float = 1.0, *, key: Array) -> Array:
    """Recall of L overwrites that move L answers round one cycle; least squares, generic ties."""
    old = jnp.eye(length, dtype=jnp.float64)
    new = jnp.roll(old, 1, axis=1)
    noise = 1e-8 * gaussian(key, (length, length))
    logits = old + lam * apply(least_squares_adapter(old, new - old, rank, noise), old)
    return jnp.mean(jnp.argmax(logits, axis=1) == jnp.argmax(new, axis=1))
