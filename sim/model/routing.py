"""Routers: per token, per module, which adapters of a library act and how strongly (theory/README.md, 10).

A router is its prototypes and its rule: each adapter i gets rows P_i (p, in) from its factors alone, an
input x scores s_i(x) = |P_i x|, and the rule makes weights of the scores of the top k (``RULES``, mostly a
softmax). Arrow's P_i is the top right singular vector; SpectR's is the whole right space times the
singular values, so s_i = |DW_i x|. A router may choose among the rank-one parts of all adapters instead.
Prototypes are computed once; ``gate`` and ``route`` are pure, jit-able, and act on any leading axes of x.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.lab.registry import Registry, summary_of
from sim.model.transformer import Project, plain
from theory.lowrank import LowRank, apply, directions


@dataclass(frozen=True)
class Router:
    """A named way to make prototypes: the function from one update to (p, in) rows, and its summary.

    ``rule``: of ``RULES``. ``top_k``: how many act unless a call says otherwise, None for all. ``split``:
    chooses among the rank-one parts of the adapters, by default as many as the largest rank.
    """

    name: str
    prototype: Callable[[LowRank], Float[Array, "p in"]]
    summary: str
    rule: str = "softmax"
    top_k: int | None = None
    split: bool = False


ROUTERS: Registry[Router] = Registry("router")
RULES = ("softmax", "share", "unit")
"""softmax(s / T) over the top k; s / sum of s over the top k; 1 for each of the top k."""


def router(rule: str = "softmax", **fields: Any) -> Callable[[Callable], Callable]:
    """Register a prototype function under its own name, with the other fields of its ``Router``."""

    def register(function: Callable[[LowRank], Array]) -> Callable[[LowRank], Array]:
        summary = summary_of(function)
        ROUTERS.add(function.__name__, Router(function.__name__, function, summary, rule, **fields))
        return function

    return register


def units(name: str, updates: Sequence[LowRank]) -> list[LowRank]:
    """What a router chooses among: the adapters themselves, or their singular rank-one parts.

    Raises: ValueError for an unknown router, naming the known ones.
    """
    if not ROUTERS[name].split:
        return list(updates)
    parts = []
    for update in updates:
        u, s, vt = directions(update)
        parts += [LowRank(u[:, j : j + 1], s[j] * vt[j : j + 1], 1.0) for j in range(len(s))]
    return parts


def prototypes(name: str, updates: Sequence[LowRank]) -> Float[Array, "K p in"]:
    """The prototypes of every adapter of one module, padded with zero rows to the largest p.

    Raises: ValueError for an unknown router, naming the known ones.
    """
    prototype = ROUTERS[name].prototype
    rows = [prototype(update) for update in updates]
    most = max(row.shape[0] for row in rows)
    return jnp.stack([jnp.pad(row, ((0, most - row.shape[0]), (0, 0))) for row in rows])


def scores(x: Float[Array, "*tokens in"], protos: Float[Array, "K p in"]) -> Float[Array, "*tokens K"]:
    """s_i(x) = |P_i x|_2: how much of each token lies along each adapter's prototype rows."""
    squares = jnp.sum(jnp.square(jnp.einsum("...i,kpi->...kp", x, protos)), axis=-1)
    # The root of 0 has no finite slope; an adapter that is still B = 0 must not turn gradients into NaN.
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def gate(
    x: Float[Array, "*tokens in"],
    protos: Float[Array, "K p in"],
    *,
    top_k: int | None = None,
    temperature: float = 1.0,
    rule: str = "softmax",
) -> Float[Array, "*tokens K"]:
    """Weights of the adapters, token by token: the rule's, of the scores of the top k; 0 elsewhere.

    They sum to 1, but for "unit" to top_k, and for "share" to 0 where no score is above 0. Exactly ``top_k``
    are kept (all by default); of equal scores the lower index is. Only "softmax" has a temperature.
    Raises: ValueError unless 1 <= top_k <= K, temperature > 0 and the rule is one of ``RULES``.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not {rule!r}")
    count = protos.shape[0]
    top_k = count if top_k is None else top_k
    if not 1 <= top_k <= count:
        raise ValueError(f"top_k must be between 1 and the {count} adapters of the library, not {top_k}")
    if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}; use top_k=1 for a hard choice")
    strengths = scores(x, protos)
    _, best = jax.lax.top_k(strengths, top_k)
    mask = jnp.any(jax.nn.one_hot(best, count, dtype=bool), axis=-2)
    if rule == "unit":
        return mask.astype(strengths.dtype)
    if rule == "share":
        strengths = jnp.where(mask, strengths, 0)
        total = jnp.sum(strengths, axis=-1, keepdims=True)
        return strengths / jnp.where(total > 0, total, 1)
    return jax.nn.softmax(jnp.where(mask, strengths / temperature, -jnp.inf), axis=-1)


def route(
    updates: Sequence[LowRank], gates: Float[Array, "*tokens K"], x: Float[Array, "*tokens in"]
) -> Float[Array, "*tokens out"]:
    """sum_i g_i(x) Delta W_i x in factors: O(K (out + in) r) a token."""
    return sum(gates[..., i : i + 1] * apply(update, x) for i, update in enumerate(updates))


def routed(
    library: Sequence[Mapping[str, LowRank]],
    name: str = "arrow",
    *,
    top_k: int | None = None,
    temperature: float = 1.0,
) -> Project:
    """The projection W x + sum_i g_i(x) Delta W_i x of a decoder, gated by each module's own input.

    top_k: None is the router's own, or for rank-one parts the largest rank of the module's adapters.
    ``library`` holds adapters that change the same modules. Raises: ValueError if they do not.
    """
    names = {frozenset(adapter) for adapter in library}
    if len(names) != 1:
        raise ValueError("the adapters of a routed library must change the same modules")
    kind = ROUTERS[name]
    parts = {module: units(name, [adapter[module] for adapter in library]) for module in next(iter(names))}
    protos = {module: prototypes(name, choice) for module, choice in parts.items()}

    def most(module: str) -> int | None:
        if top_k is None and kind.split:
            return max(adapter[module].a.shape[0] for adapter in library)
        return kind.top_k if top_k is None else top_k

    def project(module: str, weight: Array, x: Array) -> Array:
        y = plain(module, weight, x)
        if module not in protos:
            return y
        gates = gate(x, protos[module], top_k=most(module), temperature=temperature, rule=kind.rule)
        return y + route(parts[module], gates, x)

    return project


ROUTERS.discover("sim.model.routers")
