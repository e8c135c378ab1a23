"""Training, batching and decoding: what is learned, when it ends, and that batching changes nothing."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.lab import parallel
from sim.model import batches, decoding, training
from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.model.transformer import Decoder, completion_logits, forward, init, no_cache, read_on

DECODER = Decoder(vocab=13, layers=1, width=16, heads=2, hidden=16)


def group(tokens, weight, prompt=1):
    return Sequences(jnp.asarray(tokens, jnp.int32), jnp.asarray(weight, jnp.float32), prompt)


def test_completion_loss_is_the_log_likelihood_by_weight():
    logits = jnp.log(jnp.asarray([[[0.5, 0.5], [0.1, 0.9]], [[0.3, 0.7], [0.2, 0.8]]]))
    loss = training.completion_loss(logits, group([[0, 1, 1], [0, 0, 1]], [2.0, 0.5]))
    assert np.isclose(loss, -2.0 * np.log(0.5 * 0.9) - 0.5 * np.log(0.3 * 0.8))


def test_a_lead_is_that_of_the_weakest_token():
    logits = jnp.asarray([[[1.0, 4.0, 2.5], [0.0, 3.0, 2.0]], [[5.0, 4.0, 0.0], [1.0, 3.0, 0.0]]])
    sequences = group([[0, 1, 1], [0, 1, 1]], [1.0, 1.0])
    np.testing.assert_allclose(training.lead(logits, sequences), [1.0, -1.0])


def test_recall_counts_what_is_taught():
    """Sequences with a weight, however large, of which every token leads by the margin."""
    tokens = jnp.asarray([[0, 1, 1], [0, 1, 2], [0, 2, 1], [0, 1, 1], [0, 1, 1]])

    def recall(weight):
        sequences, answer = group(tokens, weight), jax.nn.one_hot(1, 5)

        def logits(part):
            by = jnp.where(jnp.arange(len(part.tokens)) == 0, 0.5, 3.0)  # the first of a tile hardly leads
            return by[:, None, None] * jnp.broadcast_to(answer, (len(by), 2, 5))

        deck = batches.Deck(jnp.argsort(sequences.weight == 0), jnp.sum(sequences.weight > 0), None)
        every = batches.all_of(deck, sequences.weight)
        standing = training.standing(logits, sequences, every, 1.0, 2)
        return [float(standing.recall), float(standing.enough)]

    assert recall([1.0, 1.0, 0.0, 0.0, 0.0]) == [0.5, 0.0]
    assert recall([7.0, 0.0, 1.0, 0.5, 0.0]) == pytest.approx([2 / 3, 0.0])
    assert recall([1.0, 0.0, 0.0, 1.0, 1.0]) == pytest.approx([1.0, 1 / 3])
    assert np.isnan(recall([0.0] * 5)).all()


COUNTS = np.asarray([1.0, 2.0, 0.0, 4.0, 1.5], np.float32)
"""How often each of five sequences is to be learned."""


def quadratic(schedule, key, weight=COUNTS, start=(0.0, 0.0)):
    """Softmax regression of one token on nothing: its optimum is the distribution by weight."""
    data = {"only": group([[0, 0], [0, 1], [0, 1], [0, 1], [0, 0]], weight)}

    def logits(value, sequences):
        return jnp.broadcast_to(value, (len(sequences.tokens), 1, 2))

    return training.fit(logits, jnp.asarray(start, jnp.float32), data, schedule, key)


def slope(value):
    """Gradient of that loss, dense, in float64."""
    soft = np.exp(value) / np.exp(value).sum()
    return soft - np.asarray([2.5, 6.0]) / 8.5


def test_fit_reaches_the_maximum_likelihood(key):
    """To rounding, as nothing is drawn: every sequence has its weight at every step."""
    value = quadratic(Schedule(400, 0.05, (("only", 5),), cooling=200), key).value
    np.testing.assert_allclose(jax.nn.softmax(value), np.asarray([2.5, 6.0]) / 8.5, atol=1e-4)


@pytest.mark.slow
def test_the_gradient_is_the_dense_one_of_all_sequences(key):
    """Of a decoder, over two groups of which some sequences have no weight: the sum of means by weight."""
    params, rng = init(DECODER, key), np.random.default_rng(5)
    groups = {
        "facts": group(rng.integers(0, 13, (7, 4)), [1, 1, 0, 1, 1, 0, 1]),
        "traces": group(rng.integers(0, 13, (5, 6)), [0.5, 0.0, 2.0, 3.0, 1.0], prompt=2),
        "empty": group(rng.integers(0, 13, (3, 5)), [0.0, 0.0, 0.0]),
    }

    def logits(value, sequences):
        return completion_logits(DECODER, value, sequences.tokens, sequences.prompt)

    def dense(value):
        total = 0.0
        for name in ("facts", "traces"):
            log = jax.nn.log_softmax(logits(value, groups[name]))
            each = -jnp.take_along_axis(log, groups[name].target[..., None], axis=-1)[..., 0].sum(axis=1)
            total += jnp.sum(groups[name].weight * each) / jnp.sum(groups[name].weight)
        return total

    drawn = {}
    for name, data in groups.items():
        drawn[name] = batches.deal(batches.shuffle(data.weight, key), data.weight, 7, jnp.int32(3))
    expected = jax.jit(jax.value_and_grad(dense))(params)
    scale = max(float(jnp.abs(leaf).max()) for leaf in expected[1].values())
    actual = jax.jit(training.loss_and_gradient, static_argnums=(0, 4))
    for tile in (2, 3, 8):
        loss, gradient = actual(logits, params, groups, drawn, tile)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
        for name, leaf in expected[1].items():
            np.testing.assert_allclose(gradient[name], leaf, atol=1e-6 * scale, err_msg=f"{name} {tile}")


def test_a_group_of_weight_zero_teaches_nothing(key):
    fit = quadratic(Schedule(25, 0.05, (("only", 8),)), key, weight=0 * COUNTS)
    np.testing.assert_array_equal(fit.value, 0)
    np.testing.assert_array_equal(fit.losses, 0)


def test_a_group_of_weight_zero_teaches_nothing_beside_one_that_does(key):
    """In one vmap with a run that has use for the group, so that it cannot be skipped."""
    fitted = jax.vmap(lambda by: quadratic(Schedule(25, 0.05, (("only", 3),)), key, by * COUNTS))
    fit = fitted(jnp.asarray([0.0, 1.0]))
    np.testing.assert_array_equal(fit.value[0], 0)
    np.testing.assert_array_equal(fit.losses[0], 0)
    assert np.all(fit.losses[1] > 0)


def test_fit_is_adamw_with_warm_up_cooling_and_weight_decay(key):
    """Against AdamW written out: weight decay 0.3 at rate 0.1 moves the value by 3% a step."""
    schedule = Schedule(50, 0.1, (("only", 5),), decay=0.3, warming=4, cooling=20)
    value, first, second, losses = np.asarray([1.0, -2.0]), np.zeros(2), np.zeros(2), []
    for step in range(50):
        rate = 0.1 * min(1.0, (step + 1) / 4, (50 - step) / 20)
        losses.append(np.log(np.exp(value).sum()) - (value * [2.5, 6.0]).sum() / 8.5)
        first, second = 0.9 * first + 0.1 * slope(value), 0.98 * second + 0.02 * slope(value) ** 2
        moved = (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-8)
        value = value - rate * (moved + 0.3 * value)
    fit = quadratic(schedule, key, start=(1.0, -2.0))
    np.testing.assert_allclose(fit.value, value, atol=1e-5)
    np.testing.assert_allclose(fit.losses, losses, atol=1e-5)
    assert int(fit.steps) == 50 and fit.recall == {}


def test_batches_follow_one_another(key):
    """Where not all fit, a step has the gradient of its own batch: AdamW written out once more."""
    schedule, weight = Schedule(25, 0.1, (("only", 2),), warming=1, cooling=1), np.sign(COUNTS)
    deck = batches.shuffle(jnp.asarray(weight), jax.random.fold_in(key, 0))
    value, first, second = np.zeros(2), np.zeros(2), np.zeros(2)
    for step in range(25):
        rows = np.asarray(batches.deal(deck, jnp.asarray(weight), 2, jnp.int32(step)).rows)
        share = np.mean([[1.0, 0.0] if row in (0, 4) else [0.0, 1.0] for row in rows], axis=0)
        slope_of_batch = np.exp(value) / np.exp(value).sum() - share
        first, second = 0.9 * first + 0.1 * slope_of_batch, 0.98 * second + 0.02 * slope_of_batch**2
        moved = (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-8)
        value = value - 0.1 * moved
    np.testing.assert_allclose(quadratic(schedule, key, weight).value, value, atol=1e-5)


def test_steps_are_a_multiple_of_the_looks():
    for steps in (0, 10, 30):
        with pytest.raises(ValueError, match=f"steps is {steps}: training takes a multiple of 25 steps"):
            Schedule(steps, 0.1, ())


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match="base 7: the loss is not finite at step 2; lower"):
        training.require_finite(np.asarray([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]]), "base 7")


SOON = Schedule(300, 1e-2, (("facts", 5), ("traces", 2)), margin=0.5, tile=2)
"""Ends when it knows: some runs sooner than others."""


def run(job, schedule=SOON):
    """A short training of a decoder: the sort of function that is batched."""
    key = jax.random.wrap_key_data(job["key"])
    data = {
        "facts": Sequences(job["tokens"], job["weight"], 1),
        "traces": Sequences(job["traces"], jnp.ones(3, jnp.float32), 2),
    }

    def logits(params, sequences):
        return completion_logits(DECODER, params, sequences.tokens, sequences.prompt)

    return training.fit(logits, init(DECODER, key), data, schedule, key)


def jobs(count):
    """Data sets of 1 to 6 facts, distinct in their prompts, and three traces."""
    rng = np.random.default_rng(3)
    runs = []
    for index in range(count):
        tokens = np.stack([rng.permutation(13)[:6], rng.integers(0, 13, 6)], axis=1).astype(np.int32)
        traces = np.stack([np.full(3, index), np.arange(3), *rng.integers(0, 13, (2, 3))], axis=1)
        runs.append(
            {
                "key": jax.random.key_data(jax.random.key(index)),
                "tokens": tokens,
                "weight": np.where(np.arange(6) <= index, 1.0, 0.0).astype(np.float32),
                "traces": traces.astype(np.int32),
            }
        )
    return runs


def results(width, work, function=run):
    out = {}
    for positions, values in parallel.map_runs(parallel.program(function), work, width):
        out |= dict(zip(positions, values, strict=True))
    return [out[i] for i in range(len(work))]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3])
def test_batch_chunk_and_device_change_no_bit(width):
    """Whoever is beside it: runs that end sooner wait for the others, and stay as they are."""
    work = jobs(5)
    together = results(width, work)
    single = [results(width, [job])[0] for job in work]
    jax.tree.map(np.testing.assert_array_equal, together, single)
    steps = [int(fit.steps) for fit in together]
    assert len(set(steps)) > 1 and all(count % training.LOOK == 0 for count in steps)


@pytest.mark.slow
def test_training_ends_when_all_is_known():
    """Facts and traces alike, by the margin; then it cools, and nothing follows."""
    (fit,) = results(1, jobs(5)[4:])
    steps, losses = int(fit.steps), np.asarray(fit.losses)
    assert steps < SOON.steps and (losses[:steps] > 0).all() and (losses[steps:] == 0).all()
    assert fit.recall["facts"] == fit.recall["traces"] == 1
    job = jobs(5)[4]
    before = replace(SOON, steps=steps - training.LOOK, margin=None)  # nothing had cooled yet
    earlier = jax.jit(functools.partial(run, schedule=replace(before, cooling=1)))(job)
    enough = []
    for length, weight, prompt in (("tokens", job["weight"], 1), ("traces", np.ones(3), 2)):
        tokens = jnp.asarray(job[length])
        lead = training.lead(
            completion_logits(DECODER, earlier.value, tokens, prompt), group(tokens, weight, prompt)
        )
        enough.append(np.all(np.asarray(lead)[weight > 0] > SOON.margin))
    assert all(enough)


@pytest.mark.slow
def test_overtraining_takes_a_multiple_of_the_steps_to_the_first_look_that_knows():
    """The steps before the decay, three times over; the decay and the value at the first look stay."""
    job = jobs(5)[4]
    once = replace(SOON, steps=600)
    thrice = replace(once, overtraining=3)
    fits = [jax.jit(functools.partial(run, schedule=schedule))(job) for schedule in (once, thrice)]
    first, last = (int(fit.steps) for fit in fits)
    assert last - training.LOOK == 3 * (first - training.LOOK)
    before = first - training.LOOK
    np.testing.assert_array_equal(fits[0].losses[:before], fits[1].losses[:before])
    assert fits[1].losses[last - 1] < 0.5 * fits[0].losses[first - 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["facts", "traces"])
def test_what_is_not_known_keeps_training_going(name):
    """Two answers to one question, in either group: the run goes on to the last step, and says so.

    It has too few to give up.
    """
    few = replace(SOON, steps=200)
    job = jobs(5)[4]
    clash = "tokens" if name == "facts" else "traces"
    job[clash] = job[clash].copy()
    job[clash][1] = job[clash][0]
    job[clash][1, -1] = (job[clash][0, -1] + 1) % 13
    (fit,) = results(1, [job], functools.partial(run, schedule=few))
    other = "traces" if name == "facts" else "facts"
    assert int(fit.steps) == few.steps
    assert fit.recall[name] < training.MASTERY and fit.recall[other] == 1


def test_what_cannot_be_learned_is_given_up(key):
    """Two answers to one question: Adam written out says at which look leads had last moved, and no later
    look does by as much. From far off progress is long, from the start there is none."""
    for begin in (0.0, 6.0):
        value, first, second = np.asarray([begin, -begin]), np.zeros(2), np.zeros(2)
        least, at, at_look = np.inf, 0, 0
        while at_look - at < 200:
            for step in range(at_look + 1, at_look + 26):
                first, second = 0.9 * first + 0.1 * slope(value), 0.98 * second + 0.02 * slope(value) ** 2
                moved = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.98**step)) + 1e-8)
                value = value - 0.05 * min(1.0, step / 10) * moved
            lead, at_look = value[0] - value[1], at_look + 25
            shortfall = np.mean(np.maximum(0, 0.5 - lead * np.asarray([1, 1, -1, -1])))  # four have a weight
            least, at = (shortfall, at_look) if shortfall < 0.98 * least else (least, at)
        fit = quadratic(Schedule(2000, 0.05, (("only", 5),), margin=0.5), key, start=(begin, -begin))
        assert (int(fit.steps), float(fit.recall["only"])) == (at_look + 25, 0.5)
        assert (at > 100) == (begin > 0)


def test_who_knows_enough_does_not_give_up(key):
    """Nothing is short of the margin any more, for 450 steps."""
    one_answer = np.asarray([0, 2, 0, 4, 0], np.float32)
    schedule = Schedule(2000, 0.05, (("only", 5),), margin=0.5, overtraining=18)
    fit = quadratic(schedule, key, one_answer)
    assert (int(fit.steps), float(fit.recall["only"])) == (18 * 25 + 25, 1.0)


def test_an_empty_group_is_not_waited_for():
    (job,) = jobs(1)
    job["weight"] = 0 * job["weight"]
    (fit,) = results(1, [job])
    assert int(fit.steps) < SOON.steps and np.isnan(fit.recall["facts"]) and fit.recall["traces"] == 1


@pytest.mark.slow
def test_a_run_that_diverges_ends():
    (job,) = jobs(1)
    fit = jax.jit(functools.partial(run, schedule=replace(SOON, rate=1e30, warming=1)))(job)
    assert int(fit.steps) <= 2 * training.LOOK
    with pytest.raises(FloatingPointError, match="not finite"):
        training.require_finite(fit.losses, "it")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3])
def test_batched_equals_single_to_rounding(width):
    """After as many steps as rounding allows."""
    short = functools.partial(run, schedule=replace(SOON, steps=25, margin=None))
    work = jobs(3)
    single = [jax.jit(short)(job) for job in work]
    together = results(width, work, short)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), together, single)


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
        actual = decoding.greedy(count_positions, prompts, length, jnp.zeros((2, 8), jnp.int32))
        np.testing.assert_array_equal(actual, [np.arange(2, 2 + length)] * 2)

    def test_greedy_matches_a_loop(self, key):
        params = init(DECODER, key)

        logits, after = readers(params)
        by_hand = np.zeros((200, 8), np.int32)
        by_hand[:, :3] = jax.random.randint(key, (200, 3), 0, 13, jnp.int32)
        for at in range(3, 8):  # logits see no later token
            by_hand[:, at] = np.argmax(logits(by_hand)[:, at - 1], axis=-1)
        greedy = jax.jit(lambda prompts: decoding.greedy(after, prompts, 5, no_cache(DECODER, 200, 8)))
        np.testing.assert_array_equal(greedy(by_hand[:, :3]), by_hand[:, 3:])

    @pytest.mark.slow
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
