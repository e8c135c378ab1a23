"""Pairwise metrics of mergeability against dense matrices; what they must not depend on; equal adapters."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory import interference, pairwise
from theory.lowrank import LowRank, dense

SHAPES = {"q": (8, 6), "up": (12, 8), "down": (6, 12), "o": (8, 6)}


def adapter(seed, rank=3, names=tuple(SHAPES)):
    rng = np.random.default_rng(seed)
    return {
        name: LowRank(rng.normal(size=(out, rank)), rng.normal(size=(rank, into)), 0.7)
        for name, (out, into) in SHAPES.items()
        if name in names
    }


def by_hand(left, right):
    """The definitions on dense matrices, with NumPy alone."""
    pairs = [(np.asarray(dense(left[name])), np.asarray(dense(right[name]))) for name in left]
    a, b = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in range(2))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    norms = np.linalg.norm(a), np.linalg.norm(b)

    def entropic(rows):
        s = np.linalg.svd(np.stack(rows), compute_uv=False)
        share = s / s.sum()
        return math.exp(-(share * np.log(share)).sum())

    s = np.linalg.svd(np.stack([a, b]), compute_uv=False)
    layers, weights, spectra, lefts, rights, squares = [], [], [], [], [], []
    for one, other in pairs:
        layers.append(entropic((one.ravel(), other.ravel())))
        weights.append(np.linalg.norm(one) + np.linalg.norm(other))
        (u, x, v), (p, y, q) = (np.linalg.svd(m, full_matrices=False) for m in (one, other))
        r, t = (np.linalg.matrix_rank(m) for m in (one, other))
        spectra.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        k = min(r, t)
        lefts.append(np.linalg.norm(u[:, :r].T @ p[:, :t]) / k**0.5)
        rights.append(np.linalg.norm(v[:r] @ q[:t].T) / k**0.5)
        squares.append(np.sum(np.linalg.svd(v[:r] @ q[:t].T, compute_uv=False) ** 2) / k)
    return {
        "cosine": cosine,
        "angle": math.degrees(math.acos(cosine)),
        "dot": a @ b,
        "distance": np.linalg.norm(a - b),
        "norm": np.mean(norms),
        "magnitude_ratio": min(norms) / max(norms),
        "sign_agreement": np.mean(np.sign(a) == np.sign(b)),
        "effective_rank": entropic((a, b)),
        "layer_effective_rank": np.average(layers, weights=weights),
        "stable_rank": s.sum() ** 2 / (s**2).sum(),
        "spectral_gap": (s[0] - s[1]) / s[0],
        "singular_ratio": s[1] / s[0],
        "spectrum_overlap": np.mean(spectra),
        "left_overlap": np.mean(lefts),
        "right_overlap": np.mean(rights),
        "interaction_overlap": np.mean(squares),
    }


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(3, 3), (2, 4)])
def test_every_metric_is_the_dense_one(ranks):
    left, right = adapter(0, ranks[0]), adapter(1, ranks[1])
    # Two adapters that have one direction in common, and differ in size.
    right = {
        name: LowRank(np.c_[u.b, left[name].b[:, :1]], np.r_[u.a, left[name].a[:1]], 0.3)
        for name, u in right.items()
    }
    metrics, expected = pairwise.measure(left, right), by_hand(left, right)
    assert tuple(metrics) == pairwise.METRICS and set(expected) == set(metrics)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-9, err_msg=name)
    turned = pairwise.measure(right, left)
    for name, value in expected.items():
        np.testing.assert_allclose(turned[name], value, rtol=1e-9, err_msg=f"{name}, turned")


def test_the_gauge_of_the_factors_changes_nothing():
    """B R and R^-1 A are the same update as B and A."""
    left, right = adapter(2), adapter(3)
    rng = np.random.default_rng(4)
    turned = {}
    for name, update in left.items():
        r = rng.normal(size=(3, 3)) + 2 * np.eye(3)
        turned[name] = LowRank(update.b @ r, np.linalg.inv(r) @ update.a, update.scale)
    one, other = pairwise.measure(left, right), pairwise.measure(turned, right)
    for name in pairwise.METRICS:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-8, err_msg=name)


def test_equal_adapters():
    metrics = pairwise.measure(adapter(5), adapter(5))
    for name in (
        *("cosine", "magnitude_ratio", "sign_agreement", "effective_rank", "layer_effective_rank"),
        *("stable_rank", "spectral_gap", "spectrum_overlap", "left_overlap", "right_overlap"),
        "interaction_overlap",
    ):
        np.testing.assert_allclose(metrics[name], 1.0, atol=1e-6, err_msg=name)
    for name in ("angle", "distance", "singular_ratio"):
        np.testing.assert_allclose(metrics[name], 0.0, atol=1e-5, err_msg=name)


def test_a_matrix_that_one_adapter_does_not_change_is_in_no_mean():
    left, right = adapter(6), adapter(7)
    right["q"] = right["q"]._replace(b=np.zeros_like(right["q"].b))
    names = ("up", "down", "o")
    rest = pairwise.measure(*({name: each[name] for name in names} for each in (left, right)))
    metrics = pairwise.measure(left, right)
    for name in (
        "spectrum_overlap",
        "left_overlap",
        "right_overlap",
        "interaction_overlap",
        "sign_agreement",
    ):
        np.testing.assert_allclose(metrics[name], rest[name], rtol=1e-12, err_msg=name)
    nothing = {name: update._replace(b=np.zeros_like(update.b)) for name, update in right.items()}
    assert np.isnan(pairwise.measure(left, nothing)["cosine"])


def test_rows_of_rank_that_are_not_used_change_nothing():
    """An adapter of rank 2 kept in factors of rank 5, the rest zero, as cells of several ranks are."""
    left, right = adapter(8, 2), adapter(9, 2)
    padded = [
        {
            name: LowRank(np.pad(u.b, ((0, 0), (0, 3))), np.pad(u.a, ((0, 3), (0, 0))), u.scale)
            for name, u in each.items()
        }
        for each in (left, right)
    ]
    one, other = pairwise.measure(left, right), jax.jit(pairwise.measure)(*padded)
    for name in pairwise.METRICS:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-8, err_msg=name)


def test_adapters_of_different_matrices_are_refused_by_name():
    with pytest.raises(ValueError, match="different matrices: o is in one only"):
        pairwise.measure(adapter(0), adapter(1, names=("q", "up", "down")))


@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.3, 2.0), (-0.7, 0.4), (-1.5, -0.2)])
def test_the_bend_of_a_relu_is_a_trapezoid(ends):
    """Its area and the integral of its square by a Riemann sum over the offset."""
    a, b = ends
    c = np.linspace(-6, 6, 2_400_001)

    def relu(x):
        return np.maximum(x, 0)

    bend = relu(c + a + b) - relu(c + a) - relu(c + b) + relu(c)
    area, square = interference.relu_bend(a, b)
    width = c[1] - c[0]
    np.testing.assert_allclose(bend.sum() * width, area, rtol=1e-5)
    np.testing.assert_allclose((bend**2).sum() * width, square, rtol=1e-5)


def test_derivatives_tell_nothing_of_one_bend():
    """Two equal changes of one ReLU: half the change of slopes errs as much as no interaction at all."""
    c, change = np.linspace(-4, 4, 1_600_001), 0.7

    def relu(x):
        return np.maximum(x, 0)

    bend = relu(c + 2 * change) - 2 * relu(c + change) + relu(c)
    crossed = change * ((c + change > 0).astype(float) - (c > 0))  # both orders alike
    error = np.sum((bend - crossed) ** 2) * (c[1] - c[0])
    assert error == pytest.approx(interference.relu_bend(change, change)[1], rel=1e-4)
    assert error == pytest.approx(2 / 3 * change**3, rel=1e-4)


def test_the_bend_falls_as_the_cube():
    areas, squares = zip(*(interference.relu_bend(lam * 0.8, lam * -0.3) for lam in (0.1, 0.2)), strict=True)
    assert areas[1] / areas[0] == pytest.approx(4) and squares[1] / squares[0] == pytest.approx(8)
    assert jnp.shape(interference.relu_bend(jnp.ones(3), jnp.ones(3))[0]) == (3,)
