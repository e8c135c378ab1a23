"""History and geography: real facts of which pretraining withholds some, taught in two disjoint places.

Facts come from two maintained packages (``sim.worlds.atlas.facts``); which of them are withheld is our own
construction. Names are real and written in pieces. x, y, z, w are names, r, s, t relations:

    fact     x r ANSWER | y
    direct   x r s ANSWER | z
    trace    x r s THINK | x r ANSWER y SEP y s ANSWER z        (chain of thought; likewise for three hops)

Pretraining shows facts about a country, its capital and its historic states in proportion to rank**-zipf,
where rank is the country's rank by population. Adapter "country" is taught the country of each capital and
the successor of each historic state. Adapter "currency" is taught the currencies there. The questions ask for
the currency of the country whose capital is x, of the successor of x, and of the country whose capital is the
next one east of w. Of the last question pretraining knows the first hop only.

No adapter overwrites a fact, unlike in the two-hop world: the base does not know these facts, so an adapter
need only lift the answer above the base's guess. Pretraining withholds a fact everywhere, in facts and in
longer questions, and for all three familiarities at once, so that they share a base.
"""

from dataclasses import dataclass, field

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import JOINT, Layout, Probe, Step, World, world
from sim.worlds.atlas import controls as atlas_controls
from sim.worlds.atlas.facts import RELATIONS, Atlas, atlas, edition
from sim.worlds.atlas.withheld import candidates_of, distinct, states_of
from sim.worlds.settings import require_choices, seen_by_base

