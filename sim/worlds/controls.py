"""Controls that every world can have: data sets, libraries and questions a referee would want.

This is no world. A world with ``controls=True`` in its Config passes its own facts, words and questions
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

JOINT without traces is the adapter whose data hold both facts in different documents.

The comparison is a question whether two values of one kind are equal, where each adapter knows one value. The
other worlds have none: a verb has no value without a quantity, and two new functions or two withheld
currencies always differ, so the answer would always be no.

Theorems 2a to 2e (theory/README.md, section 2) apply to the controls of the two-hop world only. The other
worlds break assumption (i) of 2d and the uniform first hop of 2a, for any base. In math_word the verbs are
drawn from a few maps, whose arithmetic links a number as output to the same number as input. In crosslingual
the paraphrases between three languages link a word of P as output to the same word as input, even without
"P into P". In atlas the facts are fixed, and "larger" is the inverse of "smaller".

The baseline of a guess comes from balance: every answer is right equally often. A model that lacks a step may
still do better (``Probe.nulls``, loss and accuracy): in two_hop because an edit avoids the old fact (2g), in
math_word because the other verb is one of a few maps (2f), with and without controls. In crosslingual balance
is exact for a model that lacks a step: all bodies come from one permutation and differ, and no pair is
excluded. In atlas only the choice of withheld facts is random: balance holds for a guess that does not read
the question, and there is no null for a model that knows the world.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sim.model.sequences import Sequences
from sim.worlds import FACTS, JOINT, World
from sim.worlds.building import join, reweigh
from sim.worlds.probe import Layout

RANDOM = "random_for_"
"""RANDOM + name: a Gaussian adapter, never trained, with the norms of the adapter of that name."""

SPECTRUM = "spectrum_for_"
"""SPECTRUM + name: one of random directions with the singular values of the adapter of that name."""

UNTRAINED = {"random": RANDOM, "spectrum": SPECTRUM}
"""Libraries in which such an adapter stands for every part: any world has them (arXiv 2602.12323)."""

FINETUNING = (("direct", 16), ("identity", 8))
"""Batches of the groups that the controls add to the data of every adapter."""

IDENTITY = (("identity", 16),)
"""The batch that the controls add to pretraining, in a world without a batch of its own for them."""


def without(part: str) -> str:
    """Name of the null (``Probe.nulls``) of a model that lacks the facts of a part."""
    return f"without_{part}"


def stand_ins(parts: tuple[str, ...], other: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(name, members) of one library per part, in which ``other`` replaces the part.

    ``other`` is the name of an adapter, or ``RANDOM``: a random one with the norms of the replaced part.

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
        only: field -> the only value of the setting that the world's controls support.

    Raises:
        ValueError: the setting has identities but the world no controls, or they do not support the setting.
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


def add(
    world: World,
    taught: Mapping[str, Sequences],
    direct: Sequences,
    identity: Sequences,
    in_data: bool,
    several: Mapping[str, tuple[str, ...]] | None = None,
) -> World:
    """The world with the data sets of its controls, and with the libraries in which they replace a part.

    Every adapter's data get the facts of all other adapters with weight 0, and the groups "direct" and
    "identity", so that all data sets of a world have equal shapes.

    Args:
        taught: facts of each further adapter, "unrelated" among them; of the shape of ``FACTS``.
        direct: weighted training data of "direct_expert": two-hop questions with direct answers.
        identity: sequences "b is b", in the data of the parts and of ``JOINT`` if ``in_data``.
        several: {adapter: names in ``taught``} of adapters trained on the facts of several names.
    """
    new = {name: reweigh(each, 0.0) for name, each in taught.items()}
    blank = {name: reweigh(each, 0.0) for name, each in world.data[JOINT].items()}

    def lesson(groups, own=(), on_direct=0.0, on_identity=0.0):
        more = new | {name: taught[name] for name in own}
        return {
            **groups,
            FACTS: join(groups[FACTS], *more.values()),
            "direct": reweigh(direct, on_direct * direct.weight),
            "identity": reweigh(identity, on_identity * identity.weight),
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
    """The layout without owners for ``hops``, which are old facts of the base, and without a forecast.

    ``chance``: accuracy of a guess among the answers, by default the layout's.
    """
    owner = tuple(-1 if part in hops else part for part in layout.owner)
    chance = layout.chance if chance is None else chance
    return dataclasses.replace(layout, owner=owner, chance=chance, forecast=False)
