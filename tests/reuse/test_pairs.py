"""Metrics of a pair that need prompts, against gradients and activations taken another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import noisy_adapter, tiny

from sim.model.transformer import completion_logits, hidden, init
from sim.reuse import library, pairs
from theory import pairwise
from theory.lowrank import dense

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scene(tiny_world):
    decoder = tiny().decoder
    key = jax.random.key(11)
    parts = [noisy_adapter(decoder, jax.random.fold_in(key, i), size=0.3) for i in range(2)]
    probes = {name: tiny_world.probes[name] for name in tiny_world.parts}
    return decoder, init(decoder, key), parts, probes


# Operation by operation they take several times as long.
read = jax.jit(hidden, static_argnums=0)
measure = jax.jit(pairs.measure, static_argnums=(0, 1))
signature_of = jax.jit(pairs._of_model, static_argnums=(0, 2, 4))


def loss(params, decoder, probe):
    log_probabilities = jax.nn.log_softmax(completion_logits(decoder, params, probe.tokens, probe.prompt))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, probe.target[..., None], axis=-1))


slope = jax.jit(jax.grad(loss), static_argnums=1)


def of_model(scene, i):
    decoder, params, parts, probes = scene
    merged = params | {name: params[name] + dense(update) for name, update in parts[i].items()}
    streams = [read(decoder, merged, probe.tokens[:, :-1]) for probe in probes.values()]
    mean = np.concatenate([np.asarray(x).reshape(-1, decoder.width) for x in streams]).mean(axis=0)
    gradient = slope(merged, decoder, list(probes.values())[i])
    return merged, mean, np.concatenate([np.ravel(gradient[name]) for name in sorted(parts[i])]), gradient


def test_every_metric_is_there_and_is_what_it_says(scene):
    decoder, params, parts, probes = scene
    factors = [library.factors_of(part) for part in parts]
    actual = measure(decoder, tuple(probes), params, probes, factors)
    assert set(actual) == set(pairs.METRICS) and all(np.isfinite(value) for value in actual.values())
    (_, a, g, _), (_, b, h, _) = (of_model(scene, i) for i in range(2))
    for name, one, other in (("activation", a, b), ("gradient", g, h)):
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        np.testing.assert_allclose(actual[f"{name}_cosine"], cosine, atol=1e-4)
        np.testing.assert_allclose(actual[f"{name}_dot"], one @ other, rtol=1e-3)
        np.testing.assert_allclose(actual[f"{name}_distance"], np.linalg.norm(one - other), rtol=1e-3)
    sizes = np.linalg.norm(a), np.linalg.norm(b)
    np.testing.assert_allclose(actual["activation_magnitude_ratio"], min(sizes) / max(sizes), rtol=1e-4)
    for name, value in pairwise.measure(*parts).items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, err_msg=name)


def test_gradients_of_inputs_add_up_to_the_gradient_of_their_embeddings(scene):
    """And each adapter's are taken on its own part's questions."""
    decoder, _, parts, probes = scene
    for i, (name, probe) in enumerate(probes.items()):
        merged, _, _, gradient = of_model(scene, i)
        signature = signature_of(decoder, merged, tuple(parts[i]), probes, name)
        rows = np.asarray(signature["input_gradient"]).reshape(-1, decoder.width)
        total = np.zeros((decoder.vocab, decoder.width))
        np.add.at(total, np.asarray(probe.tokens).ravel(), rows)
        np.testing.assert_allclose(total, gradient["embed"], atol=1e-5)
        assert np.abs(rows).max() > 1e-3


def test_one_adapter_twice_has_one_activation(scene):
    decoder, params, parts, probes = scene
    factors = [library.factors_of(parts[0])] * 2
    actual = measure(decoder, tuple(probes), params, probes, factors)
    assert actual["activation_cosine"] == pytest.approx(1) and actual["activation_distance"] == 0
    assert actual["cosine"] == pytest.approx(1) and actual["gradient_cosine"] < 1
