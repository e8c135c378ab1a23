"""Section 4: kernel overlap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.twins import crosstalk as twin
from sim.twins.coverage import paraphrased
from theory import crosstalk
from theory import model as one_layer

CONFIG = one_layer.ModelConfig(entities=6, dim=40, features=2000)
SUBJECTS = jnp.arange(6)
P1, P2, P12 = (make(CONFIG, SUBJECTS) for make in (one_layer.prompt1, one_layer.prompt2, one_layer.prompt12))


def _inside(samples, expected, sigmas=4.0):
    """Mean of the samples within ``sigmas`` standard errors of ``expected``."""
    error = samples.std(ddof=1) / samples.size**0.5
    assert abs(samples.mean() - expected) <= sigmas * error + 1e-12, (samples.mean(), expected, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stored, read, expected",
    [(P1[0], P1[1], 0.609), (P1[0], P2[0], 1 / np.pi), (P1[0], P12[0], 0.673), (P2[0], P12[1], 0.673)],
    ids=["same relation", "nothing shared", "p12 against p1", "p12 against p2"],
)
def test_anchors(key, stored, read, expected):
    predicted = float(crosstalk.prompt_kappa(CONFIG, stored, read))
    assert predicted == pytest.approx(expected, abs=5e-4)
    samples = np.asarray(twin.prompt_kappa(CONFIG, stored, read, key=key, draws=64))
    _inside(samples, predicted)


@pytest.mark.parametrize("attention, window", [("mean", None), ("sum", 1)])
def test_attention_is_a_parameter(key, attention, window):
    config = one_layer.ModelConfig(6, 40, 1000, attention=attention, window=window)
    predicted = float(crosstalk.prompt_kappa(config, P1[0], P12[0]))
    _inside(np.asarray(twin.prompt_kappa(config, P1[0], P12[0], key=key, draws=64)), predicted)
    assert predicted != pytest.approx(0.673, abs=0.01)


def test_kappa_for_any_two_vectors(key):
    u, v = (one_layer.gaussian(jax.random.fold_in(key, index), (5,)) for index in (1, 2))
    for activation in ("relu", "identity"):
        samples = np.asarray(twin.kappa(u, v, activation, key=key, features=800, draws=200))
        expected = float(crosstalk.kappa(u, v, activation))
        assert abs(samples.mean() - expected) < 4 * samples.std() / 200**0.5 + 0.005  # ratio bias, O(1/m)


def test_error_falls_as_the_inverse_root_of_m(key):
    u, v = (one_layer.gaussian(jax.random.fold_in(key, index), (5,)) for index in (1, 2))
    spread = [
        float(twin.kappa(u, v, key=key, features=features, draws=300).std()) for features in (100, 400, 1600)
    ]
    assert spread[0] / spread[1] == pytest.approx(2.0, rel=0.25)
    assert spread[1] / spread[2] == pytest.approx(2.0, rel=0.25)


def test_arc_cosine_ends_and_middle():
    cosine = jnp.array([1.0, 0.5, 0.0, -1.0])
    expected = [1.0, (np.sqrt(3) / 2 + np.pi / 3) / np.pi, 1 / np.pi, 0.0]
    np.testing.assert_allclose(crosstalk.arc_cosine(cosine), expected, atol=1e-12)


def test_edit_overlap_is_kappa_for_one_fact_and_whitened_for_many(key):
    phi = one_layer.gaussian(key, (3, 8))
    read = one_layer.gaussian(jax.random.fold_in(key, 1), (1, 8))
    one = crosstalk.edit_overlap(phi[:1], read)
    np.testing.assert_allclose(one[0, 0], phi[0] @ read[0] / (phi[0] @ phi[0]), atol=1e-12)
    np.testing.assert_allclose(crosstalk.edit_overlap(phi, phi), jnp.eye(3), atol=1e-12)


def test_mean_overlap_of_least_squares_adapters(key):
    """The two-hop prompt, F = 6: whitening moves kappa from 0.673 to 0.74."""
    same, own, other = (
        float(crosstalk.prompt_kappa(CONFIG, P1[0], read)) for read in (P1[1], P12[0], P12[1])
    )
    predicted = float(crosstalk.mean_overlap(6, same, own, other))
    samples = np.asarray(twin.mean_overlap(6, CONFIG, P12, key=key, draws=64))
    assert abs(samples.mean() - predicted) < 4 * samples.std() / 8 + 0.005  # finite-m bias
    assert abs(predicted - own) > 0.03
    assert float(crosstalk.mean_overlap(1, same, own, other)) == pytest.approx(own)


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.4])
def test_a_turned_relation_word_by_drawn_models(key, angle):
    """F = 4, m = 2000, 24 models: the kernel's kappa at a paraphrase, and the angle back from it."""
    config = one_layer.ModelConfig(4, 22, 2000, fillers=1)
    law = float(crosstalk.turned_overlap(4, angle))
    runs = []
    for index in range(24):
        keys, reads = paraphrased(
            config, one_layer.make(config, jax.random.fold_in(key, index)), jnp.asarray([angle])
        )
        runs.append(float(jnp.mean(jnp.diagonal(crosstalk.edit_overlap(keys, reads[0])))))
    runs = np.asarray(runs)
    assert abs(runs.mean() - law) < 4 * runs.std() / 24**0.5 + 0.003
    assert float(crosstalk.turned_angle(4, law)) == pytest.approx(angle, abs=1e-7)


def test_no_angle_gives_an_overlap_above_one():
    with pytest.raises(ValueError, match=r"with 4 facts a turn gives 0\.459 to 1"):
        crosstalk.turned_angle(4, jnp.asarray([0.9, 1.2]))


def test_kappa_variance_by_drawn_maps(key):
    """60 degrees, m = 400, 2000 maps: m Var within 10%."""
    turn = np.pi / 3
    read = jnp.asarray([np.cos(turn), np.sin(turn)])
    runs = np.asarray(twin.kappa(jnp.asarray([1.0, 0.0]), read, key=key, features=400, draws=2000))
    assert 400 * runs.var() == pytest.approx(crosstalk.kappa_variance(turn), rel=0.1)


def test_unknown_activation():
    with pytest.raises(ValueError, match="unknown activation 'gelu'; use relu or identity"):
        crosstalk.kappa(jnp.ones(2), jnp.ones(2), "gelu")


@pytest.mark.slow
def test_shared_relation_word_cancels_in_the_linear_model(key):
    """16 facts and a new relation word: raw kappa 1/2, whitened 16/17 in the limit of many features."""
    assert float(crosstalk.mean_overlap(16, 0.5, 0.5, 0.0)) == pytest.approx(16 / 17)
    config = one_layer.ModelConfig(16, 80, 20000, activation="identity", fillers=1)
    read = jnp.stack([jnp.arange(16), jnp.full(16, config.tokens - 1)], axis=1)
    samples = np.asarray(twin.mean_overlap(16, config, read, key=key, draws=4))
    assert samples.mean() == pytest.approx(16 / 17, abs=0.02)
