"""Margins of merges against sums over facts by hand, and the first steps of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import noisy_adapter, tiny

from sim.model import lora
from sim.model.transformer import forward, init
from sim.reuse import library, margins
from sim.worlds import build, two_hop


@pytest.mark.slow
@pytest.mark.parametrize("lam", [0.5, 1.0])
def test_knowledge_and_retention_are_those_of_the_leads(key, tiny_world, lam):
    decoder, names = tiny().decoder, tiny_world.parts
    params = init(decoder, key)
    probes = {name: tiny_world.probes[name] for name in names}
    parts, early = (
        [noisy_adapter(decoder, jax.random.fold_in(key, 2 * i + shift), size=size) for i in range(2)]
        for shift, size in ((5, 0.5), (6, 0.1))
    )

    def leads(adapter):
        each = []
        for probe in probes.values():
            logits = np.float64(forward(decoder, params, probe.tokens, lora.adapted(adapter)))
            logits, target = logits[:, probe.prompt - 1], np.asarray(probe.tokens[:, probe.prompt])
            right = logits[np.arange(len(target)), target]
            logits[np.arange(len(target)), target] = -np.inf
            each.append(right - logits.max(axis=-1))
        return np.stack(each)

    base, merged = leads({}), leads(lora.linear(parts, (lam, lam)))
    single, first = ([leads(adapter) for adapter in each] for each in (parts, early))
    own = np.stack([single[0][0], single[1][1]])
    growth = [np.mean(1.0 - base[i]) / np.mean(first[i][i] - base[i]) for i in range(2)]
    grown = np.stack([growth[1 - i] * (first[1 - i][i] - base[i]) for i in range(2)])
    foretold = (1 - lam) * base + lam * (1.0 + grown)
    along = (1 - lam) * base + lam * own
    factors = [[library.factors_of(adapter) for adapter in each] for each in (parts, early)]
    actual = margins.measure(decoder, names, 1.0, params, probes, *factors, jnp.float32(lam))
    wanted = {
        "knowledge": [np.corrcoef(base.ravel(), each.ravel())[0, 1] for each in (merged, along)],
        "retention": [np.mean(merged > 0) / max(np.mean(own > 0), 1 / own.size), np.mean(foretold > 0)],
    }
    for metric, pair in wanted.items():
        np.testing.assert_allclose(np.float64(actual[metric]), pair, atol=1e-3)


@pytest.mark.slow
def test_early_adapters_are_the_first_steps_of_the_training_that_ends(key):
    config = tiny()
    world = jax.tree.map(jnp.asarray, build(config.world, 0, two_hop.Setting()))
    params, data = init(config.decoder, key), jax.random.key_data(key)
    recipe = margins.first_steps(config.recipe)
    assert recipe.finetuning.steps == margins.EARLY == 5
    whole, early = (
        library.make(each, "lora", params, world.data["hop1"], data, jnp.int32(0))
        for each in (config.recipe, recipe)
    )
    assert early.steps == 5 < whole.steps
    rates = [
        [float(schedule.rate_at(jnp.int32(step), jnp.int32(schedule.steps))) for step in range(5)]
        for schedule in (recipe.finetuning, config.finetuning)
    ]
    assert rates[0] == rates[1]
    np.testing.assert_allclose(early.losses, whole.losses[:5], rtol=1e-4)
    assert np.abs(early.factors["0.up"][0]).max() > 0
