"""The coverage law, fact by fact: an edit read through a paraphrase of its template.

Adapters overwrite F facts at "a REL1"; they are read at "a REL1'", where the embedding of REL1' is that of
REL1 turned by an angle towards a word of its own. The base holds the old answers in both templates.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.one_layer.config import OneLayerConfig, recalled, row
from sim.one_layer.starvation import starts
from sim.twins import coverage as twin
from theory import model as one_layer
from theory.edits import exact_adapter, shares, starved_adapter
from theory.lowrank import apply

_DRAWS = 16


def rows(config: OneLayerConfig) -> list[dict]:
    """For each paraphrase angle and F: recall of the new answers, and how often each rule calls it."""
    table = []
    for share in config.shares:
        facts = config.coverage_facts(share)
        for angle in config.angles:
            for metric in ("coverage_recall", "coverage_rule", "coverage_rule_exact"):
                template = f"angle={angle:g}"
                table.append(row("least_squares", metric, 1.0, facts, _DRAWS * facts, template))
    return table


def measure(config: OneLayerConfig, key: Array) -> Float[Array, "rows"]:
    """The new answers' recall, and the fractions of facts whose outcome two rules call rightly.

    coverage_rule: 2 lambda kappa_k rho_k > 1 with kappa_k = c_kk, c = Phi^+ phi (``edit_overlap``).
    coverage_rule_exact: the same before the product is split, 2 lambda (P c_k)_k > 1.
    """
    counts = [config.coverage_facts(share) for share in config.shares]
    model_config = config.model(max(counts), fillers=1)
    model = one_layer.make(model_config, jax.random.fold_in(key, 0))
    keys, reads = twin.paraphrased(model_config, model, jnp.asarray(config.angles, jnp.float64))
    begin = starts(jax.random.fold_in(key, 1), [(_DRAWS, config.rank, facts) for facts in counts])
    return jnp.concatenate([_cells(keys[: a0.shape[-1]], reads[:, : a0.shape[-1]], a0) for a0 in begin])


def _cells(keys: Array, reads: Array, begin: Array) -> Float[Array, "rows"]:
    facts = keys.shape[0]
    numbers = jnp.arange(facts)
    old = one_layer.one_hot(numbers, 2 * facts)
    residual = one_layer.one_hot(numbers + facts, 2 * facts) - old
    exact = exact_adapter(keys, residual)

    def cell(read: Array) -> Array:
        base = twin.two_template_base(keys, read, old)
        kappa = jnp.diagonal(read @ exact.a.T)

        def one(start: Array) -> Array:
            update = starved_adapter(exact, start)
            moved = apply(update, read)
            answered = recalled(read @ base.T + moved, numbers + facts)
            rule = 2 * kappa * shares(update, keys, residual) > 1
            whole = jnp.sum(moved * residual, axis=1) > 1
            outcome = answered > 0.5
            return jnp.stack([answered.mean(), jnp.mean(rule == outcome), jnp.mean(whole == outcome)])

        return jax.lax.map(one, begin).mean(0)

    return jax.lax.map(cell, reads).reshape(-1)
