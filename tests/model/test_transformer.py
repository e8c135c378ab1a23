"""The decoder: causality, shapes of the equations, LoRA in factors against folded weights, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sim.model import closed_form, lora
from sim.model.sequences import Sequences
from sim.model.transformer import (
    ATTENTION,
    MLP,
    Decoder,
    completion_logits,
    forward,
    hidden,
    init,
    no_cache,
    read_on,
    rotary,
)
from theory.lowrank import LowRank, dense

DECODER = Decoder(vocab=11, layers=2, width=16, heads=2, hidden=24)
TOKENS = jnp.asarray([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 1]], jnp.int32)


def random_adapter(key, names, rank=3, scale=0.7):
    adapter = {}
    for index, name in enumerate(names):
        out, into = DECODER.shape(name)
        first, second = jax.random.split(jax.random.fold_in(key, index))
        b = 0.3 * jax.random.normal(first, (out, rank), jnp.float32)
        adapter[name] = LowRank(b, jax.random.normal(second, (rank, into), jnp.float32) * into**-0.5, scale)
    return adapter


def test_logits_see_no_later_token(key):
    params = init(DECODER, key)

    def logits_of(embedded):
        return jnp.sum(forward(DECODER, {**params, "embed": embedded}, TOKENS[:1])[0], axis=-1)

    # All tokens of the sequence differ, so a row of the embedding belongs to one position.
    gradient = jax.jit(jax.jacrev(logits_of))(params["embed"])[:, TOKENS[0]]
    reached = np.abs(np.asarray(gradient)).max(axis=-1) > 0
    np.testing.assert_array_equal(reached, np.tril(np.ones((6, 6), bool)))


def test_rotary_scores_depend_on_distance_alone(key):
    q, k = jax.random.normal(key, (2, 8), jnp.float32)
    turned_q, turned_k = (rotary(jnp.broadcast_to(x, (1, 7, 1, 8)))[0, :, 0] for x in (q, k))
    scores = np.asarray(turned_q @ turned_k.T)
    for distance in range(-6, 7):
        assert np.ptp(np.diagonal(scores, distance)) < 1e-5


@pytest.mark.parametrize("kinds", [ATTENTION, MLP, ATTENTION + MLP, ("down",)])
def test_factored_forward_equals_folded_weights(key, kinds):
    params = init(DECODER, key)
    adapter = random_adapter(key, DECODER.modules(kinds))
    run = jax.jit(lambda p, a: forward(DECODER, p, TOKENS, lora.adapted(a)))
    factored, folded = run(params, adapter), run(lora.fold(params, adapter), {})
    np.testing.assert_allclose(factored, folded, rtol=0, atol=2e-5)
    assert np.abs(factored - run(params, {})).max() > 1e-2


def test_lora_gradient_is_the_chain_rule_of_the_dense_gradient(key):
    # dL/dB = s G A^T and dL/dA = s B^T G with G = dL/d(Delta W), checked for every matrix, in float64.
    params = {name: value.astype(jnp.float64) for name, value in init(DECODER, key).items()}
    names = DECODER.modules()
    adapter = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), random_adapter(key, names))

    def loss(project_params, adapter):
        logits = forward(DECODER, project_params, TOKENS, lora.adapted(adapter))
        return jnp.sum(jax.nn.log_softmax(logits)[..., 3])

    through_factors = jax.jit(jax.grad(loss, argnums=1))(params, adapter)
    by_weight = jax.jit(jax.grad(loss))(lora.fold(params, adapter), {})
    for name in names:
        b, a, scale = adapter[name]
        np.testing.assert_allclose(through_factors[name].b, scale * by_weight[name] @ a.T, atol=1e-9)
        np.testing.assert_allclose(through_factors[name].a, scale * b.T @ by_weight[name], atol=1e-9)


def test_lora_gradient_against_finite_differences(key):
    params = {name: value.astype(jnp.float64) for name, value in init(DECODER, key).items()}
    adapter = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), random_adapter(key, ("0.q", "1.down")))

    def loss(adapter):
        return jnp.sum(jnp.square(forward(DECODER, params, TOKENS, lora.adapted(adapter))[:, -1]))

    check_grads(jax.jit(loss), (adapter,), order=1, modes=["rev"], atol=1e-4, rtol=1e-4)


def test_untrained_adapter_leaves_the_base_alone(key):
    params = init(DECODER, key)
    adapter = lora.init(DECODER, DECODER.modules(), 4, key)
    assert {name: (u.b.shape, u.a.shape) for name, u in adapter.items()}["0.up"] == ((24, 4), (4, 16))
    np.testing.assert_array_equal(
        forward(DECODER, params, TOKENS, lora.adapted(adapter)), forward(DECODER, params, TOKENS)
    )


@pytest.mark.parametrize("rank", [0, -1, 17])
def test_rank_outside_the_matrices_is_refused(key, rank):
    with pytest.raises(ValueError, match=rf"rank {rank} is outside 1\.\.16"):
        lora.init(DECODER, DECODER.modules(), rank, key)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"layers": 0}, "a decoder has at least one"), ({"width": 18, "heads": 4}, "not a multiple")],
)
def test_impossible_decoders_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Decoder(vocab=5, **settings)


def test_completion_logits_are_the_rows_of_forward(key):
    params = init(DECODER, key)
    of_completion = jax.jit(lambda params: completion_logits(DECODER, params, TOKENS, prompt=4))
    of_all = jax.jit(lambda params: forward(DECODER, params, TOKENS)[:, 3:5])
    np.testing.assert_allclose(of_completion(params), of_all(params), atol=1e-5)


def test_reading_on_gives_the_logits_of_the_whole_sequence(key):
    """A prompt at once, then token by token: at every position the logits of ``forward`` over all of it."""
    decoder = Decoder(11, 2, 16, 2, 24)
    params = init(decoder, key)
    tokens = jax.random.randint(key, (3, 7), 0, 11, jnp.int32)
    logits_of, read = jax.jit(forward, static_argnums=0), jax.jit(read_on, static_argnums=0)
    whole = logits_of(decoder, params, tokens)
    logits, cache = read(decoder, params, tokens[:, :3], 0, no_cache(decoder, 3, 7))
    np.testing.assert_allclose(logits, whole[:, 2], atol=1e-5)
    for at in range(3, 7):
        logits, cache = read(decoder, params, tokens[:, at : at + 1], at, cache)
        np.testing.assert_allclose(logits, whole[:, at], atol=1e-5)


class TestLastLayer:
    """Section 12: the decoder as a one-layer memory at its last MLP output."""

    group = Sequences(TOKENS, jnp.ones(2, jnp.float32), 4)

    def test_remembered_features_reproduce_the_adapted_decoder(self, key):
        params = init(DECODER, key)
        adapter = random_adapter(key, ("1.down",))
        memory = closed_form.remember(DECODER, params, self.group)
        stream = closed_form.adapted_stream(memory, adapter["1.down"])
        full = completion_logits(DECODER, params, TOKENS, 4, lora.adapted(adapter))
        np.testing.assert_allclose(closed_form.logits(params, stream), full, atol=2e-5)

    def test_linear_logits_have_the_argmax_of_the_decoder(self, key):
        params = init(DECODER, key)
        stream = hidden(DECODER, params, TOKENS)
        linear = closed_form.linear_logits(params, stream)
        np.testing.assert_array_equal(
            jnp.argmax(linear, -1), jnp.argmax(forward(DECODER, params, TOKENS), -1)
        )

    def test_full_rank_solution_swaps_old_and_new_answers(self, key):
        params = init(DECODER, key)
        memory = closed_form.remember(DECODER, params, self.group)
        before = np.asarray(closed_form.linear_logits(params, memory.stream)).reshape(4, -1)
        update = closed_form.solve(params, memory, rank=4)
        after = np.asarray(closed_form.linear_logits(params, closed_form.adapted_stream(memory, update)))
        after = after.reshape(4, -1)
        old, new, row = before.argmax(1), np.asarray(TOKENS[:, 4:]).ravel(), np.arange(4)
        margin = before[row, old] - before[row, new]
        np.testing.assert_allclose(after[row, new] - after[row, old], margin, atol=2e-4)

    def test_facts_of_weight_zero_are_left_out(self, key):
        params = init(DECODER, key)
        half = Sequences(TOKENS, jnp.asarray([1.0, 0.0], jnp.float32), 4)
        single = Sequences(TOKENS[:1], jnp.ones(1, jnp.float32), 4)

        @jax.jit
        def update(group):
            return dense(closed_form.solve(params, closed_form.remember(DECODER, params, group), rank=2))

        np.testing.assert_allclose(update(half), update(single), atol=1e-5)
