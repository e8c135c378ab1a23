"""Twin of ``theory.interactions``: deep linear networks with random adapters, run merge by merge
(theory/README.md, section 12)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.lab import seeds


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _outputs(weights, depth, dim, draws, gains, key) -> Array:
    count = weights.shape[1]

    def one(key):
        parts = [jax.random.fold_in(key, index) for index in range(4)]
        base = jax.random.orthogonal(parts[0], dim, (depth,), jnp.float64)
        size = jnp.sqrt(gains / dim)[None, :, None, None]
        adapters = size * jax.random.normal(parts[1], (depth, count, dim, dim), jnp.float64)
        x, readout = (jax.random.normal(part, (dim,), jnp.float64) for part in parts[2:])

        def merge(w):
            y = x / jnp.linalg.norm(x)
            for layer in range(depth):
                y = (base[layer] + jnp.tensordot(w, adapters[layer], 1)) @ y
            return readout @ y

        return jax.vmap(merge)(weights)

    return jax.lax.map(one, seeds.keys(key, draws))


def outputs(
    weights: Float[np.ndarray, "n K"], gains: Sequence[float], depth: int, dim: int, key: Array, draws: int
) -> Float[np.ndarray, "draws n"]:
    """f(w) of every merge, for each drawn network: v^T prod_l (W_l + sum_i w_i D_l^i) x with |x| = 1."""
    gains = jnp.asarray(gains, jnp.float64)
    return np.asarray(_outputs(jnp.asarray(weights, jnp.float64), depth, dim, draws, gains, key))


def subset_weights(adapters: int, strength: float) -> Float[np.ndarray, "n K"]:
    """The merges of all subsets at one strength, in the order of a flattened table over subsets."""
    return strength * np.indices((2,) * adapters).reshape(adapters, -1).T.astype(float)


def saturating_outputs(
    weights: Float[np.ndarray, "n K"], gains: Sequence[float], key: Array, draws: int
) -> Float[np.ndarray, "draws n"]:
    """erf(b + sum_i w_i a_i) of every merge, for each drawn unit: b ~ N(0, 1), a_i ~ N(0, g_i)."""
    weights, gains = jnp.asarray(weights, jnp.float64), jnp.asarray(gains, jnp.float64)
    noise = jax.random.normal(key, (draws, 1 + len(gains)), jnp.float64)
    inputs = (noise[:, 1:] * jnp.sqrt(gains)[None, :]) @ weights.T
    return np.asarray(jax.scipy.special.erf(noise[:, :1] + inputs))
