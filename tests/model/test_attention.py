"""Attention against a plain double loop in numpy: the scale, the causal mask, the rotation, the heads."""

import jax.numpy as jnp
import numpy as np
import pytest

from sim.model.transformer import attention


def rotated(x):
    """(T, K): pairs (k, k + K/2) of token t turned by t * 100^(-2k/K), as complex numbers."""
    tokens, width = x.shape
    half = width // 2
    pairs = (x[:, :half] + 1j * x[:, half:]) * np.exp(
        1j * np.arange(tokens)[:, None] * 100.0 ** (-2 * np.arange(half) / width)[None]
    )
    return np.concatenate([pairs.real, pairs.imag], axis=1)


@pytest.mark.parametrize("width", [2, 4, 16])
def test_attention_is_softmax_of_scores_over_the_root_of_the_head_width(width):
    rng = np.random.default_rng(width)
    q, k, v = (2 * rng.normal(size=(2, 5, 3, width)) for _ in range(3))
    outputs = attention(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v))
    for batch, head in np.ndindex(2, 3):
        turned_q, turned_k = rotated(q[batch, :, head]), rotated(k[batch, :, head])
        for token in range(5):
            scores = turned_k[: token + 1] @ turned_q[token] / np.sqrt(width)
            weights = np.exp(scores - scores.max())
            expected = weights / weights.sum() @ v[batch, : token + 1, head]
            # The rotation's rates and angles are float32.
            np.testing.assert_allclose(outputs[batch, token, head], expected, rtol=1e-4, atol=1e-5)
