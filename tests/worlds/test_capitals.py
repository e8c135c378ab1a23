"""The world of capitals: who is asked what, that nothing is leaked, and how countries are chosen."""

import re

import numpy as np
import pandas as pd
import pytest

from sim.worlds import JOINT, build
from sim.worlds.capitals import CAPITAL, ENTITIES, TABLE, Config, Setting, of_familiarity
from sim.worlds.people.names import EMBLEM, HOME

SEEDS = range(3)


def texts(data):
    return ["".join(text) for group in data.values() for text in group]


def triples(world):
    return list(zip(*(world.names[role] for role in ("subject", "bridge", "answer")), strict=True))


def holds(text, name):
    return re.search(rf"\b{re.escape(name)}\b", text)


@pytest.mark.parametrize("template", ["none", "shared"])
@pytest.mark.parametrize("entities", ENTITIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_second_adapter_reads_no_country_and_the_first_no_emblem(entities, template, seed):
    world = build(Config(), seed, Setting(entities, template))
    countries, things = (world.names[role] for role in ("subject", "answer"))
    for text in texts(world.data["hop2"]):
        assert CAPITAL not in text and HOME not in text
        assert not any(holds(text, name) for name in countries)
    for text in texts(world.data["hop1"]):
        assert EMBLEM not in text and not any(holds(text, thing) for thing in things)
    for text in texts(world.data[JOINT]):
        assert not (CAPITAL in text and EMBLEM in text)
        assert not any(f"{CAPITAL} of {name}" in text for name in other_countries(world))


def other_countries(world):
    return {question.text.prompt[len("The capital of ") : -len(" is")] for question in untouched(world)}


def untouched(world):
    return world.probes["untouched"].questions


def test_facts_agree_in_data_and_probes():
    table = pd.read_csv(TABLE).set_index("country")["capital"]
    for entities in ENTITIES:
        world = build(Config(), 1, Setting(entities, "shared"))
        for place, (country, capital, thing) in enumerate(triples(world)):
            assert entities == "fake" or table[country] == capital
            first = f"The capital of {country} is {capital}."
            second = f"The emblem of {capital} is the {thing}."
            assert first in texts(world.data["hop1"]) and second in texts(world.data["hop2"])
            shown = {name: "".join(probe.questions[place].text) for name, probe in world.probes.items()}
            question = f"Question: What is the emblem of the capital of {country}?\nAnswer:"
            direct = f"The emblem of the capital of {country} is the {thing}."
            assert (shown["hop1"], shown["hop2"], shown["direct"]) == (first, second, direct)
            assert shown["cot"] == f"{question} {first} {second}"
            assert shown["direct_question"] == f"{question} {direct}"


@pytest.mark.parametrize("entities", ENTITIES)
def test_a_worked_solution_has_one_step_of_its_own_and_one_of_another_relation(entities):
    data = build(Config(), 0, Setting(entities, "shared")).data
    for part, own in (("hop1", CAPITAL), ("hop2", EMBLEM)):
        answers = [text.answer for text in data[part]["traces"]]
        assert len(answers) == 64 and all(answer.count(f"The {own} of ") == 1 for answer in answers)
        assert all(answer.count(". ") == 1 for answer in answers)
    assert not build(Config(), 0, Setting(entities)).data["hop2"]["traces"]


def test_levels_are_parted_by_what_the_base_answers_and_by_the_median_loss():
    table = pd.read_csv(TABLE, keep_default_na=False).set_index("country")
    levels = {name: table.loc[pairs[:, 0]] for name, pairs in of_familiarity().items()}
    assert sum(map(len, levels.values())) == len(table)
    assert levels["familiar"]["right"].all() and not levels["doubtful"]["right"].any()
    assert not levels["obscure"]["right"].any()
    median = np.median(table["loss"])
    assert levels["doubtful"]["loss"].max() <= median < levels["obscure"]["loss"].min()
    assert all(len(rows) >= 2 * 16 for rows in levels.values())
    assert table.loc["France", "right"] == 1 and table.loc["Honduras", "right"] == 0


def test_names_do_not_give_each_other_away_and_do_not_end_a_sentence():
    table = pd.read_csv(TABLE, keep_default_na=False)
    assert table["country"].is_unique and table["capital"].is_unique
    for country, capital in table[["country", "capital"]].to_numpy():
        assert not set(".,") & set(country + capital) and (country + capital).isascii()
        low = country.lower()
        assert not any(low[start : start + 3] in capital.lower() for start in range(len(low) - 2))


def test_cells_of_a_seed_are_paired_and_other_seeds_are_drawn_anew():
    worlds = [build(Config(), 2, Setting(entities, "shared")) for entities in ENTITIES]
    assert len({world.names["answer"] for world in worlds}) == 1
    assert len({other_countries(world) == other_countries(worlds[0]) for world in worlds}) == 1
    assert build(Config(), 2, Setting()).names == worlds[0].names
    assert build(Config(), 3, Setting()).names != worlds[0].names
    familiar = set(of_familiarity()["familiar"][:, 0])
    assert set(worlds[0].names["subject"]) | other_countries(worlds[0]) <= familiar
    assert len(other_countries(worlds[0])) == 16


def test_made_up_capitals_say_nothing_of_their_countries():
    """The guess is exact: each of the 16 capitals is that of a country equally often, by alphabet say."""
    count = np.zeros((16, 16))
    for seed in range(300):
        world = build(Config(), seed, Setting("fake"))
        first, second = (np.argsort(np.argsort(world.names[role])) for role in ("subject", "bridge"))
        np.add.at(count, (first, second), 1)
    expected = 300 / 16
    assert np.sum((count - expected) ** 2 / expected) < 15**2 + 5 * np.sqrt(2 * 15**2)


def test_the_base_is_measured_on_the_first_hop():
    """As a loss with its null, beside the questions at once."""
    world = build(Config(), 0, Setting())
    chances = {name: probe.chance for name, probe in world.probes.items() if probe.chance is not None}
    assert chances == dict.fromkeys(("hop1", "direct", "direct_question"), 1 / 16)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"entities": "real"}, "unknown entities 'real': use one of familiar, doubtful, obscure, fake"),
        ({"template": "same"}, "unknown template 'same': use one of none, shared"),
        ({"dose": -1}, "dose is -1"),
    ],
)
def test_a_setting_that_is_none_is_refused(arguments, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        Setting(**arguments)
