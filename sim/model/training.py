"""Training until it knows: the same loop pretrains a base and trains an adapter.

The loss is the negative log-likelihood of a completion given its prompt, its mean over the sequences of a
group by their weights, summed over groups (theory/README.md, section 12).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sim.model import batches
from sim.model.sequences import Sequences

Trainable = TypeVar("Trainable")
Logits = Callable[[Trainable, Sequences], Array]
"""(trainable, sequences) -> logits of their completion tokens (B, L, V)."""

PRECISION = "tensorfloat32"
"""Of the products in training, on accelerators that have it; a CPU's are float32 whatever this says."""

MASTERY = 0.98
"""Training stops when this share of every group is known, of facts as of traces."""

LOOK = 25
"""Steps between two looks at what is known, unless a schedule says otherwise."""

PATIENCE, PROGRESS = 200, 0.02
"""Training gives up after so many steps in which what is short of the margin fell by less than this share."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, a constant rate, and linear decay to zero over the last ``cooling`` steps.

    Nothing but that decay depends on the length of training, so that it may end when enough is known.

    steps:   at most so many, a multiple of ``look``.
    batch:   at most how many sequences of each group a step takes, by group name (``batches.deal``).
    decay:   of the weights.
    warming, cooling: steps of warm-up and decay.
    margin:  nats by which a right answer must lead to count as known (``lead``): training cools and ends
             once ``MASTERY`` of each group does, or once it gives up (``PATIENCE``). None: nothing is looked
             at, and all steps are taken.
    overtraining: training begins to cool after so many times the steps after which enough was known.
    tile:    sequences that pass through the model at once.
    look:    steps between two looks at what is known.

    Raises:
        ValueError: the steps are no multiple of ``look``.
    """

    steps: int
    rate: float
    batch: tuple[tuple[str, int], ...]
    decay: float = 0.0
    warming: int = 10
    cooling: int = LOOK
    margin: float | None = None
    overtraining: int = 1
    tile: int = 128
    look: int = LOOK

    def __post_init__(self):
        if self.steps < self.look or self.steps % self.look:
            raise ValueError(f"steps is {self.steps}: training takes a multiple of {self.look} steps")

    def lasting(self, steps: int, rate: float) -> "Schedule":
        """Another length and rate, with warm-up and cooling in proportion."""
        by = steps / self.steps
        return replace(
            self, steps=steps, rate=rate, warming=round(by * self.warming), cooling=round(by * self.cooling)
        )

    def in_one_tile(self) -> "Schedule":
        """The same with whole batches in a tile: no rows of weight 0 pass through the model to fill the last
        one. For a CPU, where rows take as long in large tiles as in small ones; sums round in other ways."""
        return replace(self, tile=max(most for _, most in self.batch))

    def rate_at(self, step: Int[Array, ""], end: Int[Array, ""]) -> Float[Array, ""]:
        """rate * min(1, (step + 1) / warming, (end - step) / cooling), for steps from 0 to end - 1."""
        up, down = (step + 1) / self.warming, (end - step) / self.cooling
        return self.rate * jnp.minimum(1.0, jnp.minimum(up, down)).astype(jnp.float32)

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW of rate 1; b2 = 0.98 because runs last hundreds of steps, not thousands."""
        return optax.flatten(optax.adamw(1.0, b2=0.98, weight_decay=self.decay))


class Fit(NamedTuple, Generic[Trainable]):
    """What training ends with.

    losses: of every step, zero after the last, (schedule.steps,). steps: how many were taken.
    recall: share of each group that is answered right, NaN of an empty one; {} without a margin. A share
            below ``MASTERY`` after fewer steps than the schedule has: the run gave up.
    """

    value: Trainable
    losses: Float[Array, " steps"]
    steps: Int[Array, ""]
    recall: dict[str, Float[Array, ""]]


def completion_loss(logits: Float[Array, "B L V"], group: Sequences) -> Float[Array, ""]:
    """-sum_i w_i log p(completion_i | prompt_i), in nats, from the logits that decide the L tokens.

    w is ``group.weight``: the mean over sequences by weight, where those have the sum 1.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, group.target)
    return jnp.sum(group.weight * jnp.sum(losses, axis=1))


def lead(logits: Float[Array, "B L V"], group: Sequences) -> Float[Array, " B"]:
    """By how many nats the right completion leads: min over its tokens of logit_right - max logit_other.

    Positive if every token is right with the right ones before it.
    """
    right = jnp.take_along_axis(logits, group.target[..., None], axis=-1)[..., 0]
    is_right = jax.nn.one_hot(group.target, logits.shape[-1], dtype=bool)
    return jnp.min(right - jnp.max(jnp.where(is_right, -jnp.inf, logits), axis=-1), axis=-1)


def loss_and_gradient(
    logits: Logits,
    value: Trainable,
    groups: Mapping[str, Sequences],
    drawn: Mapping[str, batches.Batch],
    tile: int,
) -> tuple[Float[Array, ""], Trainable]:
    """(loss, its gradient) at ``value``: the sum over groups of the mean over a batch by weight."""

    def of(sequences):
        return jax.value_and_grad(lambda v: completion_loss(logits(v, sequences), sequences))(value)

    nothing = jnp.float32(0), jax.tree.map(jnp.zeros_like, value)
    parts = [
        batches.sum_over(batches.normalise(drawn[name]), groups[name], of, tile, nothing) for name in drawn
    ]
    return functools.reduce(functools.partial(jax.tree.map, jnp.add), parts)


