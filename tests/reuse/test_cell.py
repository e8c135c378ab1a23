"""One cell: libraries, models, routers, forecasts and rows, each against an independent reference."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first, noisy_adapter, runs, tiny

from sim.lab import parallel
from sim.model import lora
from sim.model.training import LOOK, MASTERY
from sim.model.transformer import completion_logits, forward, init
from sim.reuse import ask, cell, forecast, library, rows
from sim.reuse.config import BASE, Cell, linear_models, same_merges
from sim.worlds import Layout, Probe, Step
from sim.worlds.two_hop import Setting
from theory.lowrank import dense


@pytest.mark.slow
def test_a_routed_decoder_equals_the_adapter_it_is_sent_to(key, tiny_world):
    decoder = tiny().decoder
    params = init(decoder, key)
    adapters = [noisy_adapter(decoder, jax.random.fold_in(key, i)) for i in range(2)]
    probes = {name: tiny_world.probes[name] for name in ("hop1", "hop2")}
    tokens = jnp.concatenate([probe.tokens for probe in probes.values()])
    routed = forward(decoder, params, tokens, ask.oracle(adapters, probes)(("hop1", "hop2"))(0))
    single = [
        forward(decoder, params, probe.tokens, lora.adapted(adapter))
        for probe, adapter in zip(probes.values(), adapters, strict=True)
    ]
    np.testing.assert_allclose(routed, jnp.concatenate(single), atol=1e-5)


def test_rows_are_stacked_and_split_by_shape(tiny_world):
    groups = ask.of_one_shape(tiny_world.probes)
    assert sorted(name for names in groups for name in names) == sorted(tiny_world.probes)
    for names in groups:
        together = ask.stacked_rows([tiny_world.probes[name] for name in names])
        for name, actual in ask.split_rows(together.tokens, names, tiny_world.probes).items():
            np.testing.assert_array_equal(actual, tiny_world.probes[name].tokens)


def test_linear_merges_are_weighted_sums(key):
    adapters = [noisy_adapter(tiny().decoder, jax.random.fold_in(key, i)) for i in range(2)]
    for name, update in lora.linear(adapters, (0.3, -0.7)).items():
        expected = 0.3 * dense(adapters[0][name]) - 0.7 * dense(adapters[1][name])
        np.testing.assert_allclose(dense(update), expected, atol=1e-6)


def test_linear_models_take_their_coefficients_from_the_methods(tiny_world):
    config = tiny(methods=("average", "sum", "ties"), lambdas=(0.25,))
    assert linear_models(config, "lora", tiny_world) == {
        ("lora", "parts", "average"): (0.5, 0.5),
        ("lora", "parts", "sum"): (1.0, 1.0),
        ("lora", "parts", "lambda=0.25"): (0.25, 0.25),
        ("lora", "single", "hop1"): (1.0, 0.0),
        ("lora", "single", "hop2"): (0.0, 1.0),
    }
    # single adapters are an ingredient of the forecasts, and forecast only where logits are linear in them
    assert forecast.strengths(config, "lora", tiny_world) == [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]
    assert (1.0, 0.0) in forecast.strengths(config, "lora_last", tiny_world)
    runs = forecast._rows({"embed": np.zeros((3, 5))}, (0.25, 0.5))  # once a run of the chunk, not a token
    np.testing.assert_array_equal(runs, [[0.25, 0.5]] * 3)


def test_merges_of_one_coefficient_are_one_model():
    methods = ("average", "ties", "concat", "sum", "task_arithmetic", "svd")
    own = {name: name for name in methods}
    assert same_merges(methods, 2) == own | {"sum": "concat"}
    assert same_merges(methods, 1) == own | {"sum": "average", "concat": "average"}


def test_a_world_may_say_who_is_in_a_library(tiny_world):
    config = tiny(extras=("bridge", "alone"))
    world = dataclasses.replace(tiny_world, libraries=(("alone", ("hop1", "expert")),))
    assert config.libraries(world) == {
        "parts": ("hop1", "hop2"),
        "bridge": ("hop1", "hop2", "bridge"),
        "alone": ("hop1", "expert"),
    }
    assert config.adapters(world) == ("hop1", "hop2", "joint", "bridge", "expert")


def logits(config, params, probe, adapters, lam):
    """Completion logits of the base with each adapter's dense update at its own coefficient, folded in."""
    weights = dict(params)
    for adapter, by in zip(adapters, lam, strict=True):
        for name, update in adapter.items():
            weights[name] = weights[name] + by * (update.b @ update.a)
    return np.asarray(completion_logits(config.decoder, weights, probe.tokens, probe.prompt), np.float64)


