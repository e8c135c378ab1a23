"""The two-hop world: a random knowledge graph, edited in two logically disjoint places.

Every relation is a random permutation of the entities. Sequences (x, y, z entity names; r, s relations):

    fact     x r ANSWER | y
    direct   x r s ANSWER | z
    trace    x r s THINK | x r ANSWER y SEP y s ANSWER z        (chain of thought)

Adapter "hop1" is taught new facts x r1 -> y, adapter "hop2" new facts y r2 -> z; no sequence holds both
hops. "joint" is taught all of them. A name is one token of its own, or two tokens out of a shared grid of
pieces, so that an unseen two-token name is a new pair of known pieces (theory/README.md, section 13).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, Probe, World, hops, world
from sim.worlds.building import TEMPLATES, join, require_choices, require_doses, seen_by_base, take
from sim.worlds.controls import require_support, without
from sim.worlds.hops import Ways, ways
from sim.worlds.two_hop import controls as two_hop_controls
from sim.worlds.two_hop.writer import CONTROL_WORDS, WORDS, Writer
from theory.draws import edited_null

ENTITIES = {
    "real": (),
    "half_fake": ("bridge",),
    "half_fake_subject": ("subject",),
    "fake": ("subject", "bridge"),
}
"""Roles of the edited facts whose names are new to the base."""

PARTS = ("hop1", "hop2")

WORDINGS = ("shared", "paraphrased", "different")
"""Traces in the data: worded as in pretraining, with other connectives, or with the hops in reverse order."""


@dataclass(frozen=True)
class Setting:
    """What varies between the cells of a seed.

    entities, template, wording: keys of ``ENTITIES``, ``TEMPLATES``, ``WORDINGS``.
    bridges:     traces of other entities in each hop adapter's data, if the template asks for them.
    facts_seen:  facts about each otherwise unseen name in pretraining, as many as unedited relations at most.
    traces_seen: traces about each otherwise unseen name in pretraining.
    identity:    where "b IS ANSWER b" occurs, a key of ``TEMPLATES``: of all names in pretraining, of the
                 bridges in the hop adapters' data. For worlds with controls.

    Raises:
        ValueError: an unknown key, or a negative dose.
    """

    entities: str = "real"
    template: str = "pretraining"
    wording: str = "shared"
    bridges: int = 64
    facts_seen: int = 0
    traces_seen: int = 0
    identity: str = "none"

    def __post_init__(self):
        require_choices(self, entities=ENTITIES, template=TEMPLATES, wording=WORDINGS, identity=TEMPLATES)
        require_doses(self, "bridges", "facts_seen", "traces_seen")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on; cells of a seed with equal values share their base."""
        return Setting(**seen_by_base(self), facts_seen=self.facts_seen, traces_seen=self.traces_seen)


@dataclass(frozen=True)
class Config:
    """Sizes of the two-hop world.

    entities:    real entities, all seen in pretraining.
    relations:   relations of the graph; the edits change the first (hop 1) and the second (hop 2).
    edits:       facts taught to each adapter; as many subjects, bridges and answers.
    coverage:    share of all two-hop queries that pretraining shows, directly and as traces.
    bridges:     traces of other, unedited entities that the adapters' data may hold.
    name_tokens: tokens a name takes, 1 or 2.
    controls:    whether the world has the controls of ``two_hop_controls``, and their words.
    """

    entities: int = 64
    relations: int = 6
    edits: int = 16
    coverage: float = 0.5
    bridges: int = 64
    name_tokens: int = 1
    controls: bool = False

    def __post_init__(self):
        if self.name_tokens not in (1, 2):
            raise ValueError(f"name_tokens is {self.name_tokens}: use 1 or 2")
        if self.relations < 3:
            raise ValueError(f"relations is {self.relations}: two edited ones and a spare make 3")
        if not 0 < 2 * self.edits <= self.entities:
            raise ValueError(f"edits {self.edits} must be 1 to {self.entities // 2}, half of the entities")
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage {self.coverage} must lie strictly between 0 and 1")
        if self.controls:
            two_hop_controls.check(self)

    @property
    def pieces(self) -> int:
        """Side of the square grid of name pieces, twice as many pairs as names so that new pairs exist."""
        return int(np.ceil(np.sqrt(2 * (self.entities + 2 * self.edits))))

    @property
    def name_vocab(self) -> int:
        """Tokens that names use."""
        return self.entities + 2 * self.edits if self.name_tokens == 1 else 2 * self.pieces

    @property
    def vocab(self) -> int:
        """Size of the vocabulary: names, relations, ANSWER, THINK, SEP, these three paraphrased, controls."""
        return self.name_vocab + self.relations + WORDS + CONTROL_WORDS * self.controls


