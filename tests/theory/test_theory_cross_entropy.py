"""Cross-entropy adapters: overshoot along the flow, and retention predicted by single-adapter margins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.twins import cross_entropy as twin
from theory import coverage, cross_entropy, starvation
from theory import model as one_layer

CONFIG = one_layer.ModelConfig(entities=24, dim=100, features=300)
LAM = jnp.linspace(0.02, 1.0, 25)


@functools.cache
def library(rank, draw):
    key = jax.random.fold_in(jax.random.key(0), draw)
    return twin.two_adapters(CONFIG, key, rank=rank, step=0.02, steps=2000)


def one_fact(answers, step, steps):
    """(logits, loss per fact): 5 orthonormal keys, rank 5, B alone trained: descent on logits."""
    keys = jnp.eye(5, dtype=jnp.float64)
    base = jnp.eye(answers, 5, dtype=jnp.float64)
    target = (jnp.arange(5) + 1) % 5
    adapter = twin.train(base, keys, target, jax.random.key(0), rank=5, step=step, steps=steps, freeze_a=True)
    logits = keys @ base.T + keys @ adapter.a.T @ adapter.b.T
    return logits, float(twin.loss_of(logits, target, "cross_entropy")) / 5


@pytest.mark.parametrize(("answers", "time"), [(6, 0.5), (8, 5.0), (40, 20.0)])
def test_the_loss_gives_the_logits_and_the_critical_lambda(answers, time):
    """Descent in 1000 and 2000 steps: the gap to the flow's curve falls with the step."""
    gaps = []
    for steps in (1000, 2000):
        logits, loss = one_fact(answers, time / steps, steps)
        new, old, rest = cross_entropy.logits_at_loss(loss, answers)
        measured = np.array([logits[0, 1], logits[0, 0], logits[0, -1]])
        gaps.append(np.max(np.abs(measured - [new, old, rest])))
        np.testing.assert_allclose(logits[0, 2:], logits[0, -1], atol=1e-10)
        swing = 1 + measured[0] - measured[1]
        np.testing.assert_allclose(cross_entropy.critical_lambda_at_loss(loss, answers), 1 / swing, rtol=5e-3)
    assert gaps[0] < 2e-3 * abs(new - old) + 1e-3
    assert gaps[1] < 0.6 * gaps[0]


def test_two_answers_follow_the_wright_function():
    keys, base = jnp.ones((1, 1)), jnp.asarray([[1.0], [0.0]])
    leads = []
    for steps in (1000, 2000):
        train = functools.partial(twin.train, base, keys, jnp.asarray([1]), jax.random.key(0), rank=1)
        adapter = train(step=3.0 / steps, steps=steps, freeze_a=True)
        moved = adapter.b[:, 0] * adapter.a[0, 0]
        leads.append(moved[1] - moved[0] - 1)
    np.testing.assert_allclose(2 * leads[1] - leads[0], cross_entropy.trained_lead(3.0), rtol=1e-6)
    assert cross_entropy.trained_lead(0.0) == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize("lam", [1.0, 0.75, 0.5])
@pytest.mark.parametrize(("margin", "overlap", "other"), [(1.0, 0.4, 1.5), (2.0, 0.25, 0.9)])
def test_a_merge_has_the_edit_and_spares_another_fact_between_two_times(lam, margin, overlap, other):
    """Descent on the edit alone, stopped 2% before and after each time; the merge is then run."""
    side = np.sqrt(1 - overlap**2)
    keys = jnp.asarray([[1.0, 0.0], [overlap, side]])
    base = jnp.asarray([[margin, (other - overlap * margin) / side], [0.0, 0.0]])

    def holds(time):
        """(the edit is answered, the other fact is still), with the adapter at ``lam``."""
        train = functools.partial(twin.train, base, keys[:1], jnp.asarray([1]), jax.random.key(0))
        adapter = train(rank=1, step=float(time) / 6000, steps=6000, freeze_a=True)
        logits = keys @ (base + lam * adapter.b @ adapter.a).T
        return bool(logits[0, 1] > logits[0, 0]), bool(logits[1, 0] > logits[1, 1])

    first, last = cross_entropy.merge_times(lam, margin, overlap, other)
    assert first < last
    assert [holds(by * first)[0] for by in (0.98, 1.02)] == [False, True]
    assert [holds(by * last)[1] for by in (0.98, 1.02)] == [True, False]


