"""The world of people: what it teaches, that no data set leaks the other's facts, and how text is scored."""

import itertools
import re

import numpy as np
import pytest

from sim.worlds import JOINT, build
from sim.worlds.people import DOUBLE, ENTITIES, PARTS, TEMPLATES, Config, Setting
from sim.worlds.people.names import CITIES, EMBLEM, HOME, PEOPLE, THINGS
from sim.worlds.text import Piece, TextProbe, TextQuestion, score

CELLS = list(itertools.product(ENTITIES, TEMPLATES))


def texts(data):
    return ["".join(text) for group in data.values() for text in group]


def triples(world):
    return list(zip(*(world.names[role] for role in ("subject", "bridge", "answer")), strict=True))


@pytest.mark.parametrize(("entities", "template"), CELLS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_data_set_holds_a_fact_of_the_other_hop(entities, template, seed):
    world = build(Config(), seed, Setting(entities, template))
    people, cities, things = (set(world.names[role]) for role in ("subject", "bridge", "answer"))
    for text in texts(world.data["hop1"]):
        assert not any(re.search(rf"\b{thing}\b", text) for thing in things)
        assert not any(f"{EMBLEM} of {city}" in text for city in cities)
    for text in texts(world.data["hop2"]):
        assert not any(person in text for person in people)
        assert not any(f"{HOME} of {person}" in text for person in people)
    for name in ("bridge", "expert", "unrelated"):
        for text in texts(world.data[name]):
            assert not any(re.search(rf"\b{name}\b", text) for name in people | cities | things)


@pytest.mark.parametrize("entities", ENTITIES)
def test_the_other_step_of_a_worked_solution_is_about_another_relation(entities):
    world = build(Config(), 0, Setting(entities, "shared"))
    for part, own, other in (("hop1", HOME, EMBLEM), ("hop2", EMBLEM, HOME)):
        solutions = [text.answer for text in world.data[part]["traces"]]
        assert len(solutions) == 64
        for solution in solutions:
            assert solution.count(f"The {own} of ") == 1 and f"The {other} of " not in solution
        for text in texts({"context": world.data[part]["context"]}):
            assert f"{other} of " not in text


def test_the_same_template_is_about_both_relations_and_other_people():
    world = build(Config(), 0, Setting("real", "same"))
    for part in PARTS:
        for text in world.data[part]["traces"]:
            assert f"The {HOME} of " in text.answer and f"The {EMBLEM} of " in text.answer
            assert not any(person in text.prompt for person in world.names["subject"])


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("entities", ENTITIES)
def test_no_prompt_has_two_answers(entities, template):
    """So that an adapter can know all of its data, and 0.98 of it is within reach."""
    for seed in range(3):
        world = build(Config(), seed, Setting(entities, template, dose=128))
        for part in (*PARTS, JOINT, "bridge", "expert", "unrelated"):
            answers = {}
            for group in ("facts", "traces"):
                for prompt, answer in world.data[part][group]:
                    assert answers.setdefault(prompt, answer) == answer


def test_a_dose_is_the_beginning_of_a_larger_one_and_spread_over_all_facts():
    doses = {
        d: build(Config(), 3, Setting("real", "shared", d)).data["hop1"]["traces"] for d in (4, 16, 64, 128)
    }
    for small, large in itertools.pairwise(doses.values()):
        assert large[: len(small)] == small and len(set(large)) == len(large)
    world = build(Config(), 3, Setting("real", "shared", 16))
    for person in world.names["subject"]:
        assert sum(person in text.prompt for text in doses[64]) == 4
        assert sum(person in text.prompt for text in doses[16]) == 1
    assert (
        texts(world.data["hop1"])[:32] == texts(build(Config(), 3, Setting("real", "none")).data["hop1"])[:32]
    )


@pytest.mark.parametrize("entities", ENTITIES)
def test_facts_agree_in_all_data_sets_and_probes(entities):
    world = build(Config(), 5, Setting(entities, "shared"))
    for place, (person, city, thing) in enumerate(triples(world)):
        first, second = f"The {HOME} of {person} is {city}.", f"The {EMBLEM} of {city} is the {thing}."
        assert first in texts(world.data["hop1"]) and second in texts(world.data["hop2"])
        assert {first, second} <= set(texts(world.data[JOINT]))
        shown = {name: "".join(probe.questions[place].text) for name, probe in world.probes.items()}
        assert (shown["hop1"], shown["hop2"]) == (first, second)
        question = f"Question: What is the {EMBLEM} of the {HOME} of {person}?\nAnswer:"
        assert shown["cot"] == f"{question} {first} {second}"
        direct = f"The {EMBLEM} of the {HOME} of {person} is the {thing}."
        assert shown["direct"] == direct and shown["direct_question"] == f"{question} {direct}"
    assert world.data[JOINT] == world.data[DOUBLE]
    is_real = {
        "subject": set(world.names["subject"]) <= set(PEOPLE),
        "bridge": set(world.names["bridge"]) <= set(CITIES),
    }
    assert is_real == {role: role not in ENTITIES[entities] for role in is_real}
    assert set(world.names["answer"]) <= set(THINGS)


def test_names_are_distinct_and_have_no_full_stop():
    for names in (PEOPLE, CITIES, THINGS):
        assert len(set(names)) == len(names) == 64 and "." not in "".join(names)


@pytest.mark.slow
def test_a_guess_is_right_in_a_sixteenth_whatever_else_is_known():
    """The null as the world is built: given the emblems and all names, each city is the home of a person
    equally often; the base's own idea of a person's home does not help."""
    count, right = np.zeros((64, 64)), 0
    for seed in range(150):
        world = build(Config(), seed, Setting("real", "none"))
        for person, city, _ in triples(world):
            count[PEOPLE.index(person), CITIES.index(city)] += 1
        homes = {person: CITIES[PEOPLE.index(person)] for person in world.names["subject"]}  # a fixed belief
        options = world.names["bridge"]
        right += sum(
            homes[person] == city if homes[person] in options else options[0] == city
            for person, city, _ in triples(world)
        )
    trials = 150 * 16
    assert abs(right / trials - 1 / 16) < 4 * np.sqrt(15 / 256 / trials)
    expected = trials / 64**2
    assert np.sum((count - expected) ** 2 / expected) < 64**2 + 5 * np.sqrt(2 * 64**2)


CITY = TextQuestion(
    (
        Piece("Where does"), Piece(" Ann"), Piece(" live?"),
        Piece(" The home of"), Piece(" Ann", copies=1), Piece(" is"), Piece(" Rome", step="one"),
        Piece(". The emblem of"), Piece(" Rome", copies=6), Piece(" is the"), Piece(" owl", step="two"),
        Piece("."),
    ),
    3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("written", "right"),
    [
        (
            " The home of Ann is Rome. The emblem of Rome is the owl. And so on.",
            "exact answer template copied one",
        ),
        (" The home of Ann is Rome. The emblem of Rome is the owls.", "template copied one"),
        (" The home of Ann is Oslo. The emblem of Oslo is the owl.", "answer template copied"),
        (" The home of Ann is Oslo. The emblem of Rome is the owl.", "answer template"),
        (" The home of Eve is Rome. The emblem of Rome is the owl.", "answer template one"),
        (" The home of Ann is Rome. The emblem of Rome is the cup. The owl.", "template copied one"),
        (" The emblem is the owl.", "answer"),
        (" She lives in Rome. It is the owl", "answer one"),
        (" The home of Ann is Rome\nThe emblem of Rome is the owl.", "one"),
        (" The home of Ann is New Rome. The emblem of New Rome is the owl.", "answer template copied one"),
        ("", ""),
    ],
)
def test_what_counts_as_right_in_a_text(written, right):
    probe = TextProbe((CITY,), ("one", "two"))
    outcomes = {
        name.removeprefix("cot_"): int(value[0]) for name, value in score("cot", probe, [written]).items()
    }
    conditional = outcomes.pop("two_given_one")
    assert {name for name, value in outcomes.items() if value} == set(right.split())
    assert conditional == (outcomes["answer"] if outcomes["one"] else -1)


def test_an_answer_at_once_is_right_among_the_answers_or_neither():
    questions = tuple(
        TextQuestion((Piece("It is"), Piece(f" the {thing}.")), 1) for thing in ("owl", "cup", "key")
    )
    outcomes = score(
        "direct", TextProbe(questions, chance=1 / 3), [" the owl. Yes", " the owl.", " the owls"]
    )
    assert {name: value.tolist() for name, value in outcomes.items()} == {
        "direct": [1, 0, 0],
        "direct_among_answers": [1, 1, 0],
        "direct_given_among_answers": [1, 0, -1],
    }


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"entities": "odd"}, "unknown entities 'odd': use one of real, half_fake, fake"),
        ({"template": "odd"}, "unknown template 'odd'"),
        ({"dose": -1}, "dose is -1: a dose is 0 or more"),
        ({"duration": 0}, "duration is 0"),
    ],
)
def test_a_setting_that_is_none_is_refused(arguments, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        Setting(**arguments)


def test_more_worked_solutions_than_there_are_are_refused():
    with pytest.raises(ValueError, match="dose is 129: 16 facts have 128 worked solutions"):
        build(Config(), 0, Setting("real", "shared", 129))
    with pytest.raises(ValueError, match="facts is 17"):
        Config(17)
