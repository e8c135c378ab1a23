"""Section 0: the one-layer model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import model as one_layer


@pytest.mark.parametrize("embeddings, dim", [("orthonormal", 28), ("gaussian", 28)])
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_base_recalls_its_facts_at_least_norm(key, embeddings, dim, activation):
    config = one_layer.ModelConfig(6, dim, 60, embeddings=embeddings, activation=activation)
    model = one_layer.make(config, key)
    keys = one_layer.features(config, model, one_layer.prompt1(config, jnp.arange(6)))
    targets = one_layer.one_hot(jnp.array([3, 1, 0, 2, 5, 4]), config.outputs)
    base = one_layer.base_weights(keys, targets)
    np.testing.assert_allclose(keys @ base.T, targets, atol=1e-10)
    # Least norm: W0 has no part outside the span of the keys.
    span = jnp.linalg.qr(keys.T)[0]
    np.testing.assert_allclose(base @ span @ span.T, base, atol=1e-10)


def test_orthonormal_embeddings_and_values_are_one_orthonormal_set(key):
    config = one_layer.ModelConfig(3, 20, 5, fillers=2)
    model = one_layer.make(config, key)
    frame = jnp.concatenate([model.embed, model.embed @ model.value.T])
    np.testing.assert_allclose(frame @ frame.T, jnp.eye(2 * config.tokens), atol=1e-12)


def test_features_keep_length_on_average(key):
    for activation in ("relu", "identity"):
        config = one_layer.ModelConfig(3, 20, 20000, activation=activation)
        model = one_layer.make(config, key)
        prompt = one_layer.prompt12(config, jnp.array([0]))
        pre, phi = one_layer.hidden(config, model, prompt), one_layer.features(config, model, prompt)
        assert float(jnp.sum(phi**2) / jnp.sum(pre**2)) == pytest.approx(1.0, abs=0.05)


def test_gaussian_embeddings_and_values_have_length_one_and_are_independent(key):
    """Variance 1/d; 200 tokens of d = 400 and a map of 400 x 400: six standard errors."""
    model = one_layer.make(one_layer.ModelConfig(99, 400, 5, embeddings="gaussian"), key)
    for drawn in (model.embed, model.value):
        assert 400 * jnp.mean(drawn**2) == pytest.approx(1.0, abs=6 * (2 / drawn.size) ** 0.5)
        assert 20 * jnp.mean(drawn) == pytest.approx(0.0, abs=6 / drawn.size**0.5)
    product = 400 * jnp.mean(model.embed * model.value[:200])
    assert product == pytest.approx(0.0, abs=6 / model.embed.size**0.5)


@pytest.mark.parametrize(
    "attention, window, expected",
    [("sum", None, [1, 1]), ("mean", None, [0.5, 0.5]), ("sum", 1, [0, 1]), ("mean", 2, [0.5, 0.5])],
)
def test_attention_weights(key, attention, window, expected):
    config = one_layer.ModelConfig(3, 20, 5, attention=attention, window=window)
    model = one_layer.make(config, key)
    hidden = one_layer.hidden(config, model, one_layer.prompt12(config, jnp.array(1)))
    values = model.embed @ model.value.T
    np.testing.assert_allclose([hidden @ values[1], hidden @ values[6]], expected, atol=1e-12)
    assert hidden @ model.embed[7] == pytest.approx(1.0)  # the last token itself


def test_prompts():
    config = one_layer.ModelConfig(3, 20, 5)
    np.testing.assert_array_equal(one_layer.prompt1(config, jnp.array([2])), [[2, 6]])
    np.testing.assert_array_equal(one_layer.prompt2(config, jnp.array([2])), [[5, 7]])
    np.testing.assert_array_equal(one_layer.prompt12(config, jnp.array([2])), [[2, 6, 7]])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"entities": 0, "dim": 4, "features": 4}, "entities is 0; give a whole number of at least 1"),
        ({"entities": 2, "dim": 4, "features": 4}, "6 tokens need dim >= 12 .* got 4; raise dim"),
        (
            {"entities": 1, "dim": 9, "features": 4, "window": 0},
            "window is 0; give a whole number of at least 1",
        ),
    ],
)
def test_bad_sizes_name_the_remedy(settings, message):
    with pytest.raises(ValueError, match=message):
        one_layer.ModelConfig(**settings)


def test_make_is_vmappable():
    config = one_layer.ModelConfig(2, 12, 3)
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    batch = jax.vmap(lambda key: one_layer.make(config, key))(keys)
    np.testing.assert_array_equal(batch.up[1], one_layer.make(config, jax.random.key(1)).up)
