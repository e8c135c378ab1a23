"""What a referee asks of any world besides its own questions: data sets, libraries and pairs, by one code.

Not a world: a world with ``controls=True`` in its Config hands over what is its own (facts, words, questions)
and gets its data sets back with those of the controls. ``sim.experiments.controls`` finds them by name:

    control                       two_hop          math_word          crosslingual         atlas
    random, by ``RANDOM``         each part        each part          each part            each part
    "unrelated" adapter           third relation   verbs only heard   other functions      capital westwards
    "direct_expert" adapter       other entities   plain verbs        other functions, N   other countries
    "direct_known_second"         relation 2       plain verb         known function       next by population
    "direct_known_first"          relation 2       plain verb         known language L3    next by population
    "direct_known_both"           the same         plain verbs        known, in L3         known, held out
    identity, "b is b"            a word IS        no step at all     P into P             a word IS
    both facts, other documents   JOINT            JOINT              JOINT                JOINT
    "compare"                     kinds            -                  -                    -

JOINT, taught without traces, is the adapter in whose data both facts stand, in different documents.

Comparison asks whether two values of one kind are alike, each known to one adapter. In the other worlds it
has no meaning: a verb has no value apart from a quantity, and two new functions, like two withheld
currencies, are drawn to differ, so that the answer would always be no.

Theorems 2a to 2e (theory/README.md, section 2) are about the two-hop world's controls. Elsewhere they are
silent, for the world itself takes away assumption (i) of 2d and the uniform first hop of 2a, whatever base is
asked: in math_word what verbs do is drawn from a few maps, whose arithmetic ties the number written to the
number read; in crosslingual paraphrases between three languages tie a word of P as said to the word as read,
even without "P into P"; in atlas facts are fixed, and "larger" is the inverse of "smaller".
Their nulls are those of balance: every answer is right equally often. Who lacks a step may know more than a
guess all the same (``Probe.nulls``, loss and accuracy): in two_hop an edit avoids the old fact (2g), in
math_word the other verb does one of a few maps (2f), in worlds with and without controls. In crosslingual
balance is exact for who lacks a step: all bodies come from one permutation and differ, no pair is excluded.
In atlas nothing is drawn but which facts are withheld: balance holds for a guess that does not read the
question, and no null for who knows the world.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.model.sequences import Sequences
from sim.worlds import FACTS, JOINT, World
from sim.worlds.probe import Layout

RANDOM = "random_for_"
"""RANDOM + name: an adapter that is never trained, Gaussian with the norms of the adapter of that name."""


FINETUNING = (("direct", 16), ("identity", 8))
"""Batches of the groups that the controls add to the data of every adapter."""

IDENTITY = (("identity", 16),)
"""The batch of the group that they add to pretraining, in a world that has none of its own."""


def without(part: str) -> str:
    """Name of the null (``Probe.nulls``) of who lacks what a part was taught."""
    return f"without_{part}"


def stand_ins(parts: tuple[str, ...], other: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(name, members) of a library for each part, in which ``other`` stands in its place.

    ``other`` names an adapter, or is ``RANDOM``: a random one with the norms of the part it replaces.

    Example:
        stand_ins(("a", "b"), "unrelated") is
        (("unrelated_for_a", ("unrelated", "b")), ("unrelated_for_b", ("a", "unrelated")))
    """
    libraries = []
    for gone in parts:
        name = other + gone if other == RANDOM else other
        label = name if other == RANDOM else f"{other}_for_{gone}"
        libraries.append((label, tuple(name if part == gone else part for part in parts)))
    return tuple(libraries)


def require(config: Any, setting: Any, **only: str) -> bool:
    """Whether a world has controls.

    Args:
        only: values of the setting's fields, the only ones that its controls know.

    Raises:
        ValueError: identities are asked for and there are no controls, or they do not know the setting.
    """
    if not config.controls:
        default = type(setting)().identity
        if setting.identity != default:
            raise ValueError(f"identity {setting.identity!r} needs a world with controls=True")
        return False
    for name, value in only.items():
        if getattr(setting, name) != value:
            raise ValueError(f"{name} is {getattr(setting, name)!r}: controls know {value!r} only")
    return True


def added(
    world: World,
    taught: Mapping[str, Sequences],
    direct: Sequences,
    identity: Sequences,
    in_data: bool,
    several: Mapping[str, tuple[str, ...]] | None = None,
) -> World:
    """The world with the data sets of its controls, and the libraries in which they stand in for a part.

    Every adapter's data get the facts of all the others, of weight 0, and the groups "direct" and "identity":
    all data sets of a world have equal shapes.

    Args:
        taught: facts that each further adapter is taught, "unrelated" among them; of the shape of ``FACTS``.
        direct: what "direct_expert" is taught, weighed: questions of two hops answered at once.
        identity: "b is b", which the parts and ``JOINT`` are taught if ``in_data``.
        several: {adapter: names in ``taught``} of adapters that are taught the facts of more than one.
    """
    new = {name: weighed(each, 0.0) for name, each in taught.items()}
    blank = {name: weighed(each, 0.0) for name, each in world.data[JOINT].items()}

    def lesson(groups, own=(), on_direct=0.0, on_identity=0.0):
        more = new | {name: taught[name] for name in own}
        return {
            **groups,
            FACTS: joined(groups[FACTS], *more.values()),
            "direct": weighed(direct, on_direct * direct.weight),
            "identity": weighed(identity, on_identity * identity.weight),
        }

    data = {
        name: lesson(groups, on_identity=float(in_data * (name in (*world.parts, JOINT))))
        for name, groups in world.data.items()
    }
    data |= {name: lesson(blank, (name,)) for name in taught}
    data |= {name: lesson(blank, own) for name, own in (several or {}).items()}
    data["direct_expert"] = lesson(blank, on_direct=1.0)
    libraries = (*stand_ins(world.parts, "unrelated"), *stand_ins(world.parts, RANDOM))
    return dataclasses.replace(world, data=data, libraries=world.libraries + libraries)


def disown_hops(layout: Layout, *hops: int, chance: float | None = None) -> Layout:
    """The layout of a pair of which hops of these numbers are known: they are no adapter's, nothing is
    forecast. ``chance``: of a guess among the answers, if not the layout's."""
    owner = tuple(-1 if part in hops else part for part in layout.owner)
    chance = layout.chance if chance is None else chance
    return dataclasses.replace(layout, owner=owner, chance=chance, forecast=False)


def weighed(group: Sequences, weight: Any) -> Sequences:
    """The group with other weights: one number, or one a row."""
    weight = np.broadcast_to(np.asarray(weight, np.float32), len(group.tokens)).copy()
    return dataclasses.replace(group, weight=weight)


def joined(*groups: Sequences) -> Sequences:
    """Groups of one shape as one, rows in their order."""
    tokens, weight = (np.concatenate([getattr(g, of) for g in groups]) for of in ("tokens", "weight"))
    return Sequences(tokens, weight, groups[0].prompt)
