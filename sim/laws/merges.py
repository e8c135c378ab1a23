"""Section 5 applied: strengths of other merges and routers against merged and routed libraries."""

import jax.numpy as jnp

from sim.lab import seeds
from sim.lab.check import check, exact
from sim.lab.seeds import Effort
from sim.twins import merges as twin
from theory import merges as closed
from theory.model import gaussian


@check("strength of a merge without overlap", "5", "exact")
def _strength(effort: Effort):
    for index, (adapters, ridge) in enumerate(effort.some([(2, 1e-3), (2, 0.3), (3, 0.05), (4, 1.0)])):
        key = seeds.key(71, index)
        predicted = closed.ace_strength(twin.energies(adapters, key=key), adapters, ridge).mean()
        measured = twin.ace_strength(adapters, ridge, key=key).mean()
        yield exact(f"ACE, K={adapters}, ridge={ridge:g}", predicted, measured, 1e-9)
    for index, (holders, alpha) in enumerate(
        effort.some([(1, 1.0), (2, 1.0), (4, 1.0), (1, 0.25), (3, 0.25)])
    ):
        predicted = closed.svc_strength(holders, 4, alpha)
        measured = twin.svc_strength(holders, 4, alpha, key=seeds.key(72, index))
        yield exact(f"SVC, {holders} of 4 adapters, alpha={alpha:g}", predicted, measured, 1e-9)
    for index, weight in enumerate(effort.some([0.5, 0.2, 0.8])):
        measured = twin.slerp_strength(weight, key=seeds.key(73, index)).mean()
        yield exact(f"NuSLERP, weight {weight:g}", closed.slerp_strength(weight), measured, 1e-9)
    for index, heat in enumerate(effort.some([0.2, 1.0, 5.0])):
        predicted = closed.softmax_strength(2**0.5, 3, heat)
        measured = twin.routed_strength("spectr", 3, key=seeds.key(74, index), temperature=heat).mean()
        yield exact(f"SpectR, K=3, T={heat:g}", predicted, measured, 1e-9)
    for index, name in enumerate(effort.some(["logo", "components"])):
        measured = twin.routed_strength(name, 3, key=seeds.key(75, index)).mean()
        yield exact(f"{name}, K=3", 1.0, measured, 1e-9)


@check("rows of an update against its inputs", "5", "exact")
def _rows(effort: Effort):
    residual = jnp.eye(8)[:4] - jnp.eye(8)[4:]
    keys = gaussian(seeds.key(76), (4, 7))
    energy = jnp.linalg.eigvalsh(keys @ keys.T)
    for steps in effort.some([1, 3, 10, 30, 100, 300, 1000, 3000, 10000]):
        rate = float(0.5 / energy[-1])
        predicted = closed.row_alignment(energy, rate, steps)
        measured = twin.row_alignment(keys, residual, rate, steps)
        yield exact(f"{steps} steps of descent, 4 keys", predicted, measured, 1e-9)
