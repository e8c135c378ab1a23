"""The registry of merge methods: a method is one decorated function, and its signature is its record.

``f(updates, weights, *, options) -> LowRank | dense (out, in)``: keyword-only parameters are its options, one
without a default must be supplied, and the parameters named ``key``, ``rank`` and ``eps`` receive the random
key, the target rank and the relative rounding of the factors. The sweep, the commands' help and the parity
tests read the registry, so a new method needs no other edit.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sim.lab.registry import Registry


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
    coefficient: Callable[[int], float] | None
    data_free: bool
    dense: bool
    normalises: bool
    float64: bool
    identity: Mapping[str, Any] | None
    options: Mapping[str, Any]
    needs: tuple[str, ...]
    uses_key: bool
    uses_rank: bool
    uses_eps: bool


METHODS: Registry[Method] = Registry("merge method")


def method(
    family: str,
    *,
    name: str | None = None,
    coefficient: Callable[[int], float] | None = None,
    dense: bool = False,
    data_free: bool = True,
    normalises: bool = False,
    float64: bool = False,
    identity: Mapping[str, Any] | None = MappingProxyType({}),
) -> Callable[[Callable], Callable]:
    """Register a merge function under its own name; the first line of its docstring is its summary."""

    def register(function: Callable) -> Callable:
        parameters = inspect.signature(function).parameters.values()
        keywords = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        options = {k: v for k, v in keywords.items() if k not in ("key", "rank", "eps")}
        needs = tuple(k for k, v in options.items() if v is inspect.Parameter.empty)
        record = Method(
            name=name or function.__name__,
            function=function,
            family=family,
            summary=(inspect.getdoc(function) or "").split("\n")[0],
            coefficient=coefficient,
            data_free=data_free,
            dense=dense,
            normalises=normalises,
            float64=float64,
            identity=identity,
            options=MappingProxyType({k: v for k, v in options.items() if k not in needs}),
            needs=needs,
            uses_key="key" in keywords,
            uses_rank="rank" in keywords,
            uses_eps="eps" in keywords,
        )
        METHODS.add(record.name, record)
        return function

    return register
