"""One cell on a language model: every model of a library asked everything."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sim.lab.parallel import COMPILERS
from sim.merge import METHODS
from sim.model.llama_adapters import Adapter, combine, init
from sim.reuse.bases import key_data
from sim.reuse.config import BASE, LOGITS, Cell, Model
from sim.reuse.language import ask, forecast, models
from sim.reuse.language.base import Base, Room
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.training import Trained
from sim.worlds.controls import SPECTRUM, UNTRAINED
from sim.worlds.text import TextWorld

TOGETHER = {"cpu": 1, "gpu": 16}
"""Models that are asked at once."""

ROUTED = {"cpu": 1, "gpu": 5}
"""Routed models that are asked at once."""

Weights = tuple[float, ...]
Update = tuple[str, tuple[str, ...], Weights] | tuple[str, tuple[str, ...], str]
"""What is run: ("linear", adapters, weights) or ("merge", adapters, method)."""


def run(
    config: LanguageConfig,
    base: Base,
    rooms: Sequence[Room],
    cell: Cell,
    world: TextWorld,
    trained: Mapping[str, Trained],
) -> dict:
    """What ``sim.reuse.rows`` reads of a cell, as from ``sim.reuse.cell.run``."""
    key = jax.random.wrap_key_data(key_data(3, cell.seed))
    adapters = {name: each.adapter for name, each in trained.items()}
    for place, (name, of) in enumerate(config.random(world).items()):
        own, spectrum = jax.random.fold_in(key, 1000 + place), name.startswith(SPECTRUM)
        adapters[name] = models.random_like(adapters[of], own, spectrum)
    wanted = updates(config, world)
    outcomes, likelihoods = {}, {}
    sheets = ask.sheets(base, world.probes, rooms)
    dtype = base.params["q"].dtype
    # Sums of updates stay factors where there is nothing else to ask: a dense one doubles the work.
    in_factors = not config.losses and all(kind == "linear" for kind, _, _ in wanted.values())
    for names in _chunks(list(dict.fromkeys(wanted.values())), TOGETHER[jax.default_backend()]):
        if in_factors:
            chosen = {name: _factors(adapters, name) for name in names}
        else:
            chosen = {name: _delta(config, base, adapters, name, key, dtype) for name in names}
        states = _stacked([chosen[name] for name in names])
        answers = ask.answers(base, world.probes, sheets, states, "factors" if in_factors else "dense")
        more = ask.likelihoods(base, world.probes, rooms[0], states) if config.losses else [{}] * len(answers)
        outcomes |= dict(zip(names, answers, strict=True))
        likelihoods |= dict(zip(names, more, strict=True))
    parts = [adapters[part] for part in world.parts]
    without_merge: dict[Model, dict] = {}
    for label, members in config.libraries(world).items():
        if label in ("parts", *UNTRAINED):
            own = [adapters[name] for name in members]
            without_merge |= _routed(config, base, world, sheets, label, own)
            without_merge |= _composed(config, base, world, sheets, label, own)
    singles = forecast.forecast(config, base, rooms, world, parts) if config.losses else None
    return {
        "outcomes": {model: outcomes[update] for model, update in wanted.items()} | without_merge,
        "losses": {m: {n: each.losses for n, each in likelihoods[u].items()} for m, u in wanted.items()},
        "ranks": {m: {n: each.rank for n, each in likelihoods[u].items()} for m, u in wanted.items()},
        "training": {"lora": trained},
        "names": ask.name_losses(base, world.names, rooms[0]),
        "forecasts": {"lora": singles.outcomes} if singles else {},
        "kappa": {"lora": singles.kappa} if singles else {},
        "effects": singles.effects if singles else {},
        "pairs": {},
    }


def updates(config: LanguageConfig, world: TextWorld) -> dict[Model, Update]:
    """Every model of a cell but the routed ones, and the update that it is run with.

    Merges that are the same sum of updates are one.
    """
    models: dict[Model, Update] = {BASE: ("linear", (), ())}
    for name in config.adapters(world):
        models["lora", "single", name] = ("linear", (name,), (1.0,))
    for label, members in config.libraries(world).items():
        if len(members) == 1:  # asked already, as a single adapter
            continue
        for method in config.methods if label == "parts" else config.few:
            coefficient = METHODS[method].coefficient
            if coefficient is None:
                models["lora", label, method] = ("merge", members, method)
            else:
                common = float(coefficient(len(members)))
                models["lora", label, method] = ("linear", members, (common,) * len(members))
    for lam in config.lambdas:
        models["lora", "parts", f"lambda={lam:g}"] = ("linear", world.parts, (lam,) * len(world.parts))
    return models


def _factors(adapters: Mapping[str, Adapter], update: Update) -> Adapter:
    """A sum of updates in factors of all adapters, with weight 0 for those that are not in it: every sum has
    one shape."""
    weights = dict(zip(*update[1:], strict=True))
    return combine(list(adapters.values()), [weights.get(name, 0.0) for name in adapters])


def _delta(config, base: Base, adapters: Mapping[str, Adapter], update: Update, key, dtype) -> models.Delta:
    kind, members, how = update
    library = [adapters[name] for name in members]
    if not library:
        return models.delta(models.nothing(base.model, config.kinds), dtype)
    if kind == "linear":
        return models.delta(combine(library, how), dtype)
    number = list(METHODS).index(how)
    result = models.merged(how, config.rank, library, jax.random.fold_in(key, number))
    if METHODS[how].dense:
        return {name: matrix.astype(dtype) for name, matrix in result.items()}
    return models.delta(result, dtype)


def _routed(
    config: LanguageConfig,
    base: Base,
    world: TextWorld,
    sheets: Sequence[ask.Sheet],
    label: str,
    library: Sequence[Adapter],
) -> dict[Model, dict]:
    """Outcomes of a library under every router, and of the parts under the oracle."""
    routers = (*config.routers, *(["oracle"] if config.oracle and label == "parts" else []))
    if not routers:
        return {}
    gates = [ask.oracle_gates(base, world.probes, sheet, len(world.parts)) for sheet in sheets]
    answers_of: dict[Model, dict] = {}
    for names in _chunks(routers, ROUTED[jax.default_backend()]):
        states = [
            _stacked([models.routed(library, router, of_sheet) for router in names]) for of_sheet in gates
        ]
        outcomes = ask.answers(base, world.probes, sheets, states, "routed")
        answers_of |= {("lora", label, router): each for router, each in zip(names, outcomes, strict=True)}
    return answers_of


def _composed(
    config: LanguageConfig,
    base: Base,
    world: TextWorld,
    sheets: Sequence[ask.Sheet],
    label: str,
    library: Sequence[Adapter],
) -> dict[Model, dict]:
    """Outcomes of a library whose logits are composed, f_0 + sum_i c_i (f_i - f_0): K + 1 models a token."""
    if not config.composed:
        return {}
    count = len(library)
    common = [METHODS[method].coefficient(count) for method in config.composed]
    weights = np.asarray([[1 - count * c, *[c] * count] for c in common], np.float32)
    nothing = jax.tree.map(jnp.zeros_like, library[0])
    states = _stacked([_stacked([nothing, *library])] * len(common))
    outcomes = ask.answers(base, world.probes, sheets, states, "factors", weights)
    names = [("lora", label, LOGITS + method) for method in config.composed]
    return dict(zip(names, outcomes, strict=True))


def _chunks(items: Sequence, size: int) -> Iterator[list]:
    """Chunks of one size: the last repeats its last item."""
    for start in range(0, len(items), size):
        chunk = list(items[start : start + size])
        yield chunk + chunk[-1:] * (size - len(chunk))


def _stacked(trees: Sequence[Any]) -> Any:
    """Placed on the device by name: JAX compiles a program anew for arrays that are there by default."""
    return jax.device_put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), jax.devices()[0])


def compile_merges(config: LanguageConfig, base: Base, world: TextWorld) -> None:
    """Begin to compile the merges of a cell into JAX's cache of programs, and return at once."""
    key = jax.random.wrap_key_data(key_data(3, 0))
    like = jax.eval_shape(lambda: init(base.model, config.rank, jax.random.key(0), config.kinds))
    merges = {
        (how, len(members)) for kind, members, how in updates(config, world).values() if kind == "merge"
    }
    for method, count in sorted(merges):
        COMPILERS.submit(models.compile_merge, method, config.rank, [like] * count, key)
