"""Questions of hops, token by token: how they are written, and which position is what."""

import numpy as np
import pytest

from sim.worlds import hops
from sim.worlds.building import columns, group, join, reweigh

ANSWER, THINK, SEP = 90, 91, 92
WORDINGS = np.array([[ANSWER, THINK, SEP], [93, 94, 95]])
NAMES = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
WRITE = hops.Writer(NAMES, 80, WORDINGS)
WAY = hops.ways(([0], [1], [2]), (0, [1]))
X, Y, Z = NAMES[:3].tolist()


@pytest.mark.parametrize(
    ("sequences", "tokens", "prompt"),
    [
        (WRITE.fact([0], 1, [3]), [*X, 81, ANSWER, 7, 8], 4),
        (WRITE.direct(WAY), [*X, 80, 81, ANSWER, *Z], 5),
        (
            WRITE.trace(WAY),
            [*X, 80, 81, THINK, *X, 80, ANSWER, *Y, SEP, *Y, 81, ANSWER, *Z],
            5,
        ),
        (WRITE.trace(WAY, 1.0, 1), [*X, 80, 81, 94, *X, 80, 93, *Y, 95, *Y, 81, 93, *Z], 5),
        (
            WRITE.trace(WAY, reverse=True),
            [*X, 80, 81, THINK, *Y, 81, ANSWER, *Z, SEP, *X, 80, ANSWER, *Y],
            5,
        ),
    ],
)
def test_sequences(sequences, tokens, prompt):
    assert sequences.tokens.tolist() == [tokens] and sequences.prompt == prompt


def test_a_fact_is_one_step_of_its_own_adapter():
    layout = hops.one_hop(2, "hop2", 1)
    (step,) = layout.steps
    assert (step.name, step.part, step.positions) == ("hop2", 1, (4, 5)) and layout.owner == (1,) * 6


def test_a_direct_question_changes_hands_at_the_last_relation():
    layout = hops.direct(2, 3, 10)
    assert layout.owner == (0,) * 4 + (1,) * 4 and layout.chance == 0.1 and layout.steps == ()


def test_a_trace_has_its_answers_as_steps_and_its_subjects_as_copies():
    layout = hops.trace(2, ("a", "b"))
    assert [(step.name, step.part, step.positions) for step in layout.steps] == [
        ("a", 0, (9, 10)),
        ("b", 1, (16, 17)),
    ]
    assert layout.copies == (((5, 6), (0, 1)), ((12, 13), (9, 10)))
    assert layout.owner == (0, 0, 0, 1, 0, *(0,) * 6, *(1,) * 7)


def test_blocks_columns_and_single_tokens_make_sequences():
    tokens = columns(np.array([[1, 2], [3, 4]]), np.array([5, 6]), 7)
    assert tokens.tolist() == [[1, 2, 5, 7], [3, 4, 6, 7]] and tokens.dtype == np.int32
    assert columns(np.array([1, 2]), 3).tolist() == [[1, 3], [2, 3]]
    both = join(group(tokens, True, 2), reweigh(group(tokens, 0, 2), [0.5, 2]))
    assert both.weight.tolist() == [1, 1, 0.5, 2] and both.weight.dtype == np.float32 and both.prompt == 2
    assert both.tokens.tolist() == [*tokens.tolist()] * 2
