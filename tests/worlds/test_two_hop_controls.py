"""Controls of the two-hop world: each asks what it says, leaks nothing, is balanced as its null assumes."""

import dataclasses

import numpy as np
import pytest

from sim.worlds.controls import RANDOM, stand_ins
from sim.worlds.two_hop import Config, Setting, build

SMALL = Config(entities=24, relations=4, edits=4, bridges=8, controls=True)
CONFIGS = [SMALL, dataclasses.replace(SMALL, name_tokens=2)]


@pytest.fixture(params=CONFIGS, ids=["one-token", "two-token"])
def config(request):
    return request.param


@pytest.fixture
def world(config):
    return build(config, 3, Setting("real", "both", identity="both"))


def rows(group, config, taught=False):
    """Token rows with every name as one tuple; ``taught`` leaves out what training never draws."""
    k, tokens = config.name_tokens, np.asarray(group.tokens)
    tokens = tokens[np.asarray(group.weight) > 0] if taught else tokens
    table = []
    for row in tokens.tolist():
        names, out = [], []
        for token in row:
            names.append(token) if token < config.name_vocab else out.append(token)
            if len(names) == k:
                out.append(tuple(names))
                names = []
        table.append(tuple(out))
    return table


def facts(group, config, taught=True):
    """{(name, relation): name}."""
    return {(x, r): y for x, r, _, y in rows(group, config, taught)}


def test_controls_change_neither_graph_nor_edits(config, world):
    plain = build(dataclasses.replace(config, controls=False), 3, Setting("real", "both"))
    assert (
        facts(plain.pretraining["facts"], config).items() <= facts(world.pretraining["facts"], config).items()
    )
    for name in ("hop1", "hop2", "direct", "cot"):
        np.testing.assert_array_equal(plain.probes[name].tokens, world.probes[name].tokens)
    assert world.pretraining["direct"].tokens.shape == plain.pretraining["direct"].tokens.shape


def test_old_fact_pairs_join_an_edit_with_an_old_fact_and_are_unseen(config, world):
    old = facts(world.pretraining["facts"], config)
    hop1, hop2 = (facts(world.probes[hop], config) for hop in ("hop1", "hop2"))
    shown = set(rows(world.pretraining["direct"], config))
    prompts = {row[:3] for row in shown} | {row[:3] for row in rows(world.pretraining["traces"], config)}
    for name, first, second in (("second", hop1, old), ("first", old, hop2), ("both", old, old)):
        questions = rows(world.probes[f"direct_known_{name}"], config)
        for x, r, s, _, z in questions:
            assert second[first[x, r], s] == z
            edited = ((x, r) in hop1) + ((first[x, r], s) in hop2)
            assert edited == (name != "both")
        assert not {row[:3] for row in questions} & prompts
        # a guess among the answers is right in 1 / edits cases: all differ
        assert len({row[4] for row in questions}) == len(questions) == config.edits
        assert world.probes[f"direct_known_{name}"].layout.chance == 1 / config.edits
        lacking = {"second": {"without_hop1"}, "first": {"without_hop2"}, "both": set()}[name]
        nulls = world.probes[f"direct_known_{name}"].nulls
        assert set(nulls) == lacking
        for part in lacking:
            np.testing.assert_array_equal(nulls[part], world.probes["direct"].nulls[part])
        traces = rows(world.probes[f"cot_known_{name}"], config)
        assert [(t[0], t[1], t[2], t[-1]) for t in traces] == [(*row[:3], row[4]) for row in questions]


def test_old_hops_belong_to_no_adapter(config, world):
    owners = {name: world.probes[f"direct_known_{name}"].layout.owner for name in ("first", "second", "both")}
    assert (
        set(owners["first"]) == {-1, 1} and set(owners["second"]) == {-1, 0} and set(owners["both"]) == {-1}
    )
    steps = world.probes["cot_known_first"].layout
    first, second = (steps.owner[step.positions[0]] for step in steps.steps)
    assert (first, second) == (-1, 1)


