"""Chain of thought: product of steps, matching law, contexts by kernel, and decoded chains (section 9)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.twins import chain as twin
from theory import chain, crosstalk, starvation
from theory import model as one_layer

pytestmark = pytest.mark.slow  # minutes of compilation in total

FACTS = 8


@pytest.mark.parametrize("hops", [1, 2, pytest.param(3, marks=pytest.mark.slow), 4])
def test_decoded_chains_are_products_of_steps(key, hops):
    """Window 1 (kappa = 1), rank 6 of 8, 24 worlds: identity exact, laws in 3 errors."""
    setting = twin.Setting(FACTS, hops, rank=6, lam=1.0, window=1, template=False, features=512)
    runs = twin.run(setting, key, 24)
    forced, decoded = np.asarray(runs.forced), np.asarray(runs.decoded)
    assert (forced.all(1) == decoded).all()  # given the step events the product is exact, fact by fact
    steps = forced.mean(2)
    spread = np.array([chain.matched(row, FACTS) for row in steps])
    error = np.sqrt(np.mean(spread[:, 1] ** 2) / 24) + 1e-9
    assert abs(decoded.mean() - spread[:, 0].mean()) < 3 * error
    law = chain.step_accuracy(FACTS, 6, 1.0)
    per_step = forced.mean((0, 2))
    assert (np.abs(per_step - law) < 0.02 + 3 * forced.mean(2).std(0, ddof=1) / 24**0.5).all()
    low, high = chain.bounds(per_step)
    assert low - 1e-12 <= decoded.mean() <= high + 1e-12


def test_contexts_amplify_edits_and_the_kernel_knows_by_how_much(key):
    """Whole trace in view, base that knows traces, m = 2048, 6 worlds: kappa and margins within 0.06."""
    setting = twin.Setting(FACTS, 2, rank=FACTS, lam=0.5, features=2048)
    runs = twin.run(setting, key, 6)
    overlap, margin = _kernel(setting, jax.random.fold_in(jax.random.fold_in(key, 0), 1))
    assert np.allclose(runs.swing.mean((0, 2)) / 2, overlap.mean(1), atol=0.06)
    assert np.allclose(runs.margin.mean((0, 2)), margin.mean(1), atol=0.06)
    # kappa > 1: an average of two, a tie on plain prompts, keeps every hop of the chain here.
    assert chain.solved(0.5, overlap, jnp.ones_like(overlap), margin).all()
    assert np.asarray(runs.decoded).mean() > 0.95
    # The coverage law event by event, with each fact's own margin and swing.
    law = chain.solved(0.5, 1.0, 1.0, jnp.asarray(runs.margin[0]), jnp.asarray(runs.swing[0]))
    assert np.mean(np.asarray(law) == np.asarray(runs.decoded[0])) > 0.95


def _kernel(setting, key):
    """kappa of the own fact and margin of old over new in context, (hops, F), for m -> infinity."""
    layout, _ = one_layer.words(2 * FACTS, setting.hops)
    edited = jnp.arange(FACTS)
    old, new = twin.graph(setting, key)
    path = twin.follow(new, edited)
    groups = twin.base_facts(setting, old)
    size = 2 * FACTS
    targets = one_layer.one_hot(jnp.concatenate([rows for _, rows in groups]), setting.hops * size)
    overlaps, margins = [], []
    for hop in range(setting.hops):
        read = one_layer.trace_prompt(layout, path[:, : hop + 1])
        own = chain.kernel_overlap(setting.model, [one_layer.plain_prompt(layout, hop, edited)], read)
        base = targets.T @ chain.kernel_overlap(setting.model, [prompts for prompts, _ in groups], read)
        overlaps.append(own[path[:, hop], edited])
        rows = hop * size + old[hop][path[:, hop]], hop * size + path[:, hop + 1]
        margins.append(base[rows[0], edited] - base[rows[1], edited])
    return jnp.stack(overlaps), jnp.stack(margins)


def test_base_facts_answer_every_hop_in_its_own_block(key):
    """Plain prompts, then traces of old facts: the old object, among the rows of its hop."""
    setting = twin.Setting(FACTS, 3, rank=FACTS, lam=1.0)
    old, _ = twin.graph(setting, key)
    groups = twin.base_facts(setting, old)
    at = jnp.arange(2 * FACTS)
    for hop in range(3):
        (_, plain), (prompts, traced) = groups[hop], groups[3 + hop]
        assert prompts.shape[0] == 2 * FACTS
        np.testing.assert_array_equal(plain, 2 * FACTS * hop + old[hop])
        at = old[hop][at]
        np.testing.assert_array_equal(traced, 2 * FACTS * hop + at)


def test_kernel_overlap_is_the_limit_of_finite_features(key):
    """m = 512, 8192, 4 draws: the root mean square error falls like 1/sqrt(m) (by 2 at least)."""
    layout, fillers = one_layer.words(4, 2)
    config = one_layer.ModelConfig(4, 2 * (10 + fillers), 1, fillers=fillers)
    subjects = jnp.arange(4)
    stored = one_layer.plain_prompt(layout, 0, subjects)
    read = one_layer.trace_prompt(layout, jnp.stack([subjects, subjects[::-1]], axis=-1))
    limit = chain.kernel_overlap(config, [stored], read)
    errors = []
    for features in (512, 8192):
        sized = one_layer.ModelConfig(4, config.dim, features, fillers=fillers)
        square = 0.0
        for index in range(4):
            model = one_layer.make(sized, jax.random.fold_in(key, index))
            phi = [one_layer.features(sized, model, prompts) for prompts in (stored, read)]
            square += float(jnp.mean((crosstalk.edit_overlap(*phi) - limit) ** 2)) / 4
        errors.append(square**0.5)
    assert errors[1] < errors[0] / 2 and errors[1] < 0.06
    assert np.allclose(chain.kernel_overlap(config, [stored], stored), np.eye(4), atol=1e-10)


def test_matching_law_by_enumeration():
    """Mean and variance over all 24 x 24 matchings of 4 facts and three hops, to rounding."""
    right = np.array([[1, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 1]], bool)
    hits = [
        np.mean(right[0] & right[1][list(p)] & right[2][list(q)])
        for p in itertools.permutations(range(4))
        for q in itertools.permutations(range(4))
    ]
    mean, deviation = chain.matched(right.mean(1), 4)
    assert mean == pytest.approx(np.mean(hits), abs=1e-12)
    assert deviation == pytest.approx(np.std(hits), abs=1e-12)
    p, q = 0.75, 0.5
    two = chain.matched(np.array([p, q]), 4)[1] ** 2
    assert two == pytest.approx(p * q * (1 - p) * (1 - q) / 3, abs=1e-12)


def test_bounds_are_reached():
    assert chain.bounds([0.7, 0.8]) == pytest.approx((0.5, 0.7))
    assert chain.bounds([0.2, 0.3, 0.4]) == pytest.approx((0.0, 0.2))


def test_step_accuracy_is_the_overwrite_law_at_the_overlap():
    assert chain.step_accuracy(32, 20, 0.8, 0.9) == pytest.approx(starvation.overwrite_recall(32, 20, 0.72))
    mixed = chain.step_accuracy(32, 20, 1.0, np.array([0.7, 1.0]), margin=2.0, swing=4.0)
    parts = [starvation.overwrite_recall(32, 20, value) for value in (0.7, 1.0)]
    assert mixed == pytest.approx(np.mean(parts))
    assert chain.step_accuracy(32, 20, 1.0, 0.5, margin=-1.0) == 1.0
    assert chain.step_accuracy(32, 32, 1.0, 0.49) == 0.0
    assert float(chain.product(jnp.asarray([0.5, 0.4]), 0.9)) == pytest.approx(0.18)


def test_trace_prompts_spell_the_trace():
    layout, fillers = one_layer.words(4, 3)
    assert fillers == 4 + 1 + 2 and len(set(layout.relations)) == 3
    trace = one_layer.trace_prompt(layout, jnp.asarray([[1, 2]]))[0].tolist()
    a, b = layout.names[0] + 1, layout.names[1] + 2
    r1, r2, r3 = layout.relations
    assert trace == [a, r1, r2, r3, layout.think, a, r1, b, layout.sep, b, r2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one_layer.words(4, 0), "hops is 0"),
        (lambda: chain.matched(np.array([0.5]), 1), "at least 2"),
        (lambda: chain.matched(np.array([1.5]), 4), "steps is 1.5; it lies between 0 and 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
