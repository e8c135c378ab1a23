"""Bad input to the laws: one clear ValueError that names the argument, or the right limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import (
    capacity,
    chain,
    checks,
    composition,
    coverage,
    cross_entropy,
    crosstalk,
    depth,
    dynamics,
    edits,
    interference,
    selection,
    starvation,
)
from theory import model as one_layer
from theory.lowrank import LowRank

NAN, INF = float("nan"), float("inf")
EYE, BAD = jnp.eye(3), jnp.eye(3).at[1, 1].set(NAN)
NONE = jnp.zeros((0, 3))
SKEW = jnp.asarray([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])

REFUSED = [
    # coverage
    (coverage.lambda_range, (NAN, 1.0), "margin holds NaN or infinity"),
    (coverage.lambda_range, (1.0, INF), "swing holds NaN or infinity"),
    (coverage.critical_lambda, ([], []), "margin is empty"),
    (coverage.critical_lambda, (1.0, NAN), "swing holds NaN"),
    (coverage.retention, (NAN,), "lam holds NaN"),
    (coverage.retention, (0.5, NAN), "margin holds NaN"),
    (coverage.largest_library, (NAN,), "critical is nan; it lies between 0 and inf"),
    (coverage.largest_library, (-0.5,), "critical is -0.5; it lies between 0 and inf"),
    (coverage.largest_library, ([],), "critical is empty"),
    (coverage.lambda_window, ([], [], [1.0], [1.0]), "edit_margin is empty"),
    (coverage.lambda_window, ([1.0], [NAN], [1.0], [1.0]), "edit_swing holds NaN"),
    (coverage.best_lambda, ([1.0], [2.0], [1.0], [1.0], 0.0), "largest is 0.0; give a finite number above 0"),
    (coverage.best_lambda, ([1.0], [2.0], [1.0], [1.0], NAN), "largest is nan"),
    (coverage.best_lambda, ([1.0], [2.0], [], []), "untouched_margin is empty"),
    (coverage.best_lambda, ([1.0], [2.0], [1.0], [NAN]), "untouched_swing holds NaN"),
    (coverage.strength, (NAN, 1.0, 1.0), "lam holds NaN"),
    (coverage.decides, (1.0, NAN, 1.0), "overlap holds NaN"),
    (coverage.decides, (1.0, 1.0, 1.0, NAN), "margin holds NaN"),
    (coverage.covers, (jnp.ones(3), jnp.ones((2, 2)), jnp.ones((2, 2))), "do not fit"),
    (coverage.covers, (1.0, jnp.ones((2, 2)), jnp.ones((2, 3))), "do not fit"),
    (coverage.covers, (1.0, NAN * jnp.ones((1, 1)), jnp.ones((1, 1))), "overlap holds NaN"),
    # starvation
    (starvation.share_law, (5, 2.5), "rank is 2.5; give a whole number"),
    (starvation.overwrite_recall, (5.5, 2), "facts is 5.5; give a whole number"),
    (starvation.overwrite_recall, (5, 2, NAN), "lam holds NaN"),
    (starvation.overwrite_recall, (5, 2, []), "lam is empty"),
    (starvation.shared_overwrite_recall, (5, 0), "rank is 0; give a whole number"),
    (starvation.shared_overwrite_recall, (5, 2, INF), "lam holds NaN or infinity"),
    (starvation.insertion_recall, (NAN, 2), "facts is nan"),
    (starvation.insertion_recall, (8, 1.5), "rank is 1.5"),
    (starvation.shared_insertion_recall, (8.5, 1), "facts is 8.5"),
    (starvation.insertion_recall_large, (8, 1.5), "rank is 1.5"),
    (starvation.overwrite_rank, (0,), "facts is 0"),
    (starvation.overwrite_rank, (4, NAN), "lam holds NaN"),
    (starvation.insertion_rank, (2.5,), "facts is 2.5"),
    (starvation.cycle_shares, (1, 1), "length is 1; give a whole number of at least 2"),
    (starvation.cycle_shares, (6, 1.5), "rank is 1.5"),
    (starvation.cycle_overwrite_rank, (0,), "length is 0; give a whole number of at least 2"),
    (starvation.cycle_overwrite_rank, (1,), "length is 1; give a whole number of at least 2"),
    (starvation.cycle_overwrite_rank, (8, NAN), "lam holds NaN"),
    # capacity
    (capacity.edge, (NAN,), "share is nan"),
    (capacity.captured, (1.5,), "share is 1.5; it lies between 0 and 1"),
    (capacity.snr, (NAN, 8, 2), "facts is nan"),
    (capacity.snr, (10, 8, 2.5), "rank is 2.5; give a whole number"),
    (capacity.recall_at_snr, (1.0, 0), "candidates is 0; give a finite number of at least 1"),
    (capacity.recall_at_snr, (NAN, 4), "ratio holds NaN"),
    (capacity.recall_at_snr, (1.0, 4, -1.0), "self_noise is -1.0"),
    (capacity.recall_large, (10, 8, 2, 0), "candidates is 0"),
    (capacity.traces, (NAN, 0.5), "load is nan"),
    (capacity.traces, (1.0, 0.0), "share is 0.0"),
    (capacity.recall, (10, 8.5, 2), "dim is 8.5"),
    (capacity.recall, (10, 8, 2, 0.5), "candidates is 0.5"),
    (capacity.recall, (INF, 8, 2), "facts is inf"),
    (capacity.facts_at_recall, (8, 0), "rank is 0"),
    (capacity.facts_at_recall, (8, 2, NAN), "strictly between 0 and 1"),
    (capacity.facts_small_share, (8, 9), "rank 9 must be"),
    (capacity.facts_bound, (0,), "rank is 0"),
    (capacity.facts_full_rank, (0,), "dim is 0"),
    (capacity.sizes_at_load, ([], 0.5, 1.0), "dims is empty"),
    (capacity.sizes_at_load, ([8], 0.5, 0.0), "load is 0.0"),
    # chain
    (chain.product, ([],), "steps is empty"),
    (chain.product, ([0.5, NAN],), "steps is"),
    (chain.product, ([0.5], 1.5), "template is 1.5; it lies between 0 and 1"),
    (chain.solved, (1.0, NAN, 1.0), "overlap holds NaN"),
    (chain.step_accuracy, (8, 2.5, 1.0), "rank is 2.5"),
    (chain.step_accuracy, (8, 2, NAN), "lam holds NaN"),
    (chain.step_accuracy, (8, 2, 1.0, []), "overlap is empty"),
    (chain.step_accuracy, (8, 2, 1.0, 1.0, NAN), "margin holds NaN"),
    (chain.matched, ([0.5], 2.5), "facts is 2.5; give a whole number of at least 2"),
    (chain.matched, ([0.5, NAN], 4), "steps is"),
    (chain.bounds, ([],), "steps is empty"),
    (chain.bounds, ([1.5],), "steps is 1.5"),
    # composition
    (composition.two_hop_accuracy, (2.5,), "entities is 2.5"),
    (composition.two_hop_loss, ([],), "logits is empty"),
    (composition.two_hop_loss, ([NAN, 1.0],), "logits holds NaN"),
    (composition.two_hop_bound, ([],), "prior is empty"),
    (composition.two_hop_bound, ([NAN, 1.0],), "prior holds NaN"),
    (composition.two_hop_deviation, (4, 0), "draws is 0"),
    # cross entropy
    (cross_entropy.logits_at_loss, (NAN, 4), "loss must be above 0"),
    (cross_entropy.critical_lambda_at_loss, (0.1, 1), "answers is 1; give a whole number of at least 2"),
    (cross_entropy.loss_for_library, (1.5, 4), "adapters is 1.5"),
    (cross_entropy.loss_for_library, (2, NAN), "answers is nan"),
    (cross_entropy.trained_lead, (-1.0,), "time is -1.0"),
    (cross_entropy.trained_lead, (1.0, NAN), "start holds NaN"),
    # crosstalk
    (crosstalk.arc_cosine, (NAN,), "cosine is nan"),
    (crosstalk.arc_cosine, (1.1,), "cosine is 1.1"),
    (crosstalk.kappa, (jnp.zeros(2), jnp.ones(2)), "stored_norm is 0.0; give a finite number above 0"),
    (crosstalk.kappa, (jnp.ones(2), jnp.asarray([1.0, NAN])), "read holds NaN"),
    (crosstalk.kappa_variance, (-0.1,), "angle is -0.1"),
    (crosstalk.edit_overlap, (BAD, EYE), "keys holds NaN"),
    (crosstalk.edit_overlap, (NONE, EYE), "keys is empty"),
    (crosstalk.mean_overlap, (4, 1.0, 1.0, 0.5), "keys_apart is 0.0"),
    (crosstalk.mean_overlap, (0, 0.5, 1.0, 0.5), "facts is 0"),
    (crosstalk.mean_overlap, (4, 0.5, NAN, 0.5), "own holds NaN"),
    (crosstalk.turned_overlap, (4, NAN), "angle holds NaN"),
    (crosstalk.turned_angle, (4, NAN), "overlap holds NaN"),
    # depth
    (depth.noise, (1, 8, 0.5), "facts is 1; give a whole number of at least 2"),
    (depth.accuracy, (8.5, 8, 0.5), "facts is 8.5"),
    (depth.accuracy, (8, 8, NAN), "alignment is nan"),
    (depth.accuracy, (8, 8, 0.5, 0.0), "lam is 0; without residual"),
    (depth.accuracy_leading, (8, 8, 0.5, NAN), "lam holds NaN"),
    (depth.wrong_order_accuracy, (1.5,), "entities is 1.5"),
    (depth.familiarity, (-1.0, 1.0), "exposures is -1.0"),
    (depth.familiarity, (NAN, 1.0), "exposures is nan"),
    (depth.familiarity, (1.0, NAN), "half is nan"),
    # dynamics
    (dynamics.early, (BAD, EYE, 1.0), "gradient holds NaN"),
    (dynamics.early, (EYE, EYE, -1.0), "time is -1.0"),
    (dynamics.early, (EYE, EYE, 1e4), "time 10000.0 is far beyond the early law"),
    (dynamics.flow, (EYE, SKEW, 1.0), "give orthogonal rows of one norm"),
    (dynamics.flow, (EYE, EYE[:2] * jnp.asarray([[1.0], [2.0]]), 1.0), "give orthogonal rows of one norm"),
    (dynamics.flow, (EYE, BAD, 1.0), "start holds NaN"),
    (dynamics.flow, (EYE, EYE, -1.0), "time is -1.0"),
    (dynamics.logistic_mode, (0.0, 1.0, 1.0), "strength is 0.0"),
    (dynamics.logistic_mode, (1.0, 1.0, NAN), "time is nan"),
    (dynamics.aligned_mode, (1.0, -1.0, 1.0), "start is -1.0"),
    (dynamics.aligned_mode, (NAN, 1.0, 1.0), "strength is nan"),
    (dynamics.learning_time, (0.0, 1.0), "strength is 0.0"),
    (dynamics.learning_times, (EYE, BAD), "start holds NaN"),
    # edits and the model
    (edits.rank_one_edit, (jnp.zeros(3), jnp.ones(2)), "key_norm is 0.0; give a finite number above 0"),
    (edits.rank_one_edit, (jnp.ones(3), jnp.asarray([1.0, NAN])), "change holds NaN"),
    (edits.least_squares_adapter, (BAD, EYE, 1), "keys holds NaN"),
    (edits.least_squares_adapter, (EYE, EYE, 1.5), "rank is 1.5"),
    (edits.least_squares_adapter, (NONE, NONE, 1), "keys is empty"),
    (edits.exact_adapter, (EYE, BAD), "residual holds NaN"),
    (edits.least_squares_loss, (EYE, BAD, 1), "residual holds NaN"),
    (edits.shares, (LowRank(EYE, EYE), EYE, BAD), "residual holds NaN"),
    (one_layer.base_weights, (BAD, EYE), "keys holds NaN"),
    (one_layer.words, (0, 2), "entities is 0"),
    (one_layer.words, (4, 1.5), "hops is 1.5"),
    (one_layer.ModelConfig, (2.5, 40, 8), "entities is 2.5"),
    (one_layer.ModelConfig, (2, 40, 8, "gauss"), "unknown embeddings 'gauss'; use orthonormal or gaussian"),
    # selection
    (selection.alignment, (NAN, 1.0), "theta is nan"),
    (selection.alignment, ([], 1.0), "theta is empty"),
    (selection.alignment_orthogonal, (1.5,), "facts is 1.5"),
    (selection.score_law, (1.0, 1.0, NAN), "load holds NaN"),
    (selection.selection, ([], []), "mean is empty"),
    (selection.selection, ([NAN], [1.0]), "mean holds NaN"),
    (selection.selection, ([1.0, 2.0], [1.0]), "give one of each for every adapter"),
    (selection.expected_gate, ([1.0], [INF], 1.0), "spread is inf"),
    (selection.expected_gate, ([1.0, 0.0], [1.0, 1.0], NAN), "temperature is nan"),
    (selection.expected_gate, ([1.0, 0.0], [1.0, 1.0], 1.0, 1.5), "top_k is 1.5"),
]


@pytest.mark.parametrize(
    ("law", "arguments", "message"),
    REFUSED,
    ids=[
        f"{law.__module__.split('.')[-1]}.{law.__name__}-{place}" for place, (law, _, _) in enumerate(REFUSED)
    ],
)
def test_bad_input_is_refused_by_name(law, arguments, message):
    arguments = [np.asarray(value, np.float64) if isinstance(value, list) else value for value in arguments]
    with pytest.raises(ValueError) as caught:
        law(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_stored_prompt_may_not_repeat():
    config = one_layer.ModelConfig(3, 20, 8)
    prompts = one_layer.prompt1(config, jnp.asarray([0, 1, 1]))
    with pytest.raises(ValueError, match="stored holds a prompt twice"):
        chain.kernel_overlap(config, [prompts], prompts)
    with pytest.raises(ValueError, match="stored is empty"):
        chain.kernel_overlap(config, [], prompts)


def test_step_accuracy_has_the_case_table_of_the_margins():
    """P(rho push > M) over rho ~ Beta(3, 5): every sign of M and of the push, by drawing rho."""
    rho = np.random.default_rng(0).beta(3, 5, size=400_000)
    for margin in (-0.3, -2.0, 0.0, 0.3, 2.0):
        for swing in (-1.0, 0.0, 1.0):
            hits = np.where(rho * swing == margin, 0.5, rho * swing > margin).mean()
            law = chain.step_accuracy(16, 6, 1.0, 1.0, margin, swing)
            assert law == pytest.approx(hits, abs=4e-3), (margin, swing)
    assert chain.step_accuracy(8, 2, 0.0, margin=-1.0) == 1.0  # nothing added: the new answer leads already
    full = [
        chain.step_accuracy(8, 8, 1.0, margin=m, swing=s) for m, s in ((1, 1), (-1, -1), (-1, -2), (1, 2))
    ]
    assert full == [0.5, 0.5, 0.0, 1.0]


def test_limits_that_used_to_overflow():
    assert float(dynamics.aligned_mode(1.5, 0.1, 1e6)) == pytest.approx(1.5, abs=1e-12)
    assert float(dynamics.aligned_mode(1.5, 1e-12, 400.0)) == pytest.approx(1.5, abs=1e-12)
    assert float(dynamics.aligned_mode(1.5, 0.0, 1e6)) == 0.0
    assert float(dynamics.logistic_mode(1.5, 0.0, 1e6)) == 0.0
    assert float(dynamics.learning_time(1.5, 0.0)) == np.inf
    with np.errstate(over="raise", invalid="raise"):
        losses = [cross_entropy.loss_for_library(adapters, 5) for adapters in (30, 60, 2000)]
    assert losses[0] == pytest.approx(4 * np.exp(-29), rel=1e-6)
    assert losses[1] == pytest.approx(4 * np.exp(-59), rel=1e-6) and losses[2] == 0.0
    assert interference.effective_rank(jnp.zeros(3)) == 0.0
    assert interference.effective_rank(jnp.ones(3)) == pytest.approx(3.0)
    assert interference.arrow_gap(jnp.zeros(3)) == interference.arrow_gap(jnp.zeros(1)) == 0.0
    assert (
        interference.arrow_gap(jnp.asarray([2.0, 0.5])) == 0.75 and interference.arrow_gap(jnp.ones(1)) == 1.0
    )
    assert float(crosstalk.kappa(jnp.ones(2), jnp.zeros(2))) == 0.0


def test_traced_values_pass_unseen():
    assert not checks.traced(1.0)
    assert bool(jnp.isnan(jax.jit(coverage.strength)(jnp.nan, 1.0, 1.0)))
    np.testing.assert_allclose(jax.jit(coverage.critical_lambda)(1.0, 2.0), 0.5)
