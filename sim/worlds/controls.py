"""What a referee asks of any world besides its own questions: libraries in which something else stands in.

Not a world: worlds take from here, by data, what they offer to ``sim.experiments.controls``. One names its
probes "direct_known_first" and "..._second", "compare", "untouched_compare", its extra adapters
"direct_expert" and "unrelated", and the experiment finds them.
"""

RANDOM = "random_for_"
"""RANDOM + name: an adapter that is never trained, Gaussian with the norms of the adapter of that name."""


def stand_ins(parts: tuple[str, ...], other: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(name, members) of a library for each part, in which ``other`` stands in its place.

    ``other`` names an adapter, or is ``RANDOM``: a random one with the norms of the part it replaces.

    Example:
        stand_ins(("a", "b"), "unrelated") is
        (("unrelated_for_a", ("unrelated", "b")), ("unrelated_for_b", ("a", "unrelated")))
    """
    found = []
    for gone in parts:
        name = other + gone if other == RANDOM else other
        label = name if other == RANDOM else f"{other}_for_{gone}"
        found.append((label, tuple(name if part == gone else part for part in parts)))
    return tuple(found)
