"""Section 6: overwriting and inserting with too little rank."""

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

from sim.twins import starvation as twin
from theory import edits, starvation
from theory.lowrank import apply
from theory.model import gaussian

CELLS = [(6, 4), (8, 2), (32, 4), (32, 20)]
DRAWS = 160


def assert_inside(samples, expected, facts, sigmas=4.0):
    """Within ``sigmas`` standard errors, plus 3 facts in all where none of them varies (rule of three)."""
    samples = np.asarray(samples)
    error = samples.std(ddof=1) / samples.size**0.5
    assert abs(samples.mean() - expected) <= sigmas * error + 3 / (facts * samples.size), (
        samples.mean(),
        expected,
        error,
    )
    assert error < 0.02


def test_gradient_descent_lands_on_the_projector_of_its_start(key):
    """Not in the limit of a small start only: for any start, when the singular values tie."""
    for scale in (0.05, 0.3):
        start = scale * gaussian(key, (3, 9))
        residual = np.concatenate([np.eye(9), -np.eye(9)], axis=1)
        trained = twin.trained_strengths(residual, start, steps=3000)
        projector = twin.start_projector(start)
        np.testing.assert_allclose(trained[:, :9], projector, atol=1e-8)
        np.testing.assert_allclose(trained[:, 9:], -projector, atol=1e-8)
    exact = edits.exact_adapter(np.eye(9), residual)
    limit = apply(edits.starved_adapter(exact, start), np.eye(9))
    np.testing.assert_allclose(trained, limit, atol=1e-8)


@pytest.mark.parametrize("facts, rank", [(8, 3), (24, 6)])
def test_shares_follow_the_beta_law(key, facts, rank):
    samples = np.asarray(twin.shares(facts, rank, key=key, draws=200))
    law = stats.beta(*starvation.share_law(facts, rank))
    assert samples.mean() == pytest.approx(rank / facts, abs=1e-6)  # the trace of P is r, draw by draw
    # One fact a draw: independent samples for the test.
    assert stats.kstest(samples[:, 0], law.cdf).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("facts, rank", CELLS)
@pytest.mark.parametrize("lam", [0.75, 1.0])
def test_overwrite_recall_of_trained_adapters(key, facts, rank, lam):
    samples = twin.overwrite_recall(facts, rank, lam, key=key, draws=DRAWS)
    assert_inside(samples, starvation.overwrite_recall(facts, rank, lam), facts)


@pytest.mark.parametrize("facts, rank", CELLS)
def test_insertion_recall_of_trained_adapters(key, facts, rank):
    samples = twin.insertion_recall(facts, rank, key=key, draws=DRAWS)
    assert_inside(samples, starvation.insertion_recall(facts, rank), facts)


@pytest.mark.parametrize("facts", [2, 3, 8, 100, 3000])
def test_rank_one_insertion_closed_form(facts):
    assert starvation.insertion_recall(facts, 1) == pytest.approx(2 / facts * (1 - 2.0**-facts), abs=1e-10)


@pytest.mark.parametrize("facts, rank", [(5, 2), (8, 7), (16, 4), (128, 16), (1000, 30)])
def test_quadrature_against_adaptive_integration(facts, rank):
    """E[Phi(X)^(F-1)] by scipy's adaptive double integral, to 1e-6."""
    a, b = (facts - rank) / 2, (rank - 1) / 2

    def inner(chi):
        value, _ = integrate.quad(
            lambda angle: (
                2
                * np.cos(angle) ** (2 * a - 1)
                * np.sin(angle) ** (2 * b - 1)
                / special.beta(a, b)
                * special.ndtr(chi / np.cos(angle)) ** (facts - 1)
            ),
            0,
            np.pi / 2,
            points=[np.arcsin(np.sqrt(b / (a + b)))],
            epsabs=1e-9,
            limit=200,
        )
        return value * stats.chi(rank).pdf(chi)

    middle = np.sqrt(rank)
    expected = sum(
        integrate.quad(inner, low, high, epsabs=1e-8, limit=100)[0]
        for low, high in ((0, middle), (middle, middle + 12))
    )
    assert starvation.insertion_recall(facts, rank) == pytest.approx(expected, abs=1e-6)


