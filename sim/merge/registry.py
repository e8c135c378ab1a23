"""The registry of merge methods: a method is one decorated function, and its signature is its record.

``f(updates, weights, *, options) -> LowRank | dense (out, in)``: keyword-only parameters are its options, one
without a default must be supplied, and the parameters named ``key``, ``rank`` and ``eps`` receive the random
key, the target rank and the relative rounding of the factors. The sweep, the commands' help and the parity
tests read the registry, so a new method needs no other edit.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sim.lab.registry import Registry, summary_of


@dataclass(frozen=True)
class Method:
    """What is known of a merge method without running it.

    ``coefficient``: K -> c where the merge of K adapters is exactly c sum_i Delta W_i at the default weights
    and options; None for a method that is not linear in the Delta W.
    ``normalises``: weights are divided by their sum, and default to 1/K (else they default to 1).
    ``dense``: the result is an (out, in) matrix unless a rank is asked for.
    ``data_free``: reads nothing but the adapters. ``identity``: the options under which one adapter at
    weight 1 comes back unchanged; None if the method changes even a single adapter by design.
    ``float64``: computed in float64 and returned in the dtype of the factors, for methods that divide by
    small singular values or tell close ones apart, where float32 would lose digits.
    """

    name: str
    function: Callable[..., Any]
    family: str
    summary: str
    options: Mapping[str, Any]
    needs: tuple[str, ...]
    uses_key: bool
    uses_rank: bool
    uses_eps: bool
    coefficient: Callable[[int], float] | None = None
    data_free: bool = True
    dense: bool = False
    normalises: bool = False
    float64: bool = False
    identity: Mapping[str, Any] | None = field(default_factory=dict)


METHODS: Registry[Method] = Registry("merge method")

GIVEN = ("key", "rank", "eps")
"""Parameters that ``merge`` gives: no options."""


def method(family: str, *, name: str | None = None, **fields: Any) -> Callable[[Callable], Callable]:
    """Register a merge function under its own name, with the other fields of its ``Method``; the first line
    of its docstring is its summary."""

    def register(function: Callable) -> Callable:
        parameters = inspect.signature(function).parameters.values()
        keywords = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        uses = {f"uses_{given}": given in keywords for given in GIVEN}
        options = {k: v for k, v in keywords.items() if k not in GIVEN}
        needs = tuple(k for k, v in options.items() if v is inspect.Parameter.empty)
        defaults = MappingProxyType({k: v for k, v in options.items() if k not in needs})
        summary = summary_of(function)
        title = name or function.__name__
        METHODS.add(title, Method(title, function, family, summary, defaults, needs, **uses, **fields))
        return function

    return register
