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
from typing import NamedTuple

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, Probe, World, hops, world
from sim.worlds.atlas import controls as atlas_controls
from sim.worlds.atlas.facts import RELATIONS, Atlas, atlas, edition
from sim.worlds.atlas.withheld import candidates_of, distinct, states_of
from sim.worlds.building import TEMPLATES, ask, require_choices, seen_by_base, take
from sim.worlds.controls import require_support
from sim.worlds.hops import Ways, Writer, ways

FAMILIARITIES = ("head", "middle", "tail")
"""Thirds of the countries by population; the withheld facts are about countries of one third."""

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
        require_choices(self, familiarity=FAMILIARITIES, template=TEMPLATES, identity=TEMPLATES)
        if self.zipf < 0:
            raise ValueError(f"zipf is {self.zipf}: exposure falls with the rank, so give 0 or more")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on; cells of a seed with equal values share their base."""
        return Setting(**seen_by_base(self), zipf=self.zipf)


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


def chains(book: Atlas, hops: int) -> tuple[np.ndarray, Ways]:
    """((S, hops) numbers of facts, the ways through them): all questions of ``hops`` hops in an atlas."""
    relation = np.repeat(np.arange(len(RELATIONS)), [len(book.facts[r][0]) for r in RELATIONS])
    subject, answer = (np.concatenate([book.facts[r][side] for r in RELATIONS]) for side in (0, 1))
    facts = np.arange(len(subject))[:, None]
    for _ in range(hops - 1):
        step, following = np.nonzero(answer[facts[:, -1], None] == subject[None])
        facts = np.concatenate([facts[step], following[:, None]], axis=1)
    entities = np.concatenate([subject[facts[:, :1]], answer[facts]], axis=1)
    return facts, Ways(entities.T, relation[facts].T)


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


class Sample(NamedTuple):
    """Everything that is random, and the facts; ``setting`` chooses the third of the countries and weighs.

    exposure: how often pretraining shows each entity. secret: (facts,), whether it withholds a fact.
    single, double, triple: ways of one, two and three hops; those in pretraining are ``shown2``, ``shown3``.
    free:     two-hop ways that touch neither withheld facts nor the questions. unseen: those of two known
              facts that no data set holds. bridges, expert: positions in ``double`` of the adapters' traces.
    withheld: by third, countries of which capital and currency are withheld. states, after: historic states
              and their successors, withheld as well.
    untouched, held_out: positions in ``single`` and ``double`` of facts and questions that the base knows.
    """

    write: Writer
    book: Atlas
    exposure: np.ndarray
    secret: np.ndarray
    single: Ways
    double: Ways
    triple: Ways
    shown2: np.ndarray
    shown3: np.ndarray
    free: np.ndarray
    unseen: np.ndarray
    bridges: np.ndarray
    expert: np.ndarray
    withheld: list[np.ndarray]
    states: np.ndarray
    after: np.ndarray
    untouched: np.ndarray
    held_out: np.ndarray

    def questions(self, third: int) -> tuple[Ways, Ways, Ways]:
        """(three hops to the currencies of a third's withheld countries, the last two of these hops, two hops
        to the currencies of historic states)."""
        y, (_, currency) = self.withheld[third], self.book.facts["currency"]
        x, before = len(self.book.facts["country"][0]) + y, self.book.facts["west"][1][y]
        long = ways((before, x, y, currency[y]), (EAST, COUNTRY, CURRENCY))
        history = ways((self.states, self.after, currency[self.after]), (SUCCESSOR, CURRENCY))
        return long, Ways(long.entities[1:], long.relations[1:]), history


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting) -> World:
    """Sample one world.

    Withheld facts, shown questions and probes depend on ``seed`` alone. ``setting`` only weighs them and
    chooses among them, so that cells are paired.

    Raises:
        ValueError: a package is missing, or there are too few countries for the sizes of ``config``.
    """
    require_support(config, setting, familiarity="head")
    sample = _draw(config, seed, setting)
    plain = World(_pretraining(setting, sample), *_adapters(config, setting, sample), PARTS)
    return atlas_controls.add(plain, config, seed, setting, sample) if config.controls else plain


def _draw(config: Config, seed: int, setting: Setting) -> Sample:
    rng = np.random.default_rng([20250614, seed])
    book = atlas(config.countries, config.length, config.inventory)
    n = len(book.facts["country"][0])
    write = Writer(book.written, config.inventory, config.inventory + len(RELATIONS) + np.arange(3)[None])
    third = np.where(book.country < 0, -1, book.country * len(FAMILIARITIES) // n)
    exposure = (1.0 + np.maximum(book.country, 0)) ** -setting.zipf

    withheld = [distinct(rng, candidates_of(book, third, t), book, config.edits, "edits") for t in range(3)]
    states, after = states_of(rng, book, config.states)
    every = np.concatenate([*withheld, after])
    (_, single), (facts2, double), (facts3, triple) = (chains(book, hops) for hops in (1, 2, 3))
    (relation,), (subject, answer) = single.relations, single.entities
    secret = (relation == CURRENCY) & np.isin(subject, every)
    secret |= (relation == COUNTRY) & np.isin(answer, np.concatenate(withheld))
    secret |= (relation == SUCCESSOR) & np.isin(subject, states)
    answerable2, answerable3 = (~secret[facts].any(axis=1) for facts in (facts2, facts3))
    shown2, shown3 = (a & (rng.random(len(a)) < config.coverage) for a in (answerable2, answerable3))

    def first(count: int, mask: np.ndarray, what: str) -> np.ndarray:
        message = f"questions serve for {what} = {count}: use more countries"
        return take(order[mask[order]], count, message)

    order = rng.permutation(len(answerable2))
    held_out = [
        first(config.edits, answerable2 & ~shown2 & (third[double.entities[0]] == t), "edits")
        for t in range(3)
    ]
    free = answerable2 & ~np.isin(np.arange(len(answerable2)), held_out)
    free &= ~np.isin(book.country[double.entities], every).any(axis=0)
    is_expert = (double.relations == [[COUNTRY], [CURRENCY]]).all(axis=0)
    bridges = first(config.bridges, free & ~is_expert, "bridges")
    expert = first(config.edits // 2, free & is_expert, "edits // 2")
    unseen = answerable2 & ~shown2 & ~np.isin(np.arange(len(answerable2)), np.append(bridges, expert))
    order = rng.permutation(len(secret))
    untouched = [first(2 * config.edits, ~secret & (third[subject] == t), "edits") for t in range(3)]
    t = FAMILIARITIES.index(setting.familiarity)
    return Sample(
        write, book, exposure, secret, single, double, triple, shown2, shown3, free, unseen,
        bridges, expert, withheld, states, after, untouched[t], held_out[t],
    )  # fmt: skip


def _pretraining(setting: Setting, sample: Sample) -> dict[str, Sequences]:
    write, (in_pretraining, _) = sample.write, TEMPLATES[setting.template]
    groups = {FACTS: write.direct(sample.single, ~sample.secret * sample.exposure[sample.single.entities[0]])}
    for name, way, shown in (("", sample.double, sample.shown2), ("3", sample.triple, sample.shown3)):
        weight = shown * sample.exposure[way.entities[0]]
        groups[f"direct{name}"] = write.direct(way, weight)
        groups[f"traces{name}"] = write.trace(way, weight * in_pretraining)
    return groups


def _adapters(
    config: Config, setting: Setting, sample: Sample
) -> tuple[dict[str, dict[str, Sequences]], dict[str, Probe]]:
    """(data of the adapters, probes): they are taught the hops of the questions."""
    write, k, (_, in_data) = sample.write, config.length, TEMPLATES[setting.template]
    long, short, history = sample.questions(FAMILIARITIES.index(setting.familiarity))
    both = Ways(
        np.hstack([short.entities, history.entities]), np.hstack([short.relations, history.relations])
    )
    probes = {
        **hops.questions(write, PARTS, both, short),
        "direct3": ask(write.direct(long), hops.direct(k, 3, config.edits)),
        "cot3": ask(write.trace(long), hops.trace(k, tuple(f"{part}3" for part in PARTS), 3)),
        "history": ask(write.direct(history), hops.direct(k, 2, config.states)),
        "history_cot": ask(write.trace(history)),
        **hops.untouched(write, sample.single.of(sample.untouched), sample.double.of(sample.held_out)),
    }
    traces = write.trace(sample.double.of(np.append(sample.bridges, sample.expert)))
    on_bridges = np.repeat([1.0, 0.0], [len(sample.bridges), len(sample.expert)])
    return hops.teach(write, PARTS, both, traces, in_data, on_bridges, 1 - on_bridges), probes


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