PRETRAINING = Schedule(
    275,
    1.2e-2,
    (("facts", 128), ("direct", 192), ("traces", 48)),
    decay=0.3,
    warming=20,
    cooling=100,
)
"""Enough to know every fact, and to answer held-out two-hop queries by chain of thought. Answers at once to
the queries that it shows are learned last: the batch has most of those. ``python -m sim.bench bases``
compares other recipes."""

FINETUNING = Schedule(1600, 2e-3, (("facts", 32), ("traces", 8)), cooling=50, margin=1.0, tile=16)
"""All facts of an adapter at every step, until it knows them: 100 to 125 steps, up to 300 for unseen names,
more for traces of which the base knows no word. ``python -m sim.bench steps`` compares other recipes."""

SETTINGS = {
    "quick": [
        Setting("real", "both", bridges=4),
        Setting("half_fake_subject", "both", bridges=4),
        Setting("real", "none", bridges=4),
    ],
    "paper": [Setting(e, t) for t in TEMPLATES for e in ("real", "half_fake", "fake")],
}
"""Quick: four traces of other entities do nearly what 64 do (experiment bridges). Unseen names as subjects
end reuse; as answers they do too, and take three times as many steps to learn (experiment familiarity)."""

REAL = Setting()


class Sample(NamedTuple):
    """Everything that is random. It depends on the seed, and in names and weights on the setting.

    graph:   (relations, entities), the object of every subject. facts: all of it.
    queries: all two-hop queries. shown: those in pretraining; bridges, expert: those in the adapters' data,
             expert ones out of ``expert_pool``; held_out: those for the questions.
    edited:  the two-hop ways of the edited facts. untouched: facts that are asked and not edited.
    unseen:  facts and traces about the names that are new to the base.
    nulls:   ``Probe.nulls`` of a model that lacks one of the hops.
    controls: of ``two_hop_controls``; None in a world without them.
    """

    write: Writer
    graph: np.ndarray
    facts: Ways
    queries: Ways
    shown: np.ndarray
    bridges: np.ndarray
    expert: np.ndarray
    expert_pool: np.ndarray
    held_out: np.ndarray
    edited: Ways
    untouched: np.ndarray
    unseen: tuple[Sequences, Sequences]
    nulls: dict[str, np.ndarray]
    controls: two_hop_controls.Sample | None


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = REAL) -> World:
    """Sample one world.

    The graph, the pretraining sequences and the edits depend on ``seed`` alone (``setting`` only weighs
    and words them), so that cells are paired and those with the same ``setting.pretraining`` share a base.

    Raises:
        ValueError: the world is too small for its bridges, held-out queries or doses, or the setting needs
            controls that the world does not have.
    """
    require_support(config, setting, entities="real")
    sample = _draw(config, seed, setting)
    plain = World(*_teach(setting, sample), _questions(sample), PARTS)
    return two_hop_controls.add(plain, config, setting, sample) if config.controls else plain