@pytest.fixture(scope="module")
def scene(tiny_world):
    """(config, base, two noisy adapters, world): strong adapters, so that the predictors differ, and answers
    that some of them predict: a third are what the disentangled predictor says at .9, a third the tangent."""
    config = tiny(methods=("average",), lambdas=(0.3, 0.9))
    key = jax.random.key(5)
    params = init(config.decoder, key)
    parts = [noisy_adapter(config.decoder, jax.random.fold_in(key, i), size=0.6) for i in range(2)]
    probes = {}
    for name, probe in tiny_world.probes.items():
        tokens = np.array(probe.tokens)
        for at in range(probe.prompt, tokens.shape[1]):
            query = dataclasses.replace(probe, tokens=jnp.asarray(tokens))
            base, *rest = (
                logits(config, params, query, parts, lam)
                for lam in ((0.0, 0.0), (0.9, 0.0), (0.0, 0.9), (1.0, 0.0), (0.0, 1.0))
            )
            additive, tangent = rest[0] + rest[1] - base, base + 0.9 * (rest[2] + rest[3] - 2 * base)
            for start, predicted in ((0, additive), (1, tangent)):
                tokens[start::3, at] = predicted[start::3, at - probe.prompt].argmax(-1)
        probes[name] = dataclasses.replace(probe, tokens=jnp.asarray(tokens))
    return config, params, parts, dataclasses.replace(tiny_world, probes=probes)


@pytest.mark.slow
class TestForecast:
    """Against a loop over prompts that knows nothing of the library's own functions but the decoder."""

    def expected(self, config, params, probe, parts, lam):
        base = logits(config, params, probe, parts, (0.0, 0.0))
        singles = [
            [logits(config, params, probe, parts, (by, 0.0)) for by in (1.0, lam)],
            [logits(config, params, probe, parts, (0.0, by)) for by in (1.0, lam)],
        ]
        target = np.asarray(probe.target)
        tangent = base + lam * (singles[0][0] - base) + lam * (singles[1][0] - base)
        additive = base + (singles[0][1] - base) + (singles[1][1] - base)
        right = {"tangent": tangent.argmax(-1) == target, "disentangled": additive.argmax(-1) == target}
        if probe.layout.steps:
            decided = []
            rows_ = np.arange(len(target))
            for step in probe.layout.steps:
                for at in probe.at(step.positions):
                    wanted = target[:, at]
                    others = base[:, at].copy()
                    others[rows_, wanted] = -np.inf
                    old = others.argmax(-1)
                    single = singles[step.part][0][:, at]
                    margin = base[rows_, at, old] - base[rows_, at, wanted]
                    after = single[rows_, old] - single[rows_, wanted]
                    decided.append(lam * (margin - after) > margin)
            right["coverage"] = np.stack(decided, axis=1)
        return {name: value.all(axis=1) for name, value in right.items()}, right["disentangled"]

    def test_every_predictor_at_every_strength(self, scene):
        config, params, parts, world = scene
        own = [library.factors_of(part) for part in parts]
        base, stacked, parts_ = *runs((params, world)), runs(own)
        single = forecast.force_logits(config, base, stacked, parts_)
        actual = first(forecast.forecast(config, base, stacked, "lora", parts_, single))
        strengths = forecast.strengths(config, "lora", world)
        assert strengths == [(0.3, 0.3), (0.5, 0.5), (0.9, 0.9)]
        right = {"tangent": [], "disentangled": [], "coverage": []}
        for name, probe in world.probes.items():
            metric = "cot_exact" if name == "cot" else name
            if name == "untouched_direct":
                assert metric not in actual["disentangled"]
                continue
            for place, (lam, _) in enumerate(strengths):
                whole, tokens = self.expected(config, params, probe, parts, lam)
                for predictor, value in whole.items():
                    np.testing.assert_array_equal(actual[predictor][metric][place], value, err_msg=predictor)
                    right[predictor].append(value)
                if name == "cot":
                    spans = [[0, 1, 2, 4, 5, 6, 7], [3], [8]]  # x r A | y | SEP y s A | z
                    product = math.prod(tokens[:, span].all(axis=1).mean() for span in spans)
                    np.testing.assert_allclose(actual["product"]["cot_exact"][place], product, atol=1e-6)
        # The scene tells the predictors apart, and each says yes and no.
        right = {predictor: np.concatenate(values) for predictor, values in right.items()}
        assert all(0 < value.mean() < 1 for value in right.values())
        assert (right["tangent"] != right["disentangled"]).any()

    def test_kappa_is_the_swing_in_the_trace_over_the_swing_where_it_was_taught(self, scene):
        config, params, parts, world = scene
        own = [library.factors_of(part) for part in parts]
        base, stacked = runs((params, world))
        actual = first(forecast.kappas(stacked, forecast.force_logits(config, base, stacked, runs(own))))

        def swing(probe, at, part):
            target, rows_ = np.asarray(probe.target)[:, at], np.arange(len(probe.tokens))
            base = logits(config, params, probe, parts, (0.0, 0.0))[:, at]
            single = logits(config, params, probe, parts, (1.0, 0.0) if part == 0 else (0.0, 1.0))[:, at]
            others = base.copy()
            others[rows_, target] = -np.inf
            old = others.argmax(-1)
            return np.mean(
                (single[rows_, target] - single[rows_, old]) - (base[rows_, target] - base[rows_, old])
            )

        for part, (step, at) in enumerate((("hop1", 3), ("hop2", 8))):
            there = swing(world.probes["cot"], at, part)
            here = swing(world.probes[step], 0, part)
            np.testing.assert_allclose(actual["cot"][step], there / here, rtol=1e-3)


