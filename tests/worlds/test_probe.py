"""Questions that carry their layout: scoring by hand, the oracle's gates, layouts of the two-hop world."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sim.worlds import Layout, Probe, Step
from sim.worlds.probe import NOT_APPLICABLE, score
from sim.worlds.two_hop import Config, build

WORLD = Config(entities=24, relations=4, edits=4, bridges=8)

# a question of two tokens; "copy, step one, word, step two, step three" after it
TRACE = Layout(
    steps=(Step("one", 0, (3,)), Step("two", 1, (5,)), Step("three", 0, (6,))), copies=(((2,), (0,)),)
)


def scored(layout, target, written, name="cot", prompt=2):
    target, written = np.asarray(target, np.int32), np.asarray(written, np.int32)
    given = np.tile(np.asarray([[7, 8]], np.int32), (len(target), 1))
    probe = Probe(np.concatenate([given, target], axis=1), np.ones(len(target)), prompt, layout)
    return {metric: value.tolist() for metric, value in score(name, probe, jnp.asarray(written)).items()}


def test_a_trace_of_three_steps_by_hand():
    right = [7, 1, 9, 2, 3]
    rows = [right, [7, 1, 9, 2, 0], [7, 1, 9, 0, 3], [7, 0, 9, 2, 3], [0, 1, 9, 2, 3], [7, 1, 0, 2, 3]]
    assert scored(TRACE, [right] * 6, rows) == {
        "cot_exact": [1, 0, 0, 0, 0, 0],
        "cot_answer": [1, 0, 1, 1, 1, 1],
        "cot_template": [1, 1, 1, 1, 1, 0],
        "cot_copied": [1, 1, 1, 1, 0, 1],
        "cot_one": [1, 1, 1, 0, 1, 1],
        "cot_two_given_one": [1, 1, 0, NOT_APPLICABLE, 1, 1],
        "cot_three_given_two": [1, 0, NOT_APPLICABLE, NOT_APPLICABLE, 1, 1],
    }


def test_a_question_of_one_step_is_right_or_wrong():
    layout = Layout(steps=(Step("a", 0, (2, 3)),))
    assert scored(layout, [[1, 2], [1, 2]], [[1, 2], [1, 0]], "hop1") == {"hop1": [1, 0]}


def test_answers_of_other_questions_are_among_the_answers():
    target = [[1, 2], [3, 4], [5, 6]]
    outcomes = scored(Layout(chance=1 / 3), target, [[3, 4], [3, 2], [5, 6]], "direct")
    assert outcomes == {
        "direct": [0, 0, 1],
        "direct_among_answers": [1, 0, 1],
        "direct_given_among_answers": [0, NOT_APPLICABLE, 1],
    }


def same_sum(written, right):
    """A judge: the completion adds up to what the right one adds up to, whatever its order."""
    return written[:, 2:].sum(axis=1) == right[:, 2:].sum(axis=1)


def test_a_judge_looks_at_the_meaning():
    outcomes = scored(Layout(judges=(("adds_up", same_sum),)), [[1, 4]] * 3, [[1, 4], [4, 1], [1, 1]], "sum")
    assert outcomes == {"sum": [1, 0, 0], "sum_adds_up": [1, 1, 0]}


# x r A y SEP y s A z after a prompt of four tokens, names of one token
TRUTH = np.asarray([[1, 50, 51, 61, 1, 50, 60, 2, 62, 2, 51, 60, 3]], np.int32)


@pytest.mark.parametrize(
    ("spoilt", "wrong"),
    [
        ((), ()),
        ((0,), ("copied",)),
        ((2,), ("template",)),
        ((3,), ("hop1", "copied")),
        ((5,), ("copied",)),
        ((8,), ("answer", "hop2_given_hop1")),
        ((3, 5), ("hop1",)),  # a wrong bridge copied faithfully is an error of the hop, not of the copy
    ],
)
def test_steps_of_a_two_hop_trace(spoilt, wrong):
    written = TRUTH[:, 4:].copy()
    written[:, list(spoilt)] = 9
    layout = build(WORLD, 0).probes["cot"].layout
    outcomes = score("cot", Probe(TRUTH, np.ones(1, np.float32), 4, layout), jnp.asarray(written))
    exact = int(outcomes.pop("cot_exact")[0])
    assert exact == (not spoilt)
    bad = {name.removeprefix("cot_") for name, value in outcomes.items() if value[0] == 0}
    assert bad == set(wrong)
    assert (outcomes["cot_hop2_given_hop1"][0] == NOT_APPLICABLE) == ("hop1" in wrong)


class TestOracle:
    def probe(self, name, **changes):
        return build(dataclasses.replace(WORLD, **changes), 0).probes[name]

    def test_gates_follow_the_trace(self):
        # x r s THINK | x r ANSWER y | SEP y s ANSWER z
        expected = [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
        np.testing.assert_array_equal(self.probe("cot").gates(2)[:, 1], expected)
        # x r s ANSWER z
        np.testing.assert_array_equal(self.probe("direct").gates(2)[:, 1], [0, 0, 1, 1, 1])

    def test_gates_of_names_of_two_tokens(self):
        # x x r s THINK | x x r ANSWER y y | SEP y y s ANSWER z z
        expected = [0, 0, 0, 1, 0] + [0] * 6 + [1] * 7
        np.testing.assert_array_equal(self.probe("cot", name_tokens=2).gates(2)[:, 1], expected)

    @pytest.mark.parametrize(("name", "choice"), [("hop1", [1, 0]), ("hop2", [0, 1]), ("untouched", [0, 0])])
    def test_one_hop_questions_go_to_their_adapter(self, name, choice):
        rows = self.probe(name).gates(2)
        np.testing.assert_array_equal(rows, np.tile(choice, (len(rows), 1)))

    def test_an_owner_for_every_position_or_a_clear_error(self):
        probe = Probe(TRUTH, np.ones(1, np.float32), 4, Layout(owner=(0, 1)))
        with pytest.raises(ValueError, match="the owner of 2 positions, not of 13"):
            probe.gates(2)


@pytest.mark.parametrize("name_tokens", [1, 2])
def test_steps_hold_the_answers_of_their_own_questions(name_tokens):
    world = build(dataclasses.replace(WORLD, name_tokens=name_tokens), 0)
    cot = world.probes["cot"]
    for step in cot.layout.steps:
        assert world.parts[step.part] == step.name
        np.testing.assert_array_equal(cot.tokens[:, list(step.positions)], world.probes[step.name].target)
    for positions, source in cot.layout.copies:
        np.testing.assert_array_equal(cot.tokens[:, list(positions)], cot.tokens[:, list(source)])
    everything = [*cot.scaffold, *(at for step in cot.layout.steps for at in step.positions)]
    assert sorted(everything) == list(range(cot.prompt, cot.tokens.shape[1]))
    assert set(cot.template) < set(cot.scaffold)


def test_the_bound_is_the_likeliest_answer_of_the_questions_picked():
    nulls = {
        "without_a": np.array([[0.5, 0.5, 0], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]),
        "without_b": np.array([[0.1, 0, 0.9], [0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]]),
    }
    target = np.array([[3, 4], [3, 5], [3, 6]], np.int32)
    probe = Probe(target, np.ones(3, np.float32), 1, Layout(chance=1 / 3), nulls)
    assert probe.bound(np.array([True, True, True])) == pytest.approx((0.9 + 0.5 + 1 / 3) / 3)
    assert probe.bound(np.array([False, True, True])) == pytest.approx(0.5)
    assert np.isnan(probe.bound(np.zeros(3, bool)))
    assert dataclasses.replace(probe, nulls={}).bound(np.ones(3, bool)) == 1 / 3
    # Two questions of one answer: it is right for either.
    shared = dataclasses.replace(probe, tokens=np.array([[3, 4], [3, 4], [3, 6]], np.int32))
    assert shared.bound(np.array([True, True, True])) == pytest.approx((1 + 0.6 + 0.6) / 3)


def test_chance_is_a_guess_among_the_edited_answers():
    probes = build(WORLD, 0).probes
    chances = {name: probe.layout.chance for name, probe in probes.items()}
    assert {name: value for name, value in chances.items() if value is not None} == {"direct": 1 / 4}
    assert len({tuple(row) for row in probes["direct"].target.tolist()}) == 4
