"""Merges told from derivatives at single adapters: exact where theory says so, else by finite differences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first, noisy_adapter, runs, tiny

from sim.model import closed_form, lora
from sim.model.transformer import completion_logits, init
from sim.reuse import forecast, interaction, library, predictors
from sim.worlds.probe import whole
from theory.lowrank import dense

pytestmark = pytest.mark.slow

LAM = (0.7, 0.4)

# Operation by operation they take several times as long.
seen = jax.jit(interaction.seen, static_argnums=0)
at_base = jax.jit(interaction.at_base, static_argnums=0)
expanded = jax.jit(interaction.streams, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 3))
def logits_of(decoder, params, tokens, prompt, adapter=None):
    project = [] if adapter is None else [lora.adapted(adapter)]
    return completion_logits(decoder, params, tokens, prompt, *project)


def two(lam, power=(1, 1)):
    return lam[0] ** power[0] * lam[1] ** power[1]


def expand(function, lam):
    """(second order, crossed) of a function of lambda, its derivatives taken by central differences."""
    lam, units, step = np.asarray(lam, float), np.eye(len(lam)), 1e-3

    def slope(at, i):
        return (function(at + step * units[i]) - function(at - step * units[i])) / (2 * step)

    zero = np.zeros_like(lam)
    singles = [function(lam * unit) for unit in units]
    mixed = [
        lam[i] * lam[j] * (slope(zero + step * units[j], i) - slope(zero - step * units[j], i)) / (2 * step)
        for i, j in itertools.combinations(range(len(lam)), 2)
    ]
    others = [[j for j in range(len(lam)) if j != i] for i in range(len(lam))]
    across = [sum(lam[j] * slope(lam * units[i], j) for j in others[i]) for i in range(len(lam))]
    at_base = [sum(lam[j] * slope(zero, j) for j in others[i]) for i in range(len(lam))]
    return (
        predictors.second_order(function(zero), singles, mixed),
        predictors.crossed(function(zero), singles, across, at_base),
    )


def test_pairwise_products_are_exact_whatever_each_adapter_does_alone():
    def function(lam):
        separate = np.sin(3 * lam[0]) + lam[1] ** 4 - np.exp(lam[2])
        return separate + 2 * lam[0] * lam[1] - 0.5 * lam[0] * lam[2] + 3 * lam[1] * lam[2]

    lam = np.array([0.7, -0.4, 1.1])
    np.testing.assert_allclose(expand(function, lam), function(lam), rtol=1e-5)


@pytest.mark.parametrize("power", [(2, 1), (1, 2), (3, 1), (1, 3)])
def test_crossing_has_half_of_a_term_that_is_linear_in_one_adapter(power):
    second_order, crossed = expand(lambda lam: two(lam, power), LAM)
    np.testing.assert_allclose(second_order, 0.0, atol=1e-5)
    np.testing.assert_allclose(crossed, two(LAM, power) / 2, rtol=1e-4)


def test_neither_sees_a_term_that_is_linear_in_none():
    np.testing.assert_allclose(expand(lambda lam: two(lam, (2, 2)), LAM), 0.0, atol=1e-5)


@pytest.fixture(scope="module")
def scene(tiny_world):
    """(decoder of two layers, base, two noisy adapters, probes that are forecast)."""
    decoder = tiny(layers=2).decoder
    key = jax.random.key(7)
    parts = [noisy_adapter(decoder, jax.random.fold_in(key, i), size=0.4) for i in range(2)]
    probes = {name: probe for name, probe in tiny_world.probes.items() if probe.layout.forecast}
    return decoder, init(decoder, key), parts, probes


def only(part, *names):
    """The adapter with B = 0 everywhere but in the named modules."""
    return {
        name: update if name in names else update._replace(b=jnp.zeros_like(update.b))
        for name, update in part.items()
    }


def streams(decoder, params, parts, probes, lam=LAM):
    """{predictor: {probe: stream}} and the merge's own, {probe: stream}."""
    factors = [library.factors_of(part) for part in parts]
    actual, merged = _streams(decoder, params, probes, factors, jnp.asarray(lam, jnp.float32))
    return actual, {name: each.stream for name, each in merged.items()}


@functools.partial(jax.jit, static_argnums=0)
def _streams(decoder, params, probes, factors, lam):
    at_base = interaction.at_base(decoder, params, probes, factors)
    actual = interaction.streams(decoder, params, probes, factors, *at_base, lam)
    return actual, interaction.seen(decoder, params, probes, factors, lam)


def worst(expand, merged):
    """The largest difference of two {probe: stream}, over the largest number of the second."""
    size = max(np.abs(merged[name]).max() for name in merged)
    return max(np.abs(expand[name] - merged[name]).max() for name in merged) / size


def test_what_is_seen_is_the_merged_decoder(scene):
    decoder, params, parts, probes = scene
    weights = dict(params)
    for part, lam in zip(parts, LAM, strict=True):
        weights |= {name: weights[name] + lam * dense(update) for name, update in part.items()}
    factors, lam = [library.factors_of(part) for part in parts], jnp.asarray(LAM, jnp.float32)
    actual = seen(decoder, params, probes, factors, lam)
    for name, probe in probes.items():
        logits = logits_of(decoder, weights, probe.tokens, probe.prompt)
        np.testing.assert_allclose(closed_form.logits(params, actual[name].stream), logits, atol=2e-4)
        rest = interaction.last_mlp(decoder, params, factors, lam, actual[name])
        np.testing.assert_allclose(rest, actual[name].stream, atol=2e-5)


