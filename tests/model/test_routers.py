"""Routers with a rule of their own, each against its reference on dense matrices (dense_*.py)."""

import importlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from dense_routers import REFERENCES
from test_routing import IN, OUT, library, tokens

from sim.model import routing
from theory.lowrank import LowRank, dense

for path in sorted(Path(__file__).parent.glob("dense_*.py")):
    importlib.import_module(path.stem)


def test_every_router_with_a_rule_is_checked_by_hand():
    plain = {n for n, r in routing.ROUTERS.items() if (r.rule, r.top_k, r.split) == ("softmax", None, False)}
    assert {"arrow", "spectr", "seqr"} <= plain and set(REFERENCES) >= set(routing.ROUTERS) - plain


@pytest.mark.parametrize("top_k", [None, 1, 2])
@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_the_routed_projection_is_the_one_by_hand(name, top_k):
    updates, x = library(21, (3, 2, 3)), tokens(22, 2, 4)
    weight = np.random.default_rng(23).normal(size=(OUT, IN))
    outputs = routing.routed([{"q": u} for u in updates], name, top_k=top_k)("q", jnp.asarray(weight), x)
    matrices = [np.asarray(dense(u)) for u in updates]
    for place in np.ndindex(2, 4):
        token = np.asarray(x[place])
        expected = weight @ token + REFERENCES[name](matrices, token, top_k)
        np.testing.assert_allclose(outputs[place], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_the_router_does_not_see_the_factorisation_or_the_order(name):
    updates, x = library(24), tokens(25, 6)
    turned = []
    for i, u in enumerate(updates):
        turn = np.random.default_rng(i).normal(size=(u.b.shape[1],) * 2)
        turned.append(LowRank(u.b @ turn, jnp.asarray(np.linalg.inv(turn)) @ u.a, u.scale))
    weight = jnp.zeros((OUT, IN))
    base = routing.routed([{"q": u} for u in updates], name)("q", weight, x)
    for other in (turned, updates[::-1]):
        np.testing.assert_allclose(
            routing.routed([{"q": u} for u in other], name)("q", weight, x), base, rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_a_zero_adapter_adds_nothing_and_takes_no_weight(name):
    update = library(26, (3,))[0]
    zero, x, weight = update._replace(b=jnp.zeros_like(update.b)), tokens(27, 6), jnp.zeros((OUT, IN))
    outputs = routing.routed([{"q": zero}, {"q": update}], name)("q", weight, x)
    np.testing.assert_allclose(outputs, x @ dense(update).T, rtol=1e-9, atol=1e-9)
    assert not routing.routed([{"q": zero}, {"q": zero}], name)("q", weight, x).any()


def test_all_components_together_are_the_sum():
    updates, x = library(28), tokens(29, 5)
    outputs = routing.routed([{"q": u} for u in updates], "components", top_k=8)("q", jnp.zeros((OUT, IN)), x)
    np.testing.assert_allclose(outputs, x @ sum(dense(u) for u in updates).T, rtol=1e-9, atol=1e-9)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule must be one of softmax, share, unit, not 'sum'"):
        routing.gate(tokens(0, 2), jnp.ones((3, 1, IN)), rule="sum")