def _draw(config: Config, seed: int, setting: Setting) -> Sample:
    rng = np.random.default_rng([20250613, seed])
    n, count, relations = config.entities, config.edits, config.relations
    write = Writer(config, rng)
    # Real and unseen names form two closed graphs, so facts about one do not help with the other.
    graph = np.stack(
        [np.append(rng.permutation(n), n + rng.permutation(2 * count)) for _ in range(relations)]
    )
    order = rng.permutation(n * relations**2)
    # Drawn before anything whose number of draws depends on the setting.
    subject, bridge, answer = _edits(rng, graph[:, :n], count)
    nulls = {
        without(PARTS[0]): _null(graph[0], subject, bridge),
        without(PARTS[1]): _null(graph[1], bridge, answer),
    }
    unseen = _about_unseen(rng, config, write, graph, setting)
    if config.controls:
        order = two_hop_controls.move_old_pairs_last(config, graph, order, subject, bridge)
    x, r, s = np.unravel_index(order, (n, relations, relations))
    y = graph[r, x]
    shown = np.arange(len(order)) < round(config.coverage * len(order))
    if "subject" in ENTITIES[setting.entities]:
        subject = n + np.arange(count)
    if "bridge" in ENTITIES[setting.entities]:
        bridge = n + count + np.arange(count)
    edited = np.zeros((relations, n + 2 * count), bool)
    edited[0, subject] = edited[1, bridge] = True
    own = None
    if config.controls:
        own = two_hop_controls.draw(config, seed, graph, subject, bridge, answer)
        edited[own.third, own.other] = True

    # Held out: queries that pretraining did not show and whose two facts the edits leave alone. Bridges:
    # queries about entities that play no part in the edits; those about the edited relations are expert.
    def first(number: int, mask: np.ndarray, what: str) -> np.ndarray:
        message = f"queries serve for {what} = {number}: use more entities"
        return take(np.flatnonzero(mask), number, message)

    others = ~np.isin(x, [subject, bridge]) & ~np.isin(y, [subject, bridge])
    held_out = first(count, ~shown & ~edited[r, x] & ~edited[s, y], "edits")
    others[held_out] = False
    expert_pool = others & (r == 0) & (s == 1)
    fact_x, fact_r = np.divmod(np.arange(n * relations), relations)
    untouched = rng.permutation(np.flatnonzero(~edited[fact_r, fact_x]))[: 2 * count]
    return Sample(
        write, graph,
        facts=ways((fact_x, graph[fact_r, fact_x]), (fact_r,)),
        queries=ways((x, y, graph[s, y]), (r, s)),
        shown=shown,
        bridges=first(config.bridges, others & ~expert_pool, "bridges"),
        expert=first(count // 2, expert_pool, "edits // 2"), expert_pool=expert_pool,
        held_out=held_out,
        edited=ways((subject, bridge, answer), (0, 1)),
        untouched=untouched, unseen=unseen, nulls=nulls, controls=own,
    )  # fmt: skip


def _teach(setting: Setting, sample: Sample) -> tuple[dict[str, Sequences], dict[str, dict[str, Sequences]]]:
    """(pretraining, data of the adapters)."""
    write, (in_pretraining, in_data) = sample.write, TEMPLATES[setting.template]
    wording = {"wording": int(setting.wording == "paraphrased"), "reverse": setting.wording == "different"}
    traces = write.trace(sample.queries.of(np.append(sample.bridges, sample.expert)), **wording)
    dose = np.arange(len(sample.bridges)) < setting.bridges
    on_bridges, on_expert = np.append(dose, 0 * sample.expert), np.append(0 * dose, 0 * sample.expert + 1)
    shown, (new_facts, new_traces) = sample.queries.of(sample.shown), sample.unseen
    pretraining = {
        FACTS: join(write.direct(sample.facts), new_facts),
        "direct": write.direct(shown),
        "traces": join(write.trace(shown, in_pretraining), new_traces),
    }
    return pretraining, hops.teach(write, PARTS, sample.edited, traces, in_data, on_bridges, on_expert)


def _questions(sample: Sample) -> dict[str, Probe]:
    write, held_out = sample.write, sample.queries.of(sample.held_out)
    edited = hops.questions(write, PARTS, sample.edited, sample.edited, sample.nulls)
    return edited | hops.untouched(write, sample.facts.of(sample.untouched), held_out)


def _about_unseen(rng, config: Config, write: Writer, graph, setting: Setting) -> tuple[Sequences, Sequences]:
    """Facts and traces about the unseen names, in relations that no edit changes, weighed by the doses."""
    names, spare = config.entities + np.arange(2 * config.edits), config.relations - 2
    if setting.facts_seen > spare or setting.traces_seen > spare**2:
        raise ValueError(
            f"facts_seen {setting.facts_seen} and traces_seen {setting.traces_seen} may be at most "
            f"{spare} and {spare**2} with {config.relations} relations"
        )
    u = np.repeat(names, spare)
    order = np.tile(np.arange(spare), len(names))
    facts = write.fact(u, 2 + order, graph[2 + order, u], order < setting.facts_seen)
    u = np.repeat(names, spare**2)
    r, s = np.divmod(np.concatenate([rng.permutation(spare**2) for _ in names]), max(spare, 1))
    order = np.tile(np.arange(spare**2), len(names))
    y = graph[2 + r, u]
    weight = (order < setting.traces_seen) * TEMPLATES[setting.template][0]
    return facts, write.trace(ways((u, y, graph[2 + s, y]), (2 + r, 2 + s)), weight)


def _edits(rng: np.random.Generator, graph: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """Subjects, bridges (disjoint from subjects) and answers, each distinct, none an old fact.

    So old facts make some new ones likelier (``theory.draws.edited_null``).
    """
    n = graph.shape[1]
    while True:
        subject, bridge = np.split(rng.permutation(n)[: 2 * count], 2)
        answer = rng.permutation(n)[:count]
        if not np.any((graph[0, subject] == bridge) | (graph[1, bridge] == answer)):
            return subject, bridge, answer


def _null(relation: np.ndarray, source: np.ndarray, new: np.ndarray) -> np.ndarray:
    """``Probe.nulls`` (S, S) of a model that lacks the edit of ``relation`` from ``source`` to ``new``."""
    place = np.full(len(relation), -1)
    place[new] = np.arange(len(new))
    return edited_null(place[relation[source]]).astype(np.float32)
