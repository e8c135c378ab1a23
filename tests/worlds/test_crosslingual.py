"""The cross-lingual world: what each adapter is taught, no leaks, and programs judged by what they do."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from conftest import drawn

from sim.worlds import build
from sim.worlds.crosslingual import FAMILIARITY, TEMPLATES, WORKED, Config, Runs, Setting, stack, takes_inputs
from sim.worlds.crosslingual.languages import FOREIGN, INPUTS, ORDER, UNSEEN_N, UNSEEN_P, N, P

SMALL = Config(stable_functions=6, edits=4, bridges=12)
TOKENS = SMALL.tokens
CODE, *INTO = TOKENS.markers
TARGETS = "direct", "cot"


def rows(array):
    return {tuple(row) for row in np.asarray(array).tolist()}


def world(seed=0, **setting):
    return build(SMALL, seed, Setting(**setting))


def language_of(words):
    """The languages whose word for a function stands in these five words where that language puts it."""
    return {
        language
        for language, order in enumerate(ORDER)
        if words[order.index("f")] in TOKENS.functions[language]
    }


def words_of(language):
    """Every token that a language speaks with, but the names of the inputs in P."""
    spoken = [TOKENS.functions[language], TOKENS.particles[language]]
    return set(
        np.concatenate(spoken + ([] if language in (P, UNSEEN_P) else [TOKENS.inputs[language]])).tolist()
    )


def instructions(program):
    return tuple(int(token) - TOKENS.code for token in program)


def every_setting():
    """Every familiarity with every template, and then the wider material worked in it."""
    narrow = [{"familiarity": f, "template": t} for f, t in itertools.product(FAMILIARITY, TEMPLATES)]
    return [*narrow, *({"familiarity": f, "template": "both", "worked": "known"} for f in FAMILIARITY)]


def test_every_token_has_one_use():
    used = [
        TOKENS.functions[:UNSEEN_P],
        TOKENS.functions[UNSEEN_P, SMALL.stable_functions :],
        TOKENS.particles[:UNSEEN_P],
        TOKENS.inputs[1:UNSEEN_P],
    ]
    tokens = np.concatenate([np.ravel(each) for each in used])
    assert sorted([*tokens, *range(TOKENS.code, SMALL.vocab)]) == list(range(SMALL.vocab))
    assert TOKENS.inputs[P].tolist() == [TOKENS.code + len(stack.INSTRUCTIONS) + k for k in range(INPUTS)]


@pytest.mark.parametrize("setting", every_setting(), ids=lambda s: "/".join(s.values()))
def test_the_data_sets_are_disjoint(setting):
    """No program where the language is taught, no word of N where the functions are."""
    sample = world(**setting)
    facts = {name: drawn(sample.data[name]["facts"]) for name in ("language", "functions", "joint")}
    of_n = words_of(N) | words_of(UNSEEN_N)
    assert (
        set(facts["language"][:, 5]) == {INTO[P]}
        and not (facts["language"] >= TOKENS.code)[:, 6:].all(1).any()
    )
    body = range(TOKENS.code, TOKENS.code + len(stack.INSTRUCTIONS))
    assert not np.isin(facts["language"], body).any() and CODE not in facts["language"]
    assert set(facts["functions"][:, 5]) == {CODE} and not np.isin(facts["functions"], list(of_n)).any()
    assert rows(facts["language"]) | rows(facts["functions"]) == rows(facts["joint"])
    shared = TEMPLATES[setting["template"]][1] * 3 * SMALL.bridges
    languages = len(WORKED[setting.get("worked", "pivot")])
    own = TEMPLATES[setting["template"]][1] * languages * SMALL.edits * INPUTS * (INPUTS - 1)
    counts = {"language": shared, "functions": shared + own, "joint": shared + own}
    new = np.append(
        TOKENS.functions[:UNSEEN_P, SMALL.stable_functions :],
        TOKENS.functions[UNSEEN_P, SMALL.stable_functions :],
    )
    for name, count in counts.items():
        traces = drawn(sample.data[name]["traces"])
        assert not np.isin(traces, list(of_n)).any() and len(traces) == count
        assert np.isin(traces, new).any(axis=1).sum() == count - shared


@pytest.mark.parametrize("setting", every_setting(), ids=lambda s: "/".join(s.values()))
def test_no_question_and_no_answer_of_the_target_is_in_any_training_set(setting):
    sample = world(**setting)
    training = [
        *sample.pretraining.values(),
        *(group for data in sample.data.values() for group in data.values()),
    ]
    seen = [drawn(group) for group in training]
    pretrained = np.concatenate([drawn(group)[:, -5:-2] for group in sample.pretraining.values()])
    assert not rows(pretrained) & {tuple(row[-5:-2]) for row in sample.probes["direct"].tokens.tolist()}
    requests = {tuple(row[:5]) for name in TARGETS for row in sample.probes[name].tokens.tolist()}
    bodies = {tuple(row[-5:-2]) for row in sample.probes["direct"].tokens.tolist()}
    for group in seen:
        for row in group.tolist():
            if tuple(row[:5]) in requests:  # requests are taught as paraphrases only
                assert row[5] in INTO
            if tuple(row[-5:-2]) in bodies:  # a new body is asked for in P, or by trace in a known language
                spoken = language_of(row[:5])
                assert (spoken & {P, UNSEEN_P} and row[5] == CODE) or (
                    spoken & {P, UNSEEN_P, *FOREIGN} and row[5] == INTO[P] and setting["template"] != "none"
                )
    old_questions = rows(sample.probes["known"].tokens) | rows(sample.probes["known_cot"].tokens)
    untouched = rows(sample.probes["untouched_direct"].tokens) | rows(sample.probes["untouched_cot"].tokens)
    assert not any((old_questions | untouched) & rows(group) for group in seen)


def test_untouched_functions_have_no_code_in_that_language():
    sample = world(3)
    coded = {
        (row[0], *row[:5])
        and min(set(row[:5]) & set(TOKENS.functions[list(FOREIGN)].ravel().tolist()), default=-1)
        for name in ("direct", "traces")
        for row in drawn(sample.pretraining[name]).tolist()
    }
    for row in sample.probes["untouched_cot"].tokens.tolist():
        (word,) = set(row[:5]) & set(TOKENS.functions[list(FOREIGN)].ravel().tolist())
        assert word not in coded
    shown = {name: rows(drawn(sample.pretraining[name])[:, :5]) for name in ("direct", "traces")}
    assert not shown["direct"] & shown["traces"]


def test_words_that_are_unseen_are_in_no_pretraining_and_the_others_are():
    unseen = words_of(UNSEEN_N) | set(TOKENS.functions[UNSEEN_P, SMALL.stable_functions :].tolist())
    seen = {token for group in world().pretraining.values() for token in drawn(group).ravel().tolist()}
    assert not seen & unseen and seen | unseen == set(range(SMALL.vocab))
    for name, roles in FAMILIARITY.items():
        sample = world(familiarity=name)
        words = set(sample.probes["direct"].tokens[:, :5].ravel().tolist())
        assert bool(words & unseen) == ("language" in roles)
        assert bool(set(sample.probes["functions"].tokens[:, ORDER[P].index("f")].tolist()) & unseen) == (
            "functions" in roles
        )


@pytest.mark.parametrize("name", FAMILIARITY)
def test_the_parts_chain_to_the_target(name):
    """Paraphrases of adapter "language" are requests of "functions", whose programs are the answers."""
    probes = world(1, familiarity=name).probes
    np.testing.assert_array_equal(probes["language"].target, probes["functions"].tokens[:, :5])
    np.testing.assert_array_equal(probes["direct"].target, probes["functions"].target)
    np.testing.assert_array_equal(probes["direct"].tokens[:, :5], probes["language"].tokens[:, :5])
    cot = probes["cot"].tokens
    expected = [
        probes["language"].tokens[:, :5],
        np.full((4, 1), INTO[P]),
        probes["functions"].tokens,
    ]
    np.testing.assert_array_equal(cot, np.concatenate(expected, axis=1))
    for step in probes["cot"].layout.steps:
        (own,) = probes[step.name].layout.steps
        np.testing.assert_array_equal(cot[:, step.positions], probes[step.name].tokens[:, own.positions])
    for probe in (probes["cot"], probes["functions"]):
        for positions, source in probe.layout.copies:
            np.testing.assert_array_equal(probe.tokens[:, positions], probe.tokens[:, source])


def test_a_request_means_the_same_in_every_language():
    """Read word by word and put into the pivot's order, a paraphrase gives itself."""
    meaning = {}
    for language in range(UNSEEN_P):
        for concept, (role, table) in itertools.product(
            range(SMALL.stable_functions + SMALL.edits), (("f", TOKENS.functions), ("i", TOKENS.inputs))
        ):
            if concept < table.shape[1]:
                meaning[int(table[language, concept])] = role, concept
    for row in drawn(world(2).pretraining["paraphrases"]).tolist():
        requests = []
        for words in (row[:5], row[6:]):
            (language,) = {i for i in range(UNSEEN_P) if words[ORDER[i].index("p")] == TOKENS.particles[i, 0]}
            requests.append([meaning[words[ORDER[language].index(role)]] for role in "fab"])
        assert requests[0] == requests[1]


