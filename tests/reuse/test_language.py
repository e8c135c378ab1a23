"""Cells on a language model: what is asked of merged models, by plain passes over whole sequences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.merge import merge
from sim.model import llama, llama_adapters, routing
from sim.model.llama_adapters import combine
from sim.reuse.config import BASE
from sim.reuse.forecast import strengths
from sim.reuse.language import ask, forecast, models
from sim.reuse.language.base import Base, behind, room_of
from sim.reuse.language.cell import _factors, updates
from sim.reuse.language.config import LanguageConfig
from sim.worlds import build
from sim.worlds.people import Config, Setting
from theory import lowrank

CONFIG = LanguageConfig(Config(facts=2), rank=2)


@pytest.fixture(scope="module")
def base(tiny_llama):
    return Base(tiny_llama)


@pytest.fixture(scope="module")
def world():
    return build(Config(facts=2), 0, Setting("real", "shared", 8))


@pytest.fixture(scope="module")
def rooms(base, world):
    return [
        room_of(base.questions([q.text for name in names for q in world.probes[name].questions]))
        for names in ask.split(world.probes)
    ]


@pytest.fixture(scope="module")
def library(base):
    """Two random adapters, strong enough to change what is written."""

    def adapter(seed):
        start = llama_adapters.init(base.model, 2, jax.random.key(seed))
        noise = {
            k: jax.random.normal(jax.random.key(seed + 9), u.b.shape, jnp.float32) for k, u in start.items()
        }
        return {kind: update._replace(b=0.3 * noise[kind]) for kind, update in start.items()}

    return [adapter(1), adapter(2)]


def stacked(*states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def slowly(base, params, sheet, state=None, project=llama.plain):
    """Greedy answers by whole passes without stored keys; what stands behind a token changes nothing."""
    forward, rows = jax.jit(llama.forward, static_argnums=(0, 4)), []
    total = max(one.start for one in sheet.questions) + sheet.length
    for one in sheet.questions:
        tokens, now = np.zeros((1, total), int), state(total) if callable(state) else state
        tokens[0, : one.start] = one.tokens[: one.start]
        for place in range(one.start, one.start + sheet.length):
            logits = forward(base.model, params, tokens, now, project)
            tokens[0, place] = int(jnp.argmax(logits[0, place - 1]))
        rows.append(tokens[0, one.start : one.start + sheet.length].tolist())
    return rows


@pytest.mark.slow
def test_merged_models_write_what_whole_passes_with_the_merge_in_the_weights_write(
    base, world, rooms, library
):
    dense = models.merged("ties", 2, library, jax.random.key(0))
    sums = models.delta(combine(library, (0.5, 1.5)), jnp.float32)
    trace = ask.sheets(base, world.probes, rooms)[1]
    for name, state in (("ties", dense), ("sum", sums)):
        folded = base.params | {kind: base.params[kind] + change for kind, change in state.items()}
        written = ask.write_all(
            base.model, base.params, stacked(dense, sums), *trace[:2], 6,
            project=models.with_delta, at=llama_adapters.as_it_is,
        )  # fmt: skip
        expected = slowly(base, folded, trace._replace(length=6))
        assert written[["ties", "sum"].index(name)].tolist() == expected


def test_sums_in_factors_write_what_dense_ones_write(base, world, rooms, library):
    adapters = dict(zip(("hop1", "hop2", "joint"), (*library, library[0]), strict=True))
    trace = ask.sheets(base, world.probes, rooms)[1]
    written = set()
    for members, weights in (((), ()), (("hop2",), (1.0,)), (("hop1", "hop2"), (0.25, 0.75))):
        sums = _factors(adapters, ("linear", members, weights))
        assert sums["q"].a.shape[1] == 6
        chosen = [adapters[name] for name in members]
        dense = combine(chosen, weights) if chosen else models.nothing(base.model, ("v", "down"))
        dense = models.delta(dense, jnp.float32)
        both = [
            np.asarray(
                ask.write_all(base.model, base.params, stacked(state), *trace[:2], 6, project=how, at=at)
            )
            for state, (how, at) in ((sums, ask.PROJECTS["factors"]), (dense, ask.PROJECTS["dense"]))
        ]
        np.testing.assert_array_equal(*both)
        written.add(both[0].tobytes())
    assert len(written) == 3


@pytest.mark.parametrize("router", ["arrow", "arrow_top1", "spectr", "logo"])
def test_a_routed_matrix_is_that_of_the_miniature(base, library, router):
    """W x + sum_i g_i(x) Delta W_i x, layer by layer, with the gates of ``sim.model.routing``."""
    x = jax.random.normal(jax.random.key(5), (2, 3, base.model.width), jnp.float32)
    state = models.routed(library, router, np.zeros((2, 3, 2)))
    for layer in range(base.model.layers):
        one = jax.tree.map(lambda leaf, n=layer: leaf[n], state)
        project = routing.routed(
            [jax.tree.map(lambda leaf, n=layer: leaf[n], each) for each in library], router
        )
        for kind in ("q", "up"):
            weight = base.params[kind][layer]
            expected = project(kind, weight, x)
            np.testing.assert_allclose(models.gated(kind, weight, one, x), expected, atol=1e-4)
            assert np.abs(expected - x @ weight.T).max() > 0.1


@pytest.mark.parametrize("router", ["components"])
def test_a_router_that_picks_parts_is_refused(library, router):
    with pytest.raises(ValueError, match="router 'components' is not made for a language model"):
        models.routed(library, router, np.zeros((1, 1, 2)))


def test_the_oracle_sends_every_token_to_the_owner_of_its_text(base, world, rooms, library):
    trace = ask.sheets(base, world.probes, rooms)[1]
    gates = ask.oracle_gates(base, world.probes, trace, 2)
    (one, question) = trace.questions[0], world.probes["cot"].questions[0]
    shift = trace.prompts.shape[1] - one.start
    for part, own in ((0, " The home of"), (1, " emblem")):
        tokens = [t for t, row in zip(one.tokens, gates[0, shift:], strict=False) if row[part]]
        assert own in base.tokenizer.text(tokens)
    owned = ["".join(piece.text for piece in question.pieces if piece.owner == part) for part in range(2)]
    texts = [
        base.tokenizer.text([t for t, row in zip(one.tokens, gates[0, shift:], strict=False) if row[part]])
        for part in range(2)
    ]
    assert texts == owned
    assert not gates[0, :shift].any() and np.all(gates[0, shift:].sum(axis=1) == 1)
    # The state of a place is that of its adapter alone.
    state = models.routed(library, "oracle", gates)
    written = ask.write_all(
        base.model, base.params, stacked(state), *trace[:2], 6, project=models.gated, at=models.at_position
    )  # fmt: skip

    def at(count):
        owner = gates[:1, shift : shift + count]
        whole = {
            kind: own._replace(gates=own.gates[:, :1, shift : shift + count]) for kind, own in state.items()
        }
        assert whole["q"].gates.shape[2] == owner.shape[1]
        return whole

    first = trace._replace(questions=trace.questions[:1], length=6)
    assert written[0, :1].tolist() == slowly(base, base.params, first, at, models.gated)


@pytest.mark.slow
def test_every_answer_has_the_likelihood_of_a_whole_pass(base, world, rooms, library):
    probe = world.probes["direct_question"]
    states = [models.delta(combine(library, pair), jnp.float32) for pair in ((1, 0), (0.5, 0.5))]
    likelihoods = ask.likelihoods(base, world.probes, rooms[0], stacked(*states))
    assert [set(each) for each in likelihoods] == [{"direct", "direct_question"}] * 2
    for state, each in zip(states, likelihoods, strict=True):
        expected = np.zeros((2, 2))
        for i, question in enumerate(probe.questions):
            for j, other in enumerate(probe.questions):
                text = type(question.text)(question.text.prompt, other.text.answer)
                (one,) = base.questions([text])
                logits = llama.forward(
                    base.model, base.params, jnp.asarray([one.tokens]), state, models.with_delta
                )
                logs = jax.nn.log_softmax(logits[0, one.start - 1 : -1])
                expected[i, j] = -np.sum(np.asarray(logs)[np.arange(len(one.answer)), list(one.answer)])
        losses, rank = each["direct_question"]
        np.testing.assert_allclose(losses.loss, np.diagonal(expected), rtol=1e-4)
        np.testing.assert_allclose(losses.nulls[""], expected.mean(axis=1), rtol=1e-4)
        assert rank.tolist() == [1 + (row < row[i]).sum() for i, row in enumerate(expected)]
        assert losses.right.tolist() == (expected.argmin(axis=1) == [0, 1]).tolist()


def test_places_among_answers_of_equal_likelihood_are_shared():
    pairs = np.array([[1.0, 1.0, 2.0], [3.0, 3.0, 3.0], [1.0, 2.0, 3.0]])
    assert ask._likelihoods(pairs).rank.tolist() == [1.5, 2.0, 3.0]
    assert np.mean([1.5, 2.0, 2.5]) == (3 + 1) / 2


@pytest.mark.parametrize("method", ["svd", "ties", "core_ties", "dare", "linear_factors"])
def test_a_merge_of_a_language_model_is_that_of_each_of_its_matrices(library, method):
    key = jax.random.key(3)
    result = models.merged(method, 2, library, key)
    number = 0
    for kind in ("down", "gate", "up", "k", "v", "o", "q"):  # by shape, in the order of their names
        for layer in range(2):
            updates_of_one = [
                jax.tree.map(lambda leaf, n=layer: leaf[n], adapter[kind]) for adapter in library
            ]
            options = {"key": jax.random.fold_in(key, number)} if method == "dare" else {}
            expected = merge(method, updates_of_one, rank=2 if method == "svd" else None, **options)
            number += 1
            actual = jax.tree.map(lambda leaf, n=layer: leaf[n], result[kind])
            one, other = (
                lowrank.dense(u) if isinstance(u, lowrank.LowRank) else u for u in (actual, expected)
            )
            np.testing.assert_allclose(one, other, atol=1e-5)
            assert np.abs(other).max() > 1e-2


def test_a_random_adapter_has_the_norms_of_its_own(library):
    random = models.random_like(library[0], jax.random.key(4))
    for kind, update in library[0].items():
        np.testing.assert_allclose(lowrank.norm(random[kind]), lowrank.norm(update), rtol=1e-5)
        cosine = lowrank.inner(random[kind], update) / lowrank.norm(update) ** 2
        assert random[kind].a.shape == update.a.shape and np.abs(cosine).max() < 0.6


def test_merges_that_are_one_sum_are_run_once(world):
    methods = ("average", "sum", "concat", "ties")
    config = dataclasses.replace(CONFIG, methods=methods, lambdas=(0.5, 1.0), extras=("bridge",))
    wanted = updates(config, world)
    parts = {method: wanted["lora", "parts", method] for method in (*methods, "lambda=0.5", "lambda=1")}
    assert parts["sum"] == parts["concat"] == parts["lambda=1"] == ("linear", ("hop1", "hop2"), (1.0, 1.0))
    assert parts["average"] == parts["lambda=0.5"] == ("linear", ("hop1", "hop2"), (0.5, 0.5))
    assert parts["ties"] == ("merge", ("hop1", "hop2"), "ties")
    assert wanted["lora", "bridge", "average"][2] == (1 / 3,) * 3
    assert wanted["lora", "single", "joint"] == ("linear", ("joint",), (1.0,))


def test_texts_come_back_from_their_tokens(base, world):
    for name, probe in world.probes.items():
        for question in probe.questions:
            (one,) = base.questions([question.text])
            assert base.continuation(one.tokens[: one.start], one.answer) == question.text.answer, name
            rows = behind([one], room_of([one]), 2)
            assert rows.mask.sum() == len(one.answer) and rows.target[0, : len(one.answer)].tolist() == [
                *one.answer
            ]
            assert [one.tokens[p + 1] for p in rows.position[0, : len(one.answer)]] == [*one.answer]
            end = base.tokenizer.eos_token_id
            assert base.continuation(one.tokens[: one.start], [*one.answer, end, 5]) == question.text.answer


LAMBDAS = (0.25, 0.5, 1.0, 1.25)


@pytest.fixture(scope="module")
def scene(base, world, rooms, library):
    """(configuration, parts, forecast): the first part is trained on every question but those of hop 2 and of
    capitals, until it knows some; the second is noise that moves the logits."""
    taught = ("hop1", "direct", "direct_question", "cot")
    items = base.questions([question.text for name in taught for question in world.probes[name].questions])
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], behind(items, room_of(items), 8))
    start = llama_adapters.init(base.model, 8, jax.random.key(0))
    training = llama_adapters.begin(jax.tree.map(lambda leaf: leaf[None], start))
    index, rate = jnp.tile(jnp.arange(8), (80, 1, 1)), jnp.full((80, 1), 1e-2)
    trained, _ = llama_adapters.train(base.model, base.params, training, rows, index, rate)
    noise = {
        kind: u._replace(b=0.01 * jax.random.normal(jax.random.key(7), u.b.shape))
        for kind, u in start.items()
    }
    parts = [jax.tree.map(lambda leaf: leaf[0], trained.adapters), noise]
    config = dataclasses.replace(CONFIG, lambdas=LAMBDAS)
    return config, parts, forecast.forecast(config, base, rooms, world, parts)


def answer_of(base, question):
    """(its tokens, where its answer begins, {step: places of its tokens in the answer})."""
    (one,) = base.questions([question.text])
    steps, end = {}, 0
    for piece in question.pieces:
        begin, end = end, end + len(piece.text)
        if piece.step:
            letters = [len(base.tokenizer.text(one.tokens[:count])) for count in range(len(one.tokens) + 1)]
            places = [at for at in range(one.start, len(one.tokens)) if begin < letters[at + 1] <= end]
            steps[piece.step] = [at - one.start for at in places]
            assert base.tokenizer.text(one.tokens[places[0] : places[-1] + 1]) == piece.text
    return one, steps


@pytest.mark.slow
def test_forecasts_margins_and_kappa_are_those_of_whole_passes_of_single_adapters(base, world, scene):
    """Every number from the definition, question by question, each adapter in the weights of a model."""
    config, parts, actual = scene
    forward = jax.jit(llama.forward, static_argnums=0)

    def logits(one, place=None, by=1.0):
        params = base.params
        if place is not None:
            change = models.delta(combine([parts[place]], [by]), jnp.float32)
            params = params | {kind: params[kind] + change[kind] for kind in change}
        whole = forward(base.model, params, jnp.asarray([one.tokens]))
        return np.asarray(whole[0, one.start - 1 : -1])

    merges = strengths(config, "lora", world)
    assert merges == [(lam, lam) for lam in LAMBDAS]
    margins, swings, seen = {}, {}, {"tangent": [], "disentangled": [], "coverage": []}
    for name, probe in world.probes.items():
        for row, question in enumerate(probe.questions):
            one, steps = answer_of(base, question)
            target, line = np.asarray(one.answer), np.arange(len(one.answer))
            at_base, singles = logits(one), [logits(one, place) for place in range(2)]
            others = at_base.copy()
            others[line, target] = -np.inf
            old = others.argmax(axis=1)
            margin = at_base[line, old] - at_base[line, target]
            swing = [single[line, target] - single[line, old] + margin for single in singles]
            for place, (lam, _) in enumerate(merges):
                tangent = at_base + lam * (singles[0] - at_base) + lam * (singles[1] - at_base)
                each = logits(one, 0, lam) + logits(one, 1, lam) - at_base
                right = {"tangent": tangent.argmax(1) == target, "disentangled": each.argmax(1) == target}
                if steps:
                    right["coverage"] = [
                        lam * swing[world.parts.index(step)][at] > margin[at]
                        for step, places in steps.items()
                        for at in places
                    ]
                metric = "cot_exact" if name == "cot" else name
                assert (metric in actual.outcomes["coverage"]) == bool(steps)
                for predictor, value in right.items():
                    predicted = actual.outcomes[predictor][metric][place][row]
                    assert predicted == np.all(value), (predictor, name, lam)
                    seen[predictor].append(bool(predicted))
            for step, places in steps.items():
                deciding = max(places, key=lambda at: margin[at])
                margins.setdefault((name, step), []).append(margin[deciding])
                swings.setdefault((name, step), []).append([both[deciding] for both in swing])
    # The scene tells the predictors apart, and each says yes and no.
    assert all(0 < np.mean(values) < 1 for values in seen.values())
    assert seen["tangent"] != seen["disentangled"]
    assert set(margins) == {("hop1", "hop1"), ("hop2", "hop2"), ("cot", "hop1"), ("cot", "hop2")}
    for (name, step), values in margins.items():
        place = step if name == step else f"cot_{step}"
        own = world.parts.index(step)
        np.testing.assert_allclose(actual.effects[BASE][f"margin_{place}"], np.mean(values), rtol=1e-3)
        mean = np.mean(swings[name, step], axis=0)
        for part, adapter in enumerate(world.parts):
            metric = f"{'swing' if part == own else 'disturbance'}_{place}"
            effect = actual.effects["lora", "single", adapter][metric]
            np.testing.assert_allclose(effect, mean[part], rtol=1e-3, atol=1e-4)
    for own, step in enumerate(world.parts):
        there, here = (np.mean(swings[name, step], axis=0)[own] for name in ("cot", step))
        np.testing.assert_allclose(actual.kappa["cot"][step], there / here, rtol=1e-3)
    assert sum(map(len, actual.effects.values())) == 4 * 3


@pytest.mark.slow
def test_first_order_is_the_merge_if_only_one_adapter_changes_anything(base, scene):
    """Half of the targets are what the merge writes at some strength, half of them anything."""
    _, (own, _), _ = scene
    nothing = jax.tree.map(jnp.zeros_like, own)
    rng, lams = np.random.default_rng(0), np.array(LAMBDAS, np.float32)
    tokens = jnp.asarray(rng.integers(0, base.model.vocab, (8, 12)))
    questions = llama_adapters.Questions(tokens, jnp.tile(jnp.arange(12), (8, 1)), tokens, jnp.ones((8, 12)))

    def merge_at(lam):
        both = combine([own, nothing], (lam, lam))
        return jnp.argmax(llama_adapters.answer_logits(base.model, base.params, both, questions), axis=-1)

    written = np.stack([merge_at(lam) for lam in lams])
    target = np.where(rng.random((8, 12)) < 0.5, written[2], rng.integers(0, base.model.vocab, (8, 12)))
    library = jax.tree.map(lambda *leaves: jnp.stack(leaves), own, nothing)
    effects = forecast.read(
        base.model, base.params, library, questions._replace(target=target), np.stack([lams, lams], axis=1)
    )
    np.testing.assert_array_equal(effects.disentangled, written == target)
    np.testing.assert_array_equal(effects.tangent[2], written[2] == target)  # at strength 1
    assert (np.asarray(effects.tangent) != (written == target)).any()  # and not at others
    shares = np.mean(np.asarray(effects.disentangled), axis=(1, 2))
    assert 0.4 < shares[2] < 0.6 and (shares[[0, 3]] < shares[2]).all()
    np.testing.assert_allclose(effects.swing[1], 0, atol=1e-4)
    assert np.abs(np.asarray(effects.swing[0])).max() > 1


def test_a_step_is_covered_by_its_own_adapter_and_decided_where_the_base_prefers_its_own_most():
    """By hand: a margin of 2 and a swing of 5 at the deciding token, so that lambda = .4 is the threshold."""
    margin = np.array([[0.5, 2.0, 9.0], [1.0, 0.0, 9.0]])
    swing = np.array([[[5.0, 5.0, 0.0], [5.0, 5.0, 0.0]], [[1.0, 3.0, 0.0], [5.0, 7.0, 0.0]]])
    right = np.array([[[1, 1, 0], [1, 1, 1]], [[1, 0, 1], [1, 1, 0]]], bool)
    effects = forecast.Effects(margin, swing, right, ~right)
    mask = np.array([[True, True, False]] * 2)
    merges = np.array([[0.39, 0.7], [0.41, 0.1]])
    outcomes = forecast._outcomes(effects, mask, {"hop1": (0, mask)}, merges)
    assert outcomes["coverage"].tolist() == [[False, True], [True, True]]
    assert outcomes["tangent"].tolist() == [[True, True], [False, True]]
    assert outcomes["disentangled"].tolist() == [[False, False], [False, False]]
    other = forecast._outcomes(effects, mask, {"hop1": (0, mask), "hop2": (1, mask)}, merges)
    assert other["coverage"].tolist() == [[False, True], [False, False]]
    assert forecast.at_decision(effects, mask) == (1.5, [5.0, 4.0])