def test_large_form_approaches_the_exact_one():
    gaps = [
        abs(starvation.insertion_recall_large(facts, 4) - starvation.insertion_recall(facts, 4))
        for facts in (16, 64, 256, 1024)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] < 0.02 and gaps[-1] < 0.003


def test_anchors():
    """Checked values of the large form and the Beta law at F = 128."""
    for rank, expected in ((64, 0.500), (80, 0.979), (96, 1.000)):
        assert starvation.overwrite_recall(128, rank) == pytest.approx(expected, abs=1e-3)
    for rank, expected in ((4, 0.200), (8, 0.605), (16, 0.968)):
        assert starvation.insertion_recall_large(128, rank) == pytest.approx(expected, abs=1e-3)
    assert starvation.insertion_recall_large(16, 16) == 1.0


def test_thresholds():
    assert starvation.overwrite_rank(100) == 50 and starvation.overwrite_rank(100, 0.5) == float("inf")
    for facts in (64, 512):
        half = starvation.overwrite_rank(facts, 0.8)
        assert starvation.overwrite_recall(facts, round(half), 0.8) == pytest.approx(0.5, abs=0.06)
    # 2 ln F is the leading order: recall at that rank stays away from 0 and 1 as F grows.
    for facts in (100, 10_000):
        assert 0.2 < starvation.insertion_recall(facts, round(starvation.insertion_rank(facts))) < 0.95


def test_rank_at_or_above_the_facts_holds_all():
    assert starvation.insertion_recall(5, 5) == 1.0
    assert starvation.overwrite_recall(5, 6) == 1.0
    np.testing.assert_array_equal(starvation.overwrite_recall(5, 5, np.array([0.4, 0.5, 0.6])), [0, 0.5, 1])
    assert starvation.overwrite_recall(10, 5, 0.5) == 0.0


@pytest.mark.parametrize("facts, rank", [(5, 4), (6, 2), (12, 3), (12, 6), (20, 8), (40, 5)])
def test_shared_laws_against_drawn_projectors(facts, rank):
    """P = 11^T/F + Haar of rank r - 1 across it, 4000 draws: within 4 standard errors, both laws."""
    rng = np.random.default_rng(facts)
    across = np.linalg.qr(np.concatenate([np.ones((facts, 1)), rng.normal(size=(facts, facts - 1))], axis=1))[
        0
    ]
    frame = np.linalg.qr(across[None, :, 1:] @ rng.normal(size=(4000, facts - 1, rank - 1)))[0]
    projector = frame @ np.swapaxes(frame, 1, 2) + 1 / facts
    np.testing.assert_allclose(np.trace(projector, axis1=1, axis2=2), rank, atol=1e-9)
    own = np.diagonal(projector, axis1=1, axis2=2)
    assert_inside(
        (projector.argmax(1) == np.arange(facts)).mean(1),
        starvation.shared_insertion_recall(facts, rank),
        facts,
    )
    for lam in (0.75, 1.0, 2.0):
        law = starvation.shared_overwrite_recall(facts, rank, lam)
        assert_inside((own > 0.5 / lam).mean(1), law, facts)


SLOW = [(6, 2), (8, 3), (12, 6), (12, 9), (16, 1), (16, 5), (24, 4), (24, 8)]
SHARED = [(12, 3), *(pytest.param(*size, marks=pytest.mark.slow) for size in SLOW)]