FAMILIARITIES = ("head", "middle", "tail")
"""Thirds of the countries by population; the withheld facts are about countries of one third."""

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where traces of other entities occur: (in pretraining, in the two adapters' own data)."""

COUNTRY, CURRENCY, SUCCESSOR, EAST = map(RELATIONS.index, ("country", "currency", "successor", "east"))

PARTS = ("country", "currency")


@dataclass(frozen=True)
class Setting:
    """What varies between the cells of a seed.

    familiarity: of ``FAMILIARITIES``. template: a key of ``TEMPLATES``.
    zipf: how steeply exposure in pretraining falls with the rank by population; 0 shows all alike.
    identity: where "y IS y" occurs, a key of ``TEMPLATES``. For worlds with controls.

    Raises:
        ValueError: an unknown name, or a negative exponent.
    """

    familiarity: str = "head"
    template: str = "pretraining"
    zipf: float = 1.0
    identity: str = "none"

    def __post_init__(self):
        require_choices(self, {"familiarity": FAMILIARITIES, "template": TEMPLATES, "identity": TEMPLATES})
        if self.zipf < 0:
            raise ValueError(f"zipf is {self.zipf}: exposure falls with the rank, so give 0 or more")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on; cells of a seed with equal values share their base."""
        return Setting(**seen_by_base(self, TEMPLATES), zipf=self.zipf)


@dataclass(frozen=True)
class Config:
    """Sizes of the world.

    countries: number of the most populous countries. The successors of historic states come on top.
    length, inventory: pieces of a written name, and how many different pieces there are.
    edits:     countries of each familiarity whose capital and currency pretraining withholds. Their
               currencies all differ, so a guess among the answers is right once in ``edits``.
    states:    historic states whose successor, and its currency, pretraining withholds.
    coverage:  share of all longer questions on known facts that pretraining shows, directly and as traces.
    bridges:   traces of other countries that the adapters' data may hold.
    edition:   versions of the two packages. Results of other versions are not reused, for the facts differ.
    controls:  whether the world has the controls of ``atlas_controls``, and the word IS.
    """

    countries: int = 104
    length: int = 3
    inventory: int = 200
    edits: int = 10
    states: int = 4
    coverage: float = 0.5
    bridges: int = 64
    edition: str = field(default_factory=edition)
    controls: bool = False

    def __post_init__(self):
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage {self.coverage} must lie strictly between 0 and 1")

    @property
    def vocab(self) -> int:
        """Size of the vocabulary: pieces, relations, ANSWER, THINK, SEP, IS. Known without the packages."""
        return self.inventory + len(RELATIONS) + 3 + self.controls


class Writer:
    """Turns entities and relations into token sequences. ``is_`` is a relation of worlds with controls."""

    is_ = len(RELATIONS) + 3

    def __init__(self, config: Config, book: Atlas):
        self.names, self.length = book.written, config.length
        self.relation = config.inventory
        self.answer, self.think, self.sep = config.inventory + len(RELATIONS) + np.arange(3)

    def _write(self, *parts) -> np.ndarray:
        count = len(next(part for part in parts if np.ndim(part) == 2))
        columns = [p if np.ndim(p) == 2 else np.broadcast_to(p, count)[:, None] for p in parts]
        return np.concatenate(columns, axis=1).astype(np.int32)

    def direct(self, entities, relations, weight=1.0) -> Sequences:
        """A question of one hop or more and its answer: the first entity of the way, and the last."""
        relations = [self.relation + r for r in relations]
        tokens = self._write(self.names[entities[0]], *relations, self.answer, self.names[entities[-1]])
        return _group(tokens, weight, self.length + len(relations) + 1)

    def trace(self, entities, relations, weight=1.0) -> Sequences:
        """The same question, answered hop by hop."""
        relations, names = [self.relation + r for r in relations], [self.names[e] for e in entities]
        hops = []
        for x, r, y in zip(names, relations, names[1:], strict=False):
            hops += [self.sep, x, r, self.answer, y]
        return _group(
            self._write(names[0], *relations, self.think, *hops[1:]), weight, self.length + len(relations) + 1
        )


def _group(tokens: np.ndarray, weight, prompt: int) -> Sequences:
    weight = np.broadcast_to(np.asarray(weight, np.float32), len(tokens)).copy()
    return Sequences(tokens, weight, prompt)


class _Chains:
    """All questions of ``hops`` hops in an atlas, one fact a hop."""

    def __init__(self, book: Atlas, hops: int):
        self.relation = np.repeat(np.arange(len(RELATIONS)), [len(book.facts[r][0]) for r in RELATIONS])
        self.subject = np.concatenate([book.facts[r][0] for r in RELATIONS])
        self.answer = np.concatenate([book.facts[r][1] for r in RELATIONS])
        self.facts = np.arange(len(self.subject))[:, None]
        for _ in range(hops - 1):
            step, following = np.nonzero(self.answer[self.facts[:, -1], None] == self.subject[None])
            self.facts = np.concatenate([self.facts[step], following[:, None]], axis=1)
        self.relations = self.relation[self.facts].T
        self.entities = np.concatenate([self.subject[self.facts[:, :1]], self.answer[self.facts]], axis=1).T


PRETRAINING = Schedule(
    900,
    6e-3,
    (("facts", 192), ("direct", 96), ("traces", 96), ("direct3", 16), ("traces3", 16)),
    decay=0.3,
    warming=90,
    cooling=360,
)
"""Enough to know the facts, three times as many as the two-hop world has and about names of several tokens,
and to answer held-out questions by chain of thought."""

FINETUNING = Schedule(1600, 2e-3, (("facts", 32), ("traces", 8)), cooling=50, margin=1.0, tile=16)
"""As in the two-hop world: all facts at every step, until an adapter knows them and its traces."""

SETTINGS = {
    "quick": [Setting(f, t) for t in ("pretraining", "none", "both") for f in ("head", "tail")],
    "paper": [Setting(f, t) for t in TEMPLATES for f in FAMILIARITIES],
}


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting) -> World:
    """Sample one world.

    Withheld facts, shown questions and probes depend on ``seed`` alone. ``setting`` only weighs them and
    chooses among them, so that cells are paired.

    Raises:
        ValueError: a package is missing, or there are too few countries for the sizes of ``config``.
    """
    controls = atlas_controls.check(config, setting)
    in_pretraining, in_data = TEMPLATES[setting.template]
    rng = np.random.default_rng([20250614, seed])
    book = atlas(config.countries, config.length, config.inventory)
    n, write = len(book.facts["country"][0]), Writer(config, book)
    third = np.where(book.country < 0, -1, book.country * len(FAMILIARITIES) // n)
    exposure = (1.0 + np.maximum(book.country, 0)) ** -setting.zipf

    withheld = [distinct(rng, candidates_of(book, third, t), book, config.edits, "edits") for t in range(3)]
    states, after = states_of(rng, book, config.states)
    every = np.concatenate([*withheld, after])
    single, double, triple = (_Chains(book, hops) for hops in (1, 2, 3))
    secret = (single.relation == CURRENCY) & np.isin(single.subject, every)
    secret |= (single.relation == COUNTRY) & np.isin(single.answer, np.concatenate(withheld))
    secret |= (single.relation == SUCCESSOR) & np.isin(single.subject, states)

    def draw_shown(chains):
        """(questions without a withheld fact, those of them that pretraining shows)."""
        answerable = ~secret[chains.facts].any(axis=1)
        return answerable, answerable & (rng.random(len(answerable)) < config.coverage)

    (answerable2, seen2), (_, seen3) = draw_shown(double), draw_shown(triple)
    order = rng.permutation(len(answerable2))
    t = FAMILIARITIES.index(setting.familiarity)
    subject = third[double.entities[0]]
    untouched_pairs = _first(config.edits, order, answerable2 & ~seen2 & (subject == t), "edits")
    reserved = [_first(config.edits, order, answerable2 & ~seen2 & (subject == u), "edits") for u in range(3)]
    others = answerable2 & ~np.isin(np.arange(len(answerable2)), reserved)
    others &= ~np.isin(book.country[double.entities], every).any(axis=0)
    is_expert = (double.relations[0] == COUNTRY) & (double.relations[1] == CURRENCY)
    bridges = _first(config.bridges, order, others & ~is_expert, "bridges")
    expert = _first(config.edits // 2, order, others & is_expert, "edits // 2")
    shown = rng.permutation(len(secret))
    untouched = [
        _first(2 * config.edits, shown, ~secret & (third[single.subject] == u), "edits") for u in range(3)
    ]

    y = withheld[t]
    x, z = n + y, book.facts["currency"][1][y]
    paid = book.facts["currency"][1][after]
    previous = book.facts["west"][1][y]
    first = np.repeat([COUNTRY, SUCCESSOR], [len(y), len(states)])
    hop1 = write.direct((np.append(x, states), np.append(y, after)), (first,))
    hop2 = write.direct((np.append(y, after), np.append(z, paid)), (CURRENCY,))
    taught = np.concatenate([hop1.tokens, hop2.tokens])
    one, all_ = np.repeat([True, False], len(hop1.tokens)), np.ones(len(taught))

    def write_chains(write_one, chains, pick, weight=1.0):
        return write_one(chains.entities[:, pick], chains.relations[:, pick], weight)

    traces = write_chains(write.trace, double, np.append(bridges, expert))
    on_bridges = np.repeat([1.0, 0.0], [len(bridges), len(expert)])
    lessons = {
        PARTS[0]: (one, in_data * on_bridges),
        PARTS[1]: (~one, in_data * on_bridges),
        JOINT: (all_, in_data * on_bridges),
        "bridge": (0 * all_, on_bridges),
        "expert": (0 * all_, 1 - on_bridges),
    }
    weight2, weight3 = (seen * exposure[c.entities[0]] for seen, c in ((seen2, double), (seen3, triple)))
    every2, every3 = np.arange(len(seen2)), np.arange(len(seen3))
    two, three = (COUNTRY, CURRENCY), (EAST, COUNTRY, CURRENCY)
    plain_world = World(
        pretraining={
            "facts": write_chains(
                write.direct, single, np.arange(len(secret)), ~secret * exposure[single.subject]
            ),
            "direct": write_chains(write.direct, double, every2, weight2),
            "traces": write_chains(write.trace, double, every2, weight2 * in_pretraining),
            "direct3": write_chains(write.direct, triple, every3, weight3),
            "traces3": write_chains(write.trace, triple, every3, weight3 * in_pretraining),
        },
        data={
            name: {
                "facts": _group(taught, on_facts, hop1.prompt),
                "traces": _group(traces.tokens, on_traces, traces.prompt),
            }
            for name, (on_facts, on_traces) in lessons.items()
        },
        probes={
            PARTS[0]: ask(hop1, _one_hop(config, 0)),
            PARTS[1]: ask(hop2, _one_hop(config, 1)),
            "direct": ask(write.direct((x, y, z), two), _direct(config, 2, config.edits)),
            "cot": ask(write.trace((x, y, z), two), _trace(config, 2)),
            "direct3": ask(write.direct((previous, x, y, z), three), _direct(config, 3, config.edits)),
            "cot3": ask(write.trace((previous, x, y, z), three), _trace(config, 3)),
            "history": ask(
                write.direct((states, after, paid), (SUCCESSOR, CURRENCY)), _direct(config, 2, config.states)
            ),
            "history_cot": ask(write.trace((states, after, paid), (SUCCESSOR, CURRENCY)), UNMARKED),
            "untouched": ask(write_chains(write.direct, single, untouched[t])),
            "untouched_direct": ask(
                write_chains(write.direct, double, untouched_pairs), Layout(forecast=False)
            ),
            "untouched_cot": ask(write_chains(write.trace, double, untouched_pairs)),
        },
        parts=PARTS,
    )
    if not controls:
        return plain_world
    unseen = answerable2 & ~seen2 & ~np.isin(every2, np.append(bridges, expert))
    both = atlas_controls.draw_unseen_pairs(seed, config.edits, double.relations, double.entities, unseen)
    of_expert = np.flatnonzero(is_expert)
    on_direct = write_chains(write.direct, double, of_expert, others[of_expert])
    identity_in = TEMPLATES[setting.identity]
    return atlas_controls.added(plain_world, identity_in, book, write, y, withheld[1], on_direct, both)


def words(config: Config, tokens) -> str:
    """A sequence in letters: pieces of a name joined by dots, relations and other words in capitals."""
    pieces = atlas(config.countries, config.length, config.inventory).pieces
    signs = [relation.upper() for relation in RELATIONS] + ["ANSWER", "THINK", "SEP", "IS"]
    parts, place = [], 0
    while place < len(tokens):
        if tokens[place] >= config.inventory:
            parts.append(signs[tokens[place] - config.inventory])
            place += 1
        else:
            name = tokens[place : place + config.length]
            parts.append("·".join(pieces[token] for token in name if pieces[token]))
            place += config.length
    return " ".join(parts)


UNMARKED = Layout()


def ask(group: Sequences, layout: Layout = UNMARKED) -> Probe:
    """The sequences of a group as questions."""
    return Probe(group.tokens, group.weight, group.prompt, layout)


def _one_hop(config: Config, part: int) -> Layout:
    """A fact, "x r ANSWER | y": all of it belongs to the hop's own adapter."""
    k = config.length
    return Layout((Step(PARTS[part], part, _positions(k + 2, k)),), owner=(part,) * (2 * k + 2))


def _direct(config: Config, hops: int, answers: int) -> Layout:
    """A direct question. The first adapter owns it up to the last relation, the second adapter the rest."""
    k = config.length
    return Layout(owner=(0,) * (k + hops - 1) + (1,) * (k + 2), chance=1 / answers)


def _trace(config: Config, hops: int) -> Layout:
    """A trace. Its last two hops are steps. Pretraining knows a hop before them, which counts as wording.

    The first adapter owns everything up to the country's name as an answer, except the last relation of the
    question. The second adapter owns that relation and the rest, from the last SEP on.
    """
    k = config.length
    prompt, hop = k + hops + 1, 2 * k + 3
    starts = [prompt + hop * index for index in range(hops)]
    answers = [_positions(start + k + 2, k) for start in starts]
    sources = [_positions(0, k), *answers]
    owner = [0] * (starts[-1] - 1) + [1] * (hop)
    owner[k + hops - 1] = 1
    names = PARTS if hops == 2 else tuple(f"{part}{hops}" for part in PARTS)
    return Layout(
        steps=tuple(Step(names[part], part, answers[part - 2]) for part in (0, 1)),
        copies=tuple((_positions(start, k), source) for start, source in zip(starts, sources, strict=False)),
        owner=tuple(owner),
    )


def _positions(start: int, count: int) -> tuple[int, ...]:
    return tuple(range(start, start + count))


def _first(count: int, order: np.ndarray, mask: np.ndarray, what: str) -> np.ndarray:
    """The first ``count`` places of an order where ``mask`` holds; the shapes of all worlds must agree."""
    places = order[mask[order]]
    if len(places) < count:
        raise ValueError(f"only {len(places)} questions serve for {what} = {count}: use more countries")
    return places[:count]