# After a prompt of one token: a step of part 1, a copy of the prompt, a word, a step of part 0.
TRACE = Layout(steps=(Step("late", 1, (1,)), Step("early", 0, (4,))), copies=(((2,), (0,)),))


def test_a_step_is_covered_by_its_own_part_at_its_own_strength():
    """By hand: every margin is 2, both adapters swing by 5, so that lambda = .4 is the threshold."""
    probe = Probe(jnp.ones((1, 5), jnp.int32), jnp.ones(1), 1, TRACE)
    base, single = (jnp.broadcast_to(jnp.asarray(x), (1, 4, 2)) for x in ([2.0, 0.0], [0.0, 3.0]))
    for lam, right in (((0.3, 0.5), [True, False]), ((0.5, 0.3), [False, True])):
        covered = forecast.covered({"cot": probe}, {"cot": base}, [{"cot": single}] * 2, jnp.asarray(lam))
        np.testing.assert_array_equal(covered["cot"], [right])


def test_the_product_asks_for_copies_as_well_as_the_words_of_the_trace():
    """By hand: of eight answers two, four and four have a wrong step, copy and word: 3/4 * 3/4 * (1/4)."""
    probe = Probe(jnp.ones((8, 5), jnp.int32), jnp.ones(8), 1, TRACE)
    right = np.ones((8, 4), bool)
    right[:2, 0], right[:4, 1], right[2:6, 2], right[6:, 3] = False, False, False, False
    logits = {"cot": jnp.stack([~right, right], axis=-1).astype(jnp.float32)}
    actual = forecast._predict({"cot": probe}, logits, [logits] * 2, [logits] * 2, jnp.ones(2))
    np.testing.assert_allclose(actual["product"]["cot_exact"], 3 / 4 * 3 / 4 * 1 / 4)


@pytest.mark.slow
def test_ranks_of_modules_are_kept_through_training(key, tiny_world):
    config = tiny()
    decoder = config.decoder
    ranks = {name: jnp.asarray(2 if name.endswith("q") else 0) for name in decoder.modules()}
    groups = tiny_world.data["joint"]
    params = init(decoder, key)
    train = jax.jit(lambda r: library.finetune(config.recipe, params, groups, "lora", key, r).factors)
    for name, update in library.adapter_of(train(ranks)).items():
        rank = int(ranks[name])
        assert np.abs(update.b[:, rank:]).max() == 0 and np.abs(update.a[rank:]).max() == 0
        assert np.linalg.matrix_rank(np.asarray(dense(update))) == rank


@pytest.fixture(scope="module")
def actual(tiny_world):
    config = tiny(
        methods=("average", "sum", "concat"),
        lambdas=(0.25, 0.5, 1.0),
        routers=("arrow",),
        oracle=True,
        finetuning=dataclasses.replace(tiny().finetuning, steps=50),
    )
    key = jax.random.key_data(jax.random.key(3))
    train = parallel.program(library.pretrain, config.decoder, config.pretraining)
    params = first(train(*runs((tiny_world.pretraining, key)))[0])
    job = {"base": params, "world": tiny_world, "key": key}
    ((_, (result,)),) = parallel.map_runs(functools.partial(cell.run, config), [job])
    return config, params, key, result


