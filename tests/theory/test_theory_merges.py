"""Section 5 applied: the strength of other merges and routers on facts that adapters do not share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.merge import merge
from sim.merge.methods.core import cores
from sim.twins import merges as twin
from theory import coverage, merges
from theory.lowrank import LowRank, dense
from theory.model import gaussian

pytestmark = pytest.mark.slow  # many small programs


@pytest.mark.parametrize("adapters", [2, 4])
@pytest.mark.parametrize("ridge", [1e-5, 0.05, 1.0, 100.0])
def test_ace_lies_between_the_sum_and_the_average(key, adapters, ridge):
    predicted = merges.ace_strength(twin.energies(adapters, key=key), adapters, ridge)
    np.testing.assert_allclose(twin.ace_strength(adapters, ridge, key=key), predicted, rtol=1e-9)
    assert ((1 / adapters < predicted) & (predicted < 1)).all()


@pytest.mark.parametrize("alpha", [1.0, 0.25])
@pytest.mark.parametrize("holders", [1, 2, 4])
def test_calibration_is_the_sum_for_one_holder_and_the_average_for_all(key, holders, alpha):
    predicted = merges.svc_strength(holders, 4, alpha)
    np.testing.assert_allclose(twin.svc_strength(holders, 4, alpha, key=key), predicted, rtol=1e-9)
    if holders in (1, 4) and alpha == 1:
        assert predicted == 1
    assert merges.svc_strength(1, 4, 0.25) == pytest.approx(4**2 / (2 * 4 - 1))


def test_calibration_loses_a_fact_to_a_slight_overlap():
    """Keys that overlap by one half, answers by delta: the sum reads fact 1 in full, SVC less than half."""
    phi, r = jnp.eye(4), jnp.eye(5)
    other = (phi[0] + 3**0.5 * phi[1]) / 2
    for delta in (0.1, 0.03):
        answer = delta * r[0] + (1 - delta**2) ** 0.5 * r[1]
        pair = [LowRank(2 * r[:1].T, phi[:1], 1.0), LowRank(answer[:, None], other[None], 1.0)]
        read = {name: (dense(merge(name, pair)) @ phi[0])[0] / 2 for name in ("sum", "svc")}
        assert read["sum"] > 1 and read["svc"] < 0.5, read


@pytest.mark.parametrize(("alpha", "expected"), [(1.0, 0.75), (0.5, 1.2), (0.25, 1.5)])
def test_calibration_counts_an_opposed_adapter_as_alpha(alpha, expected):
    """By hand: v and -v/4 sum to 3/4 v, with ratios 3/4 and -3: 3/4 times 2 / (max(alpha, 3/4) + alpha)."""
    opposed = [LowRank(jnp.ones((1, 1)), jnp.ones((1, 1)), scale) for scale in (1.0, -0.25)]
    np.testing.assert_allclose(dense(merge("svc", opposed, alpha=alpha)), [[expected]], rtol=1e-6)


@pytest.mark.parametrize("name", ["slerp", "nuslerp"])
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.7])
def test_spherical_merges_differ_from_the_average_by_their_lambda(key, name, weight):
    predicted = merges.slerp_strength(weight)
    np.testing.assert_allclose(twin.slerp_strength(weight, key=key, name=name), predicted, rtol=1e-9)
    assert predicted > weight


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("svc", {}),
        ("wudi", {}),
        ("core_ties", {"density": 1.0}),
        ("ram", {"threshold": 0.0}),
        ("tsv_merge", {}),
    ],
)
def test_where_nothing_is_shared_the_gain_is_gone_and_the_merge_is_the_sum(key, name, options):
    assert twin.sum_gap(name, 3, key=key, **options) < 1e-9
    np.testing.assert_allclose(twin.merged_strength(name, 3, key=key, **options), 1.0, rtol=1e-9)


WITHIN, ACROSS, ALL = np.repeat([1.0, 1.2, 1.5], 3), np.tile([1.0, 1.2, 1.5], 3), np.ones(9)
"""Lengths of the keys of three adapters of three facts: equal inside each, between them, and throughout."""


def test_equal_singular_values_within_an_adapter_change_nothing(key):
    strength = twin.merged_strength("svc", 3, key=key, alpha=1 / 3, lengths=WITHIN)
    np.testing.assert_allclose(strength, merges.svc_strength(1, 3, 1 / 3), rtol=1e-9)
    strength = twin.merged_strength("core_ties", 3, key=key, density=1.0, lengths=WITHIN)
    np.testing.assert_allclose(strength, 1.0, rtol=1e-9)


@pytest.mark.parametrize("lengths", [ACROSS, ALL], ids=["across", "all"])
def test_equal_singular_values_of_two_adapters_mix_their_facts(key, lengths):
    """The counter-example to 5m without its condition: SVC anywhere from 1 up, Core Space below the sum."""
    strength = twin.merged_strength("svc", 3, key=key, alpha=1 / 3, lengths=lengths)
    most = merges.svc_strength(1, 3, 1 / 3)
    assert most == pytest.approx(1.8)
    assert (strength > 1 - 1e-9).all() and (strength < most + 1e-9).all() and strength.min() < most - 0.3
    strength = twin.merged_strength("core_ties", 3, key=key, density=1.0, lengths=lengths)
    assert strength.min() < 0.9 and (strength < 1 + 1e-9).all()


@pytest.mark.parametrize("lengths", [WITHIN, ACROSS, ALL], ids=["within", "across", "all"])
def test_the_other_strengths_hold_whatever_singular_values_are_equal(key, lengths):
    for name, options in (("svc", {}), ("wudi", {}), ("ram", {"threshold": 0.0}), ("tsv_merge", {})):
        strength = twin.merged_strength(name, 3, key=key, lengths=lengths, **options)
        np.testing.assert_allclose(strength, 1.0, rtol=1e-9, err_msg=name)
    energy = (1 / np.square(lengths)).reshape(3, 3)
    share = (energy / energy.sum(axis=1, keepdims=True)).ravel()
    strength = twin.merged_strength("ace", 3, key=key, ridge=0.05, lengths=lengths)
    np.testing.assert_allclose(strength, merges.ace_strength(share, 3, 0.05), rtol=1e-9)
    strength = twin.merged_strength("nuslerp", 2, key=key, weights=[0.3, 0.7], lengths=lengths[:6])[:3]
    np.testing.assert_allclose(strength, merges.slerp_strength(0.3), rtol=1e-9)


def test_compressing_first_keeps_no_more_than_the_truncated_sum(key):
    """At rank r of 9 directions the mean share of ``svd`` is the explained energy, CtM's no more."""
    for rank in (2, 4, 6):
        best = twin.merged_strength("svd", 3, key=key, rank=rank)
        strength = twin.merged_strength("compress_then_merge", 3, key=key, rank=rank, density=1.0)
        np.testing.assert_allclose(best, jnp.round(best), atol=1e-9)  # each direction is one fact's
        assert jnp.sum(best) == pytest.approx(rank)
        assert jnp.sum(strength) <= jnp.sum(best) + 1e-9


