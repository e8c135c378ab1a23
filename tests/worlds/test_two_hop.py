"""The two-hop world: edits are disjoint, consistent with the graph, and nothing leaks."""

import dataclasses

import numpy as np
import pytest
from conftest import drawn

from sim.model.sequences import Sequences
from sim.worlds.two_hop import ENTITIES, TEMPLATES, Config, Setting, _edits, _null, build
from theory.draws import edited_bound, edited_null

SMALL = Config(entities=24, relations=4, edits=6, bridges=8)
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
    world = build(config, 0, Setting(entities))
    hop1, hop2 = (facts_of(config, world.probes[hop]) for hop in ("hop1", "hop2"))
    direct = np.asarray(world.probes["direct"].tokens).tolist()
    k = config.name_tokens
    for row in direct:
        x, r, s, z = tuple(row[:k]), row[k], row[k + 1], tuple(row[k + 3 :])
        assert hop2[hop1[x, r], s] == z
    for name, used, unused in (("hop1", hop1, hop2), ("hop2", hop2, hop1)):
        data = world.data[name]["facts"]
        taught = facts_of(config, Sequences(drawn(data), None, data.prompt))
        assert taught == used
        assert not taught.keys() & unused.keys()


def test_edits_overwrite_real_facts_and_nothing_else(config):
    world = build(config, 1)
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
    [
        ("real", True, True),
        ("half_fake", True, False),
        ("half_fake_subject", False, True),
        ("fake", False, False),
    ],
)
def test_unseen_names_never_occur_in_pretraining(config, entities, subject_seen, bridge_seen):
    world = build(config, 2, Setting(entities))
    seen = names(config, drawn(world.pretraining["facts"]))
    assert (names(config, world.probes["hop1"].tokens) <= seen) == subject_seen
    assert (names(config, world.probes["hop2"].tokens) <= seen) == bridge_seen
    if not subject_seen:
        assert not names(config, world.probes["hop1"].tokens) & seen


def test_unseen_two_token_names_are_new_pairs_of_old_pieces():
    config = dataclasses.replace(Config(), name_tokens=2)
    world = build(config, 0, Setting("fake"))
    seen = drawn(world.pretraining["facts"])[:, :2]
    new = np.asarray(world.probes["hop1"].tokens)[:, :2]
    assert not names(config, new) & names(config, seen)
    overlap = np.mean([np.isin(new[:, side], seen[:, side]).mean() for side in (0, 1)])
    assert overlap > 0.9


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_template_is_where_the_setting_puts_it(config, template):
    world = build(config, 0, Setting("real", template))
    in_pretraining, in_data = TEMPLATES[template]
    assert bool(world.pretraining["traces"].weight.any()) == in_pretraining
    for name, groups in world.data.items():
        assert bool(groups["traces"].weight.any()) == (in_data or name in ("bridge", "expert"))


def test_bridge_traces_are_about_other_entities(config):
    world = build(config, 3, Setting("real", "both"))
    k = config.name_tokens
    edited = names(config, world.probes["hop1"].tokens) | names(config, world.probes["hop2"].tokens)
    for row in drawn(world.data["hop1"]["traces"]).tolist():
        trace = row[k + 3 :]
        x, y = tuple(trace[:k]), tuple(trace[k + 2 : 2 * k + 2])
        assert x not in edited and y not in edited


def test_untouched_queries_are_unseen(config):
    world = build(config, 0)
    shown = {tuple(row) for row in np.asarray(world.pretraining["direct"].tokens).tolist()}
    assert not shown & {tuple(row) for row in np.asarray(world.probes["untouched_direct"].tokens).tolist()}


@pytest.mark.parametrize("seed", range(4))
def test_untouched_queries_take_no_edited_fact_in_either_hop(config, seed):
    world = build(config, seed)
    edited = {*facts_of(config, world.probes["hop1"]), *facts_of(config, world.probes["hop2"])}
    k = config.name_tokens
    for row in np.asarray(world.probes["untouched_cot"].tokens).tolist():
        start = k + 3
        first, second = tuple(row[start : start + k + 1]), tuple(row[-2 * k - 2 : -k - 1])
        assert not {(first[:k], first[k]), (second[:k], second[k])} & edited