@pytest.mark.parametrize("identity", ["none", "pretraining", "data", "both"])
def test_identities_are_where_the_setting_puts_them(config, identity):
    sample = build(config, 0, Setting("real", "both", identity=identity))
    in_pretraining, in_data = identity in ("pretraining", "both"), identity in ("data", "both")
    identities = facts(sample.pretraining["identity"], config)
    assert len(identities) == config.entities * in_pretraining
    bridges = {y for y in facts(sample.probes["hop1"], config).values()}
    for name, groups in sample.data.items():
        taught = facts(groups["identity"], config)
        assert set(x for x, _ in taught) == (
            bridges if in_data and name in ("hop1", "hop2", "joint") else set()
        )
        assert all(x == y for (x, _), y in (identities | taught).items())


def test_extra_adapters_are_taught_what_they_are_named_for(config, world):
    old, relation = facts(world.pretraining["facts"], config), config.name_vocab
    hop1, hop2 = (facts(world.probes[hop], config) for hop in ("hop1", "hop2"))
    edited = {x for x, _ in hop1} | {x for x, _ in hop2}
    taught = {name: facts(groups["facts"], config) for name, groups in world.data.items()}
    assert taught["hop1"] == hop1 and taught["hop2"] == hop2 and taught["joint"] == hop1 | hop2
    assert {r for _, r in taught["unrelated"]} == {relation + config.relations - 1}
    assert not {x for x, _ in taught["unrelated"]} & edited
    for name in ("unrelated", "left", "right"):
        assert len(taught[name]) == config.edits
        assert all(old[prompt] != answer for prompt, answer in taught[name].items())
    assert taught["kinds"] == taught["left"] | taught["right"]
    assert not taught["left"].keys() & taught["right"].keys() and not taught["direct_expert"]
    answers = rows(world.data["direct_expert"]["direct"], config, taught=True)
    assert answers and all(
        not rows(world.data[n]["direct"], config, True) for n in world.data if n != "direct_expert"
    )
    for x, r, s, _, z in answers:
        y = old[x, r]
        assert (r, s) == (relation, relation + 1) and old[y, s] == z and not {x, y} & edited


def test_comparisons_are_balanced_for_every_part_of_the_knowledge(config, world):
    """Old kinds, one edit alone and a constant are right on exactly half; both edits on all."""
    old = {x: y for (x, r), y in facts(world.pretraining["facts"], config).items() if r >= config.vocab - 4}
    left, right = (
        {x: y for (x, _), y in facts(world.data[n]["facts"], config).items()} for n in ("left", "right")
    )
    different, same = config.vocab - 1, config.vocab - 2
    questions = rows(world.probes["compare"], config)

    def accuracy(first, second):
        answers = [same if first[a] == second[b] else different for a, b, *_ in questions]
        return np.mean([verdict == row[-1] for verdict, row in zip(answers, questions, strict=True)])

    assert accuracy(left, right) == 1
    assert accuracy(old, old) == accuracy(left, old) == accuracy(old, right) == 0.5
    assert [row[-1] for row in questions].count(same) == config.edits / 2
    # no fact ends its prompt as a comparison does: an edited kind is not asked for
    assert not {row[2] for row in rows(world.data["joint"]["facts"], config)} & {row[3] for row in questions}
    assert not {row[2] for row in rows(world.pretraining["facts"], config)} & {row[3] for row in questions}
    untouched = rows(world.probes["untouched_compare"], config)
    assert all((old[a] == old[b]) == (verdict == same) for a, b, *_, verdict in untouched)
    assert [row[-1] for row in untouched].count(same) == config.edits / 2 and len(untouched) == config.edits
    shown = {row[:2] for row in rows(world.pretraining["compare"], config, taught=True)}
    assert not {row[:2] for row in untouched} & shown
    assert not {pair for a, b, *_ in questions for pair in ((a, b), (b, a))} & shown
    weight = np.asarray(world.pretraining["compare"].weight)
    verdict = np.asarray(world.pretraining["compare"].tokens)[:, -1]
    assert weight[verdict == same].sum() == pytest.approx(weight[verdict == different].sum(), rel=1e-5)
    assert world.probes["compare"].layout.chance == 0.5


def test_stand_ins_take_one_place_each(world):
    parts = ("a", "b")
    assert stand_ins(parts, "c") == (("c_for_a", ("c", "b")), ("c_for_b", ("a", "c")))
    assert stand_ins(parts, RANDOM)[1] == ("random_for_b", ("a", "random_for_b"))
    assert dict(world.libraries)["compared"] == ("left", "right")
