"""How the two-hop world writes names, and words besides those of ``sim.worlds.hops``."""

from typing import TYPE_CHECKING

import numpy as np

from sim.model.sequences import Sequences
from sim.worlds import hops
from sim.worlds.building import columns, group

if TYPE_CHECKING:  # the world imports its writer
    from sim.worlds.two_hop import Config

WORDS = 6
"""ANSWER, THINK, SEP, and these three paraphrased; they stand after the relations in the vocabulary."""

CONTROL_WORDS = 5
"""COMPARE, IS, KIND, SAME, DIFFERENT: at the end of the vocabulary of a world with controls."""

SIGNS = ("ANSWER", "THINK", "SEP", "ANSWER'", "THINK'", "SEP'", "IS", "KIND", "SAME", "DIFFERENT")
"""The words of the vocabulary, in its order; those with a prime are the paraphrased ones."""


class Writer(hops.Writer):
    """Writes names of one token each, or of two pieces drawn from a grid.

    ``is_`` and ``kind`` number relations like the graph's; only a world with controls has their words,
    and those of ``compare`` and the ``verdicts``.
    """

    def __init__(self, config: "Config", rng: np.random.Generator):
        names, pieces = np.arange(config.entities + 2 * config.edits), config.pieces
        if config.name_tokens == 2:
            pairs = rng.permutation(pieces**2)[: len(names)]
            names = pairs // pieces, pieces + pairs % pieces
        words = config.name_vocab + config.relations + np.arange(WORDS)
        super().__init__(np.stack(np.atleast_2d(names), axis=1), config.name_vocab, words.reshape(2, 3))
        self.compare, same, different = words[-1] + np.array([1, 4, 5])
        self.is_, self.kind = config.relations + WORDS + np.array([1, 2])
        self.verdicts = np.array([different, same])

    def comparison(self, a, b, same, weight=1.0) -> Sequences:
        """Whether two entities are of one kind: "a b KIND COMPARE | SAME", or DIFFERENT."""
        names = self.names[a], self.names[b]
        verdict = self.verdicts[np.asarray(same, int)]
        tokens = columns(*names, self.relation + self.kind, self.compare, verdict)
        return group(tokens, weight, 2 * self.names.shape[1] + 2)


def words(config: "Config", tokens) -> list[str]:
    """A sequence for people, a word a token: e5 an entity (or a piece of its name), r1 the first relation."""
    signs = [f"r{index + 1}" for index in range(config.relations)] + list(SIGNS)
    return [f"e{t}" if t < config.name_vocab else signs[t - config.name_vocab] for t in map(int, tokens)]
