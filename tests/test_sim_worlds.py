"""The two-hop world: edits are disjoint, consistent with the graph, and nothing leaks."""

import dataclasses

import jax
import numpy as np
import pytest

from sim.worlds import WORLDS
from sim.worlds.two_hop import ENTITIES, TEMPLATES, TwoHopConfig, build

SMALL = TwoHopConfig(entities=24, relations=4, edits=6, bridges=8)
CONFIGS = [SMALL, dataclasses.replace(SMALL, name_tokens=2)]


def facts_of(config, group):
    """{(name, relation): name} of one-hop sequences, names as tuples of tokens."""
    k = config.name_tokens
    return {(tuple(t[:k]), t[k]): tuple(t[k + 2 :]) for t in np.asarray(group.tokens).tolist()}


def names(config, tokens):
    k = config.name_tokens
    return {tuple(row[:k]) for row in np.asarray(tokens).tolist()}


@pytest.fixture(params=CONFIGS, ids=["one-token", "two-token"])
def config(request):
    return request.param


@pytest.mark.parametrize("entities", ENTITIES)
def test_the_hops_chain_and_never_meet_in_one_sequence(config, entities):
    world = build(config, 0, entities)
    hop1, hop2 = (facts_of(config, world.probes[hop]) for hop in ("hop1", "hop2"))
    direct = np.asarray(world.probes["direct"].tokens).tolist()
    k = config.name_tokens
    for row in direct:
        x, r, s, z = tuple(row[:k]), row[k], row[k + 1], tuple(row[k + 3 :])
        assert hop2[hop1[x, r], s] == z
    for name, used, unused in (("hop1", hop1, hop2), ("hop2", hop2, hop1)):
        data = world.libraries[name]["facts"]
        taught = facts_of(config, data.__class__(data.tokens[data.weight > 0], None, data.prompt))
        assert taught == used
        assert not taught.keys() & unused.keys()


def test_edits_overwrite_real_facts_and_nothing_else(config):
    world = build(config, 1, "real")
    old = facts_of(config, world.pretraining["facts"])
    for hop in ("hop1", "hop2"):
        for prompt, answer in facts_of(config, world.probes[hop]).items():
            assert old[prompt] != answer
    untouched = facts_of(config, world.probes["untouched"])
    assert untouched.items() <= old.items()
    edited = {*facts_of(config, world.probes["hop1"]), *facts_of(config, world.probes["hop2"])}
    assert not untouched.keys() & edited


@pytest.mark.parametrize(
    ("entities", "subject_seen", "bridge_seen"),
    [("real", True, True), ("half_fake", True, False), ("fake", False, False)],
)
def test_unseen_names_never_occur_in_pretraining(config, entities, subject_seen, bridge_seen):
    world = build(config, 2, entities)
    seen = names(config, world.pretraining["facts"].tokens)
    assert (names(config, world.probes["hop1"].tokens) <= seen) == subject_seen
    assert (names(config, world.probes["hop2"].tokens) <= seen) == bridge_seen
    if not subject_seen:
        assert not names(config, world.probes["hop1"].tokens) & seen


def test_two_token_names_that_are_unseen_are_new_pairs_of_known_pieces():
    config = dataclasses.replace(TwoHopConfig(), name_tokens=2)
    world = build(config, 0, "fake")
    seen = np.asarray(world.pretraining["facts"].tokens)[:, :2]
    new = np.asarray(world.probes["hop1"].tokens)[:, :2]
    assert not names(config, new) & names(config, seen)
    known = np.mean([np.isin(new[:, side], seen[:, side]).mean() for side in (0, 1)])
    assert known > 0.9


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_template_is_where_it_is_said_to_be(config, template):
    world = build(config, 0, "real", template)
    in_pretraining, in_data = TEMPLATES[template]
    assert bool(world.pretraining["traces"].weight.any()) == in_pretraining
    for groups in world.libraries.values():
        assert bool(groups["traces"].weight.any()) == in_data


def test_bridge_traces_are_about_other_entities(config):
    world = build(config, 3, "real", "both")
    k = config.name_tokens
    edited = names(config, world.probes["hop1"].tokens) | names(config, world.probes["hop2"].tokens)
    for row in np.asarray(world.libraries["hop1"]["traces"].tokens).tolist():
        trace = row[k + 3 :]
        x, y = tuple(trace[:k]), tuple(trace[k + 2 : 2 * k + 2])
        assert x not in edited and y not in edited


def test_held_out_queries_were_not_shown(config):
    world = build(config, 0, "real")
    shown = {tuple(row) for row in np.asarray(world.pretraining["direct"].tokens).tolist()}
    assert not shown & {tuple(row) for row in np.asarray(world.probes["untouched_direct"].tokens).tolist()}


def test_cells_of_a_seed_share_their_pretraining(config):
    worlds = [build(config, 5, e, t) for e in ENTITIES for t in ("pretraining", "both")]
    for other in worlds[1:]:
        jax.tree.map(np.testing.assert_array_equal, worlds[0].pretraining, other.pretraining)
    assert not np.array_equal(
        worlds[0].pretraining["facts"].tokens, build(config, 6).pretraining["facts"].tokens
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name_tokens": 3}, "name_tokens is 3: use 1 or 2"),
        ({"relations": 1}, "two hops need at least 2"),
        ({"edits": 13}, "edits 13 must be 1 to 12"),
        ({"coverage": 1.0}, "strictly between 0 and 1"),
    ],
)
def test_impossible_sizes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **settings)


def test_too_few_queries_for_the_bridges_are_refused():
    with pytest.raises(ValueError, match="queries serve for bridges = 5000"):
        build(dataclasses.replace(SMALL, bridges=5000), 0)


def test_unknown_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown entities 'imaginary': use one of real, half_fake, fake"):
        WORLDS["two_hop"](SMALL, 0, "imaginary")
    with pytest.raises(ValueError, match="unknown template 'maybe'"):
        WORLDS["two_hop"](SMALL, 0, "real", "maybe")
