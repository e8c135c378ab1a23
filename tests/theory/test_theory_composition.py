"""Section 2: no latent composition, by enumerating every bijection."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.twins import composition as twin
from theory import composition
from theory import model as one_layer
from theory.lowrank import dense


def _prompt_gate(first, second, phi):
    """Any functions of the prompt will do."""
    del first, second
    total = jnp.sum(phi, axis=1)
    return jnp.sin(9 * total), jnp.cos(7 * total)


@pytest.mark.parametrize(
    "merge, in_base, rank",
    [
        (twin.summed, False, 1),
        (twin.summed, True, 3),
        (twin.method("average"), True, 1),
        (twin.method("ties"), False, 2),
        (twin.method("ties"), True, 3),
    ],
)
def test_all_bijections_give_exactly_one_in_n(key, merge, in_base, rank):
    right, trials = twin.two_hop_accuracy(4, key=key, rank=rank, merge=merge, two_hop_in_base=in_base)
    assert (right, trials) == (24, 96)
    assert right / trials == composition.two_hop_accuracy(4)


@pytest.mark.parametrize("in_base", [False, True])
def test_a_gate_that_reads_the_prompt_gives_exactly_one_in_n(key, in_base):
    right, trials = twin.two_hop_accuracy(4, key=key, rank=4, gate=_prompt_gate, two_hop_in_base=in_base)
    assert (right, trials) == (24, 96)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "options",
    [{"merge": twin.method("svd")}, {"gate": twin.arrow}, {"train": twin.cross_entropy}],
    ids=["svd", "arrow", "ce"],
)
def test_relabelled_bridges_give_exactly_one_in_n_whatever_mixes_the_rows(options, seed):
    """Theorem 2b: these do let the answer rows depend on s1, yet no labelling of the bridges is favoured."""
    right, trials = twin.two_hop_accuracy(4, key=jax.random.key(seed), rank=2, relabel=True, **options)
    assert (right, trials) == (24, 96)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_where_singular_values_are_equal_the_tie_break_must_follow_the_relabelling(cut):
    """Orthonormal keys: 2b and (ii) of 2d hold for a cut that no relabelling moves, and not for LAPACK's."""

    def count(equivariant, seed):
        options = {"merge": twin.truncated(cut, equivariant), "relabel": True, "orthonormal": True}
        right, trials = twin.two_hop_accuracy(4, key=jax.random.key(seed), rank=4, **options)
        assert trials == 96
        return right

    assert [count(True, seed) for seed in range(4)] == [24] * 4
    assert any(count(False, seed) != 24 for seed in range(6))


def test_where_they_differ_any_cut_will_do(key):
    for cut in (1, 2, 3):
        options = {"merge": twin.truncated(cut, False), "relabel": True}
        assert twin.two_hop_accuracy(4, key=key, rank=4, **options) == (24, 96)


def test_truncation_does_make_the_answer_rows_depend_on_s1(key):
    """Why Theorem 2a excludes it: at a fixed r1 the count over all s1 moves off 24 for some seed."""
    counts = [
        twin.two_hop_accuracy(4, key=jax.random.fold_in(key, seed), rank=2, merge=twin.method("svd"))[0]
        for seed in range(6)
    ]
    assert any(count != 24 for count in counts), counts


def test_cross_entropy_adapter_touches_the_answer_rows_and_learns_its_hop(key):
    """The relabelling test above is about a trained adapter that works and does write to answer rows."""
    config = one_layer.ModelConfig(4, 20, 64)
    phi = one_layer.features(config, one_layer.make(config, key), one_layer.prompt1(config, jnp.arange(4)))
    update = twin.cross_entropy(jnp.zeros((8, 64)), phi, jnp.array([2, 0, 3, 1]), 2, key)
    assert jnp.abs(dense(update)[4:]).max() > 1e-2
    np.testing.assert_array_equal(jnp.argmax(phi @ dense(update).T, axis=1), [2, 0, 3, 1])


