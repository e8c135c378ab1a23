"""Questions of one hop or more in a graph of facts: how they are written, and the layouts of the answers.

x, y, z are names of k tokens each, r and s relations; three hops likewise:

    fact     x r ANSWER | y
    direct   x r s ANSWER | z
    trace    x r s THINK | x r ANSWER y SEP y s ANSWER z        (chain of thought)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sim.model.sequences import Sequences
from sim.worlds.building import JOINT, ask, columns, group, join, lessons, positions
from sim.worlds.probe import Layout, Probe, Step


class Ways(NamedTuple):
    """Ways through the graph, as numbers of ``entities`` (hops + 1, S) and ``relations`` (hops, S)."""

    entities: Int[np.ndarray, "H+1 S"]
    relations: Int[np.ndarray, "H S"]

    def of(self, pick: np.ndarray) -> "Ways":
        """The ways at these places, or under this mask."""
        return Ways(self.entities[:, pick], self.relations[:, pick])

    def hop(self, index: int) -> "Ways":
        """One hop of each."""
        return Ways(self.entities[index : index + 2], self.relations[index : index + 1])


def ways(entities, relations) -> Ways:
    """Ways from one array (S,) or number an entity and a relation."""
    every = np.broadcast_arrays(*entities, *relations)
    return Ways(np.stack(every[: len(entities)]), np.stack(every[len(entities) :]))


class Writer:
    """Turns ways into token sequences.

    names:     tokens of every entity's name, (E, k).
    relation:  the token of the first relation; the others follow.
    wordings:  tokens of ANSWER, THINK and SEP, (W, 3): a row for each wording of a trace.
    """

    def __init__(self, names: Int[np.ndarray, "E k"], relation: int, wordings: Int[np.ndarray, "W 3"]):
        self.names, self.relation, self.wordings = names, relation, wordings

    def direct(self, way: Ways, weight=1.0) -> Sequences:
        """Questions answered at once; those of one hop are facts."""
        relations = self.relation + way.relations
        tokens = columns(
            self.names[way.entities[0]], *relations, self.wordings[0, 0], self.names[way.entities[-1]]
        )
        return group(tokens, weight, self._prompt(way))

    def trace(self, way: Ways, weight=1.0, wording: int = 0, reverse: bool = False) -> Sequences:
        """The same questions answered hop by hop, or with the hops in ``reverse`` order."""
        answer, think, sep = self.wordings[wording]
        relations, names = self.relation + way.relations, self.names[way.entities]
        hops = [(sep, x, r, answer, y) for x, r, y in zip(names, relations, names[1:], strict=False)]
        written = [token for hop in (hops[::-1] if reverse else hops) for token in hop][1:]
        return group(columns(names[0], *relations, think, *written), weight, self._prompt(way))

    def fact(self, x, r, y, weight=1.0) -> Sequences:
        """Facts, "x r ANSWER | y"."""
        return self.direct(ways((x, y), (r,)), weight)

    def _prompt(self, way: Ways) -> int:
        return self.names.shape[1] + len(way.relations) + 1


def one_hop(k: int, name: str, part: int) -> Layout:
    """A fact, "x r ANSWER | y": all of it belongs to the hop's own adapter."""
    return Layout((Step(name, part, positions(k + 2, k)),), owner=(part,) * (2 * k + 2))


def direct(k: int, hops: int, answers: int) -> Layout:
    """A direct question. The first adapter owns it up to the last relation, the second adapter the rest.

    Chance is a guess among the ``answers``: an adapter learns which answers are common without learning which
    belongs where, so it is not a guess among all entities (theory/README.md, section 2). Who knows old facts
    may do better without a hop: ``Probe.nulls``.
    """
    return Layout(owner=(0,) * (k + hops - 1) + (1,) * (k + 2), chance=1 / answers)


def trace(k: int, names: tuple[str, ...], hops: int = 2) -> Layout:
    """A trace, whose last two hops are steps of these names; a hop before them counts as wording.

    The first adapter owns everything up to the bridge as an answer, except the last relation of the question.
    The second adapter owns that relation and the rest, from the last SEP on.
    """
    prompt, hop = k + hops + 1, 2 * k + 3
    starts = [prompt + hop * index for index in range(hops)]
    answers = [positions(start + k + 2, k) for start in starts]
    owner = [0] * (starts[-1] - 1) + [1] * hop
    owner[k + hops - 1] = 1
    return Layout(
        steps=tuple(Step(name, part, answers[part - 2]) for part, name in enumerate(names)),
        copies=tuple(
            (positions(start, k), source)
            for start, source in zip(starts, [positions(0, k), *answers], strict=False)
        ),
        owner=tuple(owner),
    )


def teach(
    write: Writer, parts: tuple[str, str], way: Ways, traces: Sequences, in_data: bool, on_bridges, on_expert
) -> dict[str, dict[str, Sequences]]:
    """``World.data``: each part is taught its hop of the ways, the joint adapter both, and all three, if
    ``in_data``, traces of other entities; the adapters "bridge" and "expert" are taught traces alone.

    on_bridges, on_expert: their weights of the traces.
    """
    hop1, hop2 = (write.direct(way.hop(index)) for index in (0, 1))
    first = np.repeat([1.0, 0.0], len(hop1.tokens))
    own = dict(zip((*parts, JOINT), (first, 1 - first, 1.0), strict=True))
    taught = {name: (on_facts, in_data * on_bridges) for name, on_facts in own.items()}
    taught |= {"bridge": (0.0, on_bridges), "expert": (0.0, on_expert)}
    return lessons(join(hop1, hop2), traces, taught)


def questions(write: Writer, parts: tuple[str, str], taught: Ways, way: Ways, nulls=None) -> dict[str, Probe]:
    """The hops of what is ``taught``, each as the probe of its part; the ways, whose answers differ, asked
    at once ("direct", with these nulls) and hop by hop ("cot")."""
    k, count = write.names.shape[1], way.entities.shape[1]
    return {
        **{part: ask(write.direct(taught.hop(i)), one_hop(k, part, i)) for i, part in enumerate(parts)},
        "direct": ask(write.direct(way), direct(k, 2, count), nulls),
        "cot": ask(write.trace(way), trace(k, parts)),
    }


def untouched(write: Writer, facts: Ways, way: Ways) -> dict[str, Probe]:
    """Facts that nobody edits; ways through such facts that pretraining did not show, at once and by hops."""
    return {
        "untouched": ask(write.direct(facts)),
        "untouched_direct": ask(write.direct(way), forecast=False),
        "untouched_cot": ask(write.trace(way)),
    }
