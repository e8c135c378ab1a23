"""Arrow: alignment of the prototype and selection probabilities against real factored adapters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.twins import selection as twin
from theory import model as one_layer
from theory import selection

pytestmark = pytest.mark.slow  # minutes of compilation in total


def draws(function, count, seed=0):
    """One compiled loop over ``count`` keys (not vmap: batched decompositions gain nothing on a CPU)."""
    root = jax.random.key(seed)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(count))
    return np.asarray(jax.jit(lambda keys: jax.lax.map(function, keys))(keys))


@functools.cache
def alignments(aspect, features):
    """(theta, sight, keys) -> one alignment a key, compiled once for each size."""
    return jax.jit(
        lambda theta, sight, keys: jax.lax.map(
            lambda key: twin.alignment(theta, aspect, sight, features, key), keys
        )
    )


def aligned(theta, aspect, sight, features, count):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(count))
    return np.asarray(alignments(aspect, features)(theta, sight, keys))


@functools.cache
def mean_gates(aspect, adapters, features, seen, top_k):
    """(theta, sight, temperature, keys) -> mean gates of each key's library, compiled once for each form."""

    def one(theta, sight, temperature, key):
        options = {"sight": sight, "seen": seen, "temperature": temperature, "top_k": top_k}
        return twin.gates(theta, aspect, adapters, features, key, **options).mean(axis=0)

    return jax.jit(lambda *values: jax.lax.map(lambda key: one(*values[:3], key), values[3]))


@pytest.mark.parametrize(
    ("theta", "aspect", "sight"), [(3.0, 1.0, 1.0), (2.0, 2.0, 1.0), (2.0, 1.0, 0.8), (1.5, 0.5, 1.0)]
)
def test_alignment_converges_to_the_law(theta, aspect, sight):
    """16 draws a size: within 4 standard errors + 2/m of the limit, and within .05."""
    law = selection.alignment(theta, aspect, sight)
    for features in (24, 72):
        alignments = aligned(theta, aspect, sight, features, 16)
        error = 4 * alignments.std() / 4 + 2 / features
        assert abs(alignments.mean() - law) < error, (features, alignments.mean(), law)
    assert abs(alignments.mean() - law) < 0.05


def test_the_finite_size_gap_shrinks_with_size():
    """Limit 0, m = 16, 32, 64, 16 draws: falls fast below the transition, slowly (as m^(-1/3)) at it."""
    for theta, sight in ((1.0, 1.0), (0.5, 1.0), (3.0, 0.0)):
        assert selection.alignment(theta, 1.0, sight) == 0
        gaps = []
        for m in (16, 32, 64):
            gaps.append(aligned(theta, 1.0, sight, m, 16).mean())
        assert gaps[0] > gaps[1] > gaps[2], gaps
        assert gaps[2] < (1.0 if theta == 1.0 else 0.6) * gaps[0], gaps


def test_edits_that_keep_the_answer_marginal_never_see_the_mean():
    """D 1 = 0 annihilates mu exactly: moving every feature by one vector, however large, changes nothing."""
    config = one_layer.ModelConfig(entities=10, dim=44, features=30, activation="identity")
    model = one_layer.make(config, jax.random.key(0))
    library = twin.one_layer_library(config, model, jnp.asarray([20, 21]), "permuted", 10)

    @jax.jit
    def cosine_after_move(update):
        moved = update._replace(a=update.a + 10.0 * jnp.mean(update.a, axis=0, keepdims=True))
        return twin.published.arrow(moved)[0] @ twin.published.arrow(update)[0]

    for update in library:
        cosine = cosine_after_move(update)
        assert abs(float(cosine)) == pytest.approx(1.0, abs=1e-10)


def test_a_library_reads_subjects_and_bridges_in_turn():
    config = one_layer.ModelConfig(entities=3, dim=24, features=30, fillers=2)
    model = one_layer.make(config, jax.random.key(0))
    library = twin.one_layer_library(config, model, jnp.asarray([6, 7, 8, 9]), "permuted", 3)
    for relation, update in enumerate(library):
        prompts = jnp.asarray([[x + 3 * (relation in (1, 3)), 6 + relation] for x in range(3)])
        np.testing.assert_allclose(update.a, one_layer.features(config, model, prompts), atol=1e-14)


def test_orthogonal_keys_are_exact():
    """Orthonormal embeddings read by an orthogonal U: <v_1, mu>^2 = F/(F + 1) to 1e-10."""
    facts, width = 7, 20
    frame = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (width, facts + 1), jnp.float64))[0].T
    keys = frame[:1] + frame[1:]
    prototype = twin.published.arrow(twin.LowRank(jnp.eye(facts), keys))[0]
    assert float(jnp.square(prototype @ frame[0])) == pytest.approx(
        selection.alignment_orthogonal(facts), abs=1e-10
    )


