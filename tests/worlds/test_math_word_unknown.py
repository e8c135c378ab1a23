"""The null of a model that lacks a family's verbs: the mean over all worlds that look the same to it."""

import collections
import dataclasses

import numpy as np
import pytest

from sim.worlds import build
from sim.worlds.controls import without
from sim.worlds.math_word import PARTS, VERBS, Config, Setting, controls
from sim.worlds.math_word.problems import Writer, every_number
from sim.worlds.math_word.verbs import alternatives, meanings

ONE = Config(prime=7, operations=8, verbs=1, names=3, objects=2)
TWO = Config(
    prime=7, operations=8, names=3, objects=2, pretraining_paraphrases=3, longer=40, bridges=20, controls=True
)
TAUGHT = TWO.operations + np.arange(4)


def test_alternatives_are_what_is_drawn_with_all_else_alike():
    rng, seen = np.random.default_rng(0), collections.defaultdict(set)
    for _ in range(8_000):
        old, (trade, craft) = meanings(rng, ONE)
        seen["trade", *old, craft].add(trade)
        seen["craft", *old, trade].add(craft)
    assert len(seen) > 200
    for (part, *old, other), drawn in seen.items():
        family = PARTS.index(part)
        new = np.array([other, other])
        new[family] = min(drawn)
        candidates = alternatives(ONE, np.array(old), new, family)
        assert set(candidates[:, family]) == drawn and set(candidates[:, 1 - family]) == {other}


def test_the_likelihood_is_how_often_these_partners_are_drawn():
    rng = np.random.default_rng(1)
    old, new = meanings(rng, TWO)
    meaning = np.concatenate([rng.permutation(TWO.operations), old])
    count, expected = collections.Counter(), {}
    for _ in range(4_000):
        pairs = controls.pairs(rng, TWO, meaning, old, new)
        verbs = (*pairs["second"][:, 1], *pairs["first"][:, 0])
        count[verbs] += 1
        expected[verbs] = controls.likelihood(TWO, meaning, old, new, pairs)
    assert sum(expected.values()) == pytest.approx(1.0)  # all that can be drawn was
    for verbs, times in count.items():
        assert times / 4_000 == pytest.approx(expected[verbs], abs=5 * (expected[verbs] / 4_000) ** 0.5)


def drawn_world(seed):
    """(questions, candidates of one family, how likely each is, candidate -> its writer)."""
    rng = np.random.default_rng(seed)
    old, new = meanings(rng, TWO)
    meaning = np.concatenate([rng.permutation(TWO.operations), old])
    candidates = alternatives(TWO, old, new, seed % 2)
    likely = rng.uniform(0.5, 2.0, len(candidates))
    pairings = np.stack([np.repeat(TAUGHT[:2], 2), np.tile(TAUGHT[2:], 2)], axis=1)
    questions = every_number(TWO.prime, pairings, 1)

    def writer(operations):
        return Writer(TWO.grammar, rng, np.append(meaning[: TWO.operations], operations), ())

    return questions, candidates, likely, writer


@pytest.mark.parametrize("seed", range(6))
def test_the_mean_null_of_worlds_that_look_alike_is_the_loss_of_right_answers(seed):
    """For any model, a table of losses by question and number; and whichever of the worlds is true."""
    questions, candidates, likely, writer = drawn_world(seed)
    assert len(candidates) > 1
    table = np.random.default_rng(seed).exponential(size=(len(questions[0]), TWO.prime))
    rows = np.arange(len(table))
    rights = [writer(one).values(*questions)[:, -1] for one in candidates]
    expected = np.average([table[rows, right] for right in rights], axis=0, weights=likely)
    for one, right in zip(candidates, rights, strict=True):
        weights = controls.null(writer(one), questions, TAUGHT, candidates, likely)
        np.testing.assert_allclose(np.sum(weights * table[:, right], axis=1), expected, rtol=1e-5)
    alike = table[:, rights[0]].mean(axis=1)
    assert np.abs(alike - expected).max() > 0.1  # the null that takes all answers alike is another one


@pytest.mark.parametrize("seed", range(3))
def test_the_direct_questions_carry_them(seed):
    world = build(TWO, seed, Setting(template="none"))
    nulls = world.probes["direct"].nulls
    assert set(nulls) == {without(part) for part in PARTS}
    assert not any(probe.nulls for name, probe in world.probes.items() if name != "direct")
    for weights in nulls.values():
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
        assert (weights >= 0).all() and (np.diag(weights) > 0).all()  # the true one is among them
    assert not np.array_equal(*nulls.values())


def test_so_do_those_of_a_world_without_controls_whatever_words_the_verbs_have():
    """One answer in ``prime`` is what a guess gets; the few operations that a verb may do allow more."""
    config = dataclasses.replace(TWO, controls=False)
    probes = [build(config, 0, Setting(verbs=verbs)).probes["direct"] for verbs in VERBS]
    for probe in probes:
        assert set(probe.nulls) == {without(part) for part in PARTS}
        for part, weights in probe.nulls.items():
            np.testing.assert_array_equal(weights, probes[0].nulls[part])
            assert (np.diag(weights) > 0).all()
        assert 1 / TWO.prime < probe.bound(np.ones(len(probe.tokens), bool)) < 1


def test_no_taught_verb_may_do_what_the_unrelated_ones_do(monkeypatch):
    """The controls draw unrelated operations from those that no taught verb does: the null knows it."""
    calls, null, dropped = [], controls.null, 0
    monkeypatch.setattr(controls, "null", lambda *given: calls.append(given) or null(*given))
    config = dataclasses.replace(TWO, prime=11, operations=12)
    for seed in range(4):
        calls.clear()
        build(config, seed, Setting(template="none"))
        plain, controlled = calls[:2], calls[2:]
        for (*_, every, _), (write, _, _, candidates, likely) in zip(plain, controlled, strict=True):
            unrelated = write.meaning[config.pretraining_verbs + np.arange(config.verbs)]
            left = every[[not set(row) & set(unrelated) for row in every.tolist()]]
            np.testing.assert_array_equal(candidates, left)
            assert len(candidates) == len(likely) > 0
            dropped += len(every) - len(left)
    assert dropped