class Standing(NamedTuple):
    """How much of a group is known, means over its sequences, NaN of an empty one.

    recall: share answered right. enough: share answered with a lead above the margin.
    shortfall: by how much leads are short of the margin, max(0, margin - lead), in nats.
    """

    recall: Float[Array, ""]
    enough: Float[Array, ""]
    shortfall: Float[Array, ""]


def standing(
    logits: Callable[[Sequences], Array], group: Sequences, batch: batches.Batch, margin: float, tile: int
) -> Standing:
    """How much of a batch of a group is known, each sequence alike, whatever its weight above 0."""

    def total(sequences):
        leads, counts = lead(logits(sequences), sequences), sequences.weight > 0
        each = Standing(leads > 0, leads > margin, jnp.maximum(margin - leads, 0.0))
        return jax.tree.map(lambda values: jnp.sum(values, where=counts, dtype=jnp.float32), each)

    sums = batches.sum_over(batch, group, total, tile, Standing(*jnp.zeros(3, jnp.float32)))
    return jax.tree.map(lambda value: value / batch.count, sums)


def fit(
    logits: Logits,
    start: Trainable,
    groups: Mapping[str, Sequences],
    schedule: Schedule,
    key: Array,
    optimiser: optax.GradientTransformation | None = None,
) -> Fit[Trainable]:
    """Minimise the completion loss of ``logits`` over ``groups``, summed over groups.

    A step has the exact gradient of every group that fits its batch. Every ``look`` steps the run looks at
    what it knows, and gives up if that has not moved for ``PATIENCE`` steps: its adapter cannot learn more.
    Of runs that are mapped together each ends by itself, and then stays as it is.

    Products are of ``PRECISION``: what is trained, not how it is then asked, may round inputs to 10 bits.

    Args:
        groups: sequences to learn; a group whose weights are all zero costs nothing and teaches nothing.
        key: randomness of the order of sequences; group g of the schedule uses fold_in(key, g).
        optimiser: of rate 1, if not ``schedule.optimiser()``.

    Returns:
        ``Fit``. Check the losses with ``require_finite``: a run ends soon after one that is not finite.
    """
    decks = {
        name: batches.shuffle(groups[name].weight, jax.random.fold_in(key, index))
        for index, (name, _) in enumerate(schedule.batch)
    }
    optimiser = optimiser or schedule.optimiser()

    def step(carry, index, end):
        value, state = carry
        drawn = {
            name: batches.deal(decks[name], groups[name].weight, most, index) for name, most in schedule.batch
        }
        with jax.default_matmul_precision(PRECISION):
            loss, gradient = loss_and_gradient(logits, value, groups, drawn, schedule.tile)
        change, state = optimiser.update(gradient, state, value)
        rate = schedule.rate_at(index, end)
        return (jax.tree.map(lambda leaf, by: leaf + rate * by, value, change), state), loss

    def look(value):
        """(share of each group that is right, whether enough of every group is right by the margin, by how
        much all are short of it)."""
        each = {}
        for name, deck in decks.items():
            every = batches.all_of(deck, groups[name].weight)
            of_value = functools.partial(logits, value)
            each[name] = standing(of_value, groups[name], every, schedule.margin, schedule.tile)
        enough = [(decks[name].count == 0) | (of.enough >= MASTERY) for name, of in each.items()]
        shortfall = jnp.nansum(jnp.stack([of.shortfall for of in each.values()]))
        return {name: of.recall for name, of in each.items()}, jnp.all(jnp.stack(enough)), shortfall

    def block(run):
        now, state, end, (least, at) = run
        indices = now.steps + jnp.arange(schedule.look, dtype=jnp.int32)
        carry, losses = jax.lax.scan(functools.partial(step, end=end), (now.value, state), indices)
        losses = jax.lax.dynamic_update_slice(now.losses, losses, (now.steps,))
        steps, shares = now.steps + schedule.look, now.recall
        if schedule.margin is not None:
            shares, enough, shortfall = look(carry[0])
            # A later look only finds a later end.
            end = jnp.where(enough, jnp.minimum(end, schedule.overtraining * steps + schedule.cooling), end)
            moves = shortfall < (1 - PROGRESS) * least
            least = jnp.where(moves, shortfall, least)
            # Who knows enough never gives up.
            at = jnp.maximum(at, jnp.where(enough, schedule.steps, jnp.where(moves, steps, 0)))
            end = jnp.where(steps - at >= PATIENCE, jnp.minimum(end, steps + schedule.cooling), end)
        return Fit(carry[0], losses, steps, shares), carry[1], end, (least, at)

    def goes_on(run):
        now, _, end, _ = run
        return (now.steps < end) & jnp.all(jnp.isfinite(now.losses))

    nothing = {} if schedule.margin is None else dict.fromkeys(decks, jnp.float32(jnp.nan))
    begin = Fit(start, jnp.zeros(schedule.steps, jnp.float32), jnp.int32(0), nothing)
    run = begin, optimiser.init(start), jnp.int32(schedule.steps), (jnp.float32(jnp.inf), jnp.int32(0))
    return jax.lax.while_loop(goes_on, block, run)[0]


def require_finite(losses, what: str) -> None:
    """Raise FloatingPointError, naming the run and the first bad step, if a loss is NaN or infinite."""
    losses = np.asarray(losses)
    bad = ~np.isfinite(losses.reshape(-1, losses.shape[-1]))
    if bad.any():
        step = int(np.flatnonzero(bad.any(axis=0))[0])
        raise FloatingPointError(f"{what}: the loss is not finite at step {step}; lower the learning rate")