class TestExact:
    """The interaction that a predictor leaves out is nil where theory says it is, and only there."""

    def test_adapters_of_the_last_output_do_not_meet(self, scene):
        decoder, params, parts, probes = scene
        actual, merged = streams(decoder, params, [only(part, "1.down") for part in parts], probes)
        assert set(actual) == set(interaction.PREDICTORS)
        assert all(worst(expand, merged) < 1e-5 for expand in actual.values())

    def test_adapters_of_the_last_mlp_meet_in_its_relu_alone(self, scene):
        decoder, params, parts, probes = scene
        actual, merged = streams(decoder, params, [only(part, "1.up") for part in parts], probes)
        assert worst(actual["composed"], merged) < 1e-5
        assert min(worst(actual[name], merged) for name in ("stream", "second_order", "crossed")) > 1e-3

    def test_a_product_of_two_matrices_is_of_second_order(self, scene):
        """One adapter writes the stream's features, the other reads them: up and down of the last MLP."""
        decoder, params, parts, probes = scene
        # So weak that hardly any ReLU changes sign, and the MLP is a product of two matrices.
        pair = [only(parts[0], "1.up"), only(parts[1], "1.down")]
        pair[0] = {name: update._replace(b=1e-4 * update.b) for name, update in pair[0].items()}
        actual, merged = streams(decoder, params, pair, probes, (1.0, 1.0))
        separate = worst(actual["stream"], merged)
        assert separate > 1e-6
        for name in ("second_order", "crossed", "composed"):
            assert worst(actual[name], merged) < 0.2 * separate


def test_derivatives_are_those_of_finite_differences(scene):
    """In float64, and against central differences of the merged decoder itself."""
    decoder, params, parts, probes = scene
    probes = {"hop1": probes["hop1"]}
    params, parts = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, [dict(p) for p in parts]))
    factors = [library.factors_of(part) for part in parts]

    def stream(lam):
        actual = seen(decoder, params, probes, factors, jnp.asarray(lam, jnp.float64))
        return np.asarray(actual["hop1"].stream)

    lam = jnp.asarray(LAM, jnp.float32)
    actual = expanded(decoder, params, probes, factors, *at_base(decoder, params, probes, factors), lam)
    second_order, crossed = expand(stream, np.asarray(lam, float))
    for name, expected in (("second_order", second_order), ("crossed", crossed)):
        off = np.abs(np.asarray(actual[name]["hop1"]) - expected) > 1e-2 * np.abs(expected).max()
        assert off.mean() < 0.05, name  # where a step crosses a bend


def test_the_better_predictors_are_better_on_noisy_adapters(scene):
    decoder, params, parts, probes = scene
    actual, merged = streams(decoder, params, parts, probes, (0.3, 0.3))

    def error(expand):
        return np.sqrt(np.mean([np.mean((expand[name] - merged[name]) ** 2) for name in merged]))

    stream, crossed, composed = (error(actual[name]) for name in ("stream", "crossed", "composed"))
    assert crossed < 0.7 * stream and composed < 0.9 * crossed


def forecasts(config, params, world, own):
    base, stacked, parts = runs((params, world, own))
    separate = forecast.force_logits(config, base, stacked, parts)
    return forecast.forecast(config, base, stacked, "lora", parts, separate)


def test_the_forecast_has_them_where_the_configuration_asks(tiny_world, scene):
    config = tiny(layers=2, methods=(), lambdas=(0.3, 0.9), interaction=True)
    decoder, params, parts, probes = scene
    own = [library.factors_of(part) for part in parts]
    actual = first(forecasts(config, params, tiny_world, own))
    for place, (lam, _) in enumerate(forecast.strengths(config, "lora", tiny_world)):
        expand, _ = streams(decoder, params, parts, probes, (lam, lam))
        for predictor, by_probe in expand.items():
            for name, stream in by_probe.items():
                logits = closed_form.logits(params, stream)
                right = (np.asarray(logits).argmax(-1) == np.asarray(probes[name].target)).all(axis=-1)
                metric = whole(name, probes[name])
                np.testing.assert_array_equal(actual[predictor][metric][place], right)


def test_nobody_pays_who_does_not_ask(tiny_world, scene):
    config = tiny(layers=2, methods=(), lambdas=(0.3,))
    _, params, parts, _ = scene
    own = [library.factors_of(part) for part in parts]
    actual = forecasts(config, params, tiny_world, own)
    assert not set(actual) & set(interaction.PREDICTORS)


def test_an_adapter_at_zero_is_no_adapter(scene):
    """With one coefficient 0 every predictor is the other adapter alone."""
    decoder, params, parts, probes = scene
    actual, merged = streams(decoder, params, parts, probes, (0.8, 0.0))
    separate = {
        name: logits_of(decoder, params, probe.tokens, probe.prompt, lora.linear(parts, (0.8, 0.0)))
        for name, probe in probes.items()
    }
    for expand in actual.values():
        assert worst(expand, merged) < 1e-5
    for name, logits in separate.items():
        np.testing.assert_allclose(closed_form.logits(params, merged[name]), logits, atol=2e-4)
