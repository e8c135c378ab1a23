"""Every merge method against its dense float64 reference (dense_*.py), and the properties all share."""

import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense_merges import REFERENCES
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.merge import METHODS, elementwise, merge, truncation
from sim.merge.methods import linear
from theory.lowrank import LowRank, dense, norm

for path in sorted(Path(__file__).parent.glob("dense_*.py")):
    importlib.import_module(path.stem)

OUT, IN, RANK = 24, 36, 3


def adapters(seed, count, dtype=jnp.float32, out_dim=OUT, in_dim=IN, rank=RANK):
    """Random updates that overlap somewhat, with scales that differ."""
    rng = np.random.default_rng(seed)
    common_b, common_a = rng.normal(size=(out_dim, rank)), rng.normal(size=(rank, in_dim))
    return [
        LowRank(
            jnp.asarray(0.8 * common_b + rng.normal(size=(out_dim, rank)), dtype),
            jnp.asarray(0.8 * common_a + rng.normal(size=(rank, in_dim)), dtype),
            float(rng.uniform(0.5, 2.0)),
        )
        for _ in range(count)
    ]


def statistics(name, count, seed=7, in_dim=IN, out_dim=OUT):
    """The data a method asks for, by the name of its argument."""
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(4 * in_dim, in_dim)) for _ in range(count)]
    needs = {
        "grams": [jnp.asarray(x.T @ x / len(x)) for x in inputs],
        "fishers": [jnp.asarray(rng.uniform(0.1, 1.0, size=(out_dim, in_dim))) for _ in range(count)],
    }
    return {need: needs[need] for need in METHODS[name].needs}


def as_dense(merged):
    return np.asarray(dense(merged) if isinstance(merged, LowRank) else merged, np.float64)


@functools.cache
def compiled(name, options, block):
    """One jitted merge a method and set of options, over a batch of libraries, shared by all tests."""
    del block  # only keys the cache
    function = jax.vmap(
        lambda updates, weights, kwargs: merge(name, updates, weights, **kwargs, **dict(options))
    )
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def run_batch(name, libraries, weights=None, data=None, **options):
    """Merges of several libraries of equal shapes at once; ``weights`` and ``data`` one a library."""
    count = len(libraries[0])
    keys = {"key": jax.random.key(11)} if METHODS[name].uses_key else {}
    data = data or [statistics(name, count)] * len(libraries)
    libraries = [[u._replace(scale=jnp.asarray(u.scale, u.b.dtype)) for u in us] for us in libraries]
    weights = [[1.0] * count] * len(libraries) if weights is None else weights
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *libraries)
    kwargs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[{**keys, **each} for each in data])
    function = compiled(name, tuple(sorted(options.items())), elementwise.BLOCK_ENTRIES)
    merged = function(stacked, jnp.asarray(weights, libraries[0][0].b.dtype), kwargs)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], merged) for i in range(len(libraries))]


def run(name, updates, weights=None, data=None, **options):
    """One merge, through the batch of two that is compiled already."""
    weights = None if weights is None else [weights] * 2
    data = None if data is None else [data] * 2
    return run_batch(name, [updates] * 2, weights, data, **options)[0]


def reference(name, updates, weights, **options):
    """The dense float64 answer; the random methods are given the same uniform draws."""
    record = METHODS[name]
    deltas = [as_dense(LowRank(*(np.asarray(x, np.float64) for x in u))) for u in updates]
    factors = [tuple(np.asarray(x, np.float64) for x in u) for u in updates]
    if record.uses_key:
        draws = elementwise.uniform_rows(
            jax.random.key(11), jnp.arange(OUT), len(updates), IN, updates[0].b.dtype
        )
        options["draws"] = np.asarray(draws, np.float64)
    options.update({k: [np.asarray(x) for x in v] for k, v in statistics(name, len(updates)).items()})
    return REFERENCES[name](deltas, np.asarray(weights, float), factors=factors, **options)


def members(name):
    return 2 if name in ("slerp", "nuslerp") else 3


