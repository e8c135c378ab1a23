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

from sim.worlds import Sequences, World, world

ENTITIES = {"real": (), "half_fake": ("bridge",), "fake": ("subject", "bridge")}
"""Which roles of the edited facts are played by names that pretraining never saw."""

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where traces of other entities occur: (in pretraining, in every adapter's own data)."""


@dataclass(frozen=True)
class TwoHopConfig:
    """Sizes of the two-hop world.

    entities:    real entities, all seen in pretraining.
    relations:   relations of the graph; the edits change the first (hop 1) and the second (hop 2).
    edits:       facts taught to each adapter; as many subjects, bridges and answers.
    coverage:    share of all two-hop queries that pretraining shows, directly and as traces.
    bridges:     traces of other, unedited entities in each adapter's data, where the template asks for them.
    name_tokens: tokens a name takes, 1 or 2.
    """

    entities: int = 64
    relations: int = 6
    edits: int = 16
    coverage: float = 0.5
    bridges: int = 64
    name_tokens: int = 1

    def __post_init__(self):
        if self.name_tokens not in (1, 2):
            raise ValueError(f"name_tokens is {self.name_tokens}: use 1 or 2")
        if self.relations < 2:
            raise ValueError(f"relations is {self.relations}: two hops need at least 2")
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
        """Size of the vocabulary: name tokens, relations, ANSWER, THINK, SEP."""
        return self.name_vocab + self.relations + 3

    @property
    def chance(self) -> float:
        """Direct two-hop accuracy of a guess among the edited answers: 1/edits.

        An adapter learns which answers are common without learning which belongs where, so the chance
        level is a guess among its own answers and not among all entities (theory/README.md, section 2).
        """
        return 1 / self.edits


class _Writer:
    """Turns entity and relation numbers into token sequences."""

    def __init__(self, config: TwoHopConfig, rng: np.random.Generator):
        names = config.entities + 2 * config.edits
        if config.name_tokens == 1:
            self.names = np.arange(names)[:, None]
        else:
            pairs = rng.permutation(config.pieces**2)[:names]
            self.names = np.stack([pairs // config.pieces, config.pieces + pairs % config.pieces], axis=1)
        self.relation = config.name_vocab
        self.answer, self.think, self.sep = config.name_vocab + config.relations + np.arange(3)
        self.prompt = config.name_tokens + 2

    def _write(self, *parts) -> np.ndarray:
        count = max(len(part) for part in parts if isinstance(part, np.ndarray))
        columns = [
            part if isinstance(part, np.ndarray) and part.ndim == 2 else np.broadcast_to(part, count)[:, None]
            for part in parts
        ]
        return np.concatenate(columns, axis=1).astype(np.int32)

    def fact(self, x, r, y, weight=1.0) -> Sequences:
        tokens = self._write(self.names[x], self.relation + r, self.answer, self.names[y])
        return _group(tokens, weight, self.prompt)

    def direct(self, x, r, s, _y, z, weight=1.0) -> Sequences:
        tokens = self._write(self.names[x], self.relation + r, self.relation + s, self.answer, self.names[z])
        return _group(tokens, weight, self.prompt + 1)

    def trace(self, x, r, s, y, z, weight=1.0) -> Sequences:
        x, y, z, r, s = self.names[x], self.names[y], self.names[z], self.relation + r, self.relation + s
        tokens = self._write(x, r, s, self.think, x, r, self.answer, y, self.sep, y, s, self.answer, z)
        return _group(tokens, weight, self.prompt + 1)


def _group(tokens: np.ndarray, weight, prompt: int) -> Sequences:
    weight = np.broadcast_to(np.asarray(weight, np.float32), len(tokens)).copy()
    return Sequences(tokens, weight, prompt)


@world("two_hop")
def build(config: TwoHopConfig, seed: int, entities: str = "real", template: str = "pretraining") -> World:
    """Sample one world. ``entities`` is a key of ``ENTITIES``, ``template`` a key of ``TEMPLATES``.

    The graph, the pretraining split and the real names depend on ``seed`` alone, so that all cells of a
    seed share their base (two bases a seed: template in pretraining or not).

    Raises:
        ValueError: unknown ``entities`` or ``template``.
    """
    for value, known, what in ((entities, ENTITIES, "entities"), (template, TEMPLATES, "template")):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}: use one of {', '.join(known)}")
    in_pretraining, in_data = TEMPLATES[template]
    rng = np.random.default_rng([20250613, seed])
    n, count = config.entities, config.edits
    write = _Writer(config, rng)
    graph = np.stack([rng.permutation(n) for _ in range(config.relations)])
    fact_x, fact_r = np.divmod(np.arange(n * config.relations), config.relations)
    queries = rng.permutation(n * config.relations**2)
    x, r, s = np.unravel_index(queries, (n, config.relations, config.relations))
    y, z = graph[r, x], graph[s, graph[r, x]]
    seen = np.arange(len(queries)) < round(config.coverage * len(queries))

    subject, bridge, answer = _edits(rng, graph, count)
    if "subject" in ENTITIES[entities]:
        subject = n + np.arange(count)
    if "bridge" in ENTITIES[entities]:
        bridge = n + count + np.arange(count)
    edited = np.zeros((config.relations, n + 2 * count), bool)
    edited[0, subject] = edited[1, bridge] = True

    # Bridges: pretrained queries about entities that play no part in the edits. Held out: queries that
    # pretraining did not show and whose two facts the edits leave alone.
    others = ~np.isin(x, [subject, bridge]) & ~np.isin(y, [subject, bridge])
    bridges = _first(config.bridges, seen & others, "bridges")
    held_out = _first(count, ~seen & ~edited[r, x] & ~edited[s, y], "edits")
    untouched = rng.permutation(_first(None, ~edited[fact_r, fact_x], "facts"))[: 2 * count]

    def asked(write_one, pick, weight=1.0):
        return write_one(x[pick], r[pick], s[pick], y[pick], z[pick], weight)

    hop1 = write.fact(subject, 0, bridge)
    hop2 = write.fact(bridge, 1, answer)
    tokens = np.concatenate([hop1.tokens, hop2.tokens])
    first = np.arange(2 * count) < count
    taught = {"hop1": first, "hop2": ~first, "joint": np.ones(2 * count)}
    traces = asked(write.trace, bridges, weight=float(in_data))
    return World(
        pretraining={
            "facts": write.fact(fact_x, fact_r, graph[fact_r, fact_x]),
            "direct": asked(write.direct, seen),
            "traces": asked(write.trace, seen, weight=float(in_pretraining)),
        },
        libraries={
            name: {"facts": _group(tokens, weight, write.prompt), "traces": traces}
            for name, weight in taught.items()
        },
        probes={
            "hop1": hop1,
            "hop2": hop2,
            "direct": write.direct(subject, 0, 1, bridge, answer),
            "cot": write.trace(subject, 0, 1, bridge, answer),
            "untouched": write.fact(fact_x[untouched], fact_r[untouched], graph[fact_r, fact_x][untouched]),
            "untouched_direct": asked(write.direct, held_out),
            "untouched_cot": asked(write.trace, held_out),
        },
    )


def _first(count: int | None, mask: np.ndarray, what: str) -> np.ndarray:
    """The first ``count`` positions where ``mask`` holds; the shapes of all worlds must agree."""
    found = np.flatnonzero(mask)
    if count is not None and len(found) < count:
        raise ValueError(f"only {len(found)} queries serve for {what} = {count}: use more entities")
    return found[:count]


def _edits(rng: np.random.Generator, graph: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """Subjects, bridges (disjoint from subjects) and answers, each distinct, none an old fact."""
    n = graph.shape[1]
    while True:
        subject, bridge = np.split(rng.permutation(n)[: 2 * count], 2)
        answer = rng.permutation(n)[:count]
        if not np.any((graph[0, subject] == bridge) | (graph[1, bridge] == answer)):
            return subject, bridge, answer
