"""One cell of the paper's grid: a library of adapters, every way of reusing it, and what was predicted.

Unlike the sweep's cell (``sim.reuse.run``) it holds the larger libraries, the routers and the two ceilings
(an oracle router, the best coefficient on a grid), and it returns the ingredients of the predictions of
theory/README.md, section 12, which come from the base and from single adapters alone.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.model import lora, routing
from sim.model.transformer import Params, completion_logits, plain
from sim.reuse import cell as reuse
from sim.reuse import predictors
from sim.reuse.cell import HOPS, ProjectFor, ReuseConfig
from sim.worlds import Sequences, World
from theory import lowrank

LIBRARIES = {"hops": HOPS, "bridge": (*HOPS, "bridge"), "expert": (*HOPS, "expert")}
"""The libraries that are merged, if their adapters are trained: the two hops alone, and with a third."""

GRID = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25)
"""Common coefficients of the linear merges of the two hop adapters."""

FORECAST = ("hop1", "hop2", "direct", "cot", "untouched", "untouched_cot")
"""Probes whose outcome is predicted, token by token."""


def gates(name: str, probe: Sequences, name_tokens: int) -> Float[Array, "T 2"]:
    """The oracle router's choice of hop adapter for every input position of a probe.

    One-hop questions go to their own adapter, untouched ones to none. The question "x r s" sends x and r to
    hop 1 and the rest to hop 2; in a trace, THINK and the first half up to the bridge as written go to hop 1
    and SEP onwards to hop 2.
    """
    position = jnp.arange(probe.tokens.shape[1])
    second = position > name_tokens
    if name == "cot":
        second = (position == name_tokens + 1) | (position >= 3 * name_tokens + 5)
    if name not in ("cot", "direct"):
        choice = {"hop1": [1.0, 0.0], "hop2": [0.0, 1.0]}.get(name, [0.0, 0.0])
        return jnp.broadcast_to(jnp.asarray(choice, jnp.float32), (len(position), 2))
    return jax.nn.one_hot(second.astype(int), 2, dtype=jnp.float32)


def oracle(library: list[lora.Adapter], probes: dict[str, Sequences], name_tokens: int) -> ProjectFor:
    """W x + sum_i g_i(probe, position) Delta W_i x with the gates of the oracle router."""

    def project_for(names):
        rows = [
            jnp.broadcast_to(gates(n, probes[n], name_tokens), (*probes[n].tokens.shape, 2)) for n in names
        ]
        weights = jnp.concatenate(rows)

        def project(name, weight, x):
            updates = [adapter[name] for adapter in library]
            return plain(name, weight, x) + routing.route(updates, weights[:, : x.shape[1]], x)

        return project

    return project_for


def run(config: ReuseConfig, params: Params, world: World, key: Array, ranks: dict | None = None) -> dict:
    """Train the library, reuse it in every way, ask everything, and make the predictions.

    Returns:
        scores: {"library/method": {metric: (right, asked)}}; single adapters and the base as "single/NAME";
            linear merges of the hop adapters at every lambda of ``GRID`` as "hops/lambda=...".
        forecasts: {predictor: {metric: (lambdas,)}}: predicted accuracy at every lambda of ``GRID``.
        agreement: {predictor: {metric: (lambdas,)}}: share of prompts where prediction and merge agree.
        kappa: {step: swing in the trace / swing at the training prompt, mean over facts}.
        losses: {family: (adapters, steps)}.
    """
    adapters, losses = reuse.library(config, params, world, "lora", key, ranks)
    libraries = {
        label: members for label, members in LIBRARIES.items() if set(members) <= set(config.libraries)
    }
    models = {"single/base": params}
    models |= {f"single/{name}": lora.fold(params, adapter) for name, adapter in adapters.items()}
    for label, members in libraries.items():
        for method in config.methods:
            update = reuse.merged(config, [adapters[name] for name in members], method)
            models[f"{label}/{method}"] = lora.fold(params, update)
    hops = [adapters[hop] for hop in HOPS]
    both = {name: lowrank.dense(update) for name, update in linear(hops, 1.0).items()}
    for lam in GRID:
        models[f"hops/lambda={lam:g}"] = lora.fold(
            params, {name: lam * delta for name, delta in both.items()}
        )
    scores = reuse.ask_each(config, models, world.probes)

    for label, members in libraries.items():
        router = reuse.always(routing.routed([adapters[name] for name in members]))
        scores[f"{label}/arrow"] = reuse.ask(config, params, world.probes, router)
    chosen = oracle(hops, world.probes, config.world.name_tokens)
    scores["hops/oracle"] = reuse.ask(config, params, world.probes, chosen)

    read = functools.partial(teacher_forced, config, params, world)
    return {
        "scores": scores,
        **forecast(config, world, read, hops),
        "losses": {"lora": losses},
    }


def linear(adapters: list[lora.Adapter], lam: float | Array) -> lora.Adapter:
    """lambda * (sum of the adapters), in factors."""
    return {
        name: lowrank.scaled(lowrank.concatenated([adapter[name] for adapter in adapters]), lam)
        for name in adapters[0]
    }


def teacher_forced(
    config: ReuseConfig, params: Params, world: World, adapter: lora.Adapter
) -> dict[str, Array]:
    """Completion logits (S, L, V) of the adapted base at every probe of ``FORECAST``."""
    project, logits = lora.adapted(adapter), {}
    probes = {name: world.probes[name] for name in FORECAST}
    for names in reuse.of_one_shape(probes):
        together = reuse.stacked_rows([probes[name] for name in names])
        found = completion_logits(config.decoder, params, together.tokens, together.prompt, project)
        logits |= reuse.split_rows(found, names, probes)
    return logits


def forecast(config: ReuseConfig, world: World, read, hops: list[lora.Adapter]) -> dict:
    """Predictions at every lambda of ``GRID``, and how they agree with the merge prompt by prompt.

    The predictors see the base and one adapter at a time. The merged model runs only for the agreement.
    """
    base, singles = read({}), [read(adapter) for adapter in hops]
    targets = {name: world.probes[name].tokens[:, world.probes[name].prompt :] for name in FORECAST}
    steps = trace_steps(config.world.name_tokens)

    def one(lam):
        scaled = [read({name: lowrank.scaled(u, lam) for name, u in adapter.items()}) for adapter in hops]
        merged = read(linear(hops, lam))
        ok = {}
        for name in FORECAST:
            alone = [single[name] for single in singles]
            guesses = {
                "tangent": predictors.tangent(base[name], alone, [lam, lam]),
                "disentangled": predictors.disentangled(base[name], [s[name] for s in scaled]),
                "merge": merged[name],
            }
            ok |= {(guess, name): predictors.right(value, targets[name]) for guess, value in guesses.items()}
        ok |= {
            ("coverage", name): value for name, value in covered(base, singles, targets, steps, lam).items()
        }
        means, agree = {}, {}
        for (guess, name), value in ok.items():
            whole = value.all(axis=-1)
            means.setdefault(guess, {})[name] = jnp.mean(whole.astype(jnp.float32))
            same = whole == ok["merge", name].all(axis=-1)
            agree.setdefault(guess, {})[name] = jnp.mean(same.astype(jnp.float32))
        token = ok["disentangled", "cot"]
        factors = [token[:, jnp.asarray(positions)].all(axis=-1) for positions in steps.values()]
        means["product"] = {"cot": predictors.product(*factors)}
        return means, agree

    means, agree = jax.lax.map(one, jnp.asarray(GRID, jnp.float32))
    return {"forecasts": means, "agreement": agree, "kappa": kappas(base, singles, targets, steps)}


def trace_steps(name_tokens: int) -> dict[str, list[int]]:
    """Positions of each step in "x r ANSWER y SEP y s ANSWER z": template and copies, hop 1, hop 2."""
    k = name_tokens
    hop1, hop2 = range(k + 2, 2 * k + 2), range(3 * k + 5, 4 * k + 5)
    rest = [i for i in range(4 * k + 5) if i not in hop1 and i not in hop2]
    return {"template": rest, "hop1": list(hop1), "hop2": list(hop2)}


def covered(base: Mapping, singles: list, targets: Mapping, steps: dict, lam: Array) -> dict[str, Array]:
    """The coverage law, token by token: lambda * (swing measured there) > M_old for the hop's own adapter.

    The swing in a trace is kappa times the swing at the training prompt (section 5). Says nothing of
    the template, which it takes as kept, nor of what the other adapter does.
    """
    ok = {}
    for hop, single in zip(HOPS, singles, strict=True):
        margin, swing = predictors.margin_and_swing(base[hop], single[hop], targets[hop])
        ok[hop] = lam * swing > margin
    parts = []
    for hop, single in zip(HOPS, singles, strict=True):
        margin, swing = predictors.margin_and_swing(base["cot"], single["cot"], targets["cot"])
        parts.append((lam * swing > margin)[:, jnp.asarray(steps[hop])])
    ok["cot"] = jnp.concatenate(parts, axis=-1)
    return ok


def kappas(base: Mapping, singles: list, targets: Mapping, steps: dict) -> dict[str, Array]:
    """Empirical kappa of each step in the trace: mean swing there over mean swing at the training prompt."""
    out = {}
    for hop, single in zip(HOPS, singles, strict=True):
        _, there = predictors.margin_and_swing(base["cot"], single["cot"], targets["cot"])
        _, here = predictors.margin_and_swing(base[hop], single[hop], targets[hop])
        out[hop] = jnp.mean(there[:, jnp.asarray(steps[hop])]) / jnp.mean(here)
    return out
