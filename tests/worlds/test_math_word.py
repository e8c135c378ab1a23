"""Math word problems: well formed, balanced, taught apart; a reader of its own checks what is written."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drawn

from sim.worlds import JOINT
from sim.worlds.math_word import FORMS, PARTS, TEMPLATES, TRACES, VERBS, Config, Setting, build, meanings
from sim.worlds.math_word.problems import ANSWER, EQUATION, PROGRAM, PROSE, Grammar, Machine, Reusable, Solved

SMALL = Config(
    prime=7, operations=8, names=3, objects=2, pretraining_paraphrases=3, wordings=1, test_paraphrases=1,
    longer=40, bridges=20,
)  # fmt: skip
WORDS, MACHINE = SMALL.grammar.words, SMALL.grammar.machine
ROLES = np.arange(SMALL.operations, SMALL.grammar.verbs).reshape(3, 2, SMALL.verbs)


def kind(token):
    """(kind of word, its number among those)."""
    name = [name for name, start in WORDS.items() if start <= token][-1]
    return name, int(token) - WORDS[name]


@dataclasses.dataclass(frozen=True)
class Read:
    """A problem as a reader understands it."""

    n: int
    verbs: tuple[int, ...]
    bystander: int
    mark: int
    completion: tuple[int, ...]


def read(row, prompt):
    """Understand a sequence, or fail if it is no problem."""
    row = np.asarray(row).tolist()
    (hero_kind, hero), (_, n), (object_kind, _) = map(kind, row[:3])
    assert (hero_kind, object_kind) == ("name", "object") and row[1] < SMALL.prime
    steps, bystanders = {}, []
    for at in range(3, prompt - 1, 3):
        (word, number), *others = map(kind, row[at : at + 3])
        fields = dict(others)
        assert set(fields) == {"name", "verb"}
        if word == "ordinal":
            assert fields["name"] == hero
            steps[number // 2] = fields["verb"]
        else:
            assert word == "meanwhile" and fields["name"] != hero
            bystanders.append(fields["verb"])
    assert list(steps) == list(range(len(steps))) and len(bystanders) == 1
    mark, number = kind(row[prompt - 1])
    assert mark == "mark"
    return Read(n, tuple(steps.values()), bystanders[0], number, tuple(row[prompt:]))


def problems(group):
    return [read(row, group.prompt) for row in drawn(group)]


def final(problem):
    """The last number of a solution; a program is run by hand."""
    if problem.mark != PROGRAM:
        return problem.completion[-1]
    value = {}
    for at in range(0, len(problem.completion), 4):
        argument, operation, arrow, variable = problem.completion[at : at + 4]
        assert arrow == WORDS["arrow"] and variable == WORDS["variable"]
        slope, offset = MACHINE.operations[operation - WORDS["operation"]]
        value[variable] = (slope * value.get(argument, argument) + offset) % SMALL.prime
    return value[WORDS["variable"]]


def effects(groups):
    """{(verb, quantity): result} of one-step problems, whatever the form; they must agree."""
    results = {}
    for problem in itertools.chain.from_iterable(map(problems, groups)):
        ((verb,), result) = problem.verbs, final(problem)
        assert results.setdefault((verb, problem.n), result) == result
    return results


@pytest.fixture(scope="module")
def worlds():
    """A world of seed 0 for every choice of verbs and form."""
    return {(v, form): build(SMALL, 0, Setting(v, "both", form, bridges=5)) for v in VERBS for form in FORMS}


EVERY = [(verbs, form) for verbs in VERBS for form in FORMS]


@pytest.mark.parametrize("which", EVERY, ids="/".join)
def test_questions_follow_from_what_the_adapters_are_taught(worlds, which):
    world = worlds[which]
    taught = [effects([world.data[part]["facts"]]) for part in PARTS]
    assert not taught[0].keys() & taught[1].keys()
    assert effects([world.data[JOINT]["facts"]]) == taught[0] | taught[1]
    for part, facts in zip(PARTS, taught, strict=True):
        assert effects([world.probes[part]]) == facts and len(facts) == SMALL.verbs * SMALL.prime
    for name in ("direct", *TRACES.values()):
        for problem in problems(world.probes[name]):
            value = problem.n
            for step, verb in enumerate(problem.verbs):
                value = taught[step % 2][verb, value]
            assert final(problem) == value
            assert problem.mark == (ANSWER if name == "direct" else FORMS[which[1]][0])


@pytest.mark.parametrize("which", EVERY, ids="/".join)
def test_no_training_sequence_holds_a_question_or_both_families(worlds, which):
    world = worlds[which]
    families = [set(family) for family in ROLES[VERBS.index(which[0])].tolist()]
    for name, groups in {"": world.pretraining, **world.data}.items():
        for problem in itertools.chain.from_iterable(map(problems, groups.values())):
            families_present = [bool(family & set(problem.verbs)) for family in families]
            assert not all(families_present)
            if which[0] != "heard" or name:
                assert problem.bystander not in families[0] | families[1]
            if name in PARTS:
                assert not families_present[1 - PARTS.index(name)]
    for name, depth in {"direct": 2, **{probe: depth for depth, probe in TRACES.items()}}.items():
        for problem in problems(world.probes[name]):
            assert len(problem.verbs) == depth
            assert all(verb in families[step % 2] for step, verb in enumerate(problem.verbs))


@pytest.mark.parametrize("which", EVERY, ids="/".join)
def test_every_answer_is_right_equally_often(worlds, which):
    for name in ("direct", *TRACES.values()):
        questions = problems(worlds[which].probes[name])
        counts = np.bincount([final(problem) for problem in questions], minlength=SMALL.prime)
        assert len(set(counts.tolist())) == 1
    assert worlds[which].probes["direct"].layout.chance == 1 / SMALL.prime
    questions = problems(worlds[which].probes["direct"])
    assert len({(problem.n, problem.verbs) for problem in questions}) == SMALL.prime * SMALL.verbs**2


def test_meanings_are_drawn_so_that_half_a_solution_is_a_guess():
    """The same for many draws, by the operations alone; a new operation is of its family's half."""
    everywhere, each = np.arange(SMALL.prime), SMALL.verbs

    def does(operation, n):
        slope, offset = MACHINE.operations[operation]
        return (slope * n + offset) % SMALL.prime

    for seed in range(50):
        old, new = meanings(np.random.default_rng(seed), SMALL)
        assert (new[:each] < SMALL.operations // 2).all() and (new[each:] >= SMALL.operations // 2).all()
        for trade, craft in itertools.product(range(each), range(each, 2 * each)):
            right = does(new[craft], does(new[trade], everywhere))
            for first, second in ((new, old), (old, new), (old, old)):
                assert (does(second[craft], does(first[trade], everywhere)) == right).sum() == 1
            for answers in (everywhere, does(new[trade], everywhere), does(new[craft], everywhere)):
                assert (answers == right).sum() == 1


@pytest.mark.parametrize("seed", range(3))
def test_half_a_solution_is_right_no_more_often_than_a_guess(seed):
    """Steps left out, or taken in the verbs' old meaning: right for exactly one quantity of all."""
    world = build(SMALL, seed, Setting("real"))
    old = effects([world.pretraining["facts"]])
    new = [effects([world.data[part]["facts"]]) for part in PARTS]
    everywhere = range(SMALL.prime)
    for trade, craft in itertools.product(*ROLES[0].tolist()):
        right = [new[1][craft, new[0][trade, n]] for n in everywhere]
        halves = {
            "nothing": [n for n in everywhere],
            "trade alone": [new[0][trade, n] for n in everywhere],
            "craft alone": [new[1][craft, n] for n in everywhere],
            "old trade": [new[1][craft, old[trade, n]] for n in everywhere],
            "old craft": [old[craft, new[0][trade, n]] for n in everywhere],
            "both old": [old[craft, old[trade, n]] for n in everywhere],
        }
        for what, answer in halves.items():
            assert sum(a == b for a, b in zip(answer, right, strict=True)) == 1, what


@pytest.mark.parametrize("verbs", VERBS)
def test_pretraining_knows_taught_verbs_as_the_setting_says(worlds, verbs):
    world, taught = worlds[verbs, "prose"], set(ROLES[VERBS.index(verbs)].ravel().tolist())
    shown = list(itertools.chain.from_iterable(map(problems, world.pretraining.values())))
    assert bool(taught & {verb for problem in shown for verb in problem.verbs}) == (verbs == "real")
    assert (taught <= {problem.bystander for problem in shown}) == (verbs == "heard")
    if verbs == "fake":
        tokens = np.concatenate([np.unique(group.tokens) for group in world.pretraining.values()])
        assert not np.isin(WORDS["verb"] + np.array(list(taught)), tokens).any()


def test_pretraining_is_of_one_mind_and_knows_every_operation_in_every_form(worlds):
    world = worlds["real", "prose"]
    old = effects([world.pretraining["facts"]])
    assert len(old) == SMALL.pretraining_verbs * SMALL.prime
    for group in world.pretraining.values():
        for problem in problems(group):
            value = problem.n
            for verb in problem.verbs:
                value = old[verb, value]
            assert final(problem) == value
    marks = {problem.mark for problem in problems(world.pretraining["facts"])}
    assert marks == {PROSE, EQUATION, PROGRAM, ANSWER}
    named = set(drawn(world.pretraining["facts"])[:, 11].tolist())
    assert named >= set(range(WORDS["operation"], WORDS["operation"] + SMALL.operations))
    weight = np.asarray(world.pretraining["facts"].weight)[
        drawn(world.pretraining["facts"])[:, 9] == WORDS["mark"] + ANSWER
    ]
    assert weight.sum() == pytest.approx(world.pretraining["facts"].weight.sum() / 2)


@pytest.mark.parametrize("template", TEMPLATES)
def test_solutions_are_where_the_setting_puts_them(template):
    in_pretraining, in_data = TEMPLATES[template]
    world = build(SMALL, 0, Setting("real", template, "prose_program", bridges=3))
    written = [p.mark != ANSWER for group in world.pretraining.values() for p in problems(group)]
    assert any(written) == in_pretraining
    for part, form in zip(PARTS, (PROSE, PROGRAM), strict=True):
        marks = [problem.mark for problem in problems(world.data[part]["facts"])]
        assert set(marks) == ({ANSWER, form} if in_data else {ANSWER})
        bridges = problems(world.data[part]["traces"])
        assert [problem.mark for problem in bridges] == [form] * 3 * in_data
        assert all(verb < SMALL.operations for problem in bridges for verb in problem.verbs)
        assert {problem.mark for problem in problems(world.probes[part])} == {form if in_data else ANSWER}
    bridge = world.data["bridge"]
    assert [problem.mark for problem in problems(bridge["traces"])] == [PROSE] * 3
    assert not drawn(bridge["facts"]).size


def test_untouched_problems_are_unseen_and_no_bridges():
    world = build(SMALL, 0, Setting(bridges=SMALL.bridges))
    shown = {(p.n, p.verbs) for g in ("direct", "traces") for p in problems(world.pretraining[g])}
    bridges = {(p.n, p.verbs) for p in problems(world.data[JOINT]["traces"])}
    for name in ("untouched_direct", "untouched_cot"):
        questions = {(problem.n, problem.verbs) for problem in problems(world.probes[name])}
        assert questions and not questions & (shown | bridges)
        assert all(verb < SMALL.operations for _, verbs in questions for verb in verbs)


def test_cells_of_a_seed_share_the_new_meanings(worlds):
    first = worlds["real", "prose"]
    for world in worlds.values():
        answers = [effects([world.data[part]["facts"]]).values() for part in PARTS]
        wanted = [effects([first.data[part]["facts"]]).values() for part in PARTS]
        assert [list(values) for values in answers] == [list(values) for values in wanted]


@pytest.mark.parametrize("form", FORMS)
def test_layouts_say_what_stands_where(worlds, form):
    world = worlds["real", form]
    for name in TRACES.values():
        probe = world.probes[name]
        for to, source in probe.layout.copies:
            assert np.array_equal(probe.tokens[:, to], probe.tokens[:, source])
        for index, step in enumerate(probe.layout.steps):
            words, values = (probe.tokens[:, at] for at in step.positions)
            verbs = np.array([problem.verbs[index] for problem in problems(probe)])
            if FORMS[form][0] == PROSE:
                np.testing.assert_array_equal(words - WORDS["verb"], verbs)
            else:
                assert all(kind(word)[0] == "operation" for word in words)
            assert np.all((values < SMALL.prime) | (values == WORDS["variable"]))
            assert step.part == index % 2
        # the router reads a step's sentence, and writes its statement, with the step's own adapter
        owner, sentences = np.array(probe.layout.owner), np.arange(3, probe.prompt - 1).reshape(-1, 3)
        assert len(owner) == probe.tokens.shape[1]
        assert owner[sentences[1]].tolist() == [-1] * 3
        for index, sentence in enumerate(np.delete(sentences, 1, axis=0)):
            assert set(owner[sentence]) == {index % 2}
        statements = owner[probe.prompt :].reshape(-1, 4)
        assert [set(row) for row in statements.tolist()] == [{i % 2} for i in range(len(statements))]


THREE = Machine(7, ((2, 1), (3, 0), (6, 5)), first_operation=20, arrow=30, variable=31)
"""20: 2 n + 1. 21: 3 n. 22: 6 n + 5."""

PROGRAMS = {
    "one statement": ([4, 20, 30, 31], 2),
    "modulo the prime": ([6, 21, 30, 31], 4),
    "two statements": ([4, 20, 30, 31, 31, 22, 30, 31], 3),
    "a literal starts anew": ([4, 20, 30, 31, 1, 21, 30, 31], 3),
    "no operation": ([4, 19, 30, 31], -1),
    "beyond the operations": ([4, 23, 30, 31], -1),
    "no arrow": ([4, 20, 29, 31], -1),
    "nothing assigned": ([4, 20, 30, 5], -1),
    "no value yet": ([31, 20, 30, 31], -1),
    "broken stays broken": ([4, 19, 30, 31, 31, 20, 30, 31], -1),
    "a later statement is broken": ([4, 20, 30, 31, 31, 20, 29, 31], -1),
    "no number": ([9, 20, 30, 31], -1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_programs_run_as_they_should(name):
    program, result = PROGRAMS[name]
    assert THREE.run(jnp.asarray([program], jnp.int32)).tolist() == [result]


def judged(judge, written, right):
    verdict = jax.jit(judge)(jnp.asarray([[99, *written]], jnp.int32), jnp.asarray([[99, *right]], jnp.int32))
    return bool(verdict[0])


def test_a_solution_is_judged_by_what_it_says_or_does():
    solved, reusable = Solved(THREE, 1), Reusable(THREE, 1)
    right = [4, 20, 30, 31]
    lucky = [3, 21, 30, 31]  # 3 * 3 = 2 * 4 + 1, but 3 n is another function
    assert judged(solved, right, right) and judged(reusable, right, right)
    assert judged(solved, lucky, right) and not judged(reusable, lucky, right)
    assert judged(reusable, [0, 20, 30, 31], right) and not judged(solved, [0, 20, 30, 31], right)
    assert judged(solved, [4, 50, 51, 2], [4, 52, 51, 2]) and not judged(
        solved, [4, 50, 51, 3], [4, 50, 51, 2]
    )
    assert not judged(solved, [4, 19, 30, 31], [4, 19, 30, 31])
    assert not judged(reusable, [4, 50, 51, 2], [4, 50, 51, 2])  # prose names no operation
    assert solved == Solved(THREE, 1) and hash(reusable) == hash(Reusable(THREE, 1))


def test_no_operation_is_a_shift_and_all_differ():
    machine = Grammar(11, 2, 2, 2, 12).machine
    assert len(set(machine.operations)) == 12
    assert all(2 <= slope < 11 and 0 <= offset < 11 for slope, offset in machine.operations)


def test_without_longer_problems_no_question_is_longer():
    world, deep = (build(dataclasses.replace(SMALL, longer=longer), 0) for longer in (0, 40))
    assert deep.pretraining.keys() - world.pretraining.keys() == {"traces3", "traces4"}
    assert deep.probes.keys() - world.probes.keys() == {"cot3", "cot4"}
    for name, group in world.pretraining.items():
        np.testing.assert_array_equal(group.tokens, deep.pretraining[name].tokens)


def test_too_few_untouched_problems_are_refused():
    with pytest.raises(ValueError, match="held-out problems serve where 5000 are asked for"):
        build(dataclasses.replace(SMALL, bridges=5000), 0)


def test_too_few_operations_for_meanings_are_refused():
    config = dataclasses.replace(SMALL, operations=2, verbs=1)
    with pytest.raises(ValueError, match="operations 2 are too few for 1 verbs an adapter"):
        meanings(np.random.default_rng(0), config)
