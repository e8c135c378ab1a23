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

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import JOINT, Layout, World, world
from sim.worlds.controls import without
from sim.worlds.settings import require_choices, seen_by_base
from sim.worlds.two_hop import controls as two_hop_controls
from sim.worlds.two_hop import writer as layout_of
from sim.worlds.two_hop.writer import CONTROL_WORDS, PARTS, WORDS, Writer, ask, group, joined
from theory.draws import edited_null

ENTITIES = {
    "real": (),
    "half_fake": ("bridge",),
    "half_fake_subject": ("subject",),
    "fake": ("subject", "bridge"),
}
"""Roles of the edited facts whose names are new to the base."""

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where traces of other entities occur: (in pretraining, in the hop adapters' own data)."""

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
        require_choices(
            self,
            {
                "entities": ENTITIES,
                "template": TEMPLATES,
                "wording": WORDINGS,
                "identity": TEMPLATES,
            },
        )
        for name in ("bridges", "facts_seen", "traces_seen"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: a dose is 0 or more")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on; cells of a seed with equal values share their base."""
        seen = {"facts_seen": self.facts_seen, "traces_seen": self.traces_seen}
        return Setting(**seen_by_base(self, TEMPLATES), **seen)


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
the queries that it shows are learned last: the batch has most of those. Muon would take half the steps, but
its bases are harder to edit (sim/bench/README.md)."""

FINETUNING = Schedule(1600, 2e-3, (("facts", 32), ("traces", 8)), cooling=50, margin=1.0, tile=16)
"""All facts of an adapter at every step, until it knows them: 75 to 200 steps, or a thousand for traces of
which the base knows no word. Higher rates need fewer and damage more (sim/bench/README.md)."""

SETTINGS = {
    "quick": [Setting("real", "both"), Setting("fake", "both"), Setting("real", "none")],
    "paper": [Setting(e, t) for t in TEMPLATES for e in ("real", "half_fake", "fake")],
}

REAL = Setting()


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = REAL) -> World:
    """Sample one world.

    The graph, the pretraining sequences and the edits depend on ``seed`` alone (``setting`` only weighs
    and words them), so that cells are paired and those with the same ``setting.pretraining`` share a base.

    Raises:
        ValueError: the world is too small for its bridges, held-out queries or doses, or the setting needs
            controls that the world does not have.
    """
    two_hop_controls.check(config, setting)
    in_pretraining, in_data = TEMPLATES[setting.template]
    rng = np.random.default_rng([20250613, seed])
    n, count, relations = config.entities, config.edits, config.relations
    write = Writer(config, rng)
    # Real and unseen names form two closed graphs, so facts about one do not help with the other.
    graph = np.stack(
        [np.append(rng.permutation(n), n + rng.permutation(2 * count)) for _ in range(relations)]
    )
    queries = rng.permutation(n * relations**2)
    # Drawn before anything whose number of draws depends on the setting.
    subject, bridge, answer = _edits(rng, graph[:, :n], count)
    nulls = {
        without(PARTS[0]): _null(graph[0], subject, bridge),
        without(PARTS[1]): _null(graph[1], bridge, answer),
    }
    new_facts, new_traces = _about_unseen(rng, config, write, graph, setting)
    if config.controls:
        queries = two_hop_controls.move_old_pairs_last(config, graph, queries, subject, bridge)
    x, r, s = np.unravel_index(queries, (n, relations, relations))
    y, z = graph[r, x], graph[s, graph[r, x]]
    seen = np.arange(len(queries)) < round(config.coverage * len(queries))
    if "subject" in ENTITIES[setting.entities]:
        subject = n + np.arange(count)
    if "bridge" in ENTITIES[setting.entities]:
        bridge = n + count + np.arange(count)
    edited = np.zeros((relations, n + 2 * count), bool)
    edited[0, subject] = edited[1, bridge] = True
    controls = None
    if config.controls:
        controls = two_hop_controls.draw(config, seed, graph, subject, bridge, answer)
        edited[controls.third, controls.other] = True

    # Held out: queries that pretraining did not show and whose two facts the edits leave alone. Bridges:
    # queries about entities that play no part in the edits; those about the edited relations are expert.
    others = ~np.isin(x, [subject, bridge]) & ~np.isin(y, [subject, bridge])
    untouched_queries = _first(count, ~seen & ~edited[r, x] & ~edited[s, y], "edits")
    others[untouched_queries] = False
    expert_pool = others & (r == 0) & (s == 1)
    bridges = _first(config.bridges, others & ~expert_pool, "bridges")
    expert = _first(count // 2, expert_pool, "edits // 2")
    fact_x, fact_r = np.divmod(np.arange(n * relations), relations)
    untouched = rng.permutation(_first(None, ~edited[fact_r, fact_x], "facts"))[: 2 * count]

    def queries_by(write_one, pick, **how):
        return write_one(x[pick], r[pick], s[pick], y[pick], z[pick], **how)

    hop1, hop2 = write.fact(subject, 0, bridge), write.fact(bridge, 1, answer)
    first = np.repeat([True, False], count)
    dose = np.arange(len(bridges)) < setting.bridges
    traces = queries_by(write.trace, np.append(bridges, expert), wording=setting.wording)
    on_bridges, on_expert = np.append(dose, 0 * expert), np.append(0 * dose, 0 * expert + 1)
    taught = {
        "hop1": (first, in_data * on_bridges),
        "hop2": (~first, in_data * on_bridges),
        JOINT: (first | ~first, in_data * on_bridges),
        "bridge": (0 * first, on_bridges),
        "expert": (0 * first, on_expert),
    }
    plain = World(
        pretraining={
            "facts": joined(write.fact(fact_x, fact_r, graph[fact_r, fact_x]), new_facts),
            "direct": queries_by(write.direct, seen),
            "traces": joined(queries_by(write.trace, seen, weight=float(in_pretraining)), new_traces),
        },
        data={
            name: {
                "facts": group(np.concatenate([hop1.tokens, hop2.tokens]), on_facts, write.prompt),
                "traces": group(traces.tokens, on_traces, traces.prompt),
            }
            for name, (on_facts, on_traces) in taught.items()
        },
        probes={
            "hop1": ask(hop1, layout_of.one_hop(config, 0)),
            "hop2": ask(hop2, layout_of.one_hop(config, 1)),
            "direct": ask(write.direct(subject, 0, 1, bridge, answer), layout_of.direct(config), **nulls),
            "cot": ask(write.trace(subject, 0, 1, bridge, answer), layout_of.trace(config)),
            "untouched": ask(
                write.fact(fact_x[untouched], fact_r[untouched], graph[fact_r, fact_x][untouched])
            ),
            "untouched_direct": ask(queries_by(write.direct, untouched_queries), Layout(forecast=False)),
            "untouched_cot": ask(queries_by(write.trace, untouched_queries)),
        },
        parts=PARTS,
    )
    if controls is None:
        return plain
    old = np.arange(n), graph[0, :n], graph[1, graph[0, :n]]
    unedited = np.isin(np.arange(n), x[expert_pool])
    return two_hop_controls.added(plain, config, write, controls, TEMPLATES[setting.identity], old, unedited)


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
    weight = (order < setting.traces_seen) * float(TEMPLATES[setting.template][0])
    return facts, write.trace(u, 2 + r, 2 + s, y, graph[2 + s, y], weight)


def _first(count: int | None, mask: np.ndarray, what: str) -> np.ndarray:
    """The first ``count`` positions where ``mask`` holds; the shapes of all worlds must agree."""
    places = np.flatnonzero(mask)
    if count is not None and len(places) < count:
        raise ValueError(f"only {len(places)} queries serve for {what} = {count}: use more entities")
    return places[:count]


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
