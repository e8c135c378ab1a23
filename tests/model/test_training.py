"""Training, batching and decoding: what is drawn, what is learned, and that batching changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sim.lab import parallel
from sim.model import decoding, training
from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.model.transformer import Decoder, forward, init, no_cache, read_on


def group(tokens, weight, prompt=1):
    return Sequences(jnp.asarray(tokens, jnp.int32), jnp.asarray(weight, jnp.float32), prompt)


def test_draws_follow_the_weights(key):
    drawn = draw(group([[0], [1], [2], [3]], [0.0, 1.0, 3.0, 0.0]), 8000, key)
    share = np.bincount(np.asarray(drawn.tokens[:, 0]), minlength=4) / 8000
    np.testing.assert_array_equal(share[[0, 3]], 0)
    assert abs(share[2] - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 8000)


def test_completion_loss_is_the_log_likelihood():
    logits = jnp.log(jnp.asarray([[[0.5, 0.5], [0.1, 0.9]]]))
    loss = training.completion_loss(logits, group([[0, 1, 1]], [1.0]))
    assert np.isclose(loss, -np.log(0.5 * 0.9))


def draw(data, count, key):
    index = training.draws(data.weight, count, key)
    return jax.tree.map(lambda leaf: leaf[index], data)


def quadratic(schedule, key, weight=1.0):
    """Softmax regression of one token on nothing: its optimum is the empirical distribution."""
    data = {"only": group([[0, 0], [0, 1], [0, 1], [0, 1]], jnp.full(4, weight))}

    def logits(value, drawn):
        return jnp.broadcast_to(value, (len(drawn.tokens), 1, 2))

    return training.fit(logits, jnp.zeros(2, jnp.float32), data, schedule, key)


def test_fit_reaches_the_maximum_likelihood(key):
    value, losses = quadratic(Schedule(400, 0.05, (("only", 64),)), key)
    assert abs(float(jax.nn.softmax(value)[1]) - 0.75) < 0.04
    assert losses.shape == (400,)


def test_a_group_of_weight_zero_teaches_nothing(key):
    value, losses = quadratic(Schedule(20, 0.05, (("only", 8),)), key, weight=0.0)
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(losses, 0)


def test_a_group_of_weight_zero_teaches_nothing_beside_one_that_does(key):
    """In one vmap with a run that has use for the group, so that it cannot be skipped."""
    fitted = jax.vmap(lambda weight: quadratic(Schedule(20, 0.05, (("only", 8),)), key, weight))
    value, losses = fitted(jnp.asarray([0.0, 1.0]))
    np.testing.assert_array_equal(value[0], 0)
    np.testing.assert_array_equal(losses[0], 0)
    assert np.all(losses[1] > 0)


def test_fit_is_plain_optax(key):
    schedule = Schedule(5, 0.1, (("only", 3),), decay=0.01)
    value, _ = quadratic(schedule, key)
    by_hand, optimiser = jnp.zeros(2, jnp.float32), schedule.optimiser()
    state = optimiser.init(by_hand)
    data = group([[0, 0], [0, 1], [0, 1], [0, 1]], [1.0] * 4)

    @jax.jit
    def improve(by_hand, state, step):
        batch = draw(data, 3, jax.random.fold_in(jax.random.fold_in(key, step), 0))
        slope = jax.grad(lambda v: training.completion_loss(jnp.broadcast_to(v, (3, 1, 2)), batch))
        updates, state = optimiser.update(slope(by_hand), state, by_hand)
        return optax.apply_updates(by_hand, updates), state

    for step in range(5):
        by_hand, state = improve(by_hand, state, step)
    np.testing.assert_allclose(value, by_hand, atol=1e-6)


def test_fit_is_adamw_with_warm_up_decay_and_weight_decay(key):
    """Against AdamW written out: weight decay 0.3 at rate 0.1 moves the value by a tenth a step."""
    schedule = Schedule(6, 0.1, (("only", 3),), decay=0.3)
    data = group([[0, 0], [0, 1], [0, 1], [0, 1]], [1.0] * 4)
    rates = [0.0, 0.1]  # linear warm-up over max(1, 6 // 10) steps, then half a cosine
    rates += [0.1 * (1 + np.cos(np.pi * step / 5)) / 2 for step in range(1, 5)]
    value, first, second = np.asarray([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for step, rate in enumerate(rates):
        drawn = draw(data, 3, jax.random.fold_in(jax.random.fold_in(key, step), 0))
        share = np.bincount(np.asarray(drawn.tokens[:, 1]), minlength=2) / 3
        soft = np.exp(value) / np.exp(value).sum()
        slope = soft - share
        first, second = 0.9 * first + 0.1 * slope, 0.98 * second + 0.02 * slope**2
        moved = (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-8)
        value = value - rate * (moved + 0.3 * value)

    def logits(value, drawn):
        return jnp.broadcast_to(value, (len(drawn.tokens), 1, 2))

    start = jnp.asarray([1.0, -2.0], jnp.float32)
    found, _ = training.fit(logits, start, {"only": data}, schedule, key)
    np.testing.assert_allclose(found, value, atol=1e-5)


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match="base 7: the loss is not finite at step 2; lower"):
        training.require_finite(np.asarray([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]]), "base 7")


DECODER = Decoder(vocab=13, layers=1, width=16, heads=2, hidden=16)


def run(job):
    """A short training of a decoder: the sort of function that is batched."""
    key = jax.random.wrap_key_data(job["key"])
    data = {"facts": Sequences(job["tokens"], jnp.ones(6, jnp.float32), 1)}

    def logits(params, drawn):
        return forward(DECODER, params, drawn.tokens)[:, :-1]

    return training.fit(logits, init(DECODER, key), data, Schedule(15, 1e-2, (("facts", 8),)), key)


def jobs(count):
    rng = np.random.default_rng(3)
    return [
        {"key": jax.random.key_data(jax.random.key(i)), "tokens": rng.integers(0, 13, (6, 4), np.int32)}
        for i in range(count)
    ]


def results(width, work):
    out = {}
    for positions, values in parallel.map_runs(parallel.program(run), work, width):
        out |= dict(zip(positions, values, strict=True))
    return [out[i] for i in range(len(work))]


@pytest.mark.parametrize("width", [1, 3])
def test_batch_chunk_and_device_change_no_bit(width):
    work = jobs(5)
    together = results(width, work)
    alone = [results(width, [job])[0] for job in work]
    jax.tree.map(np.testing.assert_array_equal, together, alone)


@pytest.mark.parametrize("width", [1, 3])
def test_batched_equals_single_to_rounding(width):
    work = jobs(3)
    single = [jax.jit(run)(job) for job in work]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), results(width, work), single)


def test_nothing_is_traced_twice():
    traces = []

    def counted(job):
        traces.append(1)
        return job["key"].sum()

    program = parallel.program(counted)
    list(parallel.map_runs(program, jobs(5), 2))
    list(parallel.map_runs(program, jobs(1), 2))
    assert len(traces) == 1


def readers(params):
    """(all logits of a batch, reading on): what decoding is compared with and runs on."""
    return (
        jax.jit(lambda tokens: forward(DECODER, params, tokens)),
        lambda tokens, start, cache: read_on(DECODER, params, tokens, start, cache),
    )


def count_positions(tokens, start, cache):
    """A model by hand: the token after position p is p, or the smaller of p and p + 2 where both tie."""
    position = start + tokens.shape[1] - 1
    logits = jax.nn.one_hot(position, 13) + jax.nn.one_hot(position + 2, 13)
    return jnp.broadcast_to(logits, (len(tokens), 13)), cache.at[:, position].set(tokens[:, -1])


class TestDecoding:
    @pytest.mark.parametrize("length", [1, 2, 5])
    def test_every_token_is_read_at_its_position(self, length):
        prompts = jnp.asarray([[7, 7, 7], [9, 9, 9]], jnp.int32)
        found = decoding.greedy(count_positions, prompts, length, jnp.zeros((2, 8), jnp.int32))
        np.testing.assert_array_equal(found, [np.arange(2, 2 + length)] * 2)

    def test_greedy_matches_a_loop(self, key):
        params = init(DECODER, key)

        logits, after = readers(params)
        by_hand = np.zeros((200, 8), np.int32)
        by_hand[:, :3] = jax.random.randint(key, (200, 3), 0, 13, jnp.int32)
        for at in range(3, 8):  # logits see no later token
            by_hand[:, at] = np.argmax(logits(by_hand)[:, at - 1], axis=-1)
        greedy = jax.jit(lambda prompts: decoding.greedy(after, prompts, 5, no_cache(DECODER, 200, 8)))
        np.testing.assert_array_equal(greedy(by_hand[:, :3]), by_hand[:, 3:])

    def test_exact_match_is_teacher_forced_argmax_everywhere(self, key):
        params = init(DECODER, key)

        logits, after = readers(params)
        prompts = jax.random.randint(key, (40, 2), 0, 13, jnp.int32)
        cache = no_cache(DECODER, 40, 5)
        greedy = jax.jit(lambda prompts: decoding.greedy(after, prompts, 3, cache))
        truth = jnp.concatenate([prompts, greedy(prompts)], axis=1)
        truth = truth.at[::2, 3].add(1) % 13  # every second completion is spoilt
        probe = Sequences(truth, jnp.ones(40, jnp.float32), 2)
        forced = jnp.all(jnp.argmax(logits(truth[:, :-1])[:, 1:], -1) == truth[:, 2:], axis=1)
        answers = jax.jit(lambda probe: decoding.answers(after, probe, cache))
        scored = jnp.all(answers(probe) == probe.target, axis=1)
        np.testing.assert_array_equal(scored, forced)
        np.testing.assert_array_equal(scored, np.arange(40) % 2 == 1)
