"""Twin of ``theory.chain``: k-hop chains decoded in the one-layer model (theory/README.md, section 9).

Level l holds N = 2F entities. The base maps the F edited ones of each level into the other half of the
next, and adapter l moves them to a random bijection among the edited ones: no new answer is an old one.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sim.lab import seeds
from theory import edits, lowrank
from theory import model as one_layer

_TIE = 1e-8  # size of the generic matrix that picks the column space among tied ones


@dataclass(frozen=True)
class Setting:
    """One cell: F facts a hop, ``hops`` adapters of ``rank`` merged at ``lam``, all static under jit.

    ``window``: earlier tokens that attention sees (None: the whole trace; 1: a hop as in the data).
    ``template``: whether the base knows its own facts in traces as well as in plain prompts.
    """

    facts: int
    hops: int
    rank: int
    lam: float
    window: int | None = None
    template: bool = True
    features: int = 4096

    @property
    def model(self) -> one_layer.ModelConfig:
        """The one-layer model with room for every level, relation and mark."""
        fillers = one_layer.words(2 * self.facts, self.hops)[1]
        tokens = 4 * self.facts + 2 + fillers
        return one_layer.ModelConfig(
            2 * self.facts, 2 * tokens, self.features, window=self.window, fillers=fillers
        )


class Run(NamedTuple):
    """What each draw's chains did; column j of (hops, F) arrays is the chain that starts at subject j.

    forced:     hop right when every hop before it was written right (teacher forcing);
    decoded:    every hop right in the model's own greedy decoding, (F,);
    answer:     last name right in that decoding, whatever came before, (F,);
    margin:     base's lead of old over new in that context;   swing: change of (new - old) at lambda = 1;
    share:      rho of the fact in its adapter.
    """

    forced: Bool[Array, "draws hops F"]
    decoded: Bool[Array, "draws F"]
    answer: Bool[Array, "draws F"]
    margin: Float[Array, "draws hops F"]
    swing: Float[Array, "draws hops F"]
    share: Float[Array, "draws hops F"]


def graph(setting: Setting, key: Array) -> tuple[Array, Array]:
    """(base maps (hops, N), new maps (hops, F)) of one draw."""
    facts = setting.facts

    def hop(index):
        perms = [
            jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, index), part), facts)
            for part in range(3)
        ]
        return jnp.concatenate([facts + perms[0], perms[1]]), perms[2]

    return jax.vmap(hop)(jnp.arange(setting.hops))


def follow(maps: Array, starts: Array) -> Array:
    """Paths (n, hops + 1) from ``starts`` through the maps of all hops."""
    path = [starts]
    for step in maps:
        path.append(step[path[-1]])
    return jnp.stack(path, axis=-1)


def base_facts(setting: Setting, old: Array) -> list[tuple[Array, Array]]:
    """(prompts, output rows) of what the base knows: plain facts, and traces with ``template``."""
    size = 2 * setting.facts
    layout, _ = one_layer.words(size, setting.hops)
    everyone = jnp.arange(size)
    groups = [
        (one_layer.plain_prompt(layout, hop, everyone), hop * size + old[hop]) for hop in range(setting.hops)
    ]
    if setting.template:
        paths = follow(old, everyone)
        groups += [
            (one_layer.trace_prompt(layout, paths[:, : hop + 1]), hop * size + paths[:, hop + 1])
            for hop in range(setting.hops)
        ]
    return groups


def _one(setting: Setting, key: Array) -> Run:
    config, size = setting.model, 2 * setting.facts
    layout, _ = one_layer.words(size, setting.hops)
    parts = [jax.random.fold_in(key, index) for index in range(3)]
    frozen = one_layer.make(config, parts[0])
    old, new = graph(setting, parts[1])
    phi = functools.partial(one_layer.features, config, frozen)
    outputs = setting.hops * size

    groups = base_facts(setting, old)
    keys = jnp.concatenate([phi(prompts) for prompts, _ in groups])
    targets = one_layer.one_hot(jnp.concatenate([rows for _, rows in groups]), outputs)
    base = one_layer.base_weights(keys, targets)

    edited = jnp.arange(setting.facts)
    adapters, shares = [], []
    for hop in range(setting.hops):
        stored = phi(one_layer.plain_prompt(layout, hop, edited))
        residual = one_layer.one_hot(hop * size + new[hop], outputs) - stored @ base.T
        tie = _TIE * jax.random.normal(jax.random.fold_in(parts[2], hop), residual.shape, jnp.float64)
        adapters.append(edits.least_squares_adapter(stored, residual, setting.rank, tie))
        shares.append(edits.shares(adapters[-1], stored, residual))
    update = lowrank.concatenated(adapters)

    def logits(path):
        features = phi(one_layer.trace_prompt(layout, path))
        return features @ base.T, lowrank.apply(update, features)

    truth = follow(new, edited)
    path, alive = truth[:, :1], jnp.ones(setting.facts, bool)
    forced, margins, swings, share = [], [], [], []
    for hop in range(setting.hops):
        right = hop * size + truth[:, hop + 1]
        wrong = hop * size + old[hop][truth[:, hop]]
        before, change = logits(truth[:, : hop + 1])
        forced.append(jnp.argmax(before + setting.lam * change, axis=1) == right)
        lead = [jnp.take_along_axis(x, right[:, None], 1) - jnp.take_along_axis(x, wrong[:, None], 1)
                for x in (before, change)]  # fmt: skip
        margins.append(-lead[0][:, 0])
        swings.append(lead[1][:, 0])
        share.append(shares[hop][truth[:, hop]])
        before, change = logits(path)
        row = jnp.argmax(before + setting.lam * change, axis=1)
        alive = alive & (row == right)
        # A name of the wrong level is read as the entity of that number: the trace is lost either way.
        path = jnp.concatenate([path, (row % size)[:, None]], axis=1)
    return Run(
        jnp.stack(forced), alive, row == right, jnp.stack(margins), jnp.stack(swings), jnp.stack(share)
    )


@functools.partial(jax.jit, static_argnums=(0, 2))
def run(setting: Setting, key: Array, draws: int) -> Run:
    """Draw ``draws`` worlds, edit each with one adapter a hop, merge them, and decode every chain."""
    # One world at a time: batched LAPACK gains nothing on a CPU and can hang there.
    return jax.lax.map(functools.partial(_one, setting), seeds.keys(key, draws))