@pytest.mark.slow
class TestWhole:
    """A tiny cell from end to end."""

    def test_every_model_is_asked_everything(self, actual, tiny_world):
        result = actual[-1]
        singles = {("lora", "single", name) for name in ("hop1", "hop2", "joint")}
        methods = ("average", "sum", "concat", "arrow", "oracle", "lambda=0.25", "lambda=0.5", "lambda=1")
        merges = {("lora", "parts", name) for name in methods}
        assert set(result["outcomes"]) == {BASE} | singles | merges
        for outcomes in result["outcomes"].values():
            assert {"direct_among_answers", "cot_exact", "cot_answer", "untouched_cot"} <= set(outcomes)
            for name in ("hop1", "hop2", "direct", "untouched"):
                assert outcomes[name].shape == (len(tiny_world.probes[name].tokens),)

    def test_equal_updates_answer_alike(self, actual):
        """A sum is a concatenation is lambda = 1, an average lambda = 1/2: bit for bit the same answers."""
        outcomes = actual[-1]["outcomes"]
        for left, right in (("sum", "concat"), ("sum", "lambda=1"), ("average", "lambda=0.5")):
            one, two = (outcomes["lora", "parts", method] for method in (left, right))
            for metric in one:
                np.testing.assert_array_equal(one[metric], two[metric], err_msg=f"{left} {right} {metric}")

    def test_teacher_forcing_and_decoding_tell_the_same_story(self, actual, tiny_world):
        """Exact match of greedy decoding is the argmax everywhere under teacher forcing, for every merge."""
        config, params, key, result = actual
        make = parallel.program(library.make, config.recipe, "lora")
        parts = [
            library.adapter_of(
                first(make(*runs((params, tiny_world.data[part], key, np.int32(place), None))).factors)
            )
            for place, part in enumerate(tiny_world.parts)
        ]
        probes = {n: p for n, p in tiny_world.probes.items() if p.layout.forecast}
        of_model = jax.jit(lambda model: forecast.teacher_forced(config.decoder, model, probes))
        for lam in config.lambdas:
            logits = of_model(lora.fold(params, lora.linear(parts, (lam, lam))))
            for name, probe in probes.items():
                forced = (jnp.argmax(logits[name], -1) == probe.target).all(axis=-1)
                metric = "cot_exact" if name == "cot" else name
                decoded = result["outcomes"]["lora", "parts", f"lambda={lam:g}"][metric]
                np.testing.assert_array_equal(decoded, forced)

    def test_adapters_have_keys_of_their_own(self, actual, tiny_world):
        """At a tiny rate an adapter stays near its start: no two of a library, of two families of a cell or
        of two seeds may be alike."""
        config, params, key, _ = actual
        slow = dataclasses.replace(config.finetuning, steps=LOOK, rate=1e-6)
        config = dataclasses.replace(config, finetuning=slow)
        starts = []
        for family in ("lora", "lora_last"):
            make = jax.jit(functools.partial(library.make, config.recipe, family))
            for k in (key, key + 1):
                for place, name in enumerate(config.adapters(tiny_world)):
                    training = make(params, tiny_world.data[name], k, place)
                    starts.append(np.asarray(training.factors["0.down"][1]))
        for one, two in itertools.combinations(starts, 2):
            assert np.linalg.norm(one - two) > np.linalg.norm(one)

    def test_rows_say_what_the_arrays_say(self, actual, tiny_world):
        config, _, _, result = actual
        where = Cell("toy", "label", Setting("real", "both"), 7)
        table = rows.rows_of(config, where, tiny_world, result)
        keys = [(r["adapter"], r["library"], r["method"], r["metric"], r["predictor"]) for r in table]
        assert len(set(keys)) == len(keys)
        assert {(r["experiment"], r["world"], r["seed"], r["template"]) for r in table} == {
            ("toy", "two_hop", 7, "both")
        }
        by_key = dict(zip(keys, table, strict=True))
        query = result["outcomes"]["lora", "parts", "sum"]["cot_hop2_given_hop1"]
        if (query >= 0).any():
            row = by_key["lora", "parts", "sum", "cot_hop2_given_hop1", ""]
            assert row["trials"] == (query >= 0).sum() and row["measured"] == np.mean(query[query >= 0])
        strengths = forecast.strengths(config, "lora", tiny_world)
        for method, lam in (("average", 0.5), ("sum", 1.0), ("lambda=0.25", 0.25)):
            predicted = result["forecasts"]["lora"]["disentangled"]["hop1"][strengths.index((lam, lam))]
            row = by_key["lora", "parts", method, "hop1", "disentangled"]
            outcome = result["outcomes"]["lora", "parts", method]["hop1"]
            assert (row["predicted"], row["measured"], row["lam"]) == (predicted.mean(), outcome.mean(), lam)
            agreement = by_key["lora", "parts", method, "agreement_hop1", "disentangled"]
            assert agreement["measured"] == np.mean(predicted == (outcome == 1))
        # Chance: a guess among the possible answers, and that times how often one of them is given.
        among = result["outcomes"]["lora", "parts", "arrow"]["direct_among_answers"]
        chance = by_key["lora", "parts", "arrow", "direct", "chance"]
        assert chance["predicted"] == 1 / 4 * np.mean(among)
        if among.any():
            given = by_key["lora", "parts", "arrow", "direct_given_among_answers", "chance"]
            assert (given["predicted"], given["trials"]) == (1 / 4, among.sum())
            # The bound of who lacks a hop: the likeliest answer of each question that was answered so.
            bounds = [null.max(axis=1)[among == 1] for null in tiny_world.probes["direct"].nulls.values()]
            assert len(bounds) == 2
            given = by_key["lora", "parts", "arrow", "direct_given_among_answers", "bound"]
            assert given["predicted"] == pytest.approx(max(np.mean(each) for each in bounds), rel=1e-6)
            assert by_key["lora", "parts", "arrow", "direct", "bound"]["predicted"] == pytest.approx(
                given["predicted"] * np.mean(among)
            )
        # What a predictor must beat: the merge answers as the base does.
        base = by_key["lora", "parts", "sum", "hop1", "base"]
        assert base["predicted"] == np.mean(result["outcomes"][BASE]["hop1"])
        # Training: its steps, and what is known of facts and of traces; all steps if that is not enough.
        rows_of = {
            metric: {r["method"]: r["measured"] for r in table if r["metric"] == metric}
            for metric in ("own_recall", "trace_recall", "training_steps")
        }
        assert all(set(column) == {"hop1", "hop2", "joint"} for column in rows_of.values())
        most = config.finetuning.steps
        for name, steps in rows_of["training_steps"].items():
            assert steps % LOOK == 0 and LOOK <= steps <= most
            enough = [rows_of[metric][name] >= MASTERY for metric in ("own_recall", "trace_recall")]
            assert steps == most or all(enough)
            training = result["training"]["lora"][name]
            assert training.recall["facts"] == rows_of["own_recall"][name]
            assert training.recall["traces"] == rows_of["trace_recall"][name]


