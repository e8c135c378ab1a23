"""Adapters that are zero or cancel, and weights that sum to zero: nothing may be chosen by rounding noise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_merge_methods import adapters, as_dense, reference, relative, run

from sim.merge import METHODS, merge
from sim.merge.module import refuse_zero_sum
from theory.lowrank import LowRank, concatenated, directions, norm

SPECTRAL = [name for name, record in METHODS.items() if record.family in ("spectral", "core", "calibrated")]
NORMALISING = [name for name, record in METHODS.items() if record.normalises]
CANCELLING = [
    "average",
    "sum",
    "svd",
    "ties",
    "sce",
    "slerp",
    "nuslerp",
    "scaled_sum",
    "multislerp",
    "karcher",
    *SPECTRAL,
]


def opposed(dtype):
    """An update and its negative in other factors, so that the two cancel only up to rounding."""
    update = adapters(3, 1, dtype)[0]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    negative = LowRank(jnp.asarray(-update.b @ turn, dtype), jnp.asarray(turn.T @ update.a, dtype))
    return update, negative._replace(scale=update.scale)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", CANCELLING)
def test_opposed_adapters_merge_to_nothing(name, dtype):
    pair = opposed(dtype)
    assert np.linalg.norm(as_dense(run(name, pair))) < 1e-6 * norm(pair[0])


@pytest.mark.parametrize("name", ["svd", "iso_c"])
def test_what_cancels_leaves_the_third_adapter(name):
    third = adapters(4, 1, jnp.float64)[0]
    merged = as_dense(run(name, [*opposed(jnp.float64), third]))
    assert relative(merged, as_dense(run(name, [third]))) < 1e-9


@pytest.mark.parametrize("name", SPECTRAL)
def test_a_zero_adapter_takes_no_direction(name):
    """Against the dense references, which cut every SVD to the directions that exist."""
    update = adapters(5, 1, jnp.float64)[0]
    zero = update._replace(b=jnp.zeros_like(update.b))
    merged = as_dense(run(name, [update, zero]))
    # Iso-CTS gives the sum 4 of 6 directions here, which is all that there are: Iso-C.
    expected = reference(
        "iso_c" if name == "iso_cts" else name, [update, zero], [1.0] * 2, **METHODS[name].options
    )
    assert relative(merged, expected) < 1e-9
    assert not as_dense(run(name, [zero, zero])).any()


def test_directions_are_measured_against_the_inputs():
    """Factors of norm 1 whose product is rounding have no direction; neither has a sum that cancels."""
    q = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (6, 6)))[0]
    noise = LowRank(jnp.stack([q[:, 0], q[:, 0]], axis=1), jnp.stack([q[0], -q[0] * (1 + 1e-16)]))
    assert not any(side.any() for side in directions(noise))
    assert not directions(concatenated(opposed(jnp.float64)))[1].any()
    u, s, vt = directions(adapters(6, 1, jnp.float64)[0])
    assert (s > 0).all() and jnp.allclose(u.T @ u, jnp.eye(3)) and jnp.allclose(vt @ vt.T, jnp.eye(3))
    assert not directions(LowRank(jnp.full((4, 1), 1e-9), jnp.ones((1, 4))), size=1e9)[1].any()


@pytest.mark.parametrize("name", NORMALISING)
def test_weights_that_sum_to_zero_but_for_rounding_are_refused(name):
    """All two-decimal triples that sum to zero, 682 of which do not in float64, and sums just above."""
    record, refused = METHODS[name], 0
    for i, j in itertools.combinations_with_replacement(range(1, 100), 2):
        weights = [i / 100, j / 100, -(i + j) / 100]
        with pytest.raises(
            ValueError, match="divides by the sum of the weights, which is 0; use sum instead"
        ):
            refuse_zero_sum(record, weights)
        refused += sum(weights) != 0
    assert refused > 600
    refuse_zero_sum(record, [0.3, 0.6, -0.9 + 1e-5])
    refuse_zero_sum(record, [-1.0, -2.0])


def test_only_methods_that_normalise_refuse():
    updates = adapters(7, 3)
    for weights in ([0.3, 0.6, -0.9], [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match="use sum instead"):
            merge("average", updates, weights)
        assert np.isfinite(as_dense(merge("sum", updates, weights))).all()


def test_weights_are_normalised_in_float64():
    """In float32 the sum of these, 1e-5, is off by a thousandth: the merge must keep its digits."""
    updates, weights = adapters(8, 3), [0.3, 0.6, -0.9 + 1e-5]
    used = np.asarray(weights) / np.sum(weights)
    expected = sum(
        w * as_dense(u._replace(b=u.b.astype(jnp.float64))) for w, u in zip(used, updates, strict=True)
    )
    assert relative(as_dense(merge("average", updates, weights)), expected) < 1e-5


def test_weights_must_be_finite():
    with pytest.raises(ValueError, match="weights must be finite"):
        merge("sum", adapters(9, 2), [1.0, float("nan")])


def test_sum_and_concat_are_one_update():
    updates = adapters(10, 3)
    left, right = merge("sum", updates, [0.5, -1, 2]), merge("concat", updates, [0.5, -1, 2])
    assert np.array_equal(as_dense(left), as_dense(right))
    assert relative(as_dense(left), reference("sum", updates, np.array([0.5, -1, 2]))) < 1e-6


def test_dare_draws_a_mask_of_its_own_for_each_adapter():
    """Two equal adapters: one mask for both would keep or drop each entry twice."""
    update = adapters(11, 1, jnp.float64)[0]
    for name in ("dare", "dare_ties", "della"):
        masks = [as_dense(run(name, [update, update], weights)) != 0 for weights in ([1.0, 0.0], [0.0, 1.0])]
        both = np.mean(masks[0] & masks[1])
        assert abs(np.mean(masks[0]) - 0.5) < 0.06 and abs(np.mean(masks[1]) - 0.5) < 0.06, name
        assert abs(both - 0.25) < 0.06, name  # 864 entries: 0.25 +- 0.015; one mask gives 0.5


def test_controls_have_the_size_and_the_spectrum_that_they_control_for():
    updates = adapters(12, 3, jnp.float64)
    total = as_dense(run("sum", updates))
    noise, sized = as_dense(run("random_spectrum", updates)), as_dense(run("scaled_sum", updates))
    np.testing.assert_allclose(*(np.linalg.svd(m)[1] for m in (noise, total)), atol=1e-9)
    assert abs(np.sum(noise * total)) < 0.3 * np.sum(total**2)
    assert relative(sized / np.linalg.norm(sized), total / np.linalg.norm(total)) < 1e-9
    np.testing.assert_allclose(np.linalg.norm(sized), np.mean([norm(u) for u in updates]))


def test_rounding_is_measured_against_both_factors():
    """Terms of norm 1e8 and 1e8 |B| that cancel leave rounding of about 1e-8, which is no direction."""
    rng = np.random.default_rng(0)
    row, column = rng.normal(size=(1, 6)), rng.normal(size=(5, 1))
    update = LowRank(
        jnp.asarray(np.hstack([1e8 * column, -1e8 / 3 * column])), jnp.asarray(np.vstack([row, 3 * row]))
    )
    left, sizes, right = directions(update)
    assert not np.any(sizes) and not np.any(left) and not np.any(right)
