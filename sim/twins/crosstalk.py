"""Twin of ``theory.crosstalk``: overlaps measured on drawn feature maps (theory/README.md, section 4)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sim.lab import seeds
from theory import model as one_layer
from theory.edits import exact_adapter
from theory.lowrank import apply


@functools.partial(jax.jit, static_argnames=("activation", "features", "draws"))
def kappa(
    stored: Float[Array, "d"],
    read: Float[Array, "d"],
    activation: str = "relu",
    *,
    key: Array,
    features: int,
    draws: int,
) -> Float[Array, "draws"]:
    """<phi(u), phi(v)> / |phi(u)|^2 for ``draws`` Gaussian feature maps with m = ``features``."""
    config = one_layer.ModelConfig(1, stored.size, features, embeddings="gaussian", activation=activation)

    def one(key):
        up = one_layer.gaussian(key, (features, stored.size))
        model = one_layer.Model(jnp.zeros((1, 1)), jnp.zeros((1, 1)), up)
        u, v = (one_layer.activated(config, model, pre) for pre in (stored, read))
        return jnp.sum(u * v) / jnp.sum(u * u)

    return jax.vmap(one)(seeds.keys(key, draws))


def prompt_kappa(
    config: one_layer.ModelConfig,
    stored: Int[Array, "length"],
    read: Int[Array, "other"],
    *,
    key: Array,
    draws: int,
) -> Float[Array, "draws"]:
    """The same between two token prompts, for whole models drawn from ``config``."""

    def one(key):
        model = one_layer.make(config, key)
        u, v = (one_layer.features(config, model, prompt) for prompt in (stored, read))
        return jnp.sum(u * v) / jnp.sum(u * u)

    return jax.jit(jax.vmap(one))(seeds.keys(key, draws))


def mean_overlap(
    facts: int, config: one_layer.ModelConfig, read: Int[Array, "facts length"], *, key: Array, draws: int
) -> Float[Array, "draws"]:
    """Mean over facts of how strongly the edit of fact k acts at read_k: one output row a fact, edited at p1.

    One value for each model drawn from ``config``.
    """

    def one(key):
        model = one_layer.make(config, key)
        keys = one_layer.features(config, model, one_layer.prompt1(config, jnp.arange(facts)))
        update = exact_adapter(keys, jnp.eye(facts, dtype=jnp.float64))
        return jnp.mean(jnp.diagonal(apply(update, one_layer.features(config, model, read))))

    return jax.jit(lambda keys: jax.lax.map(one, keys))(seeds.keys(key, draws))