def test_bodies_compute_different_things():
    """Old, known and new bodies, on inputs of the test's own: a guess by execution is one by string."""
    sample = world(4)
    programs = np.concatenate([sample.pretraining["facts"].target, sample.probes["functions"].target])
    bodies = sorted(rows(programs[:, :3]))
    assert len(bodies) == SMALL.stable_functions + 2 * SMALL.edits
    start = np.tile([10, 11], (len(bodies), 1))
    full = np.concatenate([start, np.asarray(bodies)[:, ::-1] - TOKENS.code], axis=1)
    results, runs = stack.run(full, np.random.default_rng(5).integers(0, 97, (12, 2)), np)
    assert runs.all() and len(rows(results)) == len(bodies)


def test_answers_are_balanced_and_chance_is_a_guess_among_them():
    for seed in range(3):
        probes = world(seed).probes
        for name, count in (("direct", SMALL.edits), ("known", SMALL.stable_functions)):
            assert len(rows(probes[name].target)) == count == len(probes[name].tokens)
            assert len(rows(probes[name].target[:, 3:])) == 1  # one pair of inputs, so they give nothing away
        chances = {
            name: probe.layout.chance for name, probe in probes.items() if probe.layout.chance is not None
        }
        assert chances == {"direct": 1 / SMALL.edits}
    lessons = drawn(world().data["functions"]["facts"])
    assert len(lessons) == SMALL.edits * INPUTS * (INPUTS - 1) == len(rows(lessons))


