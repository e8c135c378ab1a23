"""Training as one ``lax.scan`` a run: the same loop pretrains a base and trains an adapter.

The loss is the negative log-likelihood of a completion given its prompt, averaged over the sequences
drawn from a group and summed over groups (theory/README.md, section 12).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sim.lab import seeds
from sim.model.descent import minimise
from sim.model.sequences import Sequences

Trainable = TypeVar("Trainable")

PRECISION = "tensorfloat32"
"""Of the products in training, on accelerators that have it; a CPU's are float32 whatever this says."""


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up over a tenth of the steps and cosine decay to zero.

    batch: sequences drawn per step from each group, by group name.
    """

    steps: int
    rate: float
    batch: tuple[tuple[str, int], ...]
    decay: float = 0.0

    def optimiser(self) -> optax.GradientTransformation:
        """The optax transformation; b2 = 0.98 because runs last hundreds of steps, not thousands."""
        rate = optax.warmup_cosine_decay_schedule(0.0, self.rate, max(1, self.steps // 10), self.steps)
        return optax.adamw(rate, b2=0.98, weight_decay=self.decay)


def draws(weight: Float[Array, " S"], count: int, key: Array) -> Int[Array, " count"]:
    """Numbers of ``count`` sequences with probability proportional to weight, with replacement."""
    cumulative = jnp.cumsum(weight)
    uniform = jax.random.uniform(key, (count,), jnp.float32) * cumulative[-1]
    # A group of weight zero draws its last sequence; ``fit`` multiplies its loss by zero.
    return jnp.minimum(jnp.searchsorted(cumulative, uniform, side="right"), len(weight) - 1)


def completion_loss(logits: Float[Array, "B L V"], group: Sequences) -> Float[Array, ""]:
    """Mean over sequences of -log p(completion | prompt), in nats a sequence, from the logits that
    decide the L completion tokens."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, group.tokens[:, group.prompt :])
    return jnp.mean(jnp.sum(losses, axis=1))


def fit(
    logits: Callable[[Trainable, Sequences], Array],
    trainable: Trainable,
    groups: Mapping[str, Sequences],
    schedule: Schedule,
    key: Array,
) -> tuple[Trainable, Array]:
    """Minimise the completion loss of ``logits`` over ``groups``, summed over groups.

    Products are of ``PRECISION``: what is trained, not how it is then asked, may round inputs to 10 bits.

    Args:
        logits: (trainable, sequences drawn) -> logits of the completion tokens (B, L, V).
        trainable: pytree of float arrays, the start.
        groups: sequences to draw from; a group whose weights are all zero adds nothing to the loss.
        schedule: steps, rate, and the batch of each group.
        key: randomness of the draws; step t of group g uses fold_in(fold_in(key, t), g).

    Returns:
        (trainable after the last step, loss of every step). Check the losses with ``require_finite``.
    """
    # All draws before the first step: random numbers are cheap in bulk and dear step by step.
    step_keys = seeds.keys(key, schedule.steps)
    drawn = {
        name: jax.vmap(
            lambda step_key, n=name, c=count, i=index: draws(
                groups[n].weight, c, jax.random.fold_in(step_key, i)
            )
        )(step_keys)
        for index, (name, count) in enumerate(schedule.batch)
    }

    def group_loss(value, name, step):
        batch = jax.tree.map(lambda leaf: leaf[drawn[name][step]], groups[name])
        present = (jnp.max(groups[name].weight) > 0).astype(jnp.float32)
        return present * completion_loss(logits(value, batch), batch)

    def loss(value, step):
        total = 0.0
        with jax.default_matmul_precision(PRECISION):
            for name, _ in schedule.batch:
                total += jax.lax.cond(
                    jnp.max(groups[name].weight) > 0,
                    lambda value, n=name: group_loss(value, n, step),
                    lambda value: jnp.zeros((), jnp.float32),
                    value,
                )
        return total

    return minimise(loss, trainable, schedule.optimiser(), schedule.steps)


def require_finite(losses, what: str) -> None:
    """Raise FloatingPointError, naming the run and the first bad step, if a loss is NaN or infinite."""
    losses = np.asarray(losses)
    bad = ~np.isfinite(losses.reshape(-1, losses.shape[-1]))
    if bad.any():
        step = int(np.flatnonzero(bad.any(axis=0))[0])
        raise FloatingPointError(f"{what}: the loss is not finite at step {step}; lower the learning rate")
