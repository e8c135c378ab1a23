"""Twin of ``theory.selection``: real adapters, routed by exact Arrow (theory/README.md, section 10).

Two worlds: spiked features drawn directly, where theta, c and tau are dialled, and the one-layer model with
orthonormal embeddings and no relu, which is an instance of it (theta^2 = m, c = m/F), for the prompts
themselves.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sim.model import routing
from sim.model.routers import published
from theory import model as one_layer
from theory.lowrank import LowRank

Edit = Literal["sighted", "blind", "permuted"]


def directions(facts: int, sight: float) -> Float[Array, "F F"]:
    """D = I + (tau - 1) 11^T/F: the symmetric D with D^T D = I + (tau^2 - 1) 11^T/F."""
    return jnp.eye(facts, dtype=jnp.float64) + (sight - 1) / facts


def permuted(facts: int) -> Float[Array, "F F"]:
    """D = shift - I: every answer moves to the next fact's answer, so that the answer marginal stays."""
    identity = jnp.eye(facts, dtype=jnp.float64)
    return jnp.roll(identity, 1, axis=0) - identity


def alignment(theta: float, aspect: float, sight: float, features: int, key: Array) -> Float[Array, ""]:
    """<v_1, mu/|mu|>^2 of Arrow's prototype, for one draw of m spiked features of F = m/c facts."""
    facts = round(features / aspect)
    mean, spread = _spiked(theta, features, facts, 1, key)
    prototype = published.arrow(LowRank(directions(facts, sight), mean[0] + spread[0]))[0]
    return jnp.square(prototype @ mean[0, 0]) / jnp.sum(jnp.square(mean[0, 0]))


def _spiked(theta, features, facts, adapters, key):
    """Means (K, 1, m), mutually orthogonal with norm theta, and entity parts (K, F, m) of variance 1."""
    frame = jnp.linalg.qr(jax.random.normal(jax.random.fold_in(key, 0), (features, adapters), jnp.float64))[0]
    noise = jax.random.normal(jax.random.fold_in(key, 1), (adapters, facts, features), jnp.float64)
    return theta * frame.T[:, None, :], noise


def gates(
    theta: float,
    aspect: float,
    adapters: int,
    features: int,
    key: Array,
    *,
    sight: float = 1.0,
    seen: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Float[Array, "F K"]:
    """Arrow's gates at F prompts of relation 0, for one library of K adapters of mutually orthogonal
    relations.

    The prompts are adapter 0's own facts (``seen``) or fresh entities. Temperature in units of sigma = 1.
    """
    facts = round(features / aspect)
    mean, noise = _spiked(theta, features, facts, adapters, key)
    edit = directions(facts, sight)
    library = [LowRank(edit, mean[i] + noise[i]) for i in range(adapters)]
    fresh = jax.random.normal(jax.random.fold_in(key, 2), (facts, features), jnp.float64)
    prompts = mean[0] + (noise[0] if seen else fresh)
    return routing.gate(prompts, routing.prototypes("arrow", library), top_k=top_k, temperature=temperature)


def one_layer_library(
    config: one_layer.ModelConfig, model: one_layer.Model, relations: Int[Array, "K"], edit: Edit, facts: int
) -> list[LowRank]:
    """One adapter a relation token: Delta W = D Phi^T over the prompts "x REL".

    x runs over the first F subjects (even relations) or bridges (odd ones), as in the two-hop world.
    """
    change = permuted(facts) if edit == "permuted" else directions(facts, float(edit == "sighted"))
    library = []
    for index in range(relations.shape[0]):
        entity = jnp.arange(facts) + (index % 2) * config.entities
        prompt = jnp.stack([entity, jnp.full_like(entity, relations[index])], axis=-1)
        library.append(LowRank(change, one_layer.features(config, model, prompt)))
    return library


@functools.partial(jax.jit, static_argnums=(0, 1, 3, 4))
def prompt_gates(
    config: one_layer.ModelConfig,
    facts: int,
    prompt: Int[Array, "P length"],
    edit: Edit,
    top_k: int | None,
    relations: Int[Array, "K"],
    key: Array,
) -> Float[Array, "P K"]:
    """Arrow's gates (temperature 1 in units of sigma = 1/sqrt(m)) at the last token of given prompts."""
    model = one_layer.make(config, key)
    library = one_layer_library(config, model, relations, edit, facts)
    protos = routing.prototypes("arrow", library)
    x = one_layer.features(config, model, prompt)
    return routing.gate(x, protos, top_k=top_k, temperature=config.features**-0.5)