def test_judges_look_at_what_a_program_does():
    """Prefix notation: the inputs are pushed from the right, then the body runs from the right."""
    names = {name: TOKENS.code + k for k, name in enumerate((*stack.INSTRUCTIONS, "a", "b", "c", "d"))}

    def sequences(*programs):
        rows = [[7] * 6 + [names[word] for word in program.split()] for program in programs]
        return np.asarray(rows, np.int32)

    right = sequences("DROP DUP ADD a b", "NEG INC SUB a b", "INC INC MUL a b", "INC INC ADD c d")
    written = sequences("DROP DUP ADD b a", "INC INC MUL a b", "ADD ADD ADD a b", "INC INC ADD d c")
    judged = jax.jit(lambda *both: [Runs(TOKENS.code, any=each)(*both) for each in (False, True)])
    runs, anything = (value.tolist() for value in judged(written, right))
    assert runs == [True, False, False, True] and anything == [True, True, False, True]
    assert takes_inputs(written, right).tolist() == [False, True, True, False]
    assert Runs(TOKENS.code) == Runs(TOKENS.code) and hash(Runs(TOKENS.code)) == hash(Runs(TOKENS.code))


def test_traces_are_in_pretraining_where_the_setting_puts_them():
    with_it, without = (world(template=t).pretraining["traces"].weight.any() for t in ("pretraining", "data"))
    assert with_it and not without


def test_bridges_are_traces_that_both_adapters_share():
    sample = world()
    shared = {name: rows(drawn(sample.data[name]["traces"])) for name in sample.data}
    assert len(shared["bridge"]) == 3 * SMALL.bridges and shared["bridge"] == shared["language"]
    assert shared["bridge"] < shared["functions"] == shared["joint"]
    assert not drawn(sample.data["bridge"]["facts"]).size
    assert shared["bridge"] <= rows(drawn(sample.pretraining["traces"]))


def test_too_few_requests_for_the_bridges_are_refused():
    with pytest.raises(ValueError, match="requests serve as bridges, not 500"):
        build(dataclasses.replace(SMALL, bridges=500), 0, Setting())
