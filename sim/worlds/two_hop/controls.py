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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.worlds import FACTS, Layout, Probe, World, controls
from sim.worlds.controls import IDENTITY, without
from sim.worlds.two_hop import writer as written
from sim.worlds.two_hop.writer import PARTS, Writer, ask, joined

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.two_hop import Config, Setting

OLD_RELATION = 2
"""The relation of the old fact in a known pair: no adapter changes it."""

KINDS = 4
"""Kinds of entities. With fewer than four, the old comparison gives the new one away."""

PRETRAINING = (("compare", 64), *IDENTITY)
"""Batches of the groups that the controls add to pretraining."""


def check(config: "Config", setting: "Setting") -> None:
    """Raise ValueError if the setting needs controls that the world does not have, or is too small for."""
    if not controls.require(config, setting, entities="real"):
        return
    n, count, relations = config.entities, config.edits, config.relations
    spare = n * relations**2 - round(config.coverage * n * relations**2)
    if relations < 4:
        raise ValueError(f"relations is {relations}: controls need 4, for the known and the unrelated facts")
    if count % 2:
        raise ValueError(f"edits is {count}: as many pairs are the same as different, so it must be even")
    if 3 * count > n or 3 * count > spare:
        raise ValueError(f"edits {count} leave no room for controls among {n} entities: use more entities")


@dataclass(frozen=True)
class Drawn:
    """The controls of one seed, entities as numbers.

    old_fact_pairs: {which hop is an old fact: subjects, relations, bridges and answers of the pair}.
    third, other, other_new: the unrelated relation, the subjects of its edits, and their new answers.
    kind:       kinds of all entities, each kind written as an entity.
    left, right: pairs whose kinds are edited; ``new``: (2, edits), their new kinds.
    pairs:      (a, b) of all comparisons; ``shown``: those in pretraining.
    test_comparisons: numbers of comparisons that pretraining does not show.
    """

    old_fact_pairs: dict[str, tuple]
    third: int
    other: np.ndarray
    other_new: np.ndarray
    kind: np.ndarray
    left: np.ndarray
    right: np.ndarray
    new: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]
    shown: np.ndarray
    test_comparisons: np.ndarray


def pair_with_old_facts(graph: np.ndarray, subject, bridge, answer) -> dict[str, tuple]:
    """(x, r, s, y, z) of the pairs with an old fact of ``OLD_RELATION``, by which hop is known."""
    before, y = np.argsort(graph[OLD_RELATION])[bridge], graph[0]
    whole = np.setdiff1d(np.arange(graph.shape[1]), subject)[: len(subject)]
    return {
        "second": (subject, 0, OLD_RELATION, bridge, graph[OLD_RELATION, bridge]),
        "first": (before, OLD_RELATION, 1, bridge, answer),
        "both": (whole, 0, OLD_RELATION, y[whole], graph[OLD_RELATION, y[whole]]),
    }


def move_old_pairs_last(
    config: "Config", graph: np.ndarray, queries: np.ndarray, subject, bridge
) -> np.ndarray:
    """The queries with those of the known pairs last, so that pretraining does not show them."""
    shape = config.entities, config.relations, config.relations
    pairs = pair_with_old_facts(graph[:, : config.entities], subject, bridge, None).values()
    numbers = [np.ravel_multi_index(np.broadcast_arrays(x, r, s), shape) for x, r, s, _, _ in pairs]
    last = np.isin(queries, np.concatenate(numbers))
    return np.concatenate([queries[~last], queries[last]])