def test_an_edit_is_drawn_as_often_as_the_null_says():
    """2000 draws: of all pairs to which ``Probe.nulls`` gives a chance w, the share w is drawn."""
    rng, chances, drawn_pairs = np.random.default_rng(0), [], []
    for _ in range(2_000):
        graph = np.stack([rng.permutation(9) for _ in range(2)])
        subject, bridge, answer = _edits(rng, graph, 4)
        for relation, source, new in ((graph[0], subject, bridge), (graph[1], bridge, answer)):
            chances.append(_null(relation, source, new))
            drawn_pairs.append(np.eye(4, dtype=bool))
    chances, drawn_pairs = np.round(chances, 6).ravel(), np.ravel(drawn_pairs)
    values, counts = np.unique(chances, return_counts=True)
    assert values[0] == 0 and values[-1] == round(edited_bound(4), 6) and (counts > 100).sum() >= 6
    for value, count in zip(values, counts, strict=True):
        error = np.sqrt(value * (1 - value) / count)
        assert abs(drawn_pairs[chances == value].mean() - value) <= 4 * error, (value, count)


@pytest.mark.parametrize("entities", ENTITIES)
def test_the_direct_question_carries_the_nulls_of_who_lacks_a_hop(config, entities):
    """Old facts from pretraining, new ones from the probes; names that take a role change nothing."""
    world, real = build(config, 3, Setting(entities)), build(config, 3)
    old = facts_of(config, real.pretraining["facts"])
    nulls = world.probes["direct"].nulls
    assert set(nulls) == {"without_hop1", "without_hop2"}
    for hop in ("hop1", "hop2"):
        new = facts_of(config, real.probes[hop])
        place = {name: index for index, name in enumerate(new.values())}
        numbers = np.array([place.get(old[prompt], -1) for prompt in new])
        assert 0 < (numbers >= 0).sum() < config.edits
        np.testing.assert_allclose(nulls[f"without_{hop}"], edited_null(numbers), rtol=1e-6)
        assert nulls[f"without_{hop}"].dtype == np.float32
    bound = world.probes["direct"].bound(np.ones(config.edits, bool))
    assert 1 / config.edits < bound <= edited_bound(config.edits)


def test_too_few_queries_for_the_bridges_are_refused():
    with pytest.raises(ValueError, match="queries serve for bridges = 5000"):
        build(dataclasses.replace(SMALL, bridges=5000), 0)


def test_doses_beyond_the_relations_are_refused():
    with pytest.raises(ValueError, match="may be at most 2 and 4 with 4 relations"):
        build(SMALL, 0, Setting("fake", facts_seen=3))


def test_familiarity_is_a_dose(config):
    for facts_seen, traces_seen in ((0, 0), (1, 0), (0, 3), (2, 4)):
        world = build(config, 1, Setting("fake", facts_seen=facts_seen, traces_seen=traces_seen))
        unseen = names(config, np.concatenate([world.probes[hop].tokens for hop in ("hop1", "hop2")]))
        for group, dose in (("facts", facts_seen), ("traces", traces_seen)):
            about = [tuple(row[: config.name_tokens]) for row in drawn(world.pretraining[group]).tolist()]
            assert {about.count(name) for name in unseen} == {dose}
        # nothing that is taught or asked later was shown
        edited = {*facts_of(config, world.probes["hop1"]), *facts_of(config, world.probes["hop2"])}
        pretraining = world.pretraining["facts"]
        shown = Sequences(drawn(pretraining), None, pretraining.prompt)
        assert not facts_of(config, shown).keys() & edited


def test_bridges_are_a_dose_and_the_expert_knows_the_edited_relations(config):
    world = build(config, 0, Setting("real", "both", bridges=3))
    assert len(drawn(world.data["hop1"]["traces"])) == 3
    assert len(drawn(world.data["bridge"]["traces"])) == 3
    expert = drawn(world.data["expert"]["traces"])
    k = config.name_tokens
    relations = np.asarray(world.probes["direct"].tokens)[0, k : k + 2]
    assert (expert[:, k : k + 2] == relations).all() and len(expert) == config.edits // 2
    assert not drawn(world.data["bridge"]["facts"]).size


def test_wordings(config):
    rows = {
        wording: drawn(build(config, 0, Setting("real", "both", wording)).data["hop1"]["traces"])
        for wording in ("shared", "paraphrased", "different")
    }
    k = config.name_tokens
    shared, paraphrased, different = rows.values()
    names_and_relations = shared < config.name_vocab + config.relations
    np.testing.assert_array_equal(paraphrased[names_and_relations], shared[names_and_relations])
    np.testing.assert_array_equal(paraphrased[~names_and_relations], shared[~names_and_relations] + 3)
    start, hop = k + 3, 2 * k + 2
    np.testing.assert_array_equal(different[:, start : start + hop], shared[:, -hop:])
    np.testing.assert_array_equal(different[:, -hop:], shared[:, start : start + hop])
