"""Routers: exact prototypes, gates, and routed outputs against dense float64 computations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.model import lora, routing
from sim.model.routers import published
from sim.model.transformer import Decoder, forward, init
from theory.lowrank import LowRank, apply, dense

OUT, IN = 18, 26


def library(seed, ranks=(3, 3, 2), out_dim=OUT, in_dim=IN):
    rng = np.random.default_rng(seed)
    return [
        LowRank(
            jnp.asarray(rng.normal(size=(out_dim, r))), jnp.asarray(rng.normal(size=(r, in_dim))), 0.7 + i
        )
        for i, r in enumerate(ranks)
    ]


def tokens(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, IN)))


def test_arrow_prototype_is_the_top_right_singular_vector():
    updates = library(0)
    protos = routing.prototypes("arrow", updates)
    for proto, update in zip(protos, updates, strict=True):
        exact = np.linalg.svd(np.asarray(dense(update)))[2][0]
        assert abs(abs(proto[0] @ exact) - 1) < 1e-12


def test_fifteen_power_iterations_are_not_enough():
    """As PEFT does it, random factors (d = 1024, r = 16): mean cosine with the exact vector near .77."""
    rng = np.random.default_rng(0)
    cosines = []
    for _ in range(30):
        b, a = rng.normal(size=(1024, 16)), rng.normal(size=(16, 1024))
        exact = published.arrow(LowRank(jnp.asarray(b), jnp.asarray(a)))[0]
        core, v = b.T @ b, rng.normal(size=1024)
        for _ in range(15):
            v = a.T @ (core @ (a @ v))
            v /= np.linalg.norm(v)
        cosines.append(abs(v @ np.asarray(exact)))
    error = 3 * np.std(cosines) / np.sqrt(len(cosines))
    assert np.mean(cosines) + error < 0.95
    assert abs(np.mean(cosines) - 0.77) < error + 0.02


@pytest.mark.parametrize("name", ["spectr", "seqr"])
def test_spectral_scores_are_the_activation_norms(name):
    updates, x = library(1), tokens(2, 4, 5)
    strengths = routing.scores(x, routing.prototypes(name, updates))
    exact = np.stack([np.linalg.norm(np.asarray(x) @ np.asarray(dense(u)).T, axis=-1) for u in updates], -1)
    np.testing.assert_allclose(strengths, exact, rtol=1e-10)


@pytest.mark.parametrize("name", sorted(routing.ROUTERS))
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), top_k=st.integers(1, 3), temperature=st.floats(0.1, 10))
def test_gates_are_a_softmax_over_exactly_the_top_k(name, seed, top_k, temperature):
    x = tokens(seed, 7)
    protos = routing.prototypes(name, library(seed))
    gates = np.asarray(routing.gate(x, protos, top_k=top_k, temperature=temperature))
    strengths = np.asarray(routing.scores(x, protos))
    for row, score in zip(gates, strengths, strict=True):
        best = np.argsort(-score)[:top_k]
        expected = np.zeros(3)
        weights = np.exp((score[best] - score.max()) / temperature)
        expected[best] = weights / weights.sum()
        np.testing.assert_allclose(row, expected, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_arrow_ignores_signs_scales_and_follows_the_order(seed):
    updates, x = library(seed), tokens(seed, 6)
    gates = routing.gate(x, routing.prototypes("arrow", updates))
    turned = [LowRank(-u.b, u.a, 3.0 * u.scale) for u in updates]
    np.testing.assert_allclose(routing.gate(x, routing.prototypes("arrow", turned)), gates, atol=1e-10)
    back = routing.gate(x, routing.prototypes("arrow", updates[::-1]))
    np.testing.assert_allclose(back[:, ::-1], gates, atol=1e-10)


def test_equal_scores_still_keep_exactly_top_k():
    updates = library(3, (2,)) * 3
    gates = routing.gate(tokens(3, 5), routing.prototypes("arrow", updates), top_k=2)
    np.testing.assert_allclose(gates, np.tile([0.5, 0.5, 0.0], (5, 1)))


def test_route_is_the_gated_sum_of_the_dense_products():
    updates, x = library(4), tokens(4, 2, 3)
    gates = routing.gate(x, routing.prototypes("spectr", updates), top_k=2)
    exact = sum(
        np.asarray(gates)[..., i : i + 1] * (np.asarray(x) @ np.asarray(dense(u)).T)
        for i, u in enumerate(updates)
    )
    np.testing.assert_allclose(routing.route(updates, gates, x), exact, rtol=1e-10, atol=1e-10)
    one = routing.gate(x, routing.prototypes("arrow", updates[:1]))
    np.testing.assert_allclose(routing.route(updates[:1], one, x), apply(updates[0], x), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(routing.ROUTERS))
@pytest.mark.parametrize("untrained", ["b", "a", "both", "cancelling"])
def test_an_adapter_of_zero_attracts_no_token(name, untrained):
    """B = 0, A = 0, both, or a product that is nothing but rounding: the prototype is 0, whatever the SVD."""
    updates, x = library(7, (3, 3)), tokens(7, 50)
    zero = updates[1]
    if untrained == "cancelling":  # two columns of B A that cancel but for rounding
        zero = LowRank(zero.b[:, [0, 0]], jnp.stack([zero.a[0], -zero.a[0] * (1 + 1e-16)]))
    else:
        for factor in "ba" if untrained == "both" else untrained:
            zero = zero._replace(**{factor: jnp.zeros_like(getattr(zero, factor))})
    for order, mine in (([zero, updates[0]], 1), ([updates[0], zero], 0)):
        protos = routing.prototypes(name, order)
        assert jnp.max(jnp.abs(protos[1 - mine])) < 1e-12 * jnp.max(jnp.abs(protos[mine]))
        assert (routing.gate(x, protos, top_k=1)[:, mine] == 1).all()


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": 2, "temperature": 0.3}, {}])
def test_the_routed_projection_is_its_own_dense_formula(options):
    """W x + sum_i g_i Delta W_i x with a softmax over the top k at the temperature, all of it by hand."""
    updates, x = library(8, (3, 2, 3)), tokens(8, 2, 4)
    weight = jnp.asarray(np.random.default_rng(9).normal(size=(OUT, IN)))
    project = routing.routed([{"q": update} for update in updates], "spectr", **options)
    outputs = project("q", weight, x)
    top_k, temperature = options.get("top_k", 3), options.get("temperature", 1.0)
    for place in np.ndindex(2, 4):
        token = np.asarray(x[place])
        moved = [np.asarray(dense(update)) @ token for update in updates]
        score = np.array([np.linalg.norm(one) for one in moved])
        top = score >= np.sort(score)[-top_k]
        gates = top * np.exp((score - score.max()) / temperature)
        exact = np.asarray(weight) @ token + sum(
            g * one for g, one in zip(gates / gates.sum(), moved, strict=True)
        )
        np.testing.assert_allclose(outputs[place], exact, rtol=1e-9)
    np.testing.assert_allclose(project("k", weight, x), x @ weight.T, rtol=1e-12)  # not adapted


@pytest.mark.slow
def test_a_routed_decoder_runs_jitted_with_gradients_and_matches_a_single_adapter():
    decoder = Decoder(vocab=11, width=8, layers=1, heads=2)
    params = init(decoder, jax.random.key(0))
    names = ("0.q", "0.up", "0.down")
    rng = np.random.default_rng(0)

    def adapter(seed):
        empty = lora.init(decoder, names, 2, jax.random.key(seed))
        return {
            n: LowRank(jnp.asarray(rng.normal(size=u.b.shape), jnp.float32), u.a, 1.0)
            for n, u in empty.items()
        }

    first, second = adapter(1), adapter(2)
    prompt = jnp.array([[1, 2, 3, 4]])

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params, adapters):
        first, second, untrained = adapters
        single = forward(decoder, params, prompt, lora.adapted(first))
        same = forward(decoder, params, prompt, routing.routed([first, first]))
        mixed = forward(decoder, params, prompt, routing.routed([first, second], "spectr", top_k=1))
        project = routing.routed([first, untrained], "spectr")
        slope = jax.grad(lambda p: jnp.sum(forward(decoder, p, prompt, project)))(params)
        return single, same, mixed, slope

    untrained = lora.init(decoder, names, 2, jax.random.key(3))
    single, same, mixed, slope = run(params, (first, second, untrained))
    np.testing.assert_allclose(same, single, rtol=2e-4, atol=2e-5)
    assert jnp.max(jnp.abs(mixed - single)) > 1e-3
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: routing.prototypes("arow", library(0)), "unknown router 'arow'; did you mean arrow\\?"),
        (lambda: routing.gate(tokens(0, 2), jnp.ones((3, 1, IN)), top_k=4), "between 1 and the 3 adapters"),
        (
            lambda: routing.gate(tokens(0, 2), jnp.ones((3, 1, IN)), temperature=0),
            "must be above 0",
        ),
        (
            lambda: routing.routed([{"q": library(0)[0]}, {"k": library(0)[0]}]),
            "change the same modules",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
