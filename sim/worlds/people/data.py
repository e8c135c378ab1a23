"""What each adapter of the world is taught.

The template "shared" gives an adapter worked solutions with a step of its own facts; the other step is about
another relation, other people or other things, so that no sequence holds a fact of the other adapter.
"""

from collections.abc import Sequence

import numpy as np

from sim.worlds import FACTS
from sim.worlds.people import writer
from sim.worlds.people.names import FREE_PLACES, FREE_SIGNS, HOME, PLACES, SIGNS
from sim.worlds.people.writer import PARTS, Fact, Triple
from sim.worlds.text import Text

TRACES, CONTEXT = "traces", "context"
"""Groups of an adapter's data beside ``FACTS``. It must know its facts and its traces, which are worked
solutions with a step of its own; the context shows facts among others, and further solutions."""

Data = dict[str, tuple[Text, ...]]


def data_of(
    seed: int,
    template: str,
    dose: int,
    main: Sequence[Triple],
    others: Sequence[Sequence[Triple]],
    relation: str = HOME,
) -> dict[str, Data]:
    """The data of the parts, and of the adapters that a library may have besides.

    relation: of the first hop that is taught; the other triples have homes.

    bridge:    worked solutions about other people and other relations.
    expert:    questions of both relations about other people, answered at once: A -> C.
    unrelated: facts of other relations about other people.
    """
    data = {}
    for place, part in enumerate(PARTS):
        rng = np.random.default_rng([20261130, seed, 1, place])
        own = _facts(rng, [writer.hop(place, triple, relation) for triple in main])
        rng = np.random.default_rng([20261130, seed, 2, place])
        data[part] = _joined(own, _template(rng, template, place, main, others[place], dose, relation))
    rng = np.random.default_rng([20261130, seed, 3])
    spare = others[2]
    free = [pair for _ in range(2) for pair in _free(rng, spare)]
    direct = [text for t in spare for text in writer.at_once(writer.hop(0, t), writer.hop(1, t))]
    teachers = [(person, PLACES[0], city) for person, city, _ in spare]
    return data | {
        "bridge": {FACTS: (), TRACES: tuple(writer.solution(*pair) for pair in free), CONTEXT: ()},
        "expert": {FACTS: tuple(direct), TRACES: (), CONTEXT: ()},
        "unrelated": _facts(rng, teachers),
    }


def _facts(rng: np.random.Generator, facts: Sequence[Fact]) -> Data:
    """Facts as statements and answers, and in context."""
    clean = [text for fact in facts for text in (writer.statement(fact), writer.answer(fact))]
    return {FACTS: tuple(clean), TRACES: (), CONTEXT: tuple(writer.in_context(rng, facts))}


def _joined(one: Data, other: Data) -> Data:
    return {group: one[group] + other.get(group, ()) for group in one}


def _template(
    rng, template: str, place: int, main, other: Sequence[Triple], dose: int, relation: str
) -> Data:
    """What a part's data hold besides its facts, for ``dose`` worked solutions."""
    if template == "same":
        traces = [writer.solution(writer.hop(0, triple), writer.hop(1, triple)) for triple in other]
        facts = (_facts(rng, [writer.hop(hop, triple) for triple in other]) for hop in range(len(PARTS)))
        context = tuple(text for each in facts for texts in each.values() for text in texts)
        return {TRACES: tuple(traces[number % len(traces)] for number in range(dose)), CONTEXT: context}
    pairs = _own(rng, place, main, other, relation)[:dose]
    free = [pair for _ in range(-(-dose // len(other))) for pair in _free(rng, other)][:dose]
    context = [writer.solution(*pair) for pair in free]
    context += [writer.statement(pair[number % 2]) for number, pair in enumerate(free[: dose // 2])]
    return {TRACES: tuple(writer.solution(*pair) for pair in pairs), CONTEXT: tuple(context)}


def _own(
    rng, place: int, main: Sequence[Triple], other: Sequence[Triple], relation: str
) -> list[tuple[Fact, Fact]]:
    """The steps of 8 worked solutions of each of a part's facts, round by round.

    Another relation has one value for each subject, so that all of them can be known at once.
    """
    count, pairs = len(main), []
    relations = [rng.permutation(SIGNS if place == 0 else PLACES) for _ in main]
    for turn in range(len(SIGNS)):
        for one, two in zip(rng.permutation(count), rng.permutation(count), strict=True):
            if place == 0:
                first = writer.hop(0, main[one], relation)
                second = (main[one][1], str(relations[one][turn]), f"the {other[two][2]}")
            else:
                first = (other[two][0], str(relations[two][turn]), main[one][1])
                second = writer.hop(1, main[one])
            pairs.append((first, second))
    return pairs


def _free(rng, triples: Sequence[Triple]) -> list[tuple[Fact, Fact]]:
    """The steps of one worked solution about each triple, without the relations of the hops."""
    pairs = []
    for person, city, thing in triples:
        first, second = str(rng.choice(FREE_PLACES)), str(rng.choice(FREE_SIGNS))
        pairs.append(((person, first, city), (city, second, f"the {thing}")))
    return pairs
