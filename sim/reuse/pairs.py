"""What published metrics of mergeability say of a library's pairs, on the base they were trained on.

``theory.pairwise`` has the data-free ones. Those of activations and gradients (arXiv 2601.22285) need prompts
and answers: here the probes that the parts were trained to answer, where that paper takes ten samples of each
task. Each metric is the mean over the pairs of parts.
"""

import itertools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.lab.parallel import brief_program
from sim.model.transformer import Decoder, Params, completion_logits, hidden
from sim.reuse.library import Factors, adapter_of, scaled
from sim.worlds import Probe, World
from theory import pairwise

PROMPTED = tuple(
    f"{of}_{how}"
    for of, hows in {
        "activation": ("cosine", "dot", "distance", "magnitude_ratio"),
        "gradient": ("cosine", "dot", "distance"),
        "input_gradient": ("cosine", "dot", "distance"),
    }.items()
    for how in hows
)
"""Metrics that need prompts."""

METRICS = (*pairwise.METRICS, *PROMPTED)


def measured(
    decoder: Decoder, base: Params, world: World, parts: Sequence[Factors]
) -> dict[str, Float[Array, " runs"]]:
    """``METRICS`` of the parts of a chunk of runs."""
    probes = {name: world.probes[name] for name in world.parts}
    return brief_program(measure, decoder, world.parts)(base, probes, parts)


def measure(
    decoder: Decoder,
    names: tuple[str, ...],
    params: Params,
    probes: Mapping[str, Probe],
    parts: Sequence[Factors],
) -> dict[str, Float[Array, ""]]:
    """``METRICS`` of one library; ``names``: of the probe that each part was trained to answer."""
    one = jnp.ones(1, jnp.float32)
    signature = [
        _of_model(decoder, scaled(params, [part], one), tuple(part), probes, name)
        for name, part in zip(names, parts, strict=True)
    ]
    metrics = []
    for i, j in itertools.combinations(range(len(parts)), 2):
        pair = pairwise.measure(adapter_of(parts[i]), adapter_of(parts[j]))
        for of in signature[i]:
            pair |= {
                f"{of}_{how}": value for how, value in _compared(signature[i][of], signature[j][of]).items()
            }
        metrics.append({name: pair[name] for name in METRICS})
    return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *metrics)


def _of_model(
    decoder: Decoder, params: Params, adapted: tuple[str, ...], probes: Mapping[str, Probe], own: str
) -> dict[str, Array]:
    """Of one adapted model, as vectors: its mean activation after the last layer over the prompts of all
    parts, and the gradients of its mean cross-entropy on its own part's questions, in the adapted matrices
    and in the embedded tokens."""
    streams = [hidden(decoder, params, probe.tokens[:, :-1]) for probe in probes.values()]
    flat = jnp.concatenate([stream.reshape(-1, decoder.width) for stream in streams])
    probe = probes[own]
    # Every token a row of its own in the table, so that the table's gradient is that of the inputs.
    rows = jnp.arange(probe.tokens.size).reshape(probe.tokens.shape)
    inputs = params["embed"][probe.tokens].reshape(-1, decoder.width)

    def loss(weights, inputs):
        logits = completion_logits(decoder, params | weights | {"embed": inputs}, rows, probe.prompt)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), probe.target[..., None], axis=-1)
        return -jnp.mean(picked)

    gradients = jax.grad(loss, (0, 1))({name: params[name] for name in adapted}, inputs)
    matrices, tokens = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in gradients)
    return {"activation": jnp.mean(flat, axis=0), "gradient": matrices, "input_gradient": tokens}


def _compared(left: Float[Array, " n"], right: Float[Array, " n"]) -> dict[str, Array]:
    """cosine, dot, distance and the ratio of magnitudes, smaller over larger, of two vectors; no NaN: a
    gradient that vanished has cosine and ratio 0."""
    left, right = left.astype(jnp.float64), right.astype(jnp.float64)
    sizes = jnp.stack([jnp.linalg.norm(left), jnp.linalg.norm(right)])
    product = jnp.where(jnp.prod(sizes) > 0, jnp.prod(sizes), jnp.inf)
    largest = jnp.where(jnp.max(sizes) > 0, jnp.max(sizes), 1.0)
    return {
        "cosine": left @ right / product,
        "dot": left @ right,
        "distance": jnp.linalg.norm(left - right),
        "magnitude_ratio": jnp.min(sizes) / largest,
    }