def relative(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def cases():
    variants = {
        "ties": [{"vote": "count"}, {"density": 0.6}],
        "dare_ties": [{"vote": "count"}],
        "della": [{"vote": "count"}],
        "knots": [{"vote": "count"}, {"density": 0.7}],
        "sce": [{"density": 1.0}],
        "regmean": [{"shrink": 1.0}],
        "iso_cts": [{"common": 0.5}],
        "breadcrumbs": [{"density": 0.5, "gamma": 0.1}],
        "ace": [{"ridge": 0.1}],
        "svc": [{"alpha": 1 / 3}],
        "core_ties": [{"vote": "count"}, {"density": 0.6}],
        "compress_then_merge": [{"vote": "count", "beta": 1.0}],
        "nuslerp": [{"axis": "columns"}],
        "do": [{"penalty": 2.0}],
        "ram": [{"threshold": 0.2, "boost": 0.1}],
    }
    for name in sorted(METHODS):
        for options in [{}, *variants.get(name, [])]:
            yield pytest.param(name, options, id="-".join([name, *(f"{k}={v}" for k, v in options.items())]))


@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_equals_the_dense_float64_reference(name, options):
    """Two libraries at once under jit and vmap, each against its own reference."""
    count = members(name)
    libraries = [adapters(count, count), adapters(count + 10, count)]
    weights = [[0.7, 0.4, 0.9][:count], [1.1, 0.6, 0.3][:count]]
    merges = run_batch(name, libraries, weights, **options)
    for merged, updates, weight in zip(merges, libraries, weights, strict=True):
        assert (merged.b if isinstance(merged, LowRank) else merged).dtype == jnp.float32
        used = np.asarray(weight) / (sum(weight) if METHODS[name].normalises else 1)
        expected = reference(name, updates, used, **{**METHODS[name].options, **options})
        assert relative(as_dense(merged), expected) < 1e-5


@pytest.mark.parametrize("name", ["sum", "ties"])
def test_the_eager_answer_is_the_compiled_one(name):
    updates = adapters(1, 3)
    assert relative(as_dense(merge(name, updates)), as_dense(run(name, updates))) < 1e-5


def test_every_method_has_a_reference_and_a_summary():
    assert set(METHODS) == set(REFERENCES)
    assert all(len(record.summary) > 20 for record in METHODS.values())


@pytest.mark.parametrize("name", [name for name, record in METHODS.items() if record.coefficient])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_method_with_a_coefficient_is_that_multiple_of_the_dense_sum(name, count):
    """The record's word against the merge at its defaults; the others are not multiples of the sum."""
    updates = adapters(count, count, jnp.float64)
    total = sum(as_dense(update) for update in updates)
    np.testing.assert_allclose(
        as_dense(run(name, updates)), METHODS[name].coefficient(count) * total, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", [name for name, record in METHODS.items() if not record.coefficient])
def test_a_method_without_a_coefficient_has_none(name):
    """No one multiple of the sum is the merge of two libraries."""
    libraries = [adapters(seed, members(name)) for seed in (1, 2)]  # as above: compiled already
    merged = np.concatenate([as_dense(update) for update in run_batch(name, libraries)])
    total = np.concatenate([sum(as_dense(update) for update in updates) for updates in libraries])
    assert relative(merged, np.sum(merged * total) / np.sum(total**2) * total) > 1e-3


@pytest.mark.parametrize("name", sorted(METHODS))
def test_one_adapter_at_weight_one_is_unchanged(name):
    record = METHODS[name]
    update = adapters(5, 1)[0]
    merged = run(name, [update], [1.0], **(record.identity or {}))
    error = relative(as_dense(merged), as_dense(update))
    if record.identity is None:
        assert error > 1e-2, "the record says this method changes a single adapter"
    elif record.family == "linear" and name != "linear_factors":
        assert np.array_equal(as_dense(merged), as_dense(update))
    else:
        assert error < 1e-6


@pytest.mark.parametrize("name", sorted(METHODS))
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**16), factor=st.sampled_from([-2.0, 0.25, 3.0]))
def test_scaling_every_adapter_scales_the_merge(name, seed, factor):
    updates = adapters(seed, members(name))
    merged = as_dense(run(name, updates))
    grown = as_dense(run(name, [update._replace(scale=factor * update.scale) for update in updates]))
    assert relative(grown, factor * merged) < 1e-5


@pytest.mark.parametrize("name", sorted(n for n, r in METHODS.items() if not r.uses_key))
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**16), weight=st.floats(0.2, 0.8))
def test_the_order_of_the_adapters_does_not_matter(name, seed, weight):
    count = members(name)
    updates, weights, data = adapters(seed, count), [weight, 1.3, 0.9][:count], statistics(name, count)
    merged = as_dense(run(name, updates, weights, data))
    turned = {need: values[::-1] for need, values in data.items()}
    assert relative(as_dense(run(name, updates[::-1], weights[::-1], turned)), merged) < 1e-5