@pytest.mark.parametrize("seen", [0.0, 1.0])
@pytest.mark.parametrize(
    ("theta", "aspect", "adapters", "sight", "top_k", "temperature"),
    [
        (2.0, 1.0, 2, 1.0, 1, 1.0),
        (2.0, 1.0, 2, 1.0, None, 1.0),
        (2.0, 1.0, 4, 1.0, 1, 1.0),
        (2.0, 1.0, 4, 1.0, 2, 0.5),
        (1.5, 1.0, 2, 0.0, 1, 1.0),
    ],
)
def test_gates_follow_the_law(theta, aspect, adapters, sight, top_k, temperature, seen):
    """16 libraries at m = 48, 48 prompts each: mean gate of the right adapter within 4 errors + .02."""
    features = 48
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(16))
    run = mean_gates(aspect, adapters, features, bool(seen), top_k)
    gates = np.asarray(run(theta, sight, temperature, keys))
    right = selection.score_law(theta, aspect, seen=seen, sight=sight)
    wrong = selection.score_law(theta, aspect, 0.0, other=1.0, features=features, sight=sight)
    if sight == 0 and not seen:  # a blind prototype meets mu by chance, its own adapter's no less
        right = wrong
    mean, spread = zip(right, *[wrong] * (adapters - 1), strict=True)
    law = selection.expected_gate(mean, spread, temperature, top_k)
    error = 4 * gates[:, 0].std() / np.sqrt(16) + 0.02
    assert abs(gates[:, 0].mean() - law[0]) < error, (gates[:, 0].mean(), law[0])
    assert law.sum() == pytest.approx(1.0, abs=2e-3)


M = 24
KINDS = {
    # prompt after a subject a and a bridge b, (load, seen) of adapter 1 and of adapter 2, noise
    "p1, own fact": (lambda a, b: [a, 48], (1.0, 1.0), (0.0, 0.0), 1.0),
    "p1, other entity": (lambda a, b: [b, 48], (1.0, 0.0), (0.0, 1.0), 1.0),
    "p2, own fact": (lambda a, b: [b, 49], (0.0, 0.0), (1.0, 1.0), 1.0),
    "p12": (lambda a, b: [a, 48, 49], (0.0, 1.0), (1.0, 0.0), 2.0),
    "CoT step 1": (lambda a, b: [a, 48, 49, 50, a, 48], (1.0, 2.0), (0.0, 0.0), 7.0),
    "CoT step 2": (lambda a, b: [a, 48, 49, 50, a, 48, b, 51, b, 49], (0.0, 2.0), (1.0, 2.0), 15.0),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_prompts_of_the_one_layer_model(kind):
    """F = N = m = 24 (theta^2 = 24, c = 1), K = 2, 24 draws: top-1 choice of adapter 1."""
    build, first, second, noise = KINDS[kind]
    config = one_layer.ModelConfig(entities=M, dim=104, features=M, activation="identity", fillers=2)
    subjects = jnp.arange(M)
    columns = build(subjects, subjects + M)
    prompt = jnp.stack([jnp.broadcast_to(jnp.asarray(column), (M,)) for column in columns], axis=-1)
    relations = jnp.asarray([48, 49])
    alignments = draws(
        lambda key: twin.prompt_gates(config, M, prompt, "sighted", 1, relations, key).mean(axis=0), 24
    )
    laws = [
        selection.score_law(M**0.5, 1.0, load, seen=seen, noise=noise, other=1.0 - load, features=M)
        for load, seen in (first, second)
    ]
    law = selection.selection(*zip(*laws, strict=True))
    error = 4 * alignments[:, 0].std() / np.sqrt(24) + 0.02
    assert abs(alignments[:, 0].mean() - law[0]) < error, (alignments.mean(axis=0), law)
    wanted = 0 if first[0] else 1
    assert law[wanted] > 0.5


def test_two_equal_spreads_have_the_closed_form():
    from scipy.special import ndtr

    u, w = (1.3 - 0.4) / (1.1 * 2**0.5), (1.3 + 0.4) / (1.1 * 2**0.5)
    exact = ndtr(u) * ndtr(w) + ndtr(-u) * ndtr(-w)
    assert selection.selection([1.3, 0.4], [1.1, 1.1])[0] == pytest.approx(exact, abs=1e-12)
    np.testing.assert_allclose(selection.selection([0.0] * 5, [1.0] * 5), 0.2, atol=1e-12)
    # Arrow in the limits of the temperature
    np.testing.assert_allclose(selection.expected_gate([2.0, 0.0], [1, 1], 100.0), 0.5, atol=0.01)
    hard = selection.selection([2.0, 0.0, 0.0], [1.0] * 3)
    np.testing.assert_allclose(selection.expected_gate([2.0, 0, 0], [1.0] * 3, 0.05), hard, atol=5e-3)
    np.testing.assert_allclose(selection.expected_gate([2.0, 0, 0], [1.0] * 3, 0.05, 2), hard, atol=5e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selection.alignment(-1.0, 1.0), "at least 0"),
        (lambda: selection.alignment(1.0, 0.0), "above 0"),
        (lambda: selection.alignment_orthogonal(0), "facts is 0"),
        (lambda: selection.score_law(1.0, 1.0, seen=2.0), "noise is 1.0"),
        (lambda: selection.selection([1.0], [0.0]), "spread is 0.0; give a finite number above 0"),
        (lambda: selection.expected_gate([1.0, 0.0], [1.0, 1.0], 0.0), "temperature"),
        (lambda: selection.expected_gate([1.0, 0.0], [1.0, 1.0], 1.0, 3), "top_k"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
