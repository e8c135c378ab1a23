"""Controls of the two-hop world: questions besides the edited hops (theory/README.md, section 2).

    known pairs   one hop edited, the other an old fact of ``OLD_RELATION``, or both old: the best that the
                  base can do; pretraining shows none of them
    direct_expert an adapter of direct answers "x r1 r2 ANSWER | z" about other, unedited entities
    unrelated     an adapter taught edits in a third relation of other entities
    identity      "b IS ANSWER | b", of all names in pretraining or of the bridges in the hop adapters' data
    compare       "a b KIND COMPARE | SAME" or DIFFERENT: kinds of two entities, edited by the adapters "left"
                  and "right", or both by "kinds"; pretraining compares other pairs. The prompt ends in a word
                  of its own: after ANSWER, which ends the prompt of a fact, an edit would write a kind

The controls have their own random generator, so that they leave the rest of the world as it is.
"""

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sim.worlds import FACTS, Layout, Probe, World, controls
from sim.worlds.building import ask, join, take
from sim.worlds.controls import IDENTITY, OLD_HOPS, without
from sim.worlds.hops import Ways, ways

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds import two_hop
    from sim.worlds.two_hop import Config, Setting

OLD_RELATION = 2
"""The relation of the old fact in a known pair: no adapter changes it."""

KINDS = 4
"""Kinds of entities. With fewer than four, the old comparison gives the new one away."""

PRETRAINING = (("compare", 64), *IDENTITY)
"""Batches of the groups that the controls add to pretraining."""


def check(config: "Config") -> None:
    """Raise ValueError if the world is too small for controls."""
    n, count, relations = config.entities, config.edits, config.relations
    spare = n * relations**2 - round(config.coverage * n * relations**2)
    if relations < 4:
        raise ValueError(f"relations is {relations}: controls need 4, for the known and the unrelated facts")
    if count % 2:
        raise ValueError(f"edits is {count}: as many pairs are the same as different, so it must be even")
    if 3 * count > n or 3 * count > spare:
        raise ValueError(f"edits {count} leave no room for controls among {n} entities: use more entities")


class Sample(NamedTuple):
    """The controls of one seed, entities as numbers.

    pairs:       {which hop is an old fact: two-hop ways}.
    third, other, other_new: the unrelated relation, the subjects of its edits, and their new answers.
    kind:        kinds of all entities, each kind written as an entity.
    left, right: pairs whose kinds are edited; ``new``: (2, edits), their new kinds.
    comparisons: (2, S), both entities of all comparisons; ``shown``: those in pretraining.
    questions:   positions of comparisons that pretraining does not show.
    """

    pairs: dict[str, Ways]
    third: int
    other: np.ndarray
    other_new: np.ndarray
    kind: np.ndarray
    left: np.ndarray
    right: np.ndarray
    new: np.ndarray
    comparisons: np.ndarray
    shown: np.ndarray
    questions: np.ndarray


def pair_with_old_facts(graph: np.ndarray, subject, bridge, answer) -> dict[str, Ways]:
    """The pairs with an old fact of ``OLD_RELATION``, by which hop is known."""
    before, y = np.argsort(graph[OLD_RELATION])[bridge], graph[0]
    whole = np.setdiff1d(np.arange(graph.shape[1]), subject)[: len(subject)]
    return {
        "second": ways((subject, bridge, graph[OLD_RELATION, bridge]), (0, OLD_RELATION)),
        "first": ways((before, bridge, answer), (OLD_RELATION, 1)),
        "both": ways((whole, y[whole], graph[OLD_RELATION, y[whole]]), (0, OLD_RELATION)),
    }


def move_old_pairs_last(
    config: "Config", graph: np.ndarray, queries: np.ndarray, subject, bridge
) -> np.ndarray:
    """The queries with those of the known pairs last, so that pretraining does not show them."""
    shape = config.entities, config.relations, config.relations
    pairs = pair_with_old_facts(graph[:, : config.entities], subject, bridge, bridge).values()
    numbers = [np.ravel_multi_index((pair.entities[0], *pair.relations), shape) for pair in pairs]
    last = np.isin(queries, np.concatenate(numbers))
    return np.concatenate([queries[~last], queries[last]])