@pytest.mark.slow
@pytest.mark.parametrize("lam", [(1.0, 1.0), (0.5, 0.5), (0.0, 1.0)])
def test_composed_logits_write_the_best_token_of_the_weighted_logits(key, tiny_world, lam):
    """Token by token from whole passes of base and single adapters; the merge in weights writes others."""
    decoder = tiny().decoder
    params = init(decoder, key)
    adapters = [noisy_adapter(decoder, jax.random.fold_in(key, i), size=0.3) for i in range(2)]
    passes = [jax.jit(functools.partial(forward, decoder, params, project=p))
              for p in (lora.adapted({}), *map(lora.adapted, adapters))]  # fmt: skip
    tokens = jnp.asarray(tiny_world.probes["cot"].tokens)
    prompt = tiny_world.probes["cot"].prompt
    for place in range(prompt, tokens.shape[1]):
        base, *singles = (np.asarray(run(tokens), np.float64)[:, place - 1] for run in passes)
        scores = base + sum(by * (single - base) for by, single in zip(lam, singles, strict=True))
        tokens = tokens.at[:, place].set(scores.argmax(axis=-1).astype(np.int32))
    probe = dataclasses.replace(tiny_world.probes["cot"], tokens=tokens, layout=Layout())
    factors = [library.factors_of(adapter) for adapter in adapters]
    composed = ask.composed(decoder, params, {"cot": probe}, factors, jnp.float32(lam))
    assert np.all(composed["cot"] == 1)
    merged = ask.ask(decoder, library.scaled(params, factors, jnp.float32(lam)), {"cot": probe})
    assert np.all(merged["cot"] == 1) == (lam == (0.0, 1.0))  # one adapter alone: both are that adapter
