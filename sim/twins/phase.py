"""The coverage law as a phase diagram: real relu memories at every lambda, kappa, rho (theory/README.md, 5).

F facts "a REL1" are overwritten by a rank-r adapter from a random start and read at "a REL1'", the embedding
of REL1' being that of REL1 turned by an angle towards a word of its own. The base holds the old answers
in both templates.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theory import model as one_layer
from theory.edits import exact_adapter, starved_adapter
from theory.lowrank import apply


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
    """Fraction of the F facts that answer new among all 2F answers, each draw with its own model."""
    tokens = 2 * facts + 3
    config = one_layer.ModelConfig(facts, 2 * tokens, features, fillers=1)
    numbers = jnp.arange(facts)
    old = one_layer.one_hot(numbers, 2 * facts)
    new = one_layer.one_hot(numbers + facts, 2 * facts)

    def one(index: Array) -> Array:
        part = jax.random.fold_in(key, index)
        model = one_layer.make(config, jax.random.fold_in(part, 0))
        stored = one_layer.hidden(config, model, one_layer.prompt1(config, numbers))
        keys = one_layer.activated(config, model, stored)
        exact = exact_adapter(keys, new - old)
        update = starved_adapter(exact, one_layer.gaussian(jax.random.fold_in(part, 1), (rank, facts)))
        relation, other = model.embed[2 * facts], model.embed[-1]

        def turned(angle: Array) -> Array:
            step = (jnp.cos(angle) - 1) * relation + jnp.sin(angle) * other
            read = one_layer.activated(config, model, stored + step[None])
            base = one_layer.base_weights(jnp.concatenate([keys, read]), jnp.concatenate([old, old]))
            logits = (read @ base.T)[None] + lam[:, None, None] * apply(update, read)[None]
            return jnp.mean(jnp.argmax(logits, axis=-1) == (numbers + facts)[None], axis=1)

        return jax.lax.map(turned, angle)

    return jax.lax.map(one, jnp.arange(draws))
