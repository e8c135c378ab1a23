"""DO-Merging: factors made less alike, then lengths and directions of the columns merged apart."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.registry import method
from theory.lowrank import LowRank, directions

STEPS, RATE = 50, 0.1
"""Of the descent that pushes factors apart; the paper's own are not known to us."""


@method("neurons", name="do", float64=True, normalises=True)
def do_merging(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, eps: float, penalty: float = 0.1
) -> LowRank:
    """DO: lengths and directions of the columns averaged apart, after a descent to orthogonal factors.

    Zheng et al. 2025 (arXiv 2505.15875; from summaries, not the paper's code). (1) The factors A_i (and
    likewise the B_i^T), singular values split evenly and of norm 1, move by ``STEPS`` steps of descent on
    1/2 sum_{i != j} |A_i A_j^T|^2 + penalty sum_i |A_i - A_i(0)|^2. (2) Column c of Delta W_i has a length
    m_ic and a direction d_ic; the merge has (sum_i w_i m_ic) (sum_i w_i d_ic) there, not made a unit again.
    In factors: B_i side by side, the columns of A_i scaled; the rank is the sum of the ranks.

    Columns are input coordinates: the merge depends on the basis of the inputs. Where each is read by one
    adapter alone, it is left with w_i^2 (theory/README.md, section 5).
    """
    if not penalty >= 0:
        raise ValueError(f"penalty must not be negative, but is {penalty}")
    b, a = (
        _decouple(side, penalty) for side in zip(*(_split(update, eps) for update in updates), strict=True)
    )
    # |B A e_c| from a triangular root of B^T B, as in nuslerp.
    lengths = [
        jnp.linalg.norm(jnp.linalg.qr(left.T)[1] @ right, axis=0) for left, right in zip(b, a, strict=True)
    ]
    common = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
    shares = [
        weight * jnp.where(length > 0, common / jnp.where(length > 0, length, 1), 0)
        for weight, length in zip(weights, lengths, strict=True)
    ]
    scaled = [share[None, :] * right for share, right in zip(shares, a, strict=True)]
    return LowRank(jnp.concatenate(b, axis=0).T, jnp.concatenate(scaled, axis=0), 1.0)


def _split(update: LowRank, eps: float) -> tuple[Float[Array, "r out"], Float[Array, "r in"]]:
    u, s, vt = directions(update, eps=eps)
    root = jnp.sqrt(s)[:, None]
    return root * u.T, root * vt


def _decouple(factors: Sequence[Float[Array, "r n"]], penalty: float) -> list[Float[Array, "r n"]]:
    """The factors after the descent, each at its own norm."""
    norms = [jnp.linalg.norm(factor) for factor in factors]
    start = [factor / jnp.where(norm > 0, norm, 1) for factor, norm in zip(factors, norms, strict=True)]

    def loss(now):
        pairs = [(one, other) for i, one in enumerate(now) for other in now[i + 1 :]]
        overlap = sum(jnp.sum(jnp.square(one @ other.T)) for one, other in pairs)
        moved = sum(jnp.sum(jnp.square(one - was)) for one, was in zip(now, start, strict=True))
        return overlap + penalty * moved

    def step(now, _):
        return [one - RATE * slope for one, slope in zip(now, jax.grad(loss)(now), strict=True)], None

    now = jax.lax.scan(step, start, length=STEPS)[0]
    return [norm * factor for norm, factor in zip(norms, now, strict=True)]