def test_a_smaller_lambda_only_moves_the_times():
    """Later, by about e^(M/lambda - M); whether there are any depends on kappa M < M_u alone."""
    one, half = (cross_entropy.merge_times(lam, 3.0, 0.2, 1.0) for lam in (1.0, 0.5))
    assert half[0] > one[0] and half[1] > one[1]
    assert half[0] == pytest.approx((3 + np.exp(3.0) + 3 - np.exp(-3.0)) / 2)
    for lam in (0.25, 0.5, 1.0):
        first, last = cross_entropy.merge_times(lam, 3.0, 0.4, 1.0)  # 1.2 > 1
        assert first > last
    assert cross_entropy.merge_times(1.0, 3.0, -0.1, 1.0)[1] == np.inf
    times = np.asarray([0.0, 0.3, 7.0])
    leads = cross_entropy.trained_lead(times, -2.0)
    np.testing.assert_allclose(cross_entropy.time_of_lead(leads, -2.0), times, atol=1e-12)


def test_the_loss_that_an_average_of_k_asks_for():
    for adapters in (2, 3, 8):
        loss = cross_entropy.loss_for_library(adapters, 10)
        assert cross_entropy.critical_lambda_at_loss(loss, 10) == pytest.approx(1 / adapters, rel=1e-9)
    assert cross_entropy.loss_for_library(12, 10) == pytest.approx(9 * np.exp(-11.0), rel=0.6)
    start = np.log(np.e + 9)
    assert cross_entropy.logits_at_loss(start, 10) == pytest.approx((0.0, 1.0, 0.0), abs=1e-9)
    assert cross_entropy.critical_lambda_at_loss(start, 10) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("rank", [2, 4, 12])
def test_single_adapter_margins_predict_the_retention_curve_of_the_merge(rank):
    """2 draws x 48 facts x 25 coefficients; the prediction runs no merge. Gap: crosstalk."""
    predicted, measured = [], []
    for draw in range(2):
        adapters = library(rank, draw)
        margin, swing, third = twin.margins(adapters)
        critical = np.where(third > 0, coverage.critical_lambda(margin, swing), np.inf)
        predicted.append(np.mean(np.asarray(LAM)[:, None, None] > critical[None], axis=(1, 2)))
        measured.append(np.mean(twin.merged_recall(adapters, LAM), axis=(1, 2)))
    gap = np.abs(np.mean(predicted, 0) - np.mean(measured, 0))
    assert np.mean(measured, 0)[-1] > 0.75  # learned (rank 2 not to the end)
    assert gap.mean() < 0.02, gap
    assert np.all(np.diff(np.mean(predicted, 0)) >= 0)


def test_cross_entropy_overshoots_where_least_squares_ties_or_starves():
    """F = 24: rank 4 keeps overwrites at lambda = 1/4; least squares keeps none at any lambda <= 1."""
    recall = np.mean(
        [np.mean(twin.merged_recall(library(4, draw), jnp.asarray([0.25]))) for draw in range(2)]
    )
    assert recall > 0.95
    assert starvation.overwrite_recall(24, 4, 1.0) < 0.02 and starvation.overwrite_recall(24, 24, 0.25) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cross_entropy.logits_at_loss(0.0, 5), "loss must be above 0"),
        (lambda: cross_entropy.logits_at_loss(9.0, 5), "at most the base's"),
        (lambda: cross_entropy.logits_at_loss(0.1, 1), "answers is 1; give a whole number of at least 2"),
        (lambda: cross_entropy.loss_for_library(0, 5), "adapters is 0"),
        (lambda: cross_entropy.time_of_lead(-1.5), "lead is -1.5"),
        (lambda: cross_entropy.merge_times(0.0, 1.0, 0.1, 1.0), "lam is 0.0; give a finite number above 0"),
        (lambda: cross_entropy.merge_times(1.0, 1.0, np.nan, 1.0), "overlap holds NaN"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
