"""The Llama in JAX against transformers, and its adapters against dense algebra."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.bench import language
from sim.model import llama, llama_adapters
from sim.model.llama_adapters import Questions
from theory import lowrank

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SHAPES = {
    "grouped, tied": {},
    "one group": {"num_key_value_heads": 1},
    "as many groups as heads, read out apart": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "a head of its own width": {"head_dim": 6},
    "Llama 3": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
        }
    },
}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, 64, (3, 12))


def save(folder, **changes):
    """A small random Llama of transformers, saved in ``folder``."""
    torch.manual_seed(1)
    shape = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "tie_word_embeddings": True,
        "initializer_range": 0.3, "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    }  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape | changes)).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture
def small(tmp_path):
    """(shape, parameters) of a small Llama read from files."""
    from sim.hf import weights

    save(tmp_path)
    model = weights.read_shape(tmp_path)
    return model, weights.read_params(tmp_path, model)


def random_adapter(model, rank, seed):
    adapter = llama_adapters.init(model, rank, jax.random.key(seed))
    noise = {
        kind: jax.random.normal(jax.random.key(seed + 100), u.b.shape, jnp.float32)
        for kind, u in adapter.items()
    }
    return {kind: u._replace(b=0.2 * noise[kind], scale=0.5 * u.scale) for kind, u in adapter.items()}


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_logits_equal_those_of_transformers(tmp_path, changes):
    from sim.hf import weights

    peer = save(tmp_path, **changes)
    model = weights.read_shape(tmp_path)
    logits = llama.forward(model, weights.read_params(tmp_path, model), jnp.asarray(TOKENS))
    with torch.no_grad():
        expected = peer(torch.tensor(TOKENS)).logits.numpy()
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.slow
def test_no_logit_depends_on_a_later_token(small):
    model, params = small
    embed = params["embed"]

    tokens = np.arange(12)[None]
    logits = functools.partial(llama.forward, dataclasses.replace(model, tied=False))

    def seen(table):
        return jnp.sum(logits({**params, "embed": table, "unembed": embed}, tokens)[0, 5])

    size = np.linalg.norm(np.asarray(jax.grad(seen)(embed)), axis=1)
    assert np.all(size[:6] > 0) and np.all(size[6:] == 0)


def test_padding_in_front_changes_nothing(small):
    model, params = small
    padded = np.concatenate([np.full((3, 4), 7), TOKENS], axis=1)
    logits = llama.forward(model, params, padded, padding_B=jnp.full(3, 4))
    np.testing.assert_allclose(logits[:, 4:], llama.forward(model, params, TOKENS), atol=1e-5)


def test_an_adapter_in_factors_is_the_model_with_its_update_in_the_weights(small):
    model, params = small
    adapter = random_adapter(model, 2, 5)
    folded = params | {kind: params[kind] + lowrank.dense(update) for kind, update in adapter.items()}
    np.testing.assert_allclose(
        llama.forward(model, params, TOKENS, adapter, llama.adapted),
        llama.forward(model, folded, TOKENS),
        atol=1e-4,
    )


def test_combine_adds_updates(small):
    model, _ = small
    library = [random_adapter(model, rank, seed) for rank, seed in ((2, 1), (3, 2))]
    total = llama_adapters.combine(library, [0.5, 2.0])
    for kind in llama.KINDS:
        expected = 0.5 * lowrank.dense(library[0][kind]) + 2.0 * lowrank.dense(library[1][kind])
        np.testing.assert_allclose(lowrank.dense(total[kind]), expected, atol=1e-5)


def questions(count, seed):
    """Random sequences of 8 tokens with answers of 3 or 2 tokens."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 64, (count, 8))
    start = rng.integers(4, 6, count)
    position = start[:, None] + np.arange(3) - 1
    target = np.take_along_axis(tokens, position + 1, axis=1)
    mask = np.ones((count, 3), np.float32)
    mask[: count // 2, 2] = 0
    return Questions(*map(jnp.asarray, (tokens, position, target, mask)))


@pytest.mark.slow
def test_adapters_trained_together_are_those_trained_alone(small):
    model, params = small
    starts = [llama_adapters.init(model, 2, jax.random.key(k)) for k in range(2)]
    data = [questions(6, k) for k in range(2)]
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    index = np.random.default_rng(0).integers(0, 6, (10, 2, 4))
    rate = np.full((10, 2), 1e-2, np.float32)
    rate[6:, 1] = 0  # the second adapter stops after six steps
    both, losses = llama_adapters.train(
        model, params, llama_adapters.begin(stack(*starts)), stack(*data), index, rate
    )
    for k, steps in ((0, 10), (1, 6)):
        one = llama_adapters.begin(jax.tree.map(lambda leaf: leaf[None], starts[k]))
        own = jax.tree.map(lambda leaf: leaf[None], data[k])
        single, own_losses = llama_adapters.train(
            model, params, one, own, index[:steps, k : k + 1], rate[:steps, k : k + 1]
        )
        np.testing.assert_allclose(losses[:steps, k], own_losses[:, 0], atol=1e-5)
        assert losses[steps - 1, k] < losses[0, k] - 0.1
        for kind in llama.KINDS:
            np.testing.assert_allclose(both.adapters[kind].b[k], single.adapters[kind].b[0], atol=1e-4)


def test_the_loss_is_minus_the_mean_log_probability_of_the_answers(small):
    model, params = small
    data, adapter = questions(4, 3), random_adapter(model, 2, 9)
    logits = np.asarray(llama.forward(model, params, data.tokens, adapter, llama.adapted), np.float64)
    expected = []
    for row in range(4):
        terms = []
        for position, target, mask in zip(data.position[row], data.target[row], data.mask[row], strict=True):
            line = logits[row, position]
            if mask:
                terms.append(np.log(np.sum(np.exp(line))) - line[target])
        expected.append(np.mean(terms))
    assert float(llama_adapters.loss(model, params, adapter, data)) == pytest.approx(
        np.mean(expected), abs=1e-5
    )


def test_greedy_decoding_writes_the_argmax_of_the_whole_sequence(small):
    model, params = small
    adapter = random_adapter(model, 2, 4)
    lengths, whole = (3, 5), jax.jit(llama.forward, static_argnums=(0, 4))
    prompts = np.zeros((2, 5), np.int32)
    for row, length in enumerate(lengths):
        prompts[row, 5 - length :] = TOKENS[row, :length]
    written = llama_adapters.write(model, params, adapter, prompts, jnp.asarray([2, 0]), 6)
    for row, length in enumerate(lengths):
        tokens = list(TOKENS[row, :length])
        for _ in range(6):
            behind = tokens + [0] * (11 - len(tokens))
            logits = whole(model, params, np.array([behind]), adapter, llama.adapted)
            tokens.append(int(jnp.argmax(logits[0, len(tokens) - 1])))
        assert list(written[row]) == tokens[length:]


def test_right_is_whether_greedy_decoding_writes_the_answer(small):
    model, params = small
    written = llama_adapters.write(model, params, None, TOKENS[:, :6], jnp.zeros(3, jnp.int32), 2)
    tokens = np.concatenate([TOKENS[:, :6], written], axis=1)
    position = np.broadcast_to([5, 6], (3, 2))
    wrong = np.array(written)
    wrong[1, 1] = (wrong[1, 1] + 1) % 64
    data = Questions(*map(jnp.asarray, (tokens, position, wrong, np.ones((3, 2), np.float32))))
    assert list(llama_adapters.right(model, params, None, data)) == [True, False, True]
    masked = data._replace(mask=data.mask.at[1, 1].set(0))
    assert list(llama_adapters.right(model, params, None, masked)) == [True, True, True]


def test_a_rank_above_the_smallest_side_is_refused(small):
    with pytest.raises(ValueError, match=r"rank 17 is outside 1\.\.16"):
        llama_adapters.init(small[0], 17, jax.random.key(0))


@pytest.mark.parametrize(("tokens", "implementation"), [(12, "cudnn"), (27, "xla")])
def test_cudnn_gets_an_even_number_of_tokens(monkeypatch, tokens, implementation):
    """It refuses an odd one; bfloat16 on a GPU alone is for it."""
    asked_for = []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *_, implementation, **__: asked_for.append(implementation)
    )
    for dtype in (jnp.bfloat16, jnp.float32):
        heads = jnp.zeros((1, tokens, 2, 8), dtype)
        llama.attention(heads, heads, heads, None)
    assert asked_for == [implementation, "xla"]


@pytest.mark.slow
def test_adapters_on_several_devices_train_as_on_one(monkeypatch):
    model, count = language.TINY, 4
    params = language.random_params(model, jnp.float32)
    keys = jax.random.split(jax.random.key(1), count)
    questions = language.random_questions(model, count)
    index = jax.random.randint(jax.random.key(2), (3, count, 8), 0, language.BATCH)
    rate = jnp.full((3, count), 1e-2).at[1, 2].set(0)

    def run(devices):
        monkeypatch.setattr(jax, "device_count", lambda: devices)
        start = llama_adapters.begin(jax.vmap(lambda key: llama_adapters.init(model, 2, key))(keys))
        trained, losses = llama_adapters.train(model, params, start, questions, index, rate)
        assert len(losses.devices()) == devices
        factors = [np.asarray(update.b) for update in trained.adapters.values()]
        return [*np.ravel(losses), *(np.sum(b * b[0, 0]) for b in factors)]

    np.testing.assert_allclose(run(2), run(1), rtol=1e-5)