def draw(config: "Config", seed: int, graph: np.ndarray, subject, bridge, answer) -> Drawn:
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
    test_comparisons = [order[same[order] == verdict][: count // 2] for verdict in (True, False)]
    if min(map(len, test_comparisons)) < count // 2:
        raise ValueError(
            f"only {min(map(len, test_comparisons))} comparisons are left to ask: use more entities"
        )
    old_fact_pairs = pair_with_old_facts(graph[:, :n], subject, bridge, answer)
    test_comparisons = np.concatenate(test_comparisons)
    return Drawn(
        old_fact_pairs,
        third,
        other,
        other_new,
        values[kind],
        left,
        right,
        values[new],
        (a, b),
        shown,
        test_comparisons,
    )


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


def added(
    world: World,
    config: "Config",
    write: Writer,
    drawn: Drawn,
    identity_in: tuple[bool, bool],
    old: tuple[np.ndarray, ...],
    unedited: np.ndarray,
) -> World:
    """The world with its controls.

    Args:
        identity_in: whether (pretraining, the hop adapters' data) hold identities.
        old: (x, y, z) of the two edited relations before the edits, for all real entities x.
        unedited: for each x, whether no edit touches its x, y, z.
    """
    in_pretraining, in_data = identity_in
    n, (a, b) = config.entities, drawn.pairs
    same = drawn.kind[a] == drawn.kind[b]
    balanced = drawn.shown * np.where(same, 1 / np.sum(drawn.shown & same), 1 / np.sum(drawn.shown & ~same))
    everyone, bridge = np.arange(n), drawn.old_fact_pairs["second"][3]
    taught = {
        "unrelated": write.fact(drawn.other, drawn.third, drawn.other_new),
        "left": write.fact(drawn.left, write.kind, drawn.new[0]),
        "right": write.fact(drawn.right, write.kind, drawn.new[1]),
    }
    direct = write.direct(old[0], 0, 1, *old[1:], unedited)
    taught_world = controls.added(
        world, taught, direct, write.fact(bridge, write.is_, bridge), in_data, {"kinds": ("left", "right")}
    )
    pretraining = {
        **world.pretraining,
        FACTS: joined(world.pretraining[FACTS], write.fact(everyone, write.kind, drawn.kind)),
        "compare": write.comparison(a, b, same, balanced),
        "identity": write.fact(everyone, write.is_, everyone, float(in_pretraining)),
    }
    probes = {
        **world.probes,
        **_probes(config, write, drawn, world.probes["direct"].nulls),
        **{name: ask(taught[name], Layout(forecast=False)) for name in ("left", "right")},
    }
    libraries = (*taught_world.libraries, ("compared", ("left", "right")), ("kinds", ("kinds",)))
    return dataclasses.replace(taught_world, pretraining=pretraining, probes=probes, libraries=libraries)


def _probes(
    config: "Config", write: Writer, drawn: Drawn, nulls: Mapping[str, np.ndarray]
) -> dict[str, Probe]:
    """Known pairs as direct questions and as traces, comparisons of edited and of other pairs.

    ``nulls``: those of the edited hops.
    """
    probes, k = {}, config.name_tokens
    for name, pair in drawn.old_fact_pairs.items():
        hops = {"first": (0,), "second": (1,), "both": (0, 1)}[name]
        # Without the edited hop these pairs are no easier than the edited ones.
        lacking = {without(part): nulls[without(part)] for i, part in enumerate(PARTS) if i not in hops}
        probes[f"direct_known_{name}"] = ask(
            write.direct(*pair), controls.disown_hops(written.direct(config), *hops), **lacking
        )
        probes[f"cot_known_{name}"] = ask(
            write.trace(*pair), controls.disown_hops(written.trace(config), *hops)
        )
    a, b = (side[drawn.test_comparisons] for side in drawn.pairs)
    guess = Layout(owner=(0,) * k + (1,) * k + (-1,) * 3, chance=1 / 2, forecast=False)
    edited = write.comparison(drawn.left, drawn.right, drawn.new[0] == drawn.new[1])
    probes["compare"] = ask(edited, guess)
    others = write.comparison(a, b, drawn.kind[a] == drawn.kind[b])
    probes["untouched_compare"] = ask(others, dataclasses.replace(guess, owner=()))
    return probes