@pytest.mark.parametrize("facts, rank", SHARED)
def test_adapters_trained_on_one_relation_spend_a_rank_on_it(key, facts, rank):
    """relu features of "x REL1", m = 256, 80 models: within 3 standard errors + 1/(4F); not the Haar law."""
    changes = np.asarray(twin.shared_changes(facts, rank, key, 80, True))
    loss = ((changes - np.eye(facts)) ** 2).sum((1, 2))
    np.testing.assert_allclose(loss, facts - rank, atol=1e-6)  # trained to the end
    assert changes.sum((1, 2)).mean() / facts > 0.95  # 1^T P 1 / F: the shared direction is held
    samples = np.asarray(twin.shared_insertion_recall(facts, rank, key=key, draws=80))
    error = samples.std(ddof=1) / 80**0.5
    assert abs(samples.mean() - starvation.shared_insertion_recall(facts, rank)) < 3 * error + 0.25 / facts
    if rank < facts / 2:
        assert abs(samples.mean() - starvation.insertion_recall(facts, rank)) > 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("facts, rank, lam", [(12, 6, 1.0), (12, 9, 0.75)])
def test_overwriting_on_one_relation(key, facts, rank, lam):
    """The same, overwriting: within 3 standard errors + 1/(4F) of the shared law, + .03 of the Haar law."""
    samples = np.asarray(twin.shared_overwrite_recall(facts, rank, lam, key=key, draws=80))
    error = samples.std(ddof=1) / 80**0.5
    assert (
        abs(samples.mean() - starvation.shared_overwrite_recall(facts, rank, lam)) < 3 * error + 0.25 / facts
    )
    assert abs(samples.mean() - starvation.overwrite_recall(facts, rank, lam)) < 3 * error + 0.03


def test_shared_laws_have_the_right_ends():
    assert starvation.shared_insertion_recall(16, 1) == 1 / 16  # a tie of all answers
    assert starvation.shared_insertion_recall(16, 16) == starvation.shared_overwrite_recall(16, 16) == 1.0
    np.testing.assert_array_equal(
        starvation.shared_overwrite_recall(4, 1, np.array([1.9, 2.0, 2.1])), [0, 0.5, 1]
    )
    np.testing.assert_array_equal(
        starvation.shared_overwrite_recall(1, 1, np.array([0.4, 0.5, 0.6])), [0, 0.5, 1]
    )
    for facts in (100, 1000):  # the shared direction is one of ever more
        gap = starvation.shared_insertion_recall(facts, 8) - starvation.insertion_recall(facts, 7)
        assert 0 < gap < 1 / facts


@pytest.mark.parametrize("length", [16, 33, 64])
def test_one_cycle_is_easier_than_distinct_answers(key, length):
    threshold = starvation.cycle_overwrite_rank(length)
    assert threshold == pytest.approx(0.2646 * length, abs=1.0) and threshold < length / 2
    whole = (threshold + length) % 2 == 1  # then no pair of equal singular values is cut
    above, below = (threshold, threshold - 2) if whole else (threshold + 1, threshold - 1)
    assert twin.cycle_recall(length, above, key=key) == 1.0
    assert twin.cycle_recall(length, below, key=key) == 0.0


def test_cycle_share_closed_form():
    for length, rank in ((16, 5), (64, 17), (33, 8)):
        x = np.pi / length
        expected = rank / length + np.sin(x * rank) / (length * np.sin(x))
        assert starvation.cycle_shares(length, rank) == pytest.approx(expected, abs=1e-12)
    assert starvation.cycle_shares(10, 10) == pytest.approx(1.0)
    assert starvation.cycle_overwrite_rank(20, 0.5) == 21


@pytest.mark.parametrize(
    "call", [starvation.overwrite_recall, starvation.insertion_recall, starvation.share_law]
)
def test_bad_sizes_name_the_remedy(call):
    with pytest.raises(ValueError, match="rank is 0; give a whole number of at least 1"):
        call(5, 0)
    with pytest.raises(ValueError, match="facts is 0; give a whole number of at least 1"):
        call(0, 1)


def test_beta_law_needs_starvation():
    with pytest.raises(ValueError, match="rank 5 holds all 5 facts"):
        starvation.share_law(5, 5)


def test_twin_is_jitted_once_per_shape(key):
    before = twin._changes._cache_size()
    twin.insertion_recall(8, 2, key=key, draws=DRAWS)
    twin.insertion_recall(8, 2, key=jax.random.fold_in(key, 1), draws=DRAWS)
    assert twin._changes._cache_size() <= before + 1