@pytest.mark.parametrize("name", ["svd", "ties", "iso_c", "iso_cts"])
def test_a_rank_truncates_the_answer(name):
    updates = adapters(3, 3, jnp.float64)
    merged, whole = run(name, updates, rank=2), as_dense(run(name if name != "svd" else "sum", updates))
    assert merged.b.shape == (OUT, 2) and merged.a.shape == (2, IN)
    if name in ("iso_c", "iso_cts"):  # the sum is cut before its spectrum is made flat
        u, s, vt = np.linalg.svd(as_dense(merge("sum", updates)))
        expected = s[:2].mean() * u[:, :2] @ vt[:2]
    else:
        u, s, vt = np.linalg.svd(whole)
        expected = (u[:, :2] * s[:2]) @ vt[:2]
    assert relative(as_dense(merged), expected) < 1e-9


@pytest.mark.parametrize("name", ["breadcrumbs", "della", "sce", "fisher"])
def test_elementwise_merges_do_not_depend_on_the_row_blocks(name, monkeypatch):
    for out_dim, block in ((OUT, 4), (OUT - 1, 5)):  # 6 blocks; 5 blocks, the last one short
        updates, data = adapters(4, 2, out_dim=out_dim), statistics(name, 2, out_dim=out_dim)
        monkeypatch.setattr(elementwise, "BLOCK_ENTRIES", out_dim * IN)
        whole = as_dense(run(name, updates, data=data))
        monkeypatch.setattr(elementwise, "BLOCK_ENTRIES", 5 * IN)
        assert elementwise.row_block(out_dim, IN) == block
        assert relative(as_dense(run(name, updates, data=data)), whole) < 1e-6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_threshold_keeps_exactly_the_largest_entries(dtype):
    update = adapters(8, 1, dtype)[0]
    entries = np.abs(np.asarray(elementwise.stack_rows([update], jnp.arange(OUT)))).ravel()
    keeps = (0, 1, 17, entries.size - 1, entries.size)
    find = functools.partial(elementwise.threshold, [update])
    for thresholds in (find(*keeps), jax.jit(lambda: find(*keeps))()):  # by selection, by search
        for keep, at in zip(keeps, thresholds[:, 0], strict=True):
            places = np.flatnonzero(entries >= at)
            assert set(places) == set(np.argsort(-entries)[:keep])
    doubled = jnp.array([[1.0, 3.0, 3.0], [3.0, 0.0, 2.0]], dtype)
    for keep, survivors in ((0, 0), (1, 3), (2, 3), (3, 3), (4, 4), (6, 6)):  # entries that tie are all kept
        for find in (elementwise.threshold_of, jax.jit(elementwise.threshold_of)):
            assert int(jnp.sum(doubled >= find(doubled, jnp.array(keep)))) == survivors


@pytest.mark.parametrize(
    ("dtype", "shape", "rank", "spectrum"),
    [
        (np.float64, (120, 150), 5, None),  # heavy tails, no gap
        (np.float32, (400, 300), 5, lambda k: 0.6**k),
        (np.float64, (400, 300), 5, lambda k: 0.6**k),
        (np.float32, (60, 300), 5, lambda k: 1.0 * (k < 3)),  # of lower rank
        (np.float64, (60, 50), 48, lambda k: 1 / (1 + k)),  # the basis fills the space
        (np.float32, (60, 50), 4, lambda k: 0.0 * k),
    ],
)
def test_truncating_a_large_dense_matrix_is_near_exact(dtype, shape, rank, spectrum, monkeypatch):
    """What is left over is the least possible; with gaps in the spectrum the matrix is the exact one."""
    monkeypatch.setattr(truncation, "EXACT_SIDE", 10)
    matrix = np.random.default_rng(0).standard_t(4, size=shape)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s = s if spectrum is None else spectrum(np.arange(len(s)))
    matrix = ((u * s) @ vt).astype(dtype)
    approximation = as_dense(truncation.truncated_dense(jnp.asarray(matrix), rank))
    exact, size, eps = (u[:, :rank] * s[:rank]) @ vt[:rank], np.linalg.norm(s), np.finfo(dtype).eps
    assert np.linalg.norm(matrix - approximation) <= np.linalg.norm(s[rank:]) * (1 + 1e-8) + 30 * eps * size
    if spectrum is not None:
        assert np.linalg.norm(approximation - exact) <= 300 * eps * size