def draw(config: "Config", seed: int, graph: np.ndarray, subject, bridge, answer) -> Sample:
    """Sample the controls of a seed.

    Raises:
        ValueError: too few comparisons are left for the questions.
    """
    rng = np.random.default_rng([20250613, seed, 1])
    n, count, third = config.entities, config.edits, config.relations - 1
    other = rng.permutation(np.setdiff1d(np.arange(n), [subject, bridge]))[:count]
    other_new = rng.permutation(n)[:count]
    while np.any(other_new == graph[third, other]):
        other_new = rng.permutation(n)[:count]
    values, (left, right) = rng.permutation(n)[:KINDS], np.split(rng.permutation(n)[: 2 * count], 2)
    kind, new = _kinds(rng, n, left, right)
    a, b = np.divmod(np.arange(n * n), n)
    a, b = a[a != b], b[a != b]
    edited = np.isin(a, [left, right]) | np.isin(b, [left, right])
    partner = np.full(n, -1)
    partner[left], partner[right] = right, left
    shown = (rng.random(len(a)) < config.coverage) & (partner[a] != b)
    order, same = rng.permutation(np.flatnonzero(~shown & ~edited)), kind[a] == kind[b]
    message = "comparisons are left to ask: use more entities"
    questions = [take(order[same[order] == verdict], count // 2, message) for verdict in (True, False)]
    return Sample(
        pair_with_old_facts(graph[:, :n], subject, bridge, answer), third, other, other_new, values[kind],
        left, right, values[new], np.stack([a, b]), shown, np.concatenate(questions),
    )  # fmt: skip


def _kinds(rng, n: int, left, right) -> tuple[np.ndarray, np.ndarray]:
    """Old kinds of all and new kinds of the pairs, (2, pairs).

    New kinds of a pair are the same in every other pair, and so are the old kinds, independently of the new.
    A new kind always differs from the partner's old one. So the old kinds, one edit and any constant answer
    are each right on one half.
    """
    kind, count = rng.permutation(np.arange(n) % KINDS), len(left)
    drawn = np.stack([rng.permutation(KINDS) for _ in range(count)])
    same, was = np.arange(count) % 2 == 0, np.arange(count) // 2 % 2 == 0
    kind[left], kind[right] = drawn[:, 0], np.where(was, drawn[:, 0], drawn[:, 1])
    return kind, np.stack([drawn[:, 2], np.where(same, drawn[:, 2], drawn[:, 3])])


def add(world: World, config: "Config", setting: "Setting", sample: "two_hop.Sample") -> World:
    """The world with its controls."""
    write, own = sample.write, sample.controls
    everyone, bridge = np.arange(config.entities), own.pairs["second"].entities[1]
    a, b = own.comparisons
    same = own.kind[a] == own.kind[b]
    balanced = own.shown * np.where(same, 1 / np.sum(own.shown & same), 1 / np.sum(own.shown & ~same))
    taught = {
        "unrelated": write.fact(own.other, own.third, own.other_new),
        "left": write.fact(own.left, write.kind, own.new[0]),
        "right": write.fact(own.right, write.kind, own.new[1]),
    }
    y = sample.graph[0, everyone]
    old = ways((everyone, y, sample.graph[1, y]), (0, 1))
    direct = write.direct(old, np.isin(everyone, sample.queries.entities[0, sample.expert_pool]))
    pretraining = {
        **world.pretraining,
        FACTS: join(world.pretraining[FACTS], write.fact(everyone, write.kind, own.kind)),
        "compare": write.comparison(a, b, same, balanced),
    }
    new = controls.add(
        dataclasses.replace(world, pretraining=pretraining),
        setting,
        taught,
        direct,
        identity=write.fact(bridge, write.is_, bridge),
        shown=write.fact(everyone, write.is_, everyone),
        several={"kinds": ("left", "right")},
    )
    probes = world.probes | _probes(world, config, sample)
    probes |= {name: ask(taught[name], forecast=False) for name in ("left", "right")}
    libraries = (*new.libraries, ("compared", ("left", "right")), ("kinds", ("kinds",)))
    return dataclasses.replace(new, probes=probes, libraries=libraries)


def _probes(world: World, config: "Config", sample: "two_hop.Sample") -> dict[str, Probe]:
    """Known pairs as direct questions and as traces, comparisons of edited and of other pairs."""
    probes, k, write, own = {}, config.name_tokens, sample.write, sample.controls
    direct, trace = world.probes["direct"].layout, world.probes["cot"].layout
    for name, pair in own.pairs.items():
        # Without the edited hop these pairs are no easier than the edited ones.
        edited = [without(part) for i, part in enumerate(world.parts) if i not in OLD_HOPS[name]]
        nulls = {null: sample.nulls[null] for null in edited}
        probes[f"direct_known_{name}"] = controls.ask_known(name, write.direct(pair), direct, nulls)
        probes[f"cot_known_{name}"] = controls.ask_known(name, write.trace(pair), trace)
    a, b = own.comparisons[:, own.questions]
    guess = Layout(owner=(0,) * k + (1,) * k + (-1,) * 3, chance=1 / 2, forecast=False)
    edited = write.comparison(own.left, own.right, own.new[0] == own.new[1])
    probes["compare"] = ask(edited, guess)
    others = write.comparison(a, b, own.kind[a] == own.kind[b])
    probes["untouched_compare"] = ask(others, guess, owner=())
    return probes
