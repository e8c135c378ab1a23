"""Notebook 2: two first hops under one second hop, every merge at growing N, luck, boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from sim.one_layer import OneLayerConfig, two_hop
from sim.tour.curves import Curve, curves
from sim.twins import composition as twin
from theory import composition, crosstalk, edits, lowrank, model

MERGES = ("average", "sum", "concat", "ties", "svd")


@dataclass(frozen=True)
class Inside:
    """One frozen model: features of its one-hop prompts p2 and of the two-hop prompts, and a first hop s1."""

    config: model.ModelConfig
    second: Float[Array, "N m"]
    both: Float[Array, "N m"]
    s1: Int[Array, " N"]


def two_first_hops(key: Array, entities: int = 8) -> tuple[Inside, pd.Series]:
    """One second-hop adapter summed with two first hops, s1 and s1 moved by one: their differences at p12."""
    config = model.ModelConfig(entities=entities, dim=4 * entities + 4, features=512)
    frozen, entity = model.make(config, jax.random.fold_in(key, 0)), jnp.arange(entities)
    first, second, both = (
        model.features(config, frozen, prompt(config, entity))
        for prompt in (model.prompt1, model.prompt2, model.prompt12)
    )
    r1, r2, s1, s2 = (jax.random.permutation(jax.random.fold_in(key, i), entities) for i in range(1, 5))
    targets = model.one_hot(jnp.concatenate([r1, entities + r2]), config.outputs)
    base = model.base_weights(jnp.concatenate([first, second]), targets)

    def adapter(keys, answers):
        return edits.exact_adapter(keys, model.one_hot(answers, config.outputs) - keys @ base.T)

    def logits(update, keys):
        return keys @ base.T + lowrank.apply(update, keys)

    hop2, other = adapter(second, entities + s2), jnp.roll(s1, 1)
    hops = [adapter(first, bridge) for bridge in (s1, other)]
    merged = [logits(lowrank.concatenated([hop1, hop2]), both) for hop1 in hops]
    moved = jnp.abs(merged[0] - merged[1])
    measurements = {
        "right answers in common for s1 and s1'": int(jnp.sum(s2[s1] == s2[other])),
        "largest difference of a bridge logit": float(moved[:, :entities].max()),
        "largest difference of an answer logit": float(moved[:, entities:].max()),
        "recall of the first hop alone": float(jnp.mean(jnp.argmax(logits(hops[0], first), 1) == s1)),
        "recall of the second hop alone": float(
            jnp.mean(jnp.argmax(logits(hop2, second), 1) == entities + s2)
        ),
    }
    return Inside(config, second, both, s1), pd.Series(measurements)


def strengths(inside: Inside) -> pd.Series:
    """How strongly the second hop's edits act at p12(a): by the kernel, of a's own bridge, of all others."""
    size = jnp.sum(inside.second**2, axis=1)[None]
    overlap, entity = inside.both @ inside.second.T / size, jnp.arange(inside.config.entities)
    related = jax.nn.one_hot(inside.s1, inside.config.entities, dtype=bool)
    read, direct = (prompt(inside.config, entity)[0] for prompt in (model.prompt2, model.prompt12))
    kappas = {
        "κ, theory": float(crosstalk.prompt_kappa(inside.config, read, direct)),
        "the edit of b = s1(a), measured": float(jnp.mean(overlap, where=related)),
        "the edits of all other bridges, measured": float(jnp.mean(overlap, where=~related)),
    }
    return pd.Series(kappas).round(3)


def every_merge(sizes: Sequence[int], draws: int, key: Array) -> tuple[pd.DataFrame, Figure]:
    """Direct two-hop accuracy of every merge at growing N, over all shifts of s1, with 1/N; its spread."""
    accuracies = {method: [] for method in MERGES}
    measure = jax.jit(two_hop.measure, static_argnums=0)
    for size in sizes:
        config = OneLayerConfig(rank=2, entities=size, features=128)
        values = np.array([measure(config, jax.random.fold_in(key, draw)) for draw in range(draws)])
        for column, row in enumerate(two_hop.rows(config)):
            if row["metric"] == "direct" and row["facts"] == size and row["method"] in accuracies:
                accuracies[row["method"]].append(values[:, column])
    law = [composition.two_hop_accuracy(size) for size in sizes]
    table = pd.DataFrame(
        {name: [one.mean() for one in values] for name, values in accuracies.items()}, list(sizes)
    ).T
    table.loc["theory, 1/N"] = law
    table[f"spread over draws, N={sizes[-1]}"] = [*(values[-1].std() for values in accuracies.values()), 0.0]
    grid = np.arange(sizes[0] - 1, sizes[-1] + 2)
    series = [
        Curve(name, marks=np.array(sizes) * (1 + 0.02 * (index - 2)), draws=values)
        for index, (name, values) in enumerate(accuracies.items())
    ]
    picture = curves(*series, Curve("theory: 1/N", grid, 1 / grid),
                     xlabel="entities N", ylabel="direct two-hop accuracy", ylim=(0, None))  # fmt: skip
    return table.rename_axis(columns="N").round(4), picture


def lucky(sizes: Sequence[int], experiments: int = 4000) -> pd.DataFrame:
    """A fixed guess against random bijections: accuracy and its deviation, with Corollary 2c."""
    rng, rows = np.random.default_rng(0), []
    for size in sizes:
        guess = np.arange(size)
        hits = np.array([(rng.permutation(size) == guess).mean() for _ in range(experiments)])
        rows.append(
            {
                "N": size,
                "accuracy, theory": composition.two_hop_accuracy(size),
                "measured": hits.mean(),
                "deviation, bound": composition.two_hop_deviation(size),
                "measured deviation": hits.std(),
            }
        )
    return pd.DataFrame(rows).set_index("N").round(4)


def boundaries(key: Array) -> pd.DataFrame:
    """Adapters trained by Adam at N = 4, all shifts of s1, in three cases on either side of Theorem 2d."""
    small, scale = model.ModelConfig(entities=4, dim=20, features=64), jnp.asarray([0.5, 1.0])
    cases = {
        "on U, unseen bridges (2d)": twin.Setting("up", "fake"),
        "on W, base left in place (2e)": twin.Setting("w", "one_hop", fixed_base=True),
        "on U, base knows two-hop answers": twin.Setting("up", "two_hop", fixed_base=True, second=False),
    }
    rows = {}
    for name, setting in cases.items():
        outcome = twin.trained_two_hop(small, setting, scale, key)
        relative = outcome.answers - outcome.answers.mean(axis=-1, keepdims=True)
        rows[name] = {
            "two-hop, average": float(outcome.two_hop[:, 0].mean()),
            "two-hop, sum": float(outcome.two_hop[:, 1].mean()),
            "first-hop recall, sum": float(outcome.hop1[:, 1].mean()),
            "answer logits move by": float(jnp.ptp(outcome.answers, axis=0).max()),
            "relative to each other by": float(jnp.ptp(relative, axis=0).max()),
        }
    return pd.DataFrame(rows).T
