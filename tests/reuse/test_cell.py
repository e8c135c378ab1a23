"""The grid's cell: the oracle's gates, the predictors, varied ranks, and teacher forcing against decoding."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.experiments import grid
from sim.experiments.all import DEFAULT, EXPERIMENTS
from sim.lab import cli
from sim.model import lora
from sim.model.training import Schedule
from sim.model.transformer import forward, init
from sim.reuse import cell as reuse
from sim.reuse import predictors, study
from sim.worlds.two_hop import Setting, TwoHopConfig, build
from theory.lowrank import LowRank, dense

TINY = dataclasses.replace(
    DEFAULT,
    world=TwoHopConfig(entities=24, relations=4, edits=4, bridges=8),
    layers=1,
    width=16,
    heads=2,
    hidden=16,
    pretraining=Schedule(10, 1e-2, (("facts", 16), ("direct", 8), ("traces", 8))),
    finetuning=Schedule(8, 2e-2, (("facts", 8), ("traces", 4))),
    rank=3,
    methods=("average",),
)
WORLD = jax.tree.map(jnp.asarray, build(TINY.world, 0, Setting("real", "both")))


class TestOracle:
    def test_gates_follow_the_trace(self):
        # x r s THINK | x r ANSWER y | SEP y s ANSWER z
        expected = [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
        np.testing.assert_array_equal(study.gates("cot", WORLD.probes["cot"], 1)[:, 1], expected)
        # x r s ANSWER z
        np.testing.assert_array_equal(study.gates("direct", WORLD.probes["direct"], 1)[:, 1], [0, 0, 1, 1, 1])

    def test_gates_of_names_of_two_tokens(self):
        config = dataclasses.replace(TINY.world, name_tokens=2)
        probe = build(config, 0).probes["cot"]
        # x x r s THINK | x x r ANSWER y y | SEP y y s ANSWER z z
        expected = [0, 0, 0, 1, 0] + [0] * 6 + [1] * 7
        np.testing.assert_array_equal(study.gates("cot", probe, 2)[:, 1], expected)

    @pytest.mark.parametrize(("name", "choice"), [("hop1", [1, 0]), ("hop2", [0, 1]), ("untouched", [0, 0])])
    def test_one_hop_questions_go_to_their_adapter(self, name, choice):
        rows = study.gates(name, WORLD.probes[name], 1)
        np.testing.assert_array_equal(rows, np.tile(choice, (len(rows), 1)))

    def test_a_routed_decoder_equals_the_adapter_it_is_sent_to(self, key):
        decoder = TINY.decoder
        params = init(decoder, key)
        adapters = [noisy(decoder, jax.random.fold_in(key, i)) for i in range(2)]
        probes = {name: WORLD.probes[name] for name in ("hop1", "hop2")}
        tokens = jnp.concatenate([probe.tokens for probe in probes.values()])
        routed = forward(decoder, params, tokens, study.oracle(adapters, probes, 1)(("hop1", "hop2")))
        alone = [
            forward(decoder, params, probe.tokens, lora.adapted(adapter))
            for probe, adapter in zip(probes.values(), adapters, strict=True)
        ]
        np.testing.assert_allclose(routed, jnp.concatenate(alone), atol=1e-5)


def noisy(decoder, key):
    """An adapter whose B is not zero."""
    return {
        name: u._replace(b=0.1 * jax.random.normal(key, u.b.shape, jnp.float32))
        for name, u in lora.init(decoder, decoder.modules(), 3, key).items()
    }


class TestPredictors:
    @given(st.integers(0, 10**6), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
    def test_both_are_exact_when_logits_are_linear(self, seed, first, second):
        rng = np.random.default_rng(seed)
        base, deltas = rng.normal(size=(3, 2, 5)), rng.normal(size=(2, 3, 2, 5))
        truth = base + first * deltas[0] + second * deltas[1]
        singles = [base + delta for delta in deltas]
        scaled = [base + lam * delta for lam, delta in zip((first, second), deltas, strict=True)]
        np.testing.assert_allclose(predictors.tangent(base, singles, (first, second)), truth, atol=1e-12)
        np.testing.assert_allclose(predictors.disentangled(base, scaled), truth, atol=1e-12)

    def test_right_is_the_argmax(self):
        logits = jnp.asarray([[[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]])
        np.testing.assert_array_equal(predictors.right(logits, jnp.asarray([[1, 2]])), [[True, False]])

    def test_margin_and_swing_by_hand(self):
        base = jnp.asarray([[[4.0, 1.0, 3.0]]])
        single = jnp.asarray([[[2.0, 5.0, 0.0]]])
        margin, swing = predictors.margin_and_swing(base, single, jnp.asarray([[1]]))
        # old answer 0 leads the new one by 3; the adapter moves new - old by (5 - 2) - (1 - 4)
        assert (float(margin[0, 0]), float(swing[0, 0])) == (3.0, 6.0)

    @given(st.integers(0, 10**6), st.floats(0.05, 1.5))
    def test_the_new_answer_leads_the_old_iff_lambda_swing_passes_the_margin(self, seed, lam):
        rng = np.random.default_rng(seed)
        base, delta = rng.normal(size=(2, 6, 1, 4))
        target = rng.integers(0, 4, (6, 1))
        margin, swing = predictors.margin_and_swing(jnp.asarray(base), jnp.asarray(base + delta), target)
        masked = base.copy()
        np.put_along_axis(masked, target[..., None], -np.inf, -1)
        old = masked.argmax(-1)
        merged = base + lam * delta
        rows = np.arange(6)
        leads = merged[rows, 0, target[:, 0]] > merged[rows, 0, old[:, 0]]
        np.testing.assert_array_equal(lam * swing[:, 0] > margin[:, 0], leads)

    def test_product_of_steps(self):
        steps = [jnp.asarray([True, True, False, False]), jnp.asarray([True, False, False, False])]
        assert float(predictors.product(*steps)) == 0.125


def test_trace_steps_cover_the_trace():
    for k in (1, 2):
        steps = study.trace_steps(k)
        assert sorted(i for part in steps.values() for i in part) == list(range(4 * k + 5))
        probe = build(dataclasses.replace(TINY.world, name_tokens=k), 0).probes["cot"]
        completion = np.asarray(probe.tokens[:, probe.prompt :])
        world = build(dataclasses.replace(TINY.world, name_tokens=k), 0)
        for hop in ("hop1", "hop2"):
            answer = world.probes[hop].tokens[:, world.probes[hop].prompt :]
            np.testing.assert_array_equal(completion[:, steps[hop]], answer)


def test_rows_are_stacked_and_split_by_shape():
    groups = reuse.of_one_shape(WORLD.probes)
    assert sorted(name for names in groups for name in names) == sorted(WORLD.probes)
    for names in groups:
        together = reuse.stacked_rows([WORLD.probes[name] for name in names])
        for name, rows in reuse.split_rows(together.tokens, names, WORLD.probes).items():
            np.testing.assert_array_equal(rows, WORLD.probes[name].tokens)


def test_linear_merges_are_scaled_sums(key):
    adapters = [noisy(TINY.decoder, jax.random.fold_in(key, i)) for i in range(2)]
    for name, update in study.linear(adapters, 0.3).items():
        expected = 0.3 * (dense(adapters[0][name]) + dense(adapters[1][name]))
        np.testing.assert_allclose(dense(update), expected, atol=1e-6)


@pytest.mark.slow
def test_ranks_of_modules_are_kept_through_training(key):
    decoder = TINY.decoder
    ranks = {name: jnp.asarray(2 if name.endswith("q") else 0) for name in decoder.modules()}
    groups = WORLD.libraries["joint"]
    train = jax.jit(lambda r: reuse.finetune(TINY, init(decoder, key), groups, "lora", key, r)[0])
    for name, update in train(ranks).items():
        assert isinstance(update, LowRank)
        rank = int(ranks[name])
        assert np.abs(update.b[:, rank:]).max() == 0 and np.abs(update.a[rank:]).max() == 0
        assert np.linalg.matrix_rank(np.asarray(dense(update))) == rank


@pytest.mark.slow
def test_teacher_forcing_and_decoding_tell_the_same_story(key):
    """Exact match of greedy decoding is the argmax everywhere under teacher forcing, for every merge."""
    params, _ = jax.jit(lambda k: reuse.pretrain(TINY, WORLD, k))(key)
    result = jax.jit(lambda p, k: study.run(TINY, p, WORLD, k))(params, key)
    names = {"hop1": "hop1", "hop2": "hop2", "direct": "direct", "untouched": "untouched", "cot": "cot_exact"}
    for position, lam in enumerate(study.GRID):
        scores = result["scores"][f"hops/lambda={lam:g}"]
        for probe, metric in names.items():
            right, asked = np.asarray(scores[metric], float)
            assert np.isclose(result["forecasts"]["merge"][probe][position], right / asked, atol=1e-6)
    # lambda = 1/2 of two adapters is their average, lambda = 1 neither predictor's own model
    half, average = result["scores"]["hops/lambda=0.5"], result["scores"]["hops/average"]
    assert all(np.array_equal(half[m], average[m]) for m in ("hop1", "hop2", "direct"))
    for values in result["agreement"].values():
        for share in values.values():
            assert ((np.asarray(share) >= 0) & (np.asarray(share) <= 1)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "unknown experiment 'nonsense'; use one or more of: familiarity, "),
        (["rank", "--seeds", "0"], "--seeds is 0; give at least 1"),
    ],
)
def test_mistakes_on_the_command_line(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["sim.grid", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.run_command(grid.Grid, grid.main, "sim.grid")
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_every_experiment_builds_its_worlds(profile):
    for item in EXPERIMENTS.values():
        labels = []
        for part in item.parts(profile):
            for label, setting, ranks in part.cells:
                labels.append(label)
                world = build(part.config.world, 0, setting)
                assert set(part.config.libraries) <= set(world.libraries)
                assert all(rank <= part.config.rank for _, rank in ranks)
        assert len(labels) == len(set(labels)) > 0
