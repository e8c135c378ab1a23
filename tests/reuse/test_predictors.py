"""Predictions of a merge from single adapters: exact where logits are linear, by hand elsewhere."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.reuse import predictors


@given(st.integers(0, 10**6), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_both_are_exact_when_logits_are_linear(seed, first, second):
    rng = np.random.default_rng(seed)
    base, deltas = rng.normal(size=(3, 2, 5)), rng.normal(size=(2, 3, 2, 5))
    truth = base + first * deltas[0] + second * deltas[1]
    singles = [base + delta for delta in deltas]
    scaled = [base + lam * delta for lam, delta in zip((first, second), deltas, strict=True)]
    np.testing.assert_allclose(predictors.tangent(base, singles, (first, second)), truth, atol=1e-12)
    np.testing.assert_allclose(predictors.disentangled(base, scaled), truth, atol=1e-12)


def test_right_is_the_argmax():
    logits = jnp.asarray([[[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]])
    np.testing.assert_array_equal(predictors.right(logits, jnp.asarray([[1, 2]])), [[True, False]])


def test_margin_and_swing_by_hand():
    base = jnp.asarray([[[4.0, 1.0, 3.0]]])
    single = jnp.asarray([[[2.0, 5.0, 0.0]]])
    margin, swing = predictors.margin_and_swing(base, single, jnp.asarray([[1]]))
    # old answer 0 leads the new one by 3; the adapter moves new - old by (5 - 2) - (1 - 4)
    assert (float(margin[0, 0]), float(swing[0, 0])) == (3.0, 6.0)


@given(st.integers(0, 10**6), st.floats(0.05, 1.5))
def test_the_new_answer_leads_the_old_iff_lambda_swing_passes_the_margin(seed, lam):
    rng = np.random.default_rng(seed)
    base, delta = rng.normal(size=(2, 6, 1, 4))
    target = rng.integers(0, 4, (6, 1))
    margin, swing = predictors.margin_and_swing(jnp.asarray(base), jnp.asarray(base + delta), target)
    masked = base.copy()
    np.put_along_axis(masked, target[..., None], -np.inf, -1)
    old = masked.argmax(-1)
    merged = base + lam * delta
    rows = np.arange(6)
    leads = merged[rows, 0, target[:, 0]] > merged[rows, 0, old[:, 0]]
    np.testing.assert_array_equal(lam * swing[:, 0] > margin[:, 0], leads)


@given(st.integers(0, 10**6))
def test_pairs_of_adapters_that_meet_in_the_second_order_are_foretold(seed):
    """f = f0 + sum_i (a_i lam_i + b_i lam_i^2) + c lam_1 lam_2: both are exact with its own derivatives."""
    rng = np.random.default_rng(seed)
    base, c, *parts = rng.normal(size=(6, 2, 3, 5))
    a, b, lam = parts[:2], parts[2:], rng.normal(size=2)
    singles = [base + a[i] * lam[i] + b[i] * lam[i] ** 2 for i in range(2)]
    merge = sum(singles) - base + c * lam[0] * lam[1]
    second = predictors.second_order(base, singles, [c * lam[0] * lam[1]])
    np.testing.assert_allclose(second, merge, atol=1e-12)
    at_base = [lam[1 - i] * a[1 - i] for i in range(2)]
    across = [lam[1 - i] * (a[1 - i] + c * lam[i]) for i in range(2)]
    np.testing.assert_allclose(predictors.crossed(base, singles, across, at_base), merge, atol=1e-12)


def test_product_of_steps():
    steps = [jnp.asarray([True, True, False, False]), jnp.asarray([True, False, False, False])]
    assert float(predictors.product(*steps)) == 0.125