def test_bound_and_deviation():
    assert composition.two_hop_bound(np.full(5, 0.2)) == pytest.approx(composition.two_hop_accuracy(5))
    np.testing.assert_allclose(composition.two_hop_bound(np.array([[0.7, 0.2, 0.1], [0, 0, 1]])), [0.7, 1.0])
    # For any map t the number of hits of a random bijection has mean 1 and variance at most 1.
    for target in ([0, 1, 2, 3], [0, 0, 2, 3], [1, 1, 1, 1]):
        hits = (twin.bijections(4) == np.array(target)).sum(axis=1)
        assert hits.mean() == 1.0
        assert hits.std() / 4 <= composition.two_hop_deviation(4) + 1e-12
    assert composition.two_hop_deviation(4, draws=16) == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    "old",
    [
        [-1],
        [1, -1],
        [-1] * 3,
        [1, 0, -1],
        [0, -1, -1, 1],
        [1, 2, 3, 0],
        [3, -1, 0, -1, -1],
        [5, 4, 3, 2, 1, 0],
    ],
)
def test_the_null_of_an_edit_that_avoids_the_old_facts_by_enumeration(old):
    """2g: F = 1 to 6, with no, some and all old bridges among the edited ones."""
    null = composition.edited_null(np.array(old))
    np.testing.assert_allclose(null, twin.edited_null(np.array(old)), atol=1e-15)
    assert null.max() <= composition.edited_bound(len(old)) + 1e-15


def test_the_bound_on_an_edit_is_reached_where_two_old_bridges_are_edited():
    """Largest of all patterns of old bridges at F = 2 to 5, and at F = 16 for every number of them."""
    for facts in range(2, 6):
        patterns = [
            old
            for old in itertools.product(range(-1, facts), repeat=facts)
            if len({b for b in old if b >= 0}) == sum(b >= 0 for b in old)
        ]
        most = max(composition.edited_null(np.array(old)).max() for old in patterns)
        assert most == pytest.approx(composition.edited_bound(facts), rel=1e-14)
    largest = [
        composition.edited_null(np.array([*np.roll(np.arange(k), 1)] + [-1] * (16 - k))).max()
        for k in range(2, 17)
    ]
    assert largest[0] == pytest.approx(15 / 211) == composition.edited_bound(16)
    assert (np.diff(largest) < 0).all() and largest[-1] == pytest.approx(1 / 15)
    assert composition.edited_bound(1) == composition.edited_bound(2) == 1.0


def test_the_loss_of_no_composition_averages_the_answers():
    """By hand for two answers; at least log N; below it for no right answer that is drawn apart from them."""
    by_hand = -(np.log(0.8) + np.log(0.2)) / 2
    np.testing.assert_allclose(
        composition.two_hop_loss(np.log([[0.8, 0.2], [0.5, 0.5]])), [by_hand, np.log(2)]
    )
    logits = np.random.default_rng(0).normal(size=(6, 5)) * 3
    each = -(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(composition.two_hop_loss(logits), each.mean(axis=1))
    assert (composition.two_hop_loss(logits) > np.log(5)).all()
    np.testing.assert_allclose(composition.two_hop_loss(logits + 1e3), composition.two_hop_loss(logits))


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="entities is 0; give a whole number of at least 1"):
        composition.two_hop_accuracy(0)
    with pytest.raises(ValueError, match="sum to 1 over the last axis; normalise it"):
        composition.two_hop_bound(np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="sum to 1"):
        composition.two_hop_bound(np.array([[1.5, -0.5], [0.5, 0.5]]))
    for old, message in (([2, -1], "numbers below 2"), ([0, 0], r"not \[0, 0\]"), ([0], "two facts or more")):
        with pytest.raises(ValueError, match=message):
            composition.edited_null(np.array(old))
    with pytest.raises(ValueError, match="facts is 0"):
        composition.edited_bound(0)
    with pytest.raises(ValueError, match="draws is 0"):
        composition.two_hop_deviation(3, draws=0)