def test_linear_factors_is_the_sum_plus_the_reported_cross_terms():
    updates, weights = adapters(3, 3, jnp.float64), jnp.array([0.5, -0.25, 1.5])
    mixed = as_dense(merge("linear_factors", updates, weights))
    cross = linear.cross_terms(updates, weights)
    np.testing.assert_allclose(mixed - as_dense(merge("sum", updates, weights)), as_dense(cross), atol=1e-12)
    np.testing.assert_allclose(norm(cross), np.linalg.norm(as_dense(cross)), rtol=1e-12)
    assert norm(cross) > 0.5 * np.linalg.norm(as_dense(merge("sum", updates, weights)))


def test_dare_is_unbiased_and_seeded():
    updates = adapters(6, 2, jnp.float64)
    draw = jax.jit(
        jax.vmap(lambda key: merge("dare", updates, key=key, density=0.3)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    samples = draw(jax.random.split(jax.random.key(0), 400))
    exact = as_dense(merge("sum", updates))
    error = np.asarray(samples.mean(0) - exact) / np.asarray(samples.std(0) / np.sqrt(400))
    assert np.abs(error).max() < 5.0  # 864 entries, each within 5 standard errors
    again = draw(jax.random.split(jax.random.key(0), 400))
    assert np.array_equal(samples, again) and not np.array_equal(samples[0], samples[1])


def test_breadcrumbs_keeps_something_of_the_smallest_tensor():
    tiny = LowRank(jnp.array([[2.0]]), jnp.array([[3.0]]), 1.0)
    np.testing.assert_allclose(merge("breadcrumbs", [tiny, tiny]), [[12.0]])


@pytest.mark.parametrize("name", ["knots", "tsv_merge", "iso_c", "wudi"])
def test_spectral_merges_ignore_null_directions(name):
    """Factors with a dead row have rank 2: the arbitrary third direction must not enter."""
    updates = [u._replace(a=u.a.at[-1].set(0)) for u in adapters(9, 3)]
    expected = reference(name, updates, [1.0] * 3, **METHODS[name].options)
    assert relative(as_dense(run(name, updates)), expected) < 1e-5


def test_identical_adapters_average_to_themselves():
    update = adapters(2, 1)[0]
    for name in ("average", "multislerp", "karcher", "model_stock", "wudi", "fisher"):
        assert relative(as_dense(run(name, [update] * 3)), as_dense(update)) < 1e-6, name


def test_model_stock_of_opposed_adapters_is_nothing():
    update = adapters(2, 1)[0]
    opposed = [update, update._replace(scale=-update.scale), update]
    assert np.all(as_dense(run("model_stock", opposed)) == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda us: merge("tie", us), r"unknown merge method 'tie'; did you mean ties\?"),
        (lambda us: merge("sum", []), "nothing to merge"),
        (lambda us: merge("sum", us, [1.0]), "2 adapters need 2 weights"),
        (lambda us: merge("average", us, [1.0, -1.0]), "sum of the weights, which is 0; use sum"),
        (lambda us: merge("sum", us, rank=0), "rank must be at least 1"),
        (lambda us: merge("dare", us), "draws at random: give a key"),
        (lambda us: merge("ties", us, densty=0.1), "has no option 'densty'; it takes density, vote"),
        (lambda us: merge("ties", us, density=0.0), r"density must be in \(0, 1\]"),
        (lambda us: merge("ties", us, vote="loud"), "vote must be one of mass, count"),
        (lambda us: merge("regmean", us), "not data-free: it needs 'grams'"),
        (lambda us: merge("regmean", us, grams=[jnp.eye(IN)]), "2 adapters need 2 grams"),
        (lambda us: merge("slerp", [*us, us[0]]), "takes two adapters, not 3"),
        (lambda us: merge("della", us, key=jax.random.key(0), density=0.95), r"density \+- epsilon/2"),
        (lambda us: merge("breadcrumbs", us, density=0.9, gamma=0.2), "density \\+ gamma <= 1"),
        (lambda us: merge("sum", [us[0], LowRank(us[0].b, us[0].a[:, 1:], 1.0)]), "different"),
        (lambda us: merge("sum", [LowRank(us[0].b, us[0].a[1:], 1.0)]), "factors must be"),
        (
            lambda us: merge("linear_factors", [us[0], LowRank(us[0].b[:, 1:], us[0].a[1:], 1.0)]),
            "same rank",
        ),
    ],
)
def test_errors_name_the_thing_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call(adapters(0, 2))
