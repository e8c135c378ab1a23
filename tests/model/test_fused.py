"""The kernels, run as plain JAX, against the decoder they stand for; and that a GPU's compiler takes them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.model import fused, lora
from sim.model.sequences import Sequences
from sim.model.training import completion_loss
from sim.model.transformer import ATTENTION, MLP, Decoder, init
from theory.lowrank import LowRank

pytestmark = pytest.mark.slow  # kernels run as plain JAX

VOCAB = 40
CASES = {
    "two layers": (Decoder(VOCAB, 2, 64, 4, 256), 11, 14, 5, 4),
    "one layer, the shortest sequences, more than a tile": (Decoder(VOCAB, 1, 32, 2, 64), 70, 2, 1, 1),
    "three layers, long sequences, ranks 1 to 7": (Decoder(VOCAB, 3, 32, 1, 32), 3, 40, 39, range(1, 8)),
}


def material(decoder, batch, tokens, rank):
    """(parameters with norms that are not 1, an adapter that changes them, sequences).

    rank: of all modules, or several to give to them in turn.
    """
    params = init(decoder, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 100)
    for place, name in enumerate(params):
        if name.endswith("norm"):
            params[name] += 0.3 * jax.random.normal(keys[place], params[name].shape, jnp.float32)
    ranks = itertools.cycle([rank] if isinstance(rank, int) else rank)
    adapter = {
        name: LowRank(
            0.1 * jax.random.normal(key, (decoder.shape(name)[0], own), jnp.float32),
            lora.init(decoder, (name,), own, key)[name].a,
        )
        for name, key, own in zip(decoder.modules(), keys[50:], ranks, strict=False)
    }
    return params, adapter, jax.random.randint(jax.random.key(3), (batch, tokens), 0, VOCAB)


def loss_and_gradient(case, of, times=1.0):
    """(``times`` the completion loss of an adapter, its gradient in the factors), logits by ``of``."""
    decoder, batch, tokens, prompt, rank = case
    params, adapter, given = material(decoder, batch, tokens, rank)
    group = Sequences(given, jnp.ones(batch, jnp.float32), prompt)

    def loss(factors):
        own = {name: LowRank(*pair) for name, pair in factors.items()}
        return times * completion_loss(of(decoder, params, own, given, prompt), group)

    return jax.jit(jax.value_and_grad(loss))({n: (u.b, u.a) for n, u in adapter.items()})


def exact(*given):
    return fused.completion_logits(*given, interpret=True, kind=jnp.float32)


def rounded(*given):
    return fused.completion_logits(*given, interpret=True)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_give_loss_and_gradient_of_the_decoder(case):
    expected, slopes = loss_and_gradient(case, fused.folded_logits)
    kernels, ours = loss_and_gradient(case, exact)
    np.testing.assert_allclose(kernels, expected, rtol=1e-5)
    for name, pair in slopes.items():
        for side, of_side, slope in zip("BA", ours[name], pair, strict=True):
            scale = float(jnp.max(jnp.abs(slope)))
            np.testing.assert_allclose(of_side / scale, slope / scale, atol=1e-5, err_msg=f"{side} of {name}")


@pytest.mark.parametrize("times", [1.0, 1e-9, 1e9])
def test_float16_rounds_gradients_of_any_size_alike(times):
    case = CASES["two layers"]
    _, slopes = loss_and_gradient(case, exact, times)
    _, ours = loss_and_gradient(case, rounded, times)
    fast, exactly = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)]) for g in (ours, slopes))
    assert 1e-4 < float(jnp.linalg.norm(fast - exactly) / jnp.linalg.norm(exactly)) < 1e-2


def test_each_run_of_a_vmap_has_its_own_gradient():
    decoder, batch, tokens, prompt, rank = CASES["one layer, the shortest sequences, more than a tile"]
    params, adapter, given = material(decoder, batch, tokens, rank)

    def norms(strength):
        def total(by):
            own = {name: update._replace(b=by * update.b) for name, update in adapter.items()}
            return jnp.sum(exact(decoder, params, own, given, prompt) ** 2)

        return jax.grad(total)(strength)

    strengths = jnp.asarray([0.0, 0.5, 2.0], jnp.float32)
    single = jnp.stack([norms(strength) for strength in strengths])
    np.testing.assert_allclose(jax.vmap(norms)(strengths), single, rtol=1e-4)


def test_a_gpu_compiler_is_given_four_kernels_a_layer():
    decoder, batch, tokens, prompt, rank = CASES["two layers"]
    params, adapter, given = material(decoder, batch, tokens, rank)

    def total(factors):
        own = {name: LowRank(*pair) for name, pair in factors.items()}
        return jnp.sum(fused.completion_logits(decoder, params, own, given, prompt))

    triton = jax.export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")
    factors = {name: (update.b, update.a) for name, update in adapter.items()}
    lowered = jax.export.export(jax.jit(jax.grad(total)), platforms=["cuda"], disabled_checks=[triton])
    assert lowered(factors).mlir_module().count("stablehlo.custom_call @__gpu$xla.gpu.triton") == 8


WIDE = Decoder(VOCAB, 2, 128, 4, 512)
WIDER = Decoder(VOCAB, 2, 256, 8, 1024)
NARROW = Decoder(VOCAB, 2, 64, 8, 256)
ODD = Decoder(VOCAB, 2, 48, 3, 96)
USUAL = Decoder(VOCAB, 2, 64, 4, 256)


EVERY = ATTENTION + MLP


@pytest.mark.parametrize(
    ("decoder", "kinds", "rank", "tokens", "expected"),
    [
        (USUAL, EVERY, 4, 65, True),
        (USUAL, EVERY, 4, 66, False),
        (USUAL, EVERY, 16, 14, True),
        (USUAL, EVERY, 17, 14, False),
        (USUAL, ("q", "v"), 4, 14, False),
        (WIDE, EVERY, 4, 14, True),
        (WIDER, EVERY, 4, 14, False),
        (NARROW, EVERY, 4, 14, False),
        (ODD, EVERY, 4, 14, False),
    ],
)
def test_kernels_take_what_fits_a_tile(decoder, kinds, rank, tokens, expected):
    adapter = lora.init(decoder, decoder.modules(kinds), rank, jax.random.key(0))
    assert fused.can(decoder, adapter, tokens) is expected


def test_no_kernel_on_a_cpu():
    decoder, batch, tokens, prompt, rank = CASES["two layers"]
    params, adapter, given = material(decoder, batch, tokens, rank)
    assert jax.default_backend() == "cpu"
    np.testing.assert_array_equal(
        fused.adapted_logits(decoder, params, adapter, given, prompt),
        fused.folded_logits(decoder, params, adapter, given, prompt),
    )
