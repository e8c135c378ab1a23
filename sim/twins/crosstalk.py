"""Twin of ``theory.crosstalk``: overlaps measured on drawn feature maps (theory/README.md, section 4)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory import crosstalk
from theory import model as one_layer


def _maps(key: Array, draws: int) -> Array:
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(draws))


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

    return jax.vmap(one)(_maps(key, draws))


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

    return jax.jit(jax.vmap(one))(_maps(key, draws))


def mean_overlap(
    facts: int, config: one_layer.ModelConfig, read: Int[Array, "facts length"], *, key: Array, draws: int
) -> Float[Array, "draws"]:
    """Mean over facts of c_kk = (Phi^+ phi(read_k))_k, keys at p1, for models drawn from ``config``."""

    def one(key):
        model = one_layer.make(config, key)
        keys = one_layer.features(config, model, one_layer.prompt1(config, jnp.arange(facts)))
        overlap = crosstalk.edit_overlap(keys, one_layer.features(config, model, read))
        return jnp.mean(jnp.diagonal(overlap))

    return jax.jit(lambda keys: jax.lax.map(one, keys))(_maps(key, draws))
