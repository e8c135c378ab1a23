"""How the two-hop world writes: numbers of entities and relations as token sequences, and their layouts."""

from typing import TYPE_CHECKING

import numpy as np

from sim.model.sequences import Sequences
from sim.worlds.probe import Layout, Probe, Step

if TYPE_CHECKING:  # the world imports its writer
    from sim.worlds.two_hop import Config

PARTS = ("hop1", "hop2")

UNMARKED = Layout()

WORDS = 6
"""ANSWER, THINK, SEP, and these three paraphrased; they stand after the relations in the vocabulary."""

CONTROL_WORDS = 5
"""COMPARE, IS, KIND, SAME, DIFFERENT: at the end of the vocabulary of a world with controls."""


class Writer:
    """Turns entity and relation numbers into token sequences.

    ``is_`` and ``kind`` number relations like the graph's; only a world with controls has their words,
    and those of ``compare`` and the ``verdicts``.
    """

    def __init__(self, config: "Config", rng: np.random.Generator):
        names = config.entities + 2 * config.edits
        if config.name_tokens == 1:
            self.names = np.arange(names)[:, None]
        else:
            pairs = rng.permutation(config.pieces**2)[:names]
            self.names = np.stack([pairs // config.pieces, config.pieces + pairs % config.pieces], axis=1)
        self.relation = config.name_vocab
        self.words = config.name_vocab + config.relations + np.arange(WORDS)
        self.answer = self.words[0]
        self.prompt = config.name_tokens + 2
        self.compare, same, different = config.name_vocab + config.relations + WORDS + np.array([0, 3, 4])
        self.is_, self.kind = config.relations + WORDS + np.array([1, 2])
        self.verdicts = np.array([different, same])

    def _write(self, *parts) -> np.ndarray:
        count = max(len(part) for part in parts if isinstance(part, np.ndarray))
        columns = [
            part if isinstance(part, np.ndarray) and part.ndim == 2 else np.broadcast_to(part, count)[:, None]
            for part in parts
        ]
        return np.concatenate(columns, axis=1).astype(np.int32)

    def fact(self, x, r, y, weight=1.0) -> Sequences:
        """A fact, "x r ANSWER | y"."""
        tokens = self._write(self.names[x], self.relation + r, self.answer, self.names[y])
        return group(tokens, weight, self.prompt)

    def direct(self, x, r, s, _y, z, weight=1.0) -> Sequences:
        """A query answered at once, "x r s ANSWER | z"."""
        tokens = self._write(self.names[x], self.relation + r, self.relation + s, self.answer, self.names[z])
        return group(tokens, weight, self.prompt + 1)

    def trace(self, x, r, s, y, z, weight=1.0, wording="shared") -> Sequences:
        """A query answered step by step, "x r s THINK | x r ANSWER y SEP y s ANSWER z"."""
        answer, think, sep = self.words[3:] if wording == "paraphrased" else self.words[:3]
        x, y, z, r, s = self.names[x], self.names[y], self.names[z], self.relation + r, self.relation + s
        hops = [(x, r, answer, y), (y, s, answer, z)]
        first, second = hops[::-1] if wording == "different" else hops
        return group(self._write(x, r, s, think, *first, sep, *second), weight, self.prompt + 1)

    def comparison(self, a, b, same, weight=1.0) -> Sequences:
        """Whether two entities are of one kind: "a b KIND COMPARE | SAME", or DIFFERENT."""
        verdict = self.verdicts[np.asarray(same, int)]
        names = self.names[a], self.names[b]
        tokens = self._write(*names, self.relation + self.kind, self.compare, verdict)
        return group(tokens, weight, 2 * self.names.shape[1] + 2)


SIGNS = ("ANSWER", "THINK", "SEP", "ANSWER'", "THINK'", "SEP'", "IS", "KIND", "SAME", "DIFFERENT")
"""The words of the vocabulary, in its order; those with a prime are the paraphrased ones."""


def words(config: "Config", tokens) -> list[str]:
    """A sequence for people, a word a token: e5 an entity (or a piece of its name), r1 the first relation."""
    signs = [f"r{index + 1}" for index in range(config.relations)] + list(SIGNS)
    return [f"e{t}" if t < config.name_vocab else signs[t - config.name_vocab] for t in map(int, tokens)]


def group(tokens: np.ndarray, weight, prompt: int) -> Sequences:
    """Sequences of these tokens; ``weight`` is one number or one a row."""
    weight = np.broadcast_to(np.asarray(weight, np.float32), len(tokens)).copy()
    return Sequences(tokens, weight, prompt)


def joined(*groups: Sequences) -> Sequences:
    """Groups of one shape as one, rows in their order."""
    tokens = np.concatenate([each.tokens for each in groups])
    return group(tokens, np.concatenate([each.weight for each in groups]), groups[0].prompt)


def ask(sequences: Sequences, layout: Layout = UNMARKED, **nulls: np.ndarray) -> Probe:
    """The sequences of a group as questions, with the nulls of a model that lacks a hop."""
    return Probe(sequences.tokens, sequences.weight, sequences.prompt, layout, nulls)


def _positions(start: int, count: int) -> tuple[int, ...]:
    return tuple(range(start, start + count))


def one_hop(config: "Config", part: int) -> Layout:
    """A fact, "x r ANSWER | y": all of it belongs to the hop's own adapter."""
    k = config.name_tokens
    return Layout((Step(PARTS[part], part, _positions(k + 2, k)),), owner=(part,) * (2 * k + 2))


def direct(config: "Config") -> Layout:
    """A direct question, "x r s ANSWER | z": x and r go to the first hop's adapter, the rest to the second's.

    Chance is a guess among the edited answers: an adapter learns which answers are common without learning
    which belongs where, so it is not a guess among all entities (theory/README.md, section 2). Who knows the
    old facts may do better without a hop: ``Probe.nulls``.
    """
    k = config.name_tokens
    return Layout(owner=(0,) * (k + 1) + (1,) * (k + 2), chance=1 / config.edits)


def trace(config: "Config") -> Layout:
    """A trace, "x r s THINK | x r ANSWER y SEP y s ANSWER z".

    Everything up to the bridge as written goes to the first hop's adapter, but for s; the rest, from SEP on,
    to the second's.
    """
    k = config.name_tokens
    prompt = k + 3
    x, y, again, z = (_positions(prompt + start, k) for start in (0, k + 2, 2 * k + 3, 3 * k + 5))
    first = prompt + 2 * k + 2
    owner = [0] * first + [1] * (2 * k + 3)
    owner[k + 1] = 1
    return Layout(
        steps=(Step("hop1", 0, y), Step("hop2", 1, z)),
        copies=((x, _positions(0, k)), (again, y)),
        owner=tuple(owner),
    )
