"""Theorem 2 beyond its assumptions: adapters anywhere, cross entropy, any depth (section 2, Boundaries)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from sim.lab import intervals
from sim.twins import composition as twin
from theory import model as one_layer
from theory.composition import two_hop_accuracy, two_hop_loss

pytestmark = pytest.mark.slow  # minutes of compilation in total

N = 5
CONFIG = one_layer.ModelConfig(entities=N, dim=2 * (2 * N + 2), features=60)
LAM = jnp.asarray([0.5, 1.0])


def outcomes(setting, draws, config=CONFIG):
    keys = [jax.random.fold_in(jax.random.key(0), draw) for draw in range(draws)]
    run = [twin.trained_two_hop(config, setting, LAM, key) for key in keys]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *run)


def rate(hits):
    """Mean and interval over draws: hits (draws, ...)."""
    hits = hits.reshape(hits.shape[0], -1)
    return intervals.mean(hits.mean(axis=1))


@pytest.mark.parametrize(
    ("module", "base", "kind"),
    [
        ("w", "fake", "cross_entropy"),
        ("up", "fake", "cross_entropy"),
        ("value", "one_hop", "cross_entropy"),
        ("up", "one_hop", "squared"),
    ],
)
def test_without_a_link_any_adapter_is_right_exactly_once_in_n(module, base, kind):
    """4 draws x 5 shifts x 5 subjects, average and sum: equal answer logits, accuracy exactly 1/N."""
    outcome = outcomes(twin.Setting(module, base, kind=kind), 4)
    assert outcome.hop1.mean() > 0.9 and outcome.hop2.mean() > 0.9  # the adapters did learn
    assert np.max(np.ptp(outcome.answers, axis=1)) < 1e-9
    np.testing.assert_array_equal(outcome.two_hop.mean(axis=(1, 3)), two_hop_accuracy(N))


def test_nor_is_one_adapter_trained_on_both_data_sets():
    outcome = outcomes(twin.Setting("up", "one_hop", joint=True), 3)
    assert outcome.hop1[:, :, 1].mean() > 0.9 and outcome.hop2[:, :, 1].mean() > 0.9
    np.testing.assert_array_equal(outcome.two_hop.mean(axis=(1, 3)), two_hop_accuracy(N))
    assert np.max(np.abs(gain(outcome).mean(axis=(1, 3)))) < 1e-9


def gain(outcome):
    """Null of the loss less the loss, (draws, shifts, coefficients, subjects): 2f says that its mean is 0."""
    return two_hop_loss(outcome.answers) - outcome.loss


@pytest.mark.parametrize(("module", "hop"), [("w", "first"), ("up", "first"), ("value", "second")])
def test_a_hop_of_the_base_is_no_link_and_the_loss_stays_at_its_null(module, hop):
    """One hop edited, the other known from the base: exactly 1/N and the null of the loss over the shifts."""
    outcome = outcomes(twin.Setting(module, "one_hop", **{hop: False}), 3)
    edited = outcome.hop2 if hop == "first" else outcome.hop1
    assert edited.mean() > 0.9
    np.testing.assert_array_equal(outcome.two_hop.mean(axis=(1, 3)), two_hop_accuracy(N))
    assert np.max(np.abs(gain(outcome).mean(axis=(1, 3)))) < 1e-9
    assert np.max(np.abs(gain(outcome))) > 0.01  # question by question the loss does differ from its null


def test_a_base_that_knows_the_pair_takes_the_loss_off_its_null():
    """8 draws, hop 1 edited, hop 2 known, two-hop answers in the base: the old answer stays, at a cost."""
    outcome = outcomes(twin.Setting("up", "two_hop", second=False), 8)
    assert rate(gain(outcome)[:, :, 1])[2] < 0 and rate(outcome.two_hop[:, :, 1])[2] < two_hop_accuracy(N)


def test_cross_entropy_on_w_touches_the_answers_but_adds_one_number_to_all_of_them():
    """Base that fits its facts: Delta W_1 has equal C-rows, so a base left in place is at 1/N too."""
    outcome = outcomes(twin.Setting("w", "one_hop", fixed_base=True), 4)
    assert np.max(np.ptp(outcome.answers, axis=1)) > 0.5  # the answer logits do depend on s1
    centred = outcome.answers - outcome.answers.mean(axis=-1, keepdims=True)
    assert np.max(np.ptp(centred, axis=1)) < 1e-9  # but not their differences
    np.testing.assert_array_equal(outcome.two_hop.mean(axis=(1, 3)), two_hop_accuracy(N))
    # 2f: so do functions of the differences, the loss among them, and no others: the number says which s1.
    assert np.max(np.abs(gain(outcome).mean(axis=(1, 3)))) < 1e-9
    right = special.logsumexp(outcome.answers, axis=-1) - outcome.loss
    excess = np.exp(right) - np.exp(outcome.answers).mean(axis=-1)
    assert np.max(np.abs(excess.mean(axis=(1, 3)))) > 0.01


@pytest.mark.parametrize(("module", "base"), [("w", "fake"), ("up", "one_hop"), ("value", "one_hop")])
def test_with_a_fixed_base_only_the_mean_of_many_bases_is_1_in_n(module, base):
    """12 draws: the logit differences depend on s1, single draws leave 1/N, the mean's interval holds it."""
    outcome = outcomes(twin.Setting(module, base, fixed_base=True), 12)
    centred = outcome.answers - outcome.answers.mean(axis=-1, keepdims=True)
    assert np.max(np.ptp(centred, axis=1)) > 0.1
    if module != "w":
        assert np.ptp(outcome.two_hop.mean(axis=(1, 3))) > 0.05
    mean, low, high = rate(outcome.two_hop)
    assert low <= two_hop_accuracy(N) <= high, (mean, low, high)


def test_a_base_with_two_hop_answers_links_them_and_the_law_fails():
    """12 draws, second hop unedited: W adapters give 1/N, U adapters less (they damage the base)."""
    on_w = outcomes(twin.Setting("w", "two_hop", fixed_base=True, second=False), 12)
    np.testing.assert_array_equal(on_w.two_hop.mean(axis=(1, 3)), two_hop_accuracy(N))
    on_u = outcomes(twin.Setting("up", "two_hop", fixed_base=True, second=False), 12)
    assert rate(on_u.two_hop)[2] < two_hop_accuracy(N)


@pytest.mark.slow
def test_any_depth_needs_a_link_and_an_identity_bridge_is_one():
    """2 layers, N = 4, LoRA on every matrix, 1 draw: exactly 1/N; pretraining on "b -> b" breaks that."""
    key = jax.random.key(0)
    hits, first_hop, answers = twin.decoder_two_hop(4, 2, False, 150, key, False)
    assert first_hop.mean() == 1.0
    assert float(jnp.max(jnp.ptp(answers, axis=0))) < 1e-8
    assert float(hits.mean()) == two_hop_accuracy(4)
    for identity, taught in ((True, False), (False, True)):  # in pretraining, in the adapters' own data
        linked = twin.decoder_two_hop(4, 2, identity, 150, key, taught)[2]
        assert float(jnp.max(jnp.ptp(linked, axis=0))) > 1.0
