"""Section 1: one edit, and the best edit of rank r, against gradient descent."""

import jax.numpy as jnp

from sim.lab import seeds
from sim.lab.check import check, exact
from sim.lab.seeds import Effort
from sim.twins import edits as twin
from theory import edits as closed
from theory.lowrank import dense
from theory.model import gaussian

SIZES = ((5, 3), (7, 5), (12, 4), (20, 8), (3, 3), (9, 2), (16, 16), (30, 5))
"""(features, outputs) of a rank-one edit."""


@check("rank-one edit, norm", "1", "exact")
def _rank_one(effort: Effort):
    for index, (width, outputs) in effort.some(list(enumerate(SIZES))):
        phi = gaussian(seeds.key(1, index, 0), (width,))
        change = gaussian(seeds.key(1, index, 1), (outputs,))
        law = jnp.linalg.norm(dense(closed.rank_one_edit(phi, change)))
        measured = jnp.linalg.norm(twin.rank_one_edit(phi, change))
        yield exact(f"m={width}, n={outputs}, 200 steps", law, measured, 1e-9)


@check("least-squares adapter, loss", "1", "exact")
def _least_squares(effort: Effort):
    for rank in effort.some((1, 2, 4)):
        for seed in range(3):
            keys = jnp.linalg.qr(gaussian(seeds.key(2, seed, 0), (10, 6)))[0].T
            keys = keys * jnp.linspace(1.0, 1.5, 6)[:, None]
            residual = gaussian(seeds.key(2, seed, 1), (6, 5))
            law = closed.least_squares_loss(keys, residual, rank)
            measured = twin.least_squares_loss(keys, residual, rank, key=seeds.key(2, seed, 2))
            yield exact(f"F=6, m=10, n=5, r={rank}, draw {seed}, 4000 steps", law, measured, 1e-6)
