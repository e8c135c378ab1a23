"""Random adapters, libraries of stand-ins, and the loss of a probe beside its null."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first, noisy_adapter, runs, tiny

from sim.lab import parallel
from sim.model import lora
from sim.model.training import Schedule
from sim.model.transformer import forward, init
from sim.reuse import ask, cell, library, rows
from sim.reuse.config import BASE, Cell
from sim.worlds import build, two_hop
from sim.worlds.probe import UNIFORM_BASELINE
from theory.lowrank import LowRank, dense

WORLD = two_hop.Config(entities=24, relations=4, edits=4, bridges=8, controls=True)
EXTRAS = ("direct_expert", "unrelated_for_hop1", "random_for_hop2", "kinds")


@pytest.fixture(scope="module", params=[1, 2], ids=["one-token", "two-token"])
def scene(request):
    """(decoder, base, probes) of a world with controls."""
    config = tiny(dataclasses.replace(WORLD, name_tokens=request.param))
    world = build(config.world, 0, two_hop.Setting())
    probes = {name: world.probes[name] for name in ("hop1", "direct", "direct_known_first", "compare")}
    return config.decoder, init(config.decoder, jax.random.key(1)), jax.tree.map(jnp.asarray, probes)


def test_a_random_adapter_has_the_norms_of_the_one_it_replaces(key):
    adapter = noisy_adapter(tiny().decoder, key)
    own = library.factors_of(adapter) | {"0.down": (0 * adapter["0.down"].b, adapter["0.down"].a)}
    data = jax.random.key_data(key)
    actual = library.random_like(own, data, jnp.int32(0))
    assert actual.keys() == own.keys()
    for name, (b, a) in actual.items():
        wanted, given = (np.linalg.norm(np.float64(x) @ np.float64(y)) for x, y in (own[name], (b, a)))
        assert (b.shape, a.shape, b.dtype) == (own[name][0].shape, own[name][1].shape, own[name][0].dtype)
        np.testing.assert_allclose(given, wanted, rtol=1e-5)
    assert np.linalg.norm(actual["0.down"][0]) == 0 < np.linalg.norm(actual["0.up"][0])
    # nothing of the adapter but its norms, and a key of its own for every place and cell
    others = [
        library.random_like(own, data, jnp.int32(1)),
        library.random_like(own, data + 1, jnp.int32(0)),
    ]
    for other in (own, *others):
        inner = np.sum(
            (np.float64(other["0.up"][0]) @ other["0.up"][1]) * (actual["0.up"][0] @ actual["0.up"][1])
        )
        assert abs(inner) < 0.5 * np.linalg.norm(own["0.up"][0] @ own["0.up"][1]) ** 2


def test_libraries_say_who_is_taught_and_who_is_random():
    config = tiny(WORLD, extras=EXTRAS)
    world = build(WORLD, 0, two_hop.Setting())
    assert config.adapters(world) == ("hop1", "hop2", "joint", "direct_expert", "unrelated", "kinds")
    assert config.random(world) == {"random_for_hop2": "hop2"}
    assert config.libraries(world)["random_for_hop2"] == ("hop1", "random_for_hop2")


def expected(decoder, params, probe):
    """-log p of every answer after every prompt, token by token in float64."""
    count, prompt = len(probe.tokens), probe.prompt
    pairs = [(i, j) for i in range(count) for j in range(count)]
    tokens = np.asarray([[*probe.tokens[i][:prompt], *probe.target[j]] for i, j in pairs])
    logits = np.float64(jax.jit(functools.partial(forward, decoder))(params, jnp.asarray(tokens)))
    table = np.zeros((count, count))
    for row, (i, j) in enumerate(pairs):
        for at in range(prompt, tokens.shape[1]):
            line = logits[row, at - 1]
            table[i, j] += np.log(np.sum(np.exp(line - line.max()))) + line.max() - line[tokens[row, at]]
    return table


def test_the_loss_and_its_null_by_hand(scene):
    decoder, params, probes = scene
    actual = jax.jit(functools.partial(ask.losses, decoder))(params, probes)
    lacking = {
        "direct": {"without_hop1", "without_hop2"},
        "direct_known_first": {"without_hop2"},
        "compare": set(),
    }
    assert set(actual) == set(lacking)  # those with a chance level
    for name, (loss, nulls, right, by_luck) in actual.items():
        table, target = expected(decoder, params, probes[name]), np.asarray(probes[name].target)
        likeliest = target[table.argmin(axis=1)]
        np.testing.assert_array_equal(right, (likeliest == target).all(axis=1))
        np.testing.assert_allclose(loss, np.diag(table), atol=1e-4)
        np.testing.assert_allclose(nulls.pop(UNIFORM_BASELINE), table.mean(axis=1), atol=1e-4)
        assert set(nulls) == set(by_luck) == lacking[name]
        for null in nulls:
            weights = probes[name].nulls[null]
            np.testing.assert_allclose(nulls[null], np.sum(weights * table, axis=1), atol=1e-4)
            np.testing.assert_allclose(
                by_luck[null],
                np.sum(weights * (likeliest[:, None] == target[None]).all(axis=-1), axis=1),
                rtol=1e-5,
            )


def test_a_null_of_its_own_weighs_answers_as_it_says(scene):
    decoder, params, probes = scene
    probe, table = probes["direct"], expected(decoder, params, probes["direct"])
    weights = np.random.default_rng(0).dirichlet(np.ones(len(table)), len(table)).astype(np.float32)
    probes = {"direct": dataclasses.replace(probe, nulls={"without_hop1": weights})}
    actual = jax.jit(functools.partial(ask.losses, decoder))(params, probes)["direct"]
    np.testing.assert_allclose(actual.nulls["without_hop1"], np.sum(weights * table, axis=1), atol=1e-4)
    np.testing.assert_allclose(actual.nulls[UNIFORM_BASELINE], table.mean(axis=1), atol=1e-4)
    target = np.asarray(probe.target)
    scores = target[table.argmin(axis=1)]
    luck = [weights[i, (target == one).all(axis=1)].sum() for i, one in enumerate(scores)]
    np.testing.assert_allclose(actual.by_luck["without_hop1"], luck, rtol=1e-5)


def test_the_null_is_the_mean_loss_of_random_matchings(scene):
    """It knows which answers there are and not which belongs where."""
    decoder, params, probes = scene
    probe = probes["direct"]
    losses, measured_losses = [], jax.jit(functools.partial(ask.losses, decoder))
    for shift in range(len(probe.tokens)):
        target = jnp.roll(probe.target, shift, axis=0)
        tokens = jnp.concatenate([probe.tokens[:, : probe.prompt], target], axis=1)
        actual = measured_losses(params, {"direct": dataclasses.replace(probe, tokens=tokens)})["direct"]
        loss, nulls = actual.loss, actual.nulls
        losses.append(np.mean(loss))
    np.testing.assert_allclose(np.mean(losses), np.mean(nulls[UNIFORM_BASELINE]), rtol=1e-5)
    assert np.ptp(losses) > 1e-3


@pytest.mark.slow
def test_a_cell_with_controls():
    """Every library is asked, a library of one once, and rows hold the loss beside its null."""
    config = tiny(
        WORLD,
        extras=EXTRAS,
        losses=True,
        pretraining=Schedule(25, 1e-2, (("facts", 16), ("direct", 8), ("compare", 8), ("identity", 8))),
        finetuning=Schedule(25, 1e-2, (("facts", 8), ("direct", 4), ("identity", 4)), margin=1.0),
    )
    setting = two_hop.Setting(identity="both")
    world, key = build(WORLD, 0, setting), jax.random.key_data(jax.random.key(3))
    train = parallel.program(library.pretrain, config.decoder, config.pretraining)
    base = first(train(*runs((world.pretraining, key)))[0])
    ((_, (result,)),) = parallel.map_runs(
        functools.partial(cell.run, config), [{"base": base, "world": world, "key": key}]
    )
    labels = {(label, method) for _, label, method in result["outcomes"]}
    merges = {
        (label, "average") for label in ("parts", "direct_expert", "unrelated_for_hop1", "random_for_hop2")
    }
    taught = {("single", name) for name in (*config.adapters(world), "base")}
    assert labels == merges | taught and set(result["losses"]) == set(result["outcomes"])
    assert set(result["training"]["lora"]) == set(config.adapters(world))
    measured_losses = ask.losses(config.decoder, base, world.probes)["compare"]
    loss, null = measured_losses.loss, measured_losses.nulls[UNIFORM_BASELINE]
    table = rows.rows_of(config, Cell("toy", "label", setting, 0), world, result)
    by_key = {(r["library"], r["method"], r["metric"], r["predictor"]): r for r in table}
    assert len(by_key) == len(table)
    measured_losses = by_key[BASE[1], BASE[2], "compare_loss", "chance"]
    np.testing.assert_allclose(
        [measured_losses["measured"], measured_losses["predicted"]], [np.mean(loss), np.mean(null)], rtol=1e-5
    )
    gain = by_key[BASE[1], BASE[2], "compare_loss_gain", "chance"]
    np.testing.assert_allclose(gain["measured"], np.mean(null) - np.mean(loss), atol=1e-5)
    excess = by_key["parts", "average", "compare_loss_gain_over_base", "chance"]
    own = by_key["parts", "average", "compare_loss_gain", "chance"]
    np.testing.assert_allclose(excess["measured"], own["measured"] - gain["measured"], atol=1e-5)
    assert gain["predicted"] == 0 and np.isnan(gain["trials"])
    assert by_key["parts", "average", "direct_known_first_loss", "chance"]["measured"] > 0
    # the steps of a known pair are no adapter's: one overlap a hop
    assert {r["metric"] for r in table if r["metric"].startswith("kappa")} == {"kappa_hop1", "kappa_hop2"}


def test_a_random_adapter_of_a_spectrum_has_the_singular_values_and_no_direction(key):
    own = library.factors_of(noisy_adapter(tiny().decoder, key))
    data = jax.random.key_data(key)
    drawn = [library.random_spectrum(own, data, jnp.int32(place)) for place in (0, 1)]
    for name, (b, a) in drawn[0].items():
        wanted, given = (np.linalg.svd(np.float64(x) @ np.float64(y))[1] for x, y in (own[name], (b, a)))
        np.testing.assert_allclose(given, wanted, atol=1e-5 * wanted[0])
        assert (b.shape, a.shape) == (own[name][0].shape, own[name][1].shape)
    dense = [np.float64(each["0.up"][0]) @ each["0.up"][1] for each in (own, *drawn)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.sum(dense[one] * dense[other])) < 0.5 * np.sum(dense[0] ** 2)


def test_every_world_has_libraries_of_random_adapters():
    config = tiny(extras=("random", "spectrum"))
    world = build(config.world, 0, two_hop.Setting())
    assert config.adapters(world) == ("hop1", "hop2", "joint")
    assert config.libraries(world)["spectrum"] == ("spectrum_for_hop1", "spectrum_for_hop2")
    assert config.random(world) == {
        f"{kind}_for_{part}": part for kind in ("random", "spectrum") for part in ("hop1", "hop2")
    }


@pytest.mark.parametrize("spectrum", [True, False])
def test_what_a_random_adapter_adds_to_a_logit_has_mean_0_and_the_law_s_variance(spectrum):
    """E (w^T Delta W phi)^2 = |Delta W|^2 |w|^2 |phi|^2 / (in out), theory/README.md, section 12."""
    out, into, draws = 6, 5, 8000
    b, a = jnp.eye(out, 2) * jnp.array([[2.0, 1.0]]), jnp.eye(2, into)
    keys = jax.random.split(jax.random.key(3), draws)
    drawn = jax.vmap(lambda key: lora.random_like(LowRank(b, a, jnp.float32(1.0)), key, spectrum))(keys)
    added = np.asarray(dense(drawn))[:, 0, 0]  # w and phi: the first unit vectors
    variance = 5 / (out * into)
    assert abs(added.mean()) < 4 * (variance / draws) ** 0.5
    np.testing.assert_allclose(np.mean(added**2), variance, rtol=0.08)