@pytest.mark.parametrize("weights", [None, [0.2, 0.3, 0.5]])
def test_separate_merges_of_lengths_and_directions_dilute_twice(weights):
    """Coordinates that one adapter alone reads: w^2 of it is left, a K-th of the average at equal weights."""
    eye = jnp.eye(6)
    parts = [LowRank(eye[:, 2 * i : 2 * i + 2], (1.0 + i) * eye[2 * i : 2 * i + 2], 1.0) for i in range(3)]
    merged = jnp.diagonal(dense(merge("do", parts, weights)))
    own = jnp.repeat(jnp.asarray(weights or [1 / 3] * 3) ** 2, 2)
    np.testing.assert_allclose(merged, own * jnp.repeat(jnp.arange(1.0, 4.0), 2), rtol=1e-9)
    if weights is None:
        np.testing.assert_allclose(merged * 3, jnp.diagonal(dense(merge("average", parts))), rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_a_softmax_router_dilutes_where_other_rules_do_not(key, temperature):
    predicted = merges.softmax_strength(2**0.5, 3, temperature)
    strength = twin.routed_strength("spectr", 3, key=key, temperature=temperature)
    np.testing.assert_allclose(strength, predicted, rtol=1e-9)
    for name in ("logo", "components"):
        np.testing.assert_allclose(twin.routed_strength(name, 3, key=key), 1.0, rtol=1e-9)


def test_the_coverage_law_reads_the_strengths(key):
    """At kappa = rho = 1 a strength above one half keeps the fact: three adapters, spectral routing."""
    for temperature in (0.5, 1.0, 20.0):
        strength = merges.softmax_strength(2**0.5, 3, temperature)
        measured = twin.routed_strength("spectr", 3, key=key, temperature=temperature)
        assert (coverage.decides(measured, 1.0, 1.0) == (strength > 0.5)).all()


def test_the_rows_of_an_update_tell_the_covariance_early_and_its_inverse_late(key):
    keys = gaussian(key, (4, 7))
    residual = jnp.eye(8)[:4] - jnp.eye(8)[4:]
    energy = jnp.linalg.eigvalsh(keys @ keys.T)
    rate = 0.5 / energy[-1]
    for steps in (1, 5, 50, 5000):
        predicted = merges.row_alignment(energy, rate, steps)
        np.testing.assert_allclose(twin.row_alignment(keys, residual, rate, steps), predicted, rtol=1e-9)
    assert merges.row_alignment(energy, rate, 1) == pytest.approx(1)
    late = merges.row_spectrum(energy, rate, 10**6)
    np.testing.assert_allclose(late, 1 / energy, rtol=1e-9)


def _overlapping(count):
    rng = np.random.default_rng(count)
    common = rng.normal(size=(12, 3)), rng.normal(size=(3, 15))
    return [
        LowRank(*(jnp.asarray(c + rng.normal(size=c.shape)) for c in common), float(rng.uniform(0.5, 2)))
        for _ in range(count)
    ]


SAME = (
    *("average", "sum", "svd", "tsv_merge", "iso_c", "iso_cts", "wudi", "svc"),
    *("slerp", "multislerp", "karcher", "model_stock"),
)


def in_core(name, updates, **options):
    """Any data-free merge of the coordinates in the shared basis, put back: U M V^T."""
    u, stack, vt, _, _ = cores(updates)
    eye = jnp.eye(stack.shape[-1], dtype=stack.dtype)
    merged = merge(name, [LowRank(core, eye) for core in stack], **options)
    if isinstance(merged, LowRank):
        return LowRank(u @ merged.b, merged.a @ vt, merged.scale)
    return LowRank(u @ merged, vt, 1.0)


@pytest.mark.parametrize("name", SAME)
def test_a_merge_that_commutes_with_rotations_is_the_same_in_core_space(name):
    """What Core Space gains for these is what leaving null directions out does, as all merges here do."""
    updates = _overlapping(2 if name == "slerp" else 3)
    options = {"rank": 4} if name == "svd" else {}
    whole, core = dense(merge(name, updates, **options)), dense(in_core(name, updates, **options))
    assert jnp.linalg.norm(whole - core) < 1e-9 * jnp.linalg.norm(whole)


@pytest.mark.parametrize("name", ["ties", "knots", "magnitude_prune"])
def test_a_merge_by_entries_is_another_in_core_space(name):
    updates = _overlapping(3)
    whole, core = merge(name, updates), dense(in_core(name, updates))
    whole = dense(whole) if isinstance(whole, LowRank) else whole
    assert jnp.linalg.norm(whole - core) > 1e-2 * jnp.linalg.norm(whole)
    if name == "ties":
        np.testing.assert_allclose(core, dense(merge("core_ties", updates)), atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: merges.ace_strength(jnp.ones(1), 2, 0.0), "ridge"),
        (lambda: merges.svc_strength(3, 2), "at most the 2 adapters"),
        (lambda: merges.softmax_strength(jnp.ones(1), 2, 0.0), "temperature"),
        (lambda: merge("ace", _overlapping(2), ridge=0.0), "ridge must be above 0.*wudi"),
        (lambda: merge("svc", _overlapping(2), alpha=0.0), "alpha must be above 0"),
        (lambda: merge("ram", _overlapping(2), threshold=1.0), "threshold must be in"),
        (lambda: merge("nuslerp", _overlapping(2), axis="all"), "axis must be one of rows, columns"),
        (lambda: merge("nuslerp", _overlapping(3)), "takes two adapters, not 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_jitted(key):
    updates = _overlapping(3)
    for name in ("ace", "svc", "core_ties", "compress_then_merge"):
        compiled = jax.jit(lambda us, name=name: merge(name, us))(updates)
        np.testing.assert_allclose(dense(compiled), dense(merge(name, updates)), rtol=1e-6, atol=1e-6)
