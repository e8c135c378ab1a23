"""What stands for a value in help texts: ``PATH ...`` for ``[PATH [PATH ...]]``, ``INT`` for ``{None}|INT``.

That an option may be left out says its default.
"""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

SEVERAL = re.compile(r"\[?(\{[^{}]*\}|\w+) \[(?:\1 )?\.\.\.\]\]?")
"""One or more of a kind, as tyro writes it; a long one only once."""


def shortened(metavar: str) -> str:
    """A metavar without the brackets and the ``{None}`` of tyro."""
    metavar = re.sub(r"^\{None\}\|", "", metavar)
    metavar = re.sub(r"^\{None,", "{", metavar)
    metavar = re.sub(r"^\{(\[.*\])\}$", r"\1", metavar)
    return SEVERAL.sub(r"\1 ...", metavar)


@contextmanager
def legible() -> Iterator[ConstructorRegistry]:
    """A registry that hands every type to tyro's own rules and shortens what stands for it."""
    registry, busy = ConstructorRegistry(), []

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if busy:  # tyro's own rules are at work, for this type or its parts
            return None
        busy.append(info)
        try:
            spec = ConstructorRegistry.get_primitive_spec(info)
        finally:
            busy.pop()
        if not isinstance(spec, PrimitiveConstructorSpec):
            return None
        return dataclasses.replace(spec, metavar=shortened(spec.metavar))

    with registry:
        yield registry
